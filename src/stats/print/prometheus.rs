//! The printer for Prometheus: its text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Invariant: the set of names is always the same. A kind of call that never happened shows only its `+Inf` bucket.

use super::{seconds, value};
use crate::stats::Stats;
use crate::stats::histogram::{Histogram, bucket_max_ns};
use crate::stats::table::{Kind, METRICS, Metric, Series, Value};
use crate::text::Text;

/// Prints `stats`.
pub(super) fn print(stats: &Stats, out: &mut Text) {
    for metric in METRICS {
        head(out, metric);
        match metric.value {
            Value::One(get) => {
                out.str(metric.name);
                out.str(" ");
                value(out, metric.unit, get(stats));
                out.str("\n");
            }
            Value::ByCall(get) => {
                for series in stats.series() {
                    labelled(out, metric.name, "", series);
                    out.str("} ");
                    value(out, metric.unit, get(series.counts));
                    out.str("\n");
                }
            }
            Value::TimeByCall(get) => {
                for series in stats.series() {
                    times(out, metric.name, series, get(series.counts));
                }
            }
        }
    }
}

fn head(out: &mut Text, metric: &Metric) {
    out.str("# HELP ");
    out.str(metric.name);
    out.str(" ");
    out.str(metric.help);
    out.str("\n# TYPE ");
    out.str(metric.name);
    out.str(match metric.kind {
        Kind::Gauge => " gauge\n",
        Kind::Counter => " counter\n",
        Kind::Histogram => " histogram\n",
    });
}

/// A name with the labels that all series have; the brace is left open.
fn labelled(out: &mut Text, name: &str, suffix: &str, series: Series<'_>) {
    out.str(name);
    out.str(suffix);
    out.str("{call=\"");
    out.str(series.call);
    out.str("\",by=\"");
    out.str(series.by);
    out.str("\"");
}

fn times(out: &mut Text, name: &str, series: Series<'_>, times: &Histogram) {
    let count = times.count();
    let mut below = 0_u64;
    for (index, calls) in times.buckets.iter().enumerate() {
        below = below.saturating_add(*calls);
        let Some(max_ns) = bucket_max_ns(index).filter(|_| count > 0) else { continue };
        labelled(out, name, "_bucket", series);
        out.str(",le=\"");
        seconds(out, max_ns);
        out.str("\"} ");
        out.number(below);
        out.str("\n");
    }
    labelled(out, name, "_bucket", series);
    out.str(",le=\"+Inf\"} ");
    out.number(count);
    out.str("\n");
    labelled(out, name, "_sum", series);
    out.str("} ");
    seconds(out, times.sum_ns);
    out.str("\n");
    labelled(out, name, "_count", series);
    out.str("} ");
    out.number(count);
    out.str("\n");
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::stats::print::tests::exposition::{Family, Sample, parse};
    use crate::stats::print::tests::{distinct, full};
    use crate::stats::table::Unit;

    fn families(stats: &Stats) -> Vec<Family> {
        parse(&full(|buffer| stats.prometheus(buffer))).unwrap()
    }

    fn number(sample: &Sample, unit: Unit) -> u64 {
        if unit == Unit::Seconds { (sample.value * 1e9).round() as u64 } else { sample.value as u64 }
    }

    #[test]
    fn every_number_is_that_of_the_statistics() {
        for stats in [distinct(), Stats::default()] {
            let families = families(&stats);
            assert_eq!(families.len(), METRICS.len());
            for (family, metric) in families.iter().zip(METRICS) {
                assert_eq!((&*family.name, &*family.help), (metric.name, metric.help));
                let found: Vec<u64> = match metric.kind {
                    Kind::Histogram => family.named("_sum").map(|sample| number(sample, metric.unit)).collect(),
                    _ => family.samples.iter().map(|sample| number(sample, metric.unit)).collect(),
                };
                let expected: Vec<u64> = match metric.value {
                    Value::One(get) => [get(&stats)].to_vec(),
                    Value::ByCall(get) => stats.series().map(|series| get(series.counts)).collect(),
                    Value::TimeByCall(get) => stats.series().map(|series| get(series.counts).sum_ns).collect(),
                };
                assert_eq!(found, expected, "{}", metric.name);
            }
        }
    }

    #[test]
    fn series_have_the_labels_of_their_call_and_thread() {
        let mut stats = Stats::default();
        stats.purge.governor.calls = 7;
        let text = full(|buffer| stats.prometheus(buffer));
        assert!(text.contains("\nantifreeze_kernel_calls_total{call=\"purge\",by=\"governor\"} 7\n"), "{text}");
        let families = families(&stats);
        let calls = families.iter().find(|family| family.name == "antifreeze_kernel_calls_total").unwrap();
        let others: Vec<f64> = calls.samples.iter().filter(|sample| sample.value != 7.0).map(|s| s.value).collect();
        assert_eq!(others, [0.0; 11]);
    }

    #[test]
    fn buckets_are_cumulative_and_in_seconds() {
        let mut stats = Stats::default();
        let times = &mut stats.purge.governor.time;
        (times.buckets[0], times.buckets[17], times.buckets[31]) = (1, 10, 100);
        let families = families(&stats);
        let family = families.iter().find(|family| family.kind == "histogram").unwrap();
        let of = |sample: &&Sample| sample.label("call") == Some("purge") && sample.label("by") == Some("governor");
        let buckets: Vec<(f64, f64)> = family
            .named("_bucket")
            .filter(of)
            .map(|sample| (sample.label("le").unwrap().parse().unwrap(), sample.value))
            .collect();
        assert_eq!(buckets.len(), 32);
        assert_eq!(buckets[0], (0.000_000_001, 1.0));
        assert_eq!((buckets[16].1, buckets[17]), (1.0, (0.000_262_143, 11.0)));
        assert_eq!((buckets[30].1, buckets[31]), (11.0, (f64::INFINITY, 111.0)));
    }

    #[test]
    fn calls_that_never_happened_show_one_bucket() {
        let families = families(&Stats::default());
        let family = families.iter().find(|family| family.kind == "histogram").unwrap();
        assert_eq!(family.samples.len(), 12 * 3);
        assert!(family.named("_bucket").all(|sample| sample.label("le") == Some("+Inf")));
    }
}
