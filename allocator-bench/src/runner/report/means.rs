//! One line for each allocator: means and sums over all rows in which every allocator has the figure.

use allocator_bench::contender::Contender;
use allocator_bench::sample::Sample;

use super::{new_table, or_none};
use crate::runner::cell::Cell;
use crate::runner::results::Results;

const COLUMNS: [&str; 12] = [
    "all rows",
    "mean ms",
    "vs antifreeze",
    "mean peak MiB",
    "vs antifreeze",
    "mean final MiB",
    "user s",
    "system s",
    "minor faults",
    "major faults",
    "voluntary switches",
    "involuntary",
];

/// Geometric means of time and memory, sums of the rest.
pub(super) fn table(results: &Results) -> String {
    let own = results.position(Contender::Antifreeze);
    let lines = (0..results.contenders.len()).map(|index| {
        let mean = |figure: fn(&Cell) -> Option<u64>| results.geometric_mean(index, figure);
        let relative = |figure: fn(&Cell) -> Option<u64>| {
            or_none(own.and_then(|own| {
                let ratio = mean(figure)? / results.geometric_mean(own, figure)?;
                Some(format!("{ratio:.2}x"))
            }))
        };
        let sum = |figure: fn(&Sample) -> u64| results.sum(index, |cell| cell.median_of(figure));
        let seconds = |figure| or_none(sum(figure).map(|ns| format!("{:.2}", ns as f64 / 1e9)));
        let count = |figure| or_none(sum(figure).map(|count| count.to_string()));
        let mib = |figure| or_none(mean(figure).map(|kib| format!("{:.1}", kib / 1024.0)));
        vec![
            results.contenders[index].to_string(),
            or_none(mean(Cell::wall_ns).map(|ns| format!("{:.1}", ns / 1e6))),
            relative(Cell::wall_ns),
            mib(Cell::peak_rss_kib),
            relative(Cell::peak_rss_kib),
            mib(Cell::final_rss_kib),
            seconds(|sample| sample.user_ns),
            seconds(|sample| sample.system_ns),
            count(|sample| sample.minor_faults),
            count(|sample| sample.major_faults),
            count(|sample| sample.voluntary_switches),
            count(|sample| sample.involuntary_switches),
        ]
    });
    let table = new_table(COLUMNS.map(str::to_owned).to_vec(), lines.collect(), 1);
    format!("Geometric means of time and memory, sums of the rest:\n\n{table}")
}
