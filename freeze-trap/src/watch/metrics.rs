//! What the trap tells Prometheus. Kept up to date by the main loop, printed on the thread of `listener` when asked.
//!
//! Invariant: each name has one `# HELP` and one `# TYPE`; every unit is in the name; a counter never goes back.

use std::fmt::{Display, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::source::Losses;
use crate::trigger::Suppressed;

/// Upper bounds of the buckets of probe times, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0];

/// What is known of one probe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeFigures {
    /// As on the command line.
    name: String,
    /// Answers by time; the last are those above all bounds.
    buckets: [u64; BUCKETS.len() + 1],
    seconds: f64,
    last_seconds: f64,
    failures: u64,
    /// The last answer was a success. `None` before the first.
    is_well: Option<bool>,
}

/// What is known of everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// By number of the probe.
    pub probes: Vec<ProbeFigures>,
    /// Freezes that were captured.
    pub captures: u64,
    /// Captures that are nowhere, because they could not be written, and because too many came at once.
    pub lost_captures: [u64; 2],
    /// A capture is under way.
    pub is_capturing: bool,
    /// Freezes that were found and not captured.
    pub suppressed: Suppressed,
    /// Intervals that the source told.
    pub intervals: u64,
    /// What the source lost.
    pub losses: Losses,
    /// Threads that it leaves out now.
    pub unwatched_threads: u64,
    /// Times that the source could not be read.
    pub errors: u64,
    /// Intervals and stacks in the recorder.
    pub recorder: [usize; 2],
    /// Intervals that it had no room for.
    pub dropped: u64,
    /// Watched processes.
    pub processes: usize,
    /// Times that the target was started while it was watched.
    pub starts: u64,
    /// The source's name.
    pub source: String,
    /// Processor time of the trap.
    pub cpu_ns: u64,
    /// How long it has run.
    pub uptime_ns: u64,
    /// Resident memory of the trap.
    pub resident_bytes: u64,
}

/// Figures that threads share.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Figures>>);

impl Metrics {
    /// With these probes. Of those that are called the same, the later ones get a number, so that each has values of
    /// its own.
    #[must_use]
    pub fn new(source: &str, names: impl IntoIterator<Item = String>) -> Metrics {
        let mut probes: Vec<ProbeFigures> = Vec::new();
        for name in names {
            let is_free = |name: &String| probes.iter().all(|probe| probe.name != *name);
            let numbered = (2..).map(|number| format!("{name} ({number})"));
            let name = std::iter::once(name.clone()).chain(numbered).find(is_free).unwrap_or_default();
            probes.push(ProbeFigures { name, ..ProbeFigures::default() });
        }
        Metrics(Arc::new(Mutex::new(Figures { probes, source: source.to_owned(), ..Figures::default() })))
    }

    /// The figures, to be read or changed.
    pub fn figures(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProbeFigures {
    /// Takes an answer.
    pub fn answer(&mut self, took_ns: u64, failed: bool) {
        let seconds = seconds(took_ns);
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[bucket] += 1;
        self.seconds += seconds;
        self.last_seconds = seconds;
        self.failures += u64::from(failed);
        self.is_well = Some(!failed);
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// A page in the text format of Prometheus.
struct Page(String);

impl Page {
    /// Begins a name.
    fn about(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a string does not fail.
        let _ = write!(self.0, "# HELP freeze_trap_{name} {help}\n# TYPE freeze_trap_{name} {kind}\n");
    }

    /// A value of it.
    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // As above.
        let _ = writeln!(self.0, "freeze_trap_{name}{labels} {value}");
    }

    /// A name with one value.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.about(name, kind, help);
        self.value(name, &[], value);
    }
}

/// A label's value: without what would end it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Figures {
    /// All of them, in the text format of Prometheus, version 0.0.4.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = Page(String::new());
        self.of_probes(&mut page);
        self.of_captures(&mut page);
        self.of_source(&mut page);
        self.of_trap(&mut page);
        page.0
    }

