//! What single calls took: a table for each kind of call.

use allocator_bench::latency::{Call, Latency};

use super::workloads::line;
use super::{figure, new_table, row_header};
use crate::runner::results::Results;

/// Rows in which a kind of call occurs less often say nothing about its p99.9.
const COUNT_MIN: u64 = 1000;

/// The tables of the kinds of calls that occur.
pub(super) fn tables(results: &Results) -> Option<String> {
    let tables: Vec<String> = Call::ALL.into_iter().filter_map(|call| table(results, call)).collect();
    (!tables.is_empty()).then(|| tables.join("\n\n"))
}

fn table(results: &Results, call: Call) -> Option<String> {
    let header = row_header(results.contenders.iter().map(ToString::to_string));
    let occurs = |&row: &usize| {
        let mut counts = results.cells[row].iter().filter_map(|cell| cell.latency(call));
        counts.any(|latency| latency.count >= COUNT_MIN)
    };
    let rows = (0..results.rows.len()).filter(occurs);
    let lines: Vec<Vec<String>> = rows
        .map(|row| {
            let figures = results.cells[row].iter().map(|cell| figure(cell, cell.latency(call).map(in_ns)));
            line(results, row, figures)
        })
        .collect();
    if lines.is_empty() {
        return None;
    }
    Some(format!("{call}, nanoseconds, p50 / p99 / p99.9 / max:\n\n{}", new_table(header, lines, 1)))
}

fn in_ns(latency: Latency) -> String {
    let Latency { count: _, p50_ns, p99_ns, p999_ns, max_ns } = latency;
    [p50_ns, p99_ns, p999_ns, max_ns].map(short).join(" / ")
}

/// A number in at most five characters.
fn short(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        1000..9_950 => format!("{:.1}k", number as f64 / 1e3),
        9_950..999_500 => format!("{:.0}k", number as f64 / 1e3),
        999_500..9_950_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.0}M", number as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_are_shortened() {
        let numbers = [0, 999, 1234, 9_960, 56_789, 999_600, 1_500_000, 25_400_000].map(short);
        assert_eq!(numbers, ["0", "999", "1.2k", "10k", "57k", "1.0M", "1.5M", "25M"]);
    }
}
