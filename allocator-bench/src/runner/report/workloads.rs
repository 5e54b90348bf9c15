//! Times and memory, one line for each row of the comparison.

use std::fmt::Write;

use allocator_bench::contender::Contender;

use super::{NO_FIGURE, figure, in_mib, in_ms, new_table, or_none, row_header};
use crate::runner::cell::Cell;
use crate::runner::results::{LOST_RATIO, Results, WIDE_SPREAD};

/// Wall times with the ratio to the best peer, and the rows that antifreeze lost.
pub(super) fn times(results: &Results) -> String {
    let names = results.contenders.iter().map(|contender| format!("{contender} ms"));
    let header = row_header(names.chain(["vs best peer".to_owned(), "spread".to_owned(), "line ns".to_owned()]));
    let lines = (0..results.rows.len()).map(|row| {
        let figures = results.cells[row].iter().map(|cell| figure(cell, cell.wall_ns().map(in_ms)));
        line(results, row, figures.chain([verdict(results, row), spread(results, row), distance(results, row)]))
    });
    let mut text = new_table(header, lines.collect(), 1);
    let is_wide = |row: usize| results.spread(row).is_some_and(|spread| spread > WIDE_SPREAD);
    if (0..results.rows.len()).any(is_wide) {
        let percent = WIDE_SPREAD * 100.0;
        let _ = write!(text, "\n\n~ the rounds of an allocator spread by more than {percent:.0} % of their median");
    }
    if (0..results.rows.len()).any(|row| !results.doubt(row).is_empty()) {
        let _ = write!(
            text,
            "\n\n? the rounds disagree on whether the row is over {LOST_RATIO}x the best peer, or too few count"
        );
    }
    let ratios: Vec<f64> = (0..results.rows.len()).filter_map(|row| results.ratio_to_best_peer(row)).collect();
    if !ratios.is_empty() {
        let lost = ratios.iter().filter(|&&ratio| ratio > LOST_RATIO).count();
        let count = ratios.len();
        let own = Contender::Antifreeze;
        let _ = write!(text, "\n\n{own} is over {LOST_RATIO}x the best peer in {lost} of {count} rows");
    }
    text
}

/// Peak and final resident memory.
pub(super) fn memory(results: &Results) -> String {
    let header = row_header(results.contenders.iter().map(|contender| format!("{contender} MiB")));
    let memory = |cell: &Cell| Some(format!("{} / {}", in_mib(cell.peak_rss_kib()?), in_mib(cell.final_rss_kib()?)));
    let lines = (0..results.rows.len()).map(|row| {
        let figures = results.cells[row].iter().map(|cell| figure(cell, memory(cell)));
        line(results, row, figures)
    });
    format!("Resident memory, peak / when the workload has returned:\n\n{}", new_table(header, lines.collect(), 1))
}

/// A line of a table that begins with what the row is.
pub(super) fn line(results: &Results, row: usize, figures: impl IntoIterator<Item = String>) -> Vec<String> {
    let row = &results.rows[row];
    [row.workload.clone(), row.threads.to_string()].into_iter().chain(figures).collect()
}

/// The ratio of a row, marked if it is lost; a row whose results differ has none.
fn verdict(results: &Results, row: usize) -> String {
    if !results.checksums_agree(row) {
        return "RESULTS DIFFER".to_owned();
    }
    match results.ratio_to_best_peer(row) {
        Some(ratio) => {
            let lost = if ratio > LOST_RATIO { " LOST" } else { "" };
            format!("{ratio:.2}x{lost}{}", results.doubt(row))
        }
        None => NO_FIGURE.to_owned(),
    }
}

fn spread(results: &Results, row: usize) -> String {
    let mark = |spread: f64| if spread > WIDE_SPREAD { " ~" } else { "" };
    or_none(results.spread(row).map(|spread| format!("{:.0} %{}", spread * 100.0, mark(spread))))
}

fn distance(results: &Results, row: usize) -> String {
    or_none(results.distance_ns(row).map(|(least_ns, most_ns)| format!("{least_ns} to {most_ns}")))
}
