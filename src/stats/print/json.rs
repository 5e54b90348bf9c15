//! The printer of JSON. One object, a member for each metric: a number; or an array with an object for each kind of
//! call and of thread, whose buckets are pairs of the longest time they count (`null`: none) and the calls in them.

use super::{seconds, value};
use crate::stats::Stats;
use crate::stats::histogram::{Histogram, bucket_max_ns};
use crate::stats::table::{METRICS, Series, Value};
use crate::text::Text;

/// Prints `stats`.
pub(super) fn print(stats: &Stats, out: &mut Text) {
    out.str("{");
    for (number, metric) in METRICS.iter().enumerate() {
        out.str(if number == 0 { "\n\"" } else { ",\n\"" });
        out.str(metric.short_name());
        out.str("\": ");
        match metric.value {
            Value::One(get) => value(out, metric.unit, get(stats)),
            Value::ByCall(get) => by_call(stats, out, |out, series| {
                out.str("\"value\": ");
                value(out, metric.unit, get(series.counts));
            }),
            Value::TimeByCall(get) => by_call(stats, out, |out, series| times(out, get(series.counts))),
        }
    }
    out.str("\n}\n");
}

fn by_call(stats: &Stats, out: &mut Text, print: impl Fn(&mut Text, Series<'_>)) {
    out.str("[");
    for (number, series) in stats.series().enumerate() {
        out.str(if number == 0 { "\n  {\"call\": \"" } else { ",\n  {\"call\": \"" });
        out.str(series.call);
        out.str("\", \"by\": \"");
        out.str(series.by);
        out.str("\", ");
        print(out, series);
        out.str("}");
    }
    out.str("\n]");
}

fn times(out: &mut Text, times: &Histogram) {
    out.str("\"count\": ");
    out.number(times.count());
    out.str(", \"sum\": ");
    seconds(out, times.sum_ns);
    out.str(", \"buckets\": [");
    let used = times.buckets.iter().enumerate().filter(|(_, calls)| **calls > 0);
    for (place, (index, calls)) in used.enumerate() {
        out.str(if place == 0 { "[" } else { ", [" });
        match bucket_max_ns(index) {
            Some(max_ns) => seconds(out, max_ns),
            None => out.str("null"),
        }
        out.str(", ");
        out.number(*calls);
        out.str("]");
    }
    out.str("]");
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use serde_json::Value as Json;

    use super::*;
    use crate::stats::print::tests::{distinct, full};
    use crate::stats::table::Unit;

    fn parsed(stats: &Stats) -> Json {
        serde_json::from_str(&full(|buffer| stats.json(buffer))).unwrap()
    }

    /// The number as it was before it became seconds.
    fn number(json: &Json, unit: Unit) -> u64 {
        match unit {
            Unit::Seconds => (json.as_f64().unwrap() * 1e9).round() as u64,
            _ => json.as_u64().unwrap(),
        }
    }

    #[test]
    fn every_number_is_that_of_the_statistics() {
        for stats in [distinct(), Stats::default()] {
            let json = parsed(&stats);
            assert_eq!(json.as_object().unwrap().len(), METRICS.len());
            for metric in METRICS {
                let member = &json[metric.short_name()];
                let get: &dyn Fn(&Series) -> u64 = match metric.value {
                    Value::One(get) => {
                        assert_eq!(number(member, metric.unit), get(&stats), "{}", metric.name);
                        continue;
                    }
                    Value::ByCall(get) => &move |series| get(series.counts),
                    Value::TimeByCall(get) => &move |series| get(series.counts).sum_ns,
                };
                let member = member.as_array().unwrap();
                assert_eq!(member.len(), stats.series().count());
                for (object, series) in member.iter().zip(stats.series()) {
                    assert_eq!((object["call"].as_str(), object["by"].as_str()), (Some(series.call), Some(series.by)));
                    let found = object.get("value").or(object.get("sum")).unwrap();
                    assert_eq!(number(found, metric.unit), get(&series), "{} {}", metric.name, series.call);
                }
            }
        }
    }

    #[test]
    fn buckets_say_what_they_count() {
        let mut stats = Stats::default();
        stats.commit.application.time.buckets[0] = 4;
        stats.commit.application.time.buckets[12] = 5;
        stats.commit.application.time.buckets[31] = 6;
        let json = parsed(&stats);
        let times = json["kernel_call_duration_seconds"].as_array().unwrap();
        let commit: Vec<&Json> = times.iter().filter(|object| object["count"] != 0).collect();
        assert_eq!(commit.len(), 1);
        assert_eq!((&commit[0]["call"], &commit[0]["count"]), (&"commit".into(), &15.into()));
        let expected: Json = serde_json::from_str("[[0.000000001, 4], [0.000008191, 5], [null, 6]]").unwrap();
        assert_eq!(commit[0]["buckets"], expected);
    }
}
