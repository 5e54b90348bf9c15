//! What the kernel counted: system calls by kind, and how often mmap_lock was taken for writing.

use allocator_bench::counts::Counts;
use allocator_bench::figures::Figures;

use super::workloads::line;
use super::{figure, new_table, or_none, row_header};
use crate::runner::results::Results;

/// A table by rows and one by kinds of calls, unless nothing was counted.
pub(super) fn tables(results: &Results) -> Option<String> {
    results.cells.iter().flatten().find_map(|cell| cell.counts)?;
    Some(format!(
        "All system calls / mmap_lock taken for writing, counted by the kernel:\n\n{}\n\nThe same by kind, all rows \
         together:\n\n{}",
        by_row(results),
        by_kind(results)
    ))
}

fn by_row(results: &Results) -> String {
    let header = row_header(results.contenders.iter().map(ToString::to_string));
    let counted = |counts: Counts| format!("{} / {}", counts.all_calls(), counts.lock_writes);
    let lines = (0..results.rows.len()).map(|row| {
        let figures = results.cells[row].iter().map(|cell| figure(cell, cell.counts.map(counted)));
        line(results, row, figures)
    });
    new_table(header, lines.collect(), 1)
}

fn by_kind(results: &Results) -> String {
    let names = Counts::NAMES.iter().map(|name| name.trim_end_matches("_calls").to_owned());
    let lines = results.contenders.iter().enumerate().map(|(index, contender)| {
        let sums = (0..Counts::NAMES.len()).map(|kind| {
            let sum = results.sum(index, |cell| cell.counts.map(|counts| counts.values()[kind]));
            or_none(sum.map(|sum| sum.to_string()))
        });
        [contender.to_string()].into_iter().chain(sums).collect()
    });
    new_table(["allocator".to_owned()].into_iter().chain(names).collect(), lines.collect(), 1)
}
