//! The short table of a record, for documents: `allocator-bench table FILE.csv`. A document holds it between
//! `<!-- allocator-bench table FILE.csv -->` and `<!-- end of table -->`; a test sees that it is what is printed.

use super::cell::Cell;
use super::record::Record;
use super::results::{LOST_RATIO, Results};

/// The caption and the table.
pub fn table(record: &Record) -> String {
    let results = &record.results;
    let versions = results.contenders.iter().map(|&contender| format!("{contender} {}", record.version_of(contender)));
    let mut lines = vec![
        format!("Medians of {} rounds on {}.", rounds(results), record.caption()),
        format!("Versions: {}.", versions.collect::<Vec<_>>().join(", ")),
        String::new(),
    ];
    let names = results.contenders.iter().map(ToString::to_string);
    let threads = joined(&thread_counts(results), |threads| Some(threads.to_string()));
    let header = format!("milliseconds, on {threads} threads");
    lines.push(markdown_row([header].into_iter().chain(names).chain(["to the best peer".to_owned()])));
    lines.push(markdown_row((0..results.contenders.len() + 2).map(|_| "---".to_owned())));
    for workload in workloads(results) {
        let rows: Vec<usize> = (0..results.rows.len()).filter(|&row| results.rows[row].workload == workload).collect();
        let figures = (0..results.contenders.len()).map(|index| {
            joined(&rows, |&row| {
                let cell: &Cell = &results.cells[row][index];
                let failure = cell.failure.as_ref().map(|failure| failure.mark().to_owned());
                failure.or_else(|| cell.wall_ns().map(|ns| three_digits(ns as f64 / 1e6)))
            })
        });
        let ratio = joined(&rows, |&row| Some(marked(results.ratio_to_best_peer(row)?) + results.doubt(row)));
        lines.push(markdown_row([workload.to_owned()].into_iter().chain(figures).chain([ratio])));
    }
    lines.push(mean(results, "geometric mean, ms", |index| Some(results.geometric_mean(index, Cell::wall_ns)? / 1e6)));
    lines.push(mean(results, "geometric mean, peak MiB", |index| {
        Some(results.geometric_mean(index, Cell::peak_rss_kib)? / 1024.0)
    }));
    if !results.startup.is_empty() {
        lines.push(mean(results, "start of an empty process, ms", |index| {
            Some(results.startup[index].wall_ns()? as f64 / 1e6)
        }));
    }
    lines.join("\n")
}

/// How many rounds the rows have had, from the least to the most.
fn rounds(results: &Results) -> String {
    let (least, most) = (results.rounds(), results.row_rounds().max().unwrap_or(0));
    if least == most { most.to_string() } else { format!("{least} to {most}") }
}

fn mean(results: &Results, name: &str, figure: impl Fn(usize) -> Option<f64>) -> String {
    let figures: Vec<Option<f64>> = (0..results.contenders.len()).map(figure).collect();
    let own = results.contenders.iter().position(|contender| contender.name() == "antifreeze");
    let peers = figures.iter().enumerate().filter(|&(index, _)| Some(index) != own);
    let best = peers.filter_map(|(_, figure)| *figure).min_by(f64::total_cmp);
    let ratio = own.and_then(|own| Some(marked(figures[own]? / best?)));
    let cells = figures.iter().map(|figure| figure.map_or_else(String::new, three_digits));
    markdown_row([name.to_owned()].into_iter().chain(cells).chain([ratio.unwrap_or_default()]))
}

fn markdown_row(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
}

/// Workloads in the order of the record, each once.
fn workloads(results: &Results) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for row in &results.rows {
        if !names.contains(&row.workload.as_str()) {
            names.push(&row.workload);
        }
    }
    names
}

fn thread_counts(results: &Results) -> Vec<usize> {
    let mut counts: Vec<usize> = results.rows.iter().map(|row| row.threads).collect();
    counts.sort_unstable();
    counts.dedup();
    counts
}

fn joined<T>(items: &[T], text: impl Fn(&T) -> Option<String>) -> String {
    let texts = items.iter().map(|item| text(item).unwrap_or_else(|| "-".to_owned()));
    texts.collect::<Vec<_>>().join(" / ")
}

/// A ratio, in bold type if the row is lost.
fn marked(ratio: f64) -> String {
    if ratio > LOST_RATIO { format!("**{ratio:.2}**") } else { format!("{ratio:.2}") }
}

/// A number with as many decimals as three digits need.
fn three_digits(number: f64) -> String {
    match number {
        ..9.995 => format!("{number:.2}"),
        ..99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Record, marked, table, three_digits};

    #[test]
    fn numbers_are_as_long_as_needed() {
        let numbers = [0.123, 9.99, 9.999, 12.34, 99.96, 1234.4].map(three_digits);
        assert_eq!(numbers, ["0.12", "9.99", "10.0", "12.3", "100", "1234"]);
        assert_eq!([1.15, 1.2].map(marked), ["1.15", "**1.20**"]);
    }

    #[test]
    fn threads_share_a_line_and_losses_are_bold() {
        let record = Record::parse(include_str!("../../tests/data/record.csv")).expect("a whole record");
        let text = table(&record);
        for part in [
            "| milliseconds, on 1 / 2 threads | antifreeze | system | mimalloc | to the best peer |",
            "| churn | 20.0 / 30.0 | 40.0 / 60.0 | 10.0 / 40.0 | **2.00** / 0.75 |",
            "| vec_grow | 5.00 | HUNG | 50.0 | 0.10 |",
            "| geometric mean, ms | 24.5 | 49.0 | 20.0 | **1.22** |",
            "| geometric mean, peak MiB | 4.00 | 2.00 | 8.00 | **2.00** |",
            "Medians of 2 rounds on Example CPU (2 cores), Linux 6.18, transparent hugepages on madvise, commit abc, \
             2026-01-02.",
            "Versions: antifreeze 0.1.0, system glibc 2.36, mimalloc 0.1.52.",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
    }
}
