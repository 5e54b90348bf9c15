//! How long things took: a histogram for each phase, and a time line.
//!
//! The [`canary`](crate::canary) threads record into a [`Recorder`]; what it says at the end goes into the child's
//! [`record`](crate::record).

use std::mem;
use std::ops::Range;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::phase::{self, Moment, Phase};
use crate::record::Span;

/// The longest latency a histogram holds; a longer one is counted as this.
const LONGEST_NS: u64 = 1_800_000_000_000;
/// Where the buckets of a [`Latency`]'s histogram begin, and by how much each is wider than the one before.
const FIRST_BUCKET_NS: u64 = 250;
const BUCKET_GROWTH: f64 = std::f64::consts::SQRT_2;
/// Room of a time line.
const POINTS: usize = 2048;
/// Room for waits during which a phase began or ended; each such change makes at most two of them.
const CROSSING: usize = 512;
/// The width of a time line's points as long as they are enough.
const FIRST_POINT_NS: u64 = 5_000_000;

/// What was felt in one phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Measurements, including those that a wait kept from happening.
    pub samples: u64,
    /// Half of the measurements took at most this long.
    pub p50_ns: u64,
    /// 90 of 100 measurements took at most this long.
    pub p90_ns: u64,
    /// 99 of 100 measurements took at most this long.
    pub p99_ns: u64,
    /// 999 of 1000 measurements took at most this long.
    pub p999_ns: u64,
    /// The longest wait.
    pub worst_ns: u64,
    /// Measurements by length: each entry is an upper bound in nanoseconds and how many were at most that and more
    /// than the bound before. Empty buckets are left out.
    pub histogram: Vec<(u64, u64)>,
}

impl Latency {
    /// What a histogram of nanoseconds comes to; `None` if it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile);
        let buckets = histogram.iter_log(FIRST_BUCKET_NS, BUCKET_GROWTH);
        (!histogram.is_empty()).then(|| Self {
            samples: histogram.len(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            worst_ns: histogram.max(),
            histogram: buckets
                .map(|bucket| (bucket.value_iterated_to(), bucket.count_since_last_iteration()))
                .filter(|(_, count)| *count > 0)
                .collect(),
        })
    }
}

/// A histogram that holds every latency there can be, to three digits.
pub fn histogram() -> Result<Histogram<u64>, String> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(|error| error.to_string())
}

/// The longest latency of each of equal stretches of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The length of one stretch.
    pub point_ns: u64,
    /// The longest latency that ended in each stretch, from the record's start on; 0 where none did.
    pub worst_ns: Vec<u64>,
}

impl Timeline {
    /// A time line that fills its room with ever wider points, so that noting never allocates.
    pub fn new() -> Self {
        Self { point_ns: FIRST_POINT_NS, worst_ns: Vec::with_capacity(POINTS) }
    }

    /// Notes a latency that ended at `end_ns` after the start: every stretch from its begin to its end felt it.
    pub fn note(&mut self, end_ns: u64, latency_ns: u64) {
        while end_ns / self.point_ns >= POINTS as u64 {
            self.widen();
        }
        let last = (end_ns / self.point_ns) as usize;
        let first = (end_ns.saturating_sub(latency_ns) / self.point_ns) as usize;
        if self.worst_ns.len() <= last {
            self.worst_ns.resize(last + 1, 0);
        }
        for point in &mut self.worst_ns[first..=last] {
            *point = latency_ns.max(*point);
        }
    }

    /// Makes each point twice as wide.
    fn widen(&mut self) {
        let half = self.worst_ns.len().div_ceil(2);
        for index in 0..half {
            let pair = self.worst_ns[2 * index..].iter().take(2);
            self.worst_ns[index] = pair.copied().max().unwrap_or(0);
        }
        self.worst_ns.truncate(half);
        self.point_ns *= 2;
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Self::new()
    }
}

/// One histogram of latencies for each phase, and the time line.
///
/// All memory is allocated at the start, so recording does not allocate.
#[derive(Debug)]
pub struct Recorder {
    phases: &'static [Phase],
    period_ns: u64,
    histograms: Vec<Histogram<u64>>,
    timeline: Timeline,
    /// Waits during which a phase began or ended, until all spans are known.
    crossing: Vec<Range<u64>>,
}

impl Recorder {
    /// A recorder without measurements, for a thread that measures once in `period_ns`.
    pub fn new(phases: &'static [Phase], period_ns: u64) -> Result<Self, String> {
        let histograms = vec![histogram()?; phases.len()];
        Ok(Self { phases, period_ns, histograms, timeline: Timeline::new(), crossing: Vec::with_capacity(CROSSING) })
    }

    /// Notes a wait, in nanoseconds after the record's start: `begin` is a moment not after it began, `end` one not
    /// before it ended.
    pub fn record(&mut self, begin: Moment, end: Moment, wait: Range<u64>) {
        if begin != end {
            self.crossing.push(wait);
        } else if let Some(phase) = begin.phase() {
            self.charge(phase, wait);
        }
    }

    /// Charges the waits during which a phase began or ended, now that it is known when that was.
    pub fn settle(&mut self, spans: &[Span]) {
        for wait in mem::take(&mut self.crossing) {
            let (from_ns, names) = phase::charged(spans, &wait);
            let position = |name: &str| self.phases.iter().position(|phase| phase.name == name);
            let charged: Vec<_> = names.into_iter().filter_map(position).collect();
            charged.into_iter().for_each(|phase| self.charge(phase, from_ns..wait.end));
        }
    }

