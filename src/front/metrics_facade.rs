//! Statistics for programs that use the `metrics` facade. Feature `metrics`; the program calls it from a timer.
//!
//! Invariant: the same names, units and meanings as the printers, because they come from the same table.

use ::metrics::{Key, Level, Metadata, Recorder, SharedString, Unit as FacadeUnit, with_recorder};

use crate::stats::Stats;
use crate::stats::table::{Kind, METRICS, Metric, Unit, Value};

/// Recorders may choose by it what to keep.
const METADATA: Metadata<'static> = Metadata::new("antifreeze", Level::INFO, Some("antifreeze"));

/// Sets the gauges and counters of the recorder that the program has installed for the `metrics` facade to the current
/// statistics, with their descriptions. Needs the feature `metrics`. Call it from a timer, at the pace of scrapes.
///
/// The names are those of [`Stats::prometheus`]; times are in seconds. Histograms are left out, as the facade takes
/// only single values: the number of calls and the longest are among the rest.
pub fn record_metrics() {
    let stats = super::stats();
    with_recorder(|recorder| record(recorder, &stats));
}

fn record(recorder: &dyn Recorder, stats: &Stats) {
    for metric in METRICS {
        match metric.value {
            Value::One(get) => {
                describe(recorder, metric);
                set(recorder, metric, &Key::from_static_name(metric.name), get(stats));
            }
            Value::ByCall(get) => {
                describe(recorder, metric);
                for series in stats.series() {
                    let key = Key::from_parts(metric.name, &[("call", series.call), ("by", series.by)]);
                    set(recorder, metric, &key, get(series.counts));
                }
            }
            Value::TimeByCall(_) => {}
        }
    }
}

fn describe(recorder: &dyn Recorder, metric: &Metric) {
    let unit = match metric.unit {
        Unit::Bytes => FacadeUnit::Bytes,
        Unit::Seconds => FacadeUnit::Seconds,
        Unit::Calls | Unit::Count | Unit::Level => FacadeUnit::Count,
    };
    let help = SharedString::const_str(metric.help);
    match metric.kind {
        Kind::Counter => recorder.describe_counter(metric.name.into(), Some(unit), help),
        Kind::Gauge => recorder.describe_gauge(metric.name.into(), Some(unit), help),
        Kind::Histogram => {}
    }
}

fn set(recorder: &dyn Recorder, metric: &Metric, key: &Key, number: u64) {
    match metric.kind {
        Kind::Counter => recorder.register_counter(key, &METADATA).absolute(number),
        Kind::Gauge => recorder.register_gauge(key, &METADATA).set(in_unit(metric.unit, number)),
        Kind::Histogram => {}
    }
}

/// A number of the table as a gauge shows it.
fn in_unit(unit: Unit, number: u64) -> f64 {
    if unit == Unit::Seconds { number as f64 / 1e9 } else { number as f64 }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    extern crate std;

    use std::collections::BTreeMap;
    use std::format;
    use std::string::{String, ToString};
    use std::sync::{Arc, Mutex};

    use ::metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, KeyName, with_local_recorder};

    use super::*;
    use crate::stats::counters::{By, Call, Counters};
    use crate::units::Nanos;

    type Numbers = Arc<Mutex<BTreeMap<String, f64>>>;

    /// Keeps what it is told, under the key as Prometheus writes it.
    #[derive(Default)]
    struct Kept {
        numbers: Numbers,
        described: Mutex<BTreeMap<String, (Option<FacadeUnit>, String)>>,
    }

    struct Cell {
        key: String,
        numbers: Numbers,
    }

    impl CounterFn for Cell {
        fn increment(&self, _value: u64) {
            panic!("counters are absolute");
        }

        fn absolute(&self, value: u64) {
            self.set(value as f64);
        }
    }

    impl GaugeFn for Cell {
        fn increment(&self, _value: f64) {
            panic!("gauges are set");
        }

        fn decrement(&self, _value: f64) {
            panic!("gauges are set");
        }

        fn set(&self, value: f64) {
            self.numbers.lock().unwrap().insert(self.key.clone(), value);
        }
    }

    impl Kept {
        fn cell(&self, kind: &str, key: &Key) -> Arc<Cell> {
            let labels: String = key.labels().map(|label| format!(" {}={}", label.key(), label.value())).collect();
            Arc::new(Cell { key: format!("{kind} {}{labels}", key.name()), numbers: Arc::clone(&self.numbers) })
        }

        fn describe(&self, kind: &str, key: &KeyName, unit: Option<FacadeUnit>, text: &SharedString) {
            self.described.lock().unwrap().insert(format!("{kind} {}", key.as_str()), (unit, text.to_string()));
        }
    }

    impl Recorder for Kept {
        fn describe_counter(&self, key: KeyName, unit: Option<FacadeUnit>, text: SharedString) {
            self.describe("counter", &key, unit, &text);
        }

        fn describe_gauge(&self, key: KeyName, unit: Option<FacadeUnit>, text: SharedString) {
            self.describe("gauge", &key, unit, &text);
        }

        fn describe_histogram(&self, _key: KeyName, _unit: Option<FacadeUnit>, _text: SharedString) {
            panic!("no histograms");
        }

        fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.cell("counter", key))
        }

        fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.cell("gauge", key))
        }

        fn register_histogram(&self, _key: &Key, _metadata: &Metadata<'_>) -> Histogram {
            panic!("no histograms");
        }
    }

    #[test]
    fn every_number_reaches_the_recorder_under_its_name() {
        let counters = Counters::new();
        counters.count(Call::Purge, By::Governor, 4096, Nanos(2_500), true);
        counters.count(Call::Commit, By::Application, 8192, Nanos(1_000_000), true);
        let mut stats = counters.snapshot();
        stats.over_budget_calls = 1;
        stats.memory.allocated = 77;
        stats.governor.pressure = 2;
        let kept = Kept::default();
        record(&kept, &stats);
        let numbers = kept.numbers.lock().unwrap();
        let one = METRICS.iter().filter(|metric| matches!(metric.value, Value::One(_))).count();
        let by_call = METRICS.iter().filter(|metric| matches!(metric.value, Value::ByCall(_))).count();
        assert_eq!(numbers.len(), one + by_call * 12);
        for (key, number) in [
            ("gauge antifreeze_allocated_bytes", 77.0),
            ("gauge antifreeze_pressure_level", 2.0),
            ("counter antifreeze_over_budget_calls_total", 1.0),
            ("counter antifreeze_kernel_calls_total call=purge by=governor", 1.0),
            ("counter antifreeze_kernel_calls_total call=purge by=application", 0.0),
            ("counter antifreeze_kernel_call_bytes_total call=commit by=application", 8192.0),
            ("gauge antifreeze_kernel_call_duration_max_seconds call=purge by=governor", 0.000_002_5),
        ] {
            assert_eq!(numbers.get(key), Some(&number), "{key}: {numbers:?}");
        }
    }

    #[test]
    fn what_is_recorded_is_described() {
        let kept = Kept::default();
        with_local_recorder(&kept, record_metrics);
        let described = kept.described.lock().unwrap();
        for key in kept.numbers.lock().unwrap().keys() {
            let name = key.split(' ').take(2).collect::<std::vec::Vec<_>>().join(" ");
            assert!(described.contains_key(&name), "{key}");
        }
        let (unit, text) = &described["gauge antifreeze_warm_bytes"];
        assert_eq!((*unit, text.as_str()), (Some(FacadeUnit::Bytes), "Bytes that are free and still backed."));
    }

    #[test]
    fn without_a_recorder_nothing_happens() {
        record_metrics();
    }
}