    fn of_probes(&self, page: &mut Page) {
        page.about("probe_duration_seconds", "histogram", "How long probes took to be answered, or to fail.");
        for probe in &self.probes {
            let name = probe.name.as_str();
            let mut count = 0;
            for (bucket, bound) in probe.buckets.iter().zip(BUCKETS.map(|bound| bound.to_string())) {
                count += bucket;
                page.value("probe_duration_seconds_bucket", &[("probe", name), ("le", &bound)], count);
            }
            count += probe.buckets[BUCKETS.len()];
            page.value("probe_duration_seconds_bucket", &[("probe", name), ("le", "+Inf")], count);
            page.value("probe_duration_seconds_sum", &[("probe", name)], probe.seconds);
            page.value("probe_duration_seconds_count", &[("probe", name)], count);
        }
        page.about("probe_last_duration_seconds", "gauge", "How long the last answer of a probe took.");
        for probe in &self.probes {
            page.value("probe_last_duration_seconds", &[("probe", &probe.name)], probe.last_seconds);
        }
        page.about("probe_failures_total", "counter", "Answers of a probe that were failures.");
        for probe in &self.probes {
            page.value("probe_failures_total", &[("probe", &probe.name)], probe.failures);
        }
        page.about(
            "probe_well",
            "gauge",
            "Whether the last answer of a probe was a success; missing before the first.",
        );
        for probe in &self.probes {
            if let Some(is_well) = probe.is_well {
                page.value("probe_well", &[("probe", &probe.name)], u8::from(is_well));
            }
        }
    }

    fn of_captures(&self, page: &mut Page) {
        page.single("captures_total", "counter", "Freezes that were captured and written.", self.captures);
        page.about("captures_lost_total", "counter", "Captures that were not written, by reason.");
        let [failed, crowded] = self.lost_captures;
        page.value("captures_lost_total", &[("reason", "write")], failed);
        page.value("captures_lost_total", &[("reason", "busy")], crowded);
        page.single("capturing", "gauge", "Whether a capture is under way.", u8::from(self.is_capturing));
        page.about("suppressed_total", "counter", "Freezes that were found and not captured, by reason.");
        let Suppressed { capturing, cooldown, hourly } = self.suppressed;
        for (reason, count) in [("capturing", capturing), ("cooldown", cooldown), ("hourly", hourly)] {
            page.value("suppressed_total", &[("reason", reason)], count);
        }
    }

    fn of_source(&self, page: &mut Page) {
        page.about("source_info", "gauge", "Where intervals come from; always 1.");
        page.value("source_info", &[("source", &self.source)], 1);
        page.single("intervals_total", "counter", "Intervals that the source told.", self.intervals);
        page.about(
            "lost_total",
            "counter",
            "What the source could not tell: intervals, and threads it has no room for.",
        );
        page.value("lost_total", &[("what", "intervals")], self.losses.intervals);
        page.value("lost_total", &[("what", "threads")], self.losses.threads);
        let help = "Threads that the source leaves out now, as there are too many.";
        page.single("unwatched_threads", "gauge", help, self.unwatched_threads);
        page.single("source_errors_total", "counter", "Times that the source could not be read.", self.errors);
        let [intervals, stacks] = self.recorder;
        page.single("recorder_intervals", "gauge", "Intervals in the flight recorder.", intervals);
        page.single("recorder_stacks", "gauge", "Stacks in the flight recorder.", stacks);
        let help = "Intervals that the flight recorder had no room for.";
        page.single("recorder_dropped_total", "counter", help, self.dropped);
    }

    fn of_trap(&self, page: &mut Page) {
        page.single("target_up", "gauge", "Whether a watched process runs.", u8::from(self.processes > 0));
        page.single("target_processes", "gauge", "Watched processes.", self.processes);
        page.single("target_starts_total", "counter", "Times that the target was started.", self.starts);
        let (cpu, uptime) = (seconds(self.cpu_ns), seconds(self.uptime_ns));
        page.single("cpu_seconds_total", "counter", "Processor time that the trap has taken.", cpu);
        page.single("uptime_seconds", "gauge", "How long the trap has run.", uptime);
        page.single("resident_bytes", "gauge", "Resident memory of the trap.", self.resident_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_time() {
        let mut probe = ProbeFigures::default();
        probe.answer(1_000_000, false);
        probe.answer(30_000_000, false);
        probe.answer(20_000_000_000, true);
        assert_eq!((probe.buckets[0], probe.buckets[3], probe.buckets[10], probe.failures), (1, 1, 1, 1));
        assert_eq!((probe.last_seconds, probe.is_well), (20.0, Some(false)));
    }

    #[test]
    fn each_probe_has_values_of_its_own() {
        let metrics = Metrics::new("a", ["b", "b", "c", "b"].map(str::to_owned));
        let page = metrics.figures().page();
        for name in ["b", "b (2)", "c", "b (3)"] {
            assert_eq!(page.matches(&format!("failures_total{{probe=\"{name}\"}} 0\n")).count(), 1, "{page}");
        }
    }

    #[test]
    fn a_name_can_be_anything() {
        let metrics = Metrics::new("a", ["command:echo \"a\\b\n\"".to_owned()]);
        let page = metrics.figures().page();
        assert!(page.contains("probe_failures_total{probe=\"command:echo \\\"a\\\\b\\n\\\"\"} 0\n"), "{page}");
    }
}