    /// Counts a wait in a phase.
    ///
    /// While a canary waits it does not measure, so one wait of a second would hide among thousands of good
    /// measurements. The histogram therefore also counts the measurements that would have been made meanwhile, each one
    /// period shorter than the one before: the percentile is then that of somebody who comes along every period.
    fn charge(&mut self, phase: usize, wait: Range<u64>) {
        let latency_ns = wait.end.saturating_sub(wait.start).clamp(1, LONGEST_NS);
        let recorded = self.histograms[phase].record_correct(latency_ns, self.period_ns);
        debug_assert!(recorded.is_ok(), "{latency_ns} ns is within the bounds");
        self.timeline.note(wait.end, latency_ns);
    }

    /// What was felt in the phase at `index`; `None` if the phase was too short for any measurement.
    pub fn latency(&self, index: usize) -> Option<Latency> {
        Latency::of(&self.histograms[index])
    }

    /// The time line, of everything that is charged to a phase.
    pub fn into_timeline(self) -> Timeline {
        self.timeline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::PhaseCell;

    const PHASES: &[Phase] = &[Phase::quiet("control"), Phase::busy("doubling")];
    const PERIOD_NS: u64 = 200_000;

    fn recorder() -> Recorder {
        Recorder::new(PHASES, PERIOD_NS).unwrap()
    }

    fn span(phase: &str, is_busy: bool, start_ns: u64, end_ns: u64) -> Span {
        Span { phase: phase.to_owned(), is_busy, start_ns, end_ns }
    }

    #[test]
    fn a_phase_without_measurements_has_no_latency() {
        let (mut recorder, cell) = (recorder(), PhaseCell::new());
        recorder.record(cell.get(), cell.get(), 0..3);
        assert!((0..2).all(|phase| recorder.latency(phase).is_none()));
        assert!(recorder.into_timeline().worst_ns.is_empty());
    }

    #[test]
    fn a_wait_is_charged_to_the_busy_phase_and_counts_for_its_length() {
        let (mut recorder, cell) = (recorder(), PhaseCell::new());
        cell.set(0);
        let control = cell.get();
        for turn in 0..1000 {
            recorder.record(control, control, turn * PERIOD_NS..turn * PERIOD_NS + 5000);
        }
        cell.leave();
        cell.set(1);
        recorder.record(control, cell.get(), 200_000_000..200_000_000 + PERIOD_NS * 1000);
        let spans = [span("control", false, 0, 300_000_000), span("doubling", true, 300_000_000, 500_000_000)];
        assert!(recorder.latency(1).is_none(), "until the spans are known");
        recorder.settle(&spans);
        let control = recorder.latency(0).unwrap();
        assert_eq!((control.samples, control.histogram.len()), (1000, 1));
        assert!(control.worst_ns < 6_000, "{control:?}");
        let doubling = recorder.latency(1).unwrap();
        assert_eq!(doubling.samples, 1000);
        assert_eq!(doubling.histogram.iter().map(|(_, count)| count).sum::<u64>(), 1000);
        assert!(doubling.worst_ns.abs_diff(200_000_000) < 400_000, "{doubling:?}");
        assert!(doubling.p999_ns > 190_000_000 && doubling.p50_ns.abs_diff(100_000_000) < 1_000_000, "{doubling:?}");
        let timeline = recorder.into_timeline();
        let long = timeline.worst_ns.iter().filter(|ns| **ns == 200_000_000).count();
        assert_eq!((timeline.point_ns, timeline.worst_ns.len(), long), (5_000_000, 81, 41), "it lasted 40 points");
    }

    #[test]
    fn a_wait_from_one_round_into_the_next_is_not_lost_and_the_harness_is_not_charged() {
        let (mut recorder, cell) = (recorder(), PhaseCell::new());
        cell.set(1);
        let first = cell.get();
        cell.set(0);
        recorder.record(first, cell.get(), 50..1050);
        cell.leave();
        let between = cell.get();
        cell.set(1);
        recorder.record(between, cell.get(), 2200..2600);
        recorder.settle(&[
            span("doubling", true, 0, 100),
            span("control", false, 100, 2000),
            span("doubling", true, 2500, 3000),
        ]);
        let doubling = recorder.latency(1).unwrap();
        assert!(recorder.latency(0).is_none());
        assert_eq!((doubling.samples, doubling.p50_ns), (2, 100), "100 of the 400 ns are the phase's");
        assert!(doubling.worst_ns.abs_diff(1000) < 2, "{doubling:?}");
    }

    #[test]
    fn the_shortest_and_the_longest_wait_are_bounded_and_not_lost() {
        let (mut recorder, cell) = (Recorder::new(PHASES, LONGEST_NS).unwrap(), PhaseCell::new());
        cell.set(0);
        recorder.record(cell.get(), cell.get(), 0..0);
        cell.set(1);
        recorder.record(cell.get(), cell.get(), 0..u64::MAX);
        assert_eq!(recorder.latency(0).unwrap().worst_ns, 1);
        assert!(recorder.latency(1).unwrap().worst_ns >= LONGEST_NS);
    }

    #[test]
    fn a_time_line_that_is_full_gets_wider_points_and_keeps_the_worst() {
        let mut timeline = Timeline::new();
        let points = 2 * POINTS as u64;
        for point in 0..points {
            timeline.note(point * FIRST_POINT_NS, if point == 7 { 900 } else { 1 });
        }
        assert_eq!((timeline.point_ns, timeline.worst_ns.len()), (2 * FIRST_POINT_NS, POINTS));
        assert_eq!(timeline.worst_ns[3], 900);
        assert_eq!(timeline.worst_ns.iter().filter(|ns| **ns == 1).count(), POINTS - 1);
        timeline.note(100 * points * FIRST_POINT_NS, 5);
        assert_eq!(timeline.worst_ns[0], 900);
        assert!(timeline.worst_ns.capacity() <= POINTS + 1 && timeline.worst_ns.len() <= POINTS);
    }
}
