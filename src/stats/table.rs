//! The table of metrics: each number of [`Stats`] with its name, unit, kind and meaning. It drives the printers, the
//! recorder of the `metrics` facade and the test of `docs/STATS.md`.
//!
//! Invariant: a name is unique, begins with `antifreeze_`, and ends as Prometheus advises: a unit, then `_total` if it
//! only ever grows.

use super::histogram::Histogram;
use super::{CallCounts, Stats};

/// What every name begins with.
pub(crate) const PREFIX: &str = "antifreeze_";

/// What a number is measured in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    Bytes,
    /// Calls of the kernel.
    Calls,
    /// Printed in seconds; kept in nanoseconds.
    Seconds,
    /// Something else that is counted.
    Count,
    /// A step of a short scale.
    Level,
}

/// How a number behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only ever grows.
    Counter,
    /// Calls by their time.
    Histogram,
}

/// Where a number comes from.
#[derive(Clone, Copy)]
pub(crate) enum Value {
    /// One number.
    One(fn(&Stats) -> u64),
    /// One number for each kind of call and of thread.
    ByCall(fn(&CallCounts) -> u64),
    /// A histogram for each kind of call and of thread.
    TimeByCall(fn(&CallCounts) -> &Histogram),
}

/// One metric.
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) kind: Kind,
    /// One sentence.
    pub(crate) help: &'static str,
    pub(crate) value: Value,
}

impl Metric {
    /// The name without the prefix, for where it is plain whose number it is.
    pub(crate) fn short_name(&self) -> &'static str {
        self.name.strip_prefix(PREFIX).unwrap_or(self.name)
    }
}

/// One kind of call on one kind of thread.
#[derive(Clone, Copy)]
pub(crate) struct Series<'a> {
    pub(crate) call: &'static str,
    pub(crate) by: &'static str,
    pub(crate) counts: &'a CallCounts,
}

impl Stats {
    /// All kinds of call on all kinds of thread.
    pub(crate) fn series(&self) -> impl Iterator<Item = Series<'_>> {
        self.by_call().into_iter().flat_map(|(call, stats)| {
            [("application", &stats.application), ("governor", &stats.governor)].map(|(by, counts)| Series {
                call,
                by,
                counts,
            })
        })
    }
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str, value: fn(&Stats) -> u64) -> Metric {
    Metric { name, unit, kind: Kind::Gauge, help, value: Value::One(value) }
}

const fn counter(name: &'static str, unit: Unit, help: &'static str, value: fn(&Stats) -> u64) -> Metric {
    Metric { name, unit, kind: Kind::Counter, help, value: Value::One(value) }
}

const fn by_call(name: &'static str, unit: Unit, kind: Kind, help: &'static str, value: Value) -> Metric {
    Metric { name, unit, kind, help, value }
}

