//! Start-up, with differences to the system allocator.

use allocator_bench::contender::Contender;

use super::{figure, new_table, or_none};
use crate::runner::cell::Cell;
use crate::runner::results::Results;
use crate::runner::startup::STARTUP;

/// One line for each allocator.
pub(super) fn table(results: &Results) -> String {
    let header = ["allocator", "start-up us", "vs system us", "peak RSS KiB", "vs system KiB"];
    let system = results.position(Contender::System).map(|index| &results.startup[index]);
    let (system_ns, system_kib) = (system.and_then(Cell::wall_ns), system.and_then(Cell::peak_rss_kib));
    let lines = results.contenders.iter().zip(&results.startup).map(|(contender, cell)| {
        let (wall_ns, peak_kib) = (cell.wall_ns(), cell.peak_rss_kib());
        vec![
            contender.to_string(),
            figure(cell, wall_ns.map(|wall_ns| format!("{:.0}", wall_ns as f64 / 1e3))),
            or_none(difference(wall_ns, system_ns).map(|ns| format!("{:+.0}", ns / 1e3))),
            figure(cell, peak_kib.map(|peak_kib| peak_kib.to_string())),
            or_none(difference(peak_kib, system_kib).map(|kib| format!("{kib:+.0}"))),
        ]
    });
    let table = new_table(header.map(str::to_owned).to_vec(), lines.collect(), 1);
    let runs = results.startup.iter().map(|cell| cell.timed.len()).max().unwrap_or(0);
    format!("{STARTUP}: process start to end, median of {runs} runs\n\n{table}")
}

fn difference(value: Option<u64>, base: Option<u64>) -> Option<f64> {
    Some(value? as f64 - base? as f64)
}
