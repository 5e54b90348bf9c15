//! The printed report: tables in Markdown, so that they can go into a document as they are.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::contender::Contender;
use super::results::{Cell, Results};
use super::startup::{STARTUP, Startup};

/// A row whose ratio is above this is marked as lost.
const LOST_RATIO: f64 = 1.15;

const NO_FIGURE: &str = "-";

/// The table of all workloads, the means below it, and the rows that antifreeze lost.
pub fn workloads(results: &Results) -> String {
    let mut text = format!("{}\n\n{}\n", rows_table(results), means_table(results));
    if !results.contenders.contains(&Contender::Antifreeze) {
        return text;
    }
    let ratios = (0..results.rows.len()).filter_map(|row| Some((row, results.ratio_to_best_peer(row)?)));
    let (lost, kept): (Vec<_>, Vec<_>) = ratios.partition(|&(_, ratio)| ratio > LOST_RATIO);
    if lost.len() + kept.len() > 0 {
        let count = lost.len() + kept.len();
        let _ = writeln!(text, "\nantifreeze is over {LOST_RATIO}x the best peer in {} of {count} rows", lost.len());
    }
    text
}

/// The table of start-up, with differences to the system allocator.
pub fn startup(startup: &Startup) -> String {
    let mut table = new_table(["allocator", "start-up us", "vs system us", "peak RSS KiB", "vs system KiB"]);
    let system_ns = startup.system().and_then(Cell::wall_ns);
    let system_kib = startup.system().and_then(Cell::peak_rss_kib);
    for (contender, cell) in startup.contenders.iter().zip(&startup.cells) {
        let (wall_ns, peak_kib) = (cell.wall_ns(), cell.peak_rss_kib());
        table.add_row([
            contender.name().to_owned(),
            figure(cell, wall_ns.map(|wall_ns| format!("{:.0}", wall_ns as f64 / 1e3))),
            difference(wall_ns, system_ns).map_or(NO_FIGURE.to_owned(), |ns| format!("{:+.0}", ns / 1e3)),
            figure(cell, peak_kib.map(|peak_kib| peak_kib.to_string())),
            difference(peak_kib, system_kib).map_or(NO_FIGURE.to_owned(), |kib| format!("{kib:+.0}")),
        ]);
    }
    align_right(&mut table, 1);
    let runs = startup.cells.iter().map(|cell| cell.samples.len()).max().unwrap_or(0);
    format!("{STARTUP}: process start to end, median of {runs} runs\n\n{table}\n")
}

fn rows_table(results: &Results) -> Table {
    let mut header = vec!["workload".to_owned(), "threads".to_owned()];
    header.extend(results.contenders.iter().map(|contender| format!("{} ms", contender.name())));
    header.push("vs best peer".to_owned());
    header.extend(results.contenders.iter().map(|contender| format!("{} MiB", contender.name())));
    let mut table = new_table(header);
    for (index, (row, cells)) in results.rows.iter().zip(&results.cells).enumerate() {
        let mut line = vec![row.workload.name.to_owned(), row.threads.to_string()];
        line.extend(cells.iter().map(|cell| figure(cell, cell.wall_ns().map(in_ms))));
        line.push(verdict(results, index));
        line.extend(cells.iter().map(|cell| figure(cell, cell.peak_rss_kib().map(in_mib))));
        table.add_row(line);
    }
    align_right(&mut table, 1);
    table
}

fn means_table(results: &Results) -> Table {
    let mut table = new_table(["geometric mean", "ms", "vs antifreeze", "peak RSS MiB", "vs antifreeze"]);
    let own = results.contenders.iter().position(|&contender| contender == Contender::Antifreeze);
    let relative = |value: Option<f64>, own_value: Option<f64>| match (value, own_value) {
        (Some(value), Some(own_value)) => format!("{:.2}x", value / own_value),
        _ => NO_FIGURE.to_owned(),
    };
    let own_ns = own.and_then(|own| results.geometric_mean(own, Cell::wall_ns));
    let own_kib = own.and_then(|own| results.geometric_mean(own, Cell::peak_rss_kib));
    for (index, contender) in results.contenders.iter().enumerate() {
        let mean_ns = results.geometric_mean(index, Cell::wall_ns);
        let mean_kib = results.geometric_mean(index, Cell::peak_rss_kib);
        table.add_row([
            contender.name().to_owned(),
            mean_ns.map_or(NO_FIGURE.to_owned(), |ns| format!("{:.1}", ns / 1e6)),
            relative(mean_ns, own_ns),
            mean_kib.map_or(NO_FIGURE.to_owned(), |kib| format!("{:.1}", kib / 1024.0)),
            relative(mean_kib, own_kib),
        ]);
    }
    align_right(&mut table, 1);
    table
}

/// The ratio of a row, marked if it is lost; a row whose results differ has none.
fn verdict(results: &Results, row: usize) -> String {
    if !results.checksums_agree(row) {
        return "RESULTS DIFFER".to_owned();
    }
    match results.ratio_to_best_peer(row) {
        Some(ratio) if ratio > LOST_RATIO => format!("{ratio:.2}x LOST"),
        Some(ratio) => format!("{ratio:.2}x"),
        None => NO_FIGURE.to_owned(),
    }
}

fn figure(cell: &Cell, value: Option<String>) -> String {
    if cell.failure.is_some() { "FAILED".to_owned() } else { value.unwrap_or_else(|| NO_FIGURE.to_owned()) }
}

fn difference(value: Option<u64>, base: Option<u64>) -> Option<f64> {
    Some(value? as f64 - base? as f64)
}

fn in_ms(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1e6)
}

fn in_mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}

fn new_table<H: Into<comfy_table::Row>>(header: H) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    table
}

fn align_right(table: &mut Table, first: usize) {
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Contender, Results, Startup, startup, workloads};
    use crate::runner::results::Row;
    use allocator_bench::sample::Sample;
    use allocator_bench::workload;

    fn cell(wall_ns: u64) -> Cell {
        Cell { samples: vec![Sample { wall_ns, peak_rss_kib: 2048, ..Sample::default() }], failure: None }
    }

    #[test]
    fn lost_rows_are_shown_and_marked() {
        let row = |index: usize| Row { workload: &workload::ALL[index], threads: 1, scale: 1.0 };
        let mut results = Results::new(vec![row(0), row(1), row(2)], vec![Contender::Antifreeze, Contender::System]);
        results.cells = vec![
            vec![cell(3_000_000), cell(2_000_000)],
            vec![cell(2_000_000), cell(2_000_000)],
            vec![cell(2_000_000), Cell { samples: Vec::new(), failure: Some("hung".to_owned()) }],
        ];
        let text = workloads(&results);
        assert!(text.contains("1.50x LOST") && text.contains("1.00x") && text.contains("FAILED"), "{text}");
        assert!(text.contains("over 1.15x the best peer in 1 of 2 rows"), "{text}");
    }

    #[test]
    fn startup_is_relative_to_the_system() {
        let contenders = vec![Contender::Antifreeze, Contender::System];
        let text = startup(&Startup { contenders, cells: vec![cell(900_000), cell(700_000)] });
        assert!(text.contains("+200") && text.contains("median of 1 runs"), "{text}");
    }
}
