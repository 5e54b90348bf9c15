//! The printer for people. `name: number` where there is one number; a heading and indented lines where there is one
//! for each kind of call, without the kinds that never happened.

use super::{seconds, value};
use crate::stats::Stats;
use crate::stats::histogram::Histogram;
use crate::stats::table::{METRICS, Series, Value};
use crate::text::Text;

/// Prints `stats`.
pub(super) fn print(stats: &Stats, out: &mut Text) {
    for metric in METRICS {
        out.str(metric.short_name());
        out.str(":");
        match metric.value {
            Value::One(get) => {
                out.str(" ");
                value(out, metric.unit, get(stats));
                out.str("\n");
            }
            Value::ByCall(get) => by_call(stats, out, |out, series| value(out, metric.unit, get(series.counts))),
            Value::TimeByCall(get) => by_call(stats, out, |out, series| times(out, get(series.counts))),
        }
    }
}

fn by_call(stats: &Stats, out: &mut Text, print: impl Fn(&mut Text, Series<'_>)) {
    out.str("\n");
    for series in stats.series().filter(|series| series.counts.calls > 0) {
        out.str("  ");
        out.str(series.call);
        out.str(" by ");
        out.str(series.by);
        out.str(": ");
        print(out, series);
        out.str("\n");
    }
}

fn times(out: &mut Text, times: &Histogram) {
    out.str("sum ");
    seconds(out, times.sum_ns);
    for (name, per_mille) in [(", half within ", 500), (", 99 % within ", 990), (", 99.9 % within ", 999)] {
        out.str(name);
        seconds(out, times.quantile_ns(per_mille));
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use crate::stats::print::tests::{distinct, full};
    use crate::stats::table::METRICS;
    use crate::stats::{CallCounts, Stats};

    #[test]
    fn there_is_a_line_for_each_metric_also_when_nothing_happened() {
        let text = full(|buffer| Stats::default().text(buffer));
        let names: Vec<&str> = text.lines().map(|line| line.split_once(':').unwrap().0).collect();
        let expected: Vec<&str> = METRICS.iter().map(|metric| metric.short_name()).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn numbers_stand_behind_their_names() {
        let stats = distinct();
        let text = full(|buffer| stats.text(buffer));
        let line = std::format!("allocated_bytes: {}\n", stats.memory.allocated);
        assert!(text.starts_with(&line), "{text}");
        let line = std::format!("\n  purge by governor: {}\n", stats.purge.governor.bytes);
        assert!(text.contains(&line), "{text}");
    }

    #[test]
    fn calls_that_never_happened_are_left_out() {
        let mut stats = Stats::default();
        stats.purge.governor = CallCounts { calls: 2, ..CallCounts::default() };
        stats.purge.governor.time.buckets[11] = 2;
        stats.purge.governor.time.sum_ns = 1_000_005_000;
        let text = full(|buffer| stats.text(buffer));
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(' ')).collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert!(lines.iter().all(|line| line.starts_with("  purge by governor: ")), "{text}");
        let times = "sum 1.000005000, half within 0.000004095, 99 % within 0.000004095, 99.9 % within 0.000004095";
        assert!(lines[5].ends_with(times), "{text}");
    }
}
