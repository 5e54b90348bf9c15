//! The printed report: tables in Markdown, so that they can go into a document as they are.

mod calls;
mod latency;
mod means;
mod startup;
mod workloads;

use comfy_table::{CellAlignment, Table, presets};

use super::cell::Cell;
use super::results::{Results, Row};

const NO_FIGURE: &str = "-";

/// All tables for which there are figures.
pub fn text(results: &Results) -> String {
    let mut parts = Vec::new();
    if !results.rows.is_empty() {
        parts.push(workloads::times(results));
        parts.push(workloads::memory(results));
        parts.push(means::table(results));
        parts.extend(calls::tables(results));
        parts.extend(latency::tables(results));
    }
    if !results.startup.is_empty() {
        parts.push(startup::table(results));
    }
    parts.extend(failures(results));
    parts.join("\n\n")
}

/// Who failed, and why.
fn failures(results: &Results) -> Option<String> {
    let rows = results.rows.iter().map(Row::to_string);
    let rows = rows.zip(&results.cells).chain([(super::startup::STARTUP.to_owned(), &results.startup)]);
    let lines: Vec<String> = rows
        .flat_map(|(name, cells)| results.contenders.iter().zip(cells).map(move |pair| (name.clone(), pair)))
        .filter_map(|(name, (contender, cell))| Some(format!("{contender} on {name}: {}", cell.failure.as_ref()?)))
        .collect();
    (!lines.is_empty()).then(|| format!("Failed:\n{}", lines.join("\n")))
}

/// A figure of a cell, or what stands in its place.
fn figure(cell: &Cell, value: Option<String>) -> String {
    match &cell.failure {
        Some(failure) => failure.mark().to_owned(),
        None => value.unwrap_or_else(|| NO_FIGURE.to_owned()),
    }
}

fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| NO_FIGURE.to_owned())
}

fn in_ms(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1e6)
}

fn in_mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}

/// A table with a header, whose columns are aligned to the right from the one at `first_right` on.
pub fn new_table(header: Vec<String>, rows: Vec<Vec<String>>, first_right: usize) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(first_right) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Begins the header of a table with one line for each row of the comparison.
fn row_header(columns: impl IntoIterator<Item = String>) -> Vec<String> {
    ["workload".to_owned(), "threads".to_owned()].into_iter().chain(columns).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use allocator_bench::contender::Contender;
    use allocator_bench::counts::Counts;
    use allocator_bench::latency::Latency;
    use allocator_bench::sample::Sample;

    use super::text;
    use crate::runner::cell::Cell;
    use crate::runner::distance::Distance;
    use crate::runner::launch::Failure;
    use crate::runner::results::{Results, Row};

    fn cell(wall_ns: u64) -> Cell {
        let sample = Sample { wall_ns, peak_rss_kib: 2048, final_rss_kib: 1024, ..Sample::default() };
        Cell { timed: vec![sample.into()], ..Cell::default() }
    }

    fn results() -> Results {
        let row = |workload: &str| Row { workload: workload.to_owned(), threads: 1, scale: 1.0 };
        let rows = vec![row("small_pairs"), row("churn"), row("large")];
        let mut results = Results::new(rows, vec![Contender::Antifreeze, Contender::System]);
        let hung = Failure::Hung { after: Duration::from_secs(7) };
        results.cells = vec![
            vec![cell(3_000_000), cell(2_000_000)],
            vec![cell(2_000_000), cell(2_000_000)],
            vec![cell(2_000_000), Cell { failure: Some(hung), ..Cell::default() }],
        ];
        results
    }

    #[test]
    fn lost_rows_and_failures_are_shown() {
        let text = text(&results());
        assert!(text.contains("1.50x LOST") && text.contains("1.00x") && text.contains("HUNG"), "{text}");
        assert!(text.contains("over 1.15x the best peer in 1 of 2 rows"), "{text}");
        assert!(text.contains("system on large, 1 thread: the child hung and was killed after 7 s"), "{text}");
        assert!(!text.contains("start-up"), "{text}");
    }

    #[test]
    fn rows_that_differ_or_spread_are_marked() {
        let mut results = results();
        results.cells[0][0].timed.push(Sample { wall_ns: 3_000_000, checksum: 5, ..Sample::default() }.into());
        results.cells[1][0].timed.push(Sample { wall_ns: 4_000_000, ..Sample::default() }.into());
        results.cells[1][1].timed[0].distance = Some(Distance { line_before_ns: 52, line_after_ns: 344 });
        let text = text(&results);
        assert!(text.contains("RESULTS DIFFER"), "{text}");
        assert!(text.contains("67 % ~") && text.contains("52 to 344"), "{text}");
        assert!(text.contains("~ the rounds of an allocator spread by more than 25 %"), "{text}");
    }

    #[test]
    fn counts_and_latencies_have_tables_if_there_are_any() {
        let mut results = results();
        let without = text(&results);
        assert!(!without.contains("system calls") && !without.contains("p99.9"), "{without}");
        results.cells[0][0].counts =
            Some(Counts { mmap_calls: 12, other_calls: 30, lock_writes: 7, ..Counts::default() });
        let latency = Latency { count: 5000, p50_ns: 21, p99_ns: 180, p999_ns: 4100, max_ns: 2_500_000 };
        results.cells[1][1].latencies = Some([latency; 4]);
        let with = text(&results);
        assert!(with.contains("42 / 7"), "{with}");
        assert!(with.contains("21 / 180 / 4.1k / 2.5M"), "{with}");
    }

    #[test]
    fn startup_is_relative_to_the_system() {
        let mut results = Results::new(Vec::new(), vec![Contender::Antifreeze, Contender::System]);
        results.startup = vec![cell(900_000), cell(700_000)];
        let text = text(&results);
        assert!(text.contains("+200") && text.contains("median of 1 runs"), "{text}");
    }
}