/// All metrics, in the order in which they are printed.
pub(crate) const METRICS: &[Metric] = &[
    gauge(
        "antifreeze_allocated_bytes",
        Unit::Bytes,
        "Bytes in blocks that the program holds, rounded up to block sizes, and in blocks on threads' lists.",
        |stats| stats.memory.allocated,
    ),
    gauge(
        "antifreeze_active_bytes",
        Unit::Bytes,
        "Bytes of slices, and of chunks of rooms, that hold blocks.",
        |stats| stats.memory.active,
    ),
    gauge(
        "antifreeze_resident_bytes",
        Unit::Bytes,
        "Active, warm and metadata bytes together: an upper bound of what is in memory.",
        |stats| stats.memory.resident,
    ),
    gauge("antifreeze_retained_bytes", Unit::Bytes, "Reserved address space that is not resident.", |stats| {
        stats.memory.retained
    }),
    gauge("antifreeze_warm_bytes", Unit::Bytes, "Bytes that are free and still backed.", |stats| stats.memory.warm),
    gauge(
        "antifreeze_metadata_bytes",
        Unit::Bytes,
        "Bytes of the allocator's own records that are committed and used.",
        |stats| stats.memory.metadata,
    ),
    gauge("antifreeze_reserved_bytes", Unit::Bytes, "Address space taken from the kernel.", |stats| {
        stats.memory.reserved
    }),
    gauge("antifreeze_committed_bytes", Unit::Bytes, "Address space that is readable and writable.", |stats| {
        stats.memory.committed
    }),
    counter(
        "antifreeze_write_lock_calls_total",
        Unit::Calls,
        "Calls that took mmap_lock for writing since start-up ended.",
        |stats| stats.write_lock_calls,
    ),
    counter(
        "antifreeze_startup_write_lock_calls_total",
        Unit::Calls,
        "Calls that took mmap_lock for writing during start-up.",
        |stats| stats.startup_write_lock_calls,
    ),
    counter(
        "antifreeze_over_budget_calls_total",
        Unit::Calls,
        "Calls that took longer than the hold budget.",
        |stats| stats.over_budget_calls,
    ),
    by_call(
        "antifreeze_kernel_calls_total",
        Unit::Calls,
        Kind::Counter,
        "Kernel calls on memory, with those that failed.",
        Value::ByCall(|counts| counts.calls),
    ),
    by_call(
        "antifreeze_kernel_call_errors_total",
        Unit::Calls,
        Kind::Counter,
        "Kernel calls on memory that the kernel refused.",
        Value::ByCall(|counts| counts.errors),
    ),
    by_call(
        "antifreeze_kernel_call_bytes_total",
        Unit::Bytes,
        Kind::Counter,
        "Bytes that successful kernel calls on memory covered.",
        Value::ByCall(|counts| counts.bytes),
    ),
    by_call(
        "antifreeze_kernel_call_over_budget_total",
        Unit::Calls,
        Kind::Counter,
        "Kernel calls on memory that took longer than the hold budget.",
        Value::ByCall(|counts| counts.over_budget),
    ),
    by_call(
        "antifreeze_kernel_call_duration_max_seconds",
        Unit::Seconds,
        Kind::Gauge,
        "The longest kernel call on memory so far.",
        Value::ByCall(|counts| counts.time.max_ns),
    ),
    by_call(
        "antifreeze_kernel_call_duration_seconds",
        Unit::Seconds,
        Kind::Histogram,
        "How long kernel calls on memory took.",
        Value::TimeByCall(|counts| &counts.time),
    ),
    gauge("antifreeze_retired_bytes", Unit::Bytes, "Warm bytes that are to be given back, now or later.", |stats| {
        stats.governor.retired
    }),
    gauge("antifreeze_backlog_bytes", Unit::Bytes, "Bytes that should be given back by now and are not.", |stats| {
        stats.governor.backlog
    }),
    gauge("antifreeze_may_remain_bytes", Unit::Bytes, "Retired bytes that the decay curve lets remain now.", |stats| {
        stats.governor.may_remain
    }),
    gauge(
        "antifreeze_reserve_target_bytes",
        Unit::Bytes,
        "Free bytes that the governor tries to keep warm ahead of need.",
        |stats| stats.governor.reserve_target,
    ),
    counter("antifreeze_wakeups_total", Unit::Count, "Times that the governor woke up to look for work.", |stats| {
        stats.governor.wakeups
    }),
    counter(
        "antifreeze_batches_total",
        Unit::Count,
        "Rounds of work in which the governor made at least one call.",
        |stats| stats.governor.batches,
    ),
    counter(
        "antifreeze_purged_under_pressure_bytes_total",
        Unit::Bytes,
        "Bytes given back while memory was under pressure.",
        |stats| stats.governor.purged_under_pressure,
    ),
    gauge("antifreeze_pressure_level", Unit::Level, "Memory pressure: 0 none, 1 some, 2 critical.", |stats| {
        stats.governor.pressure
    }),
    counter(
        "antifreeze_pressure_events_total",
        Unit::Count,
        "Times that memory pressure rose to a higher level.",
        |stats| stats.governor.pressure_events,
    ),
    counter("antifreeze_prewarm_requests_total", Unit::Count, "Requests to warm memory ahead of need.", |stats| {
        stats.governor.prewarm_requests
    }),
    counter(
        "antifreeze_prewarm_bytes_total",
        Unit::Bytes,
        "Bytes faulted ahead of need, on request, by forecast or for the reserve.",
        |stats| stats.governor.prewarm_bytes,
    ),
    counter(
        "antifreeze_prewarm_hugepage_bytes_total",
        Unit::Bytes,
        "Bytes faulted ahead of need that the kernel backed with hugepages.",
        |stats| stats.governor.prewarm_hugepage_bytes,
    ),
    counter(
        "antifreeze_prewarm_stopped_total",
        Unit::Count,
        "Requests to warm memory that ended before all of it was warm.",
        |stats| stats.governor.prewarm_stopped,
    ),
    counter(
        "antifreeze_forecasts_total",
        Unit::Count,
        "Times that a block had doubled and memory was warmed for the next doubling.",
        |stats| stats.governor.forecasts,
    ),
    counter("antifreeze_forecast_hits_total", Unit::Count, "Forecasts whose memory a request then took.", |stats| {
        stats.governor.forecast_hits
    }),
    counter("antifreeze_forecast_misses_total", Unit::Count, "Forecasts whose memory nobody took in time.", |stats| {
        stats.governor.forecast_misses
    }),
    counter(
        "antifreeze_cold_claimed_bytes_total",
        Unit::Bytes,
        "Bytes handed out in whole chunks without memory behind them yet.",
        |stats| stats.governor.cold_claimed,
    ),
];

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::{BTreeMap, BTreeSet};
    use std::format;
    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;

    #[test]
    fn names_are_unique_and_end_in_their_unit_and_kind() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for Metric { name, unit, kind, .. } in METRICS {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(name.starts_with(PREFIX), "{name}");
            let stem = name.strip_suffix("_total");
            assert_eq!(stem.is_some(), *kind == Kind::Counter, "{name}");
            let stem = stem.unwrap_or(name);
            assert_eq!(stem.ends_with("_bytes"), *unit == Unit::Bytes, "{name}");
            assert_eq!(stem.ends_with("_seconds"), *unit == Unit::Seconds, "{name}");
            assert_eq!(stem.ends_with("_level"), *unit == Unit::Level, "{name}");
        }
    }

    #[test]
    fn help_is_a_sentence_that_needs_no_escapes() {
        for Metric { name, help, .. } in METRICS {
            assert!(help.starts_with(char::is_uppercase) && help.ends_with('.'), "{name}: {help}");
            assert!(!help.contains(['\\', '\n', '"']), "{name}: {help}");
        }
    }

    #[test]
    fn each_metric_reads_a_number_of_its_own() {
        // Every field has a value of its own; two rows that read the same field would give the same one.
        let stats = super::super::print::tests::distinct();
        let mut seen = BTreeMap::new();
        for metric in METRICS {
            let numbers: Vec<u64> = match metric.value {
                Value::One(get) => [get(&stats)].to_vec(),
                Value::ByCall(get) => stats.series().map(|series| get(series.counts)).collect(),
                Value::TimeByCall(get) => stats.series().map(|series| get(series.counts).sum_ns).collect(),
            };
            for number in numbers {
                let other = seen.insert(number, metric.name);
                assert_eq!(other, None, "{} and another read {number}", metric.name);
            }
        }
    }

    /// The rows of the tables in the document: name, unit, kind, source, and the two sentences.
    fn documented() -> Vec<Vec<String>> {
        let text = include_str!("../../docs/STATS.md");
        let row = |line: &str| -> Option<Vec<String>> {
            let inner = line.strip_prefix("| `antifreeze_")?.strip_suffix(" |")?;
            let cells: Vec<&str> = inner.split(" | ").collect();
            let name = format!("antifreeze_{}", cells[0].trim_end_matches('`'));
            Some(core::iter::once(name).chain(cells[1..].iter().map(ToString::to_string)).collect())
        };
        text.lines().filter_map(row).collect()
    }

    #[test]
    fn the_document_has_the_rows_of_the_table_and_no_others() {
        let rows = documented();
        let heads: Vec<String> = rows.iter().map(|row| row[..3].join(" ")).collect();
        let expected: Vec<String> = METRICS
            .iter()
            .map(|metric| format!("{} {:?} {:?}", metric.name, metric.unit, metric.kind))
            .map(|head| head.replace("antifreeze_", "\0").to_lowercase().replace('\0', "antifreeze_"))
            .collect();
        assert_eq!(heads, expected);
        for row in rows {
            assert_eq!(row.len(), 6, "{row:?}");
            assert!(["counter", "computed", "kernel"].contains(&&*row[3]), "{row:?}");
            assert!(row[4..].iter().all(|sentence| sentence.len() > 10), "{row:?}");
        }
    }
}
