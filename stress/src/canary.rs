//! The canaries: threads that do what every thread of a service does now and then, and note how long it took.
//!
//! One maps, touches and unmaps a page, and so needs `mmap_lock` of the process; the other allocates and frees blocks.
//! [`child`](crate::child) starts both before it touches the map and collects what they felt in each phase.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::memory::{self, Mapping};
use crate::phase::{Moment, Phase, PhaseCell};

/// The pause of a canary between two measurements.
pub const PERIOD: Duration = Duration::from_micros(200);

/// The longest latency a histogram holds; a longer one is counted as this.
const LONGEST_NS: u64 = 1_800_000_000_000;

/// Sizes of the small blocks, taken in turn.
const SMALL_BYTES: [usize; 6] = [16, 40, 96, 256, 700, 2048];
/// The size of the large block.
const LARGE_BYTES: usize = 64 * 1024;

/// What one canary felt in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Measurements, including those that a wait kept from happening.
    pub samples: u64,
    /// 99.9 of 100 measurements took at most this long.
    pub p999_ns: u64,
    /// The longest wait.
    pub worst_ns: u64,
}

/// One histogram of latencies for each phase.
///
/// All memory is allocated at the start, so recording does not allocate.
#[derive(Debug)]
pub struct Recorder {
    histograms: Vec<Histogram<u64>>,
}

impl Recorder {
    /// A recorder without measurements.
    pub fn new() -> Result<Self, String> {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(|error| error.to_string())?;
        Ok(Self { histograms: vec![histogram; Phase::ALL.len()] })
    }

    /// Notes one latency that began at one moment and ended at another.
    ///
    /// While a canary waits it does not measure, so one wait of a second would hide among thousands of good
    /// measurements. The histogram therefore also counts the measurements that would have been made meanwhile, each one
    /// period shorter than the one before: the percentile is then that of somebody who comes along every period.
    pub fn record(&mut self, begin: Moment, end: Moment, latency: Duration) {
        let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST_NS).clamp(1, LONGEST_NS);
        let period_ns = PERIOD.as_nanos() as u64;
        for phase in Moment::charged(begin, end) {
            let recorded = self.histograms[phase.index()].record_correct(latency_ns, period_ns);
            debug_assert!(recorded.is_ok(), "{latency_ns} ns is within the bounds");
        }
    }

    /// What was felt in `phase`; `None` if the phase was too short for any measurement.
    pub fn latency(&self, phase: Phase) -> Option<Latency> {
        let histogram = &self.histograms[phase.index()];
        (!histogram.is_empty()).then(|| Latency {
            samples: histogram.len(),
            p999_ns: histogram.value_at_quantile(0.999),
            worst_ns: histogram.max(),
        })
    }
}

/// A canary at work; it stops when its phase cell has ended.
#[derive(Debug)]
pub struct Canary {
    name: &'static str,
    thread: JoinHandle<Result<Recorder, String>>,
}

impl Canary {
    /// Starts the canary that maps, touches and unmaps one page. It takes part in `start` once.
    pub fn pages(phase: &Arc<PhaseCell>, start: &Arc<Barrier>) -> Result<Self, String> {
        let length_bytes = NonZeroUsize::new(memory::page_bytes()).ok_or("the page size is zero")?;
        Self::start("page canary", phase, start, move || {
            let mut mapping = Mapping::new(length_bytes).map_err(|error| format!("mmap: {error}"))?;
            mapping.touch(0);
            mapping.unmap().map_err(|error| format!("munmap: {error}"))
        })
    }

    /// Starts the canary that allocates and frees a small block and one of 64 KiB. It takes part in `start` once.
    pub fn blocks(phase: &Arc<PhaseCell>, start: &Arc<Barrier>) -> Result<Self, String> {
        let mut turns = (0_u8..=u8::MAX).cycle().zip(SMALL_BYTES.into_iter().cycle());
        Self::start("block canary", phase, start, move || {
            let (pattern, small_bytes) = turns.next().unwrap_or((0, LARGE_BYTES));
            let small = black_box(vec![pattern; small_bytes]);
            let large = black_box(vec![!pattern; LARGE_BYTES]);
            // A byte in every cache line or so is enough to notice another owner, and costs little of the latency.
            let intact =
                small.iter().all(|byte| *byte == pattern) && large.iter().step_by(61).all(|byte| *byte == !pattern);
            if intact { Ok(()) } else { Err("a block changed while it was in use".to_owned()) }
        })
    }

    fn start(
        name: &'static str,
        phase: &Arc<PhaseCell>,
        start: &Arc<Barrier>,
        mut action: impl FnMut() -> Result<(), String> + Send + 'static,
    ) -> Result<Self, String> {
        let mut recorder = Recorder::new()?;
        let (phase, start) = (Arc::clone(phase), Arc::clone(start));
        let body = move || {
            start.wait();
            loop {
                let begin = phase.get();
                if begin == Moment::Ended {
                    return Ok(recorder);
                }
                let started = Instant::now();
                action()?;
                let latency = started.elapsed();
                recorder.record(begin, phase.get(), latency);
                thread::sleep(PERIOD);
            }
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(|error| format!("the {name} could not be started: {error}"))?;
        Ok(Self { name, thread })
    }

    /// Waits for the canary to stop and gives what it recorded.
    pub fn join(self) -> Result<Recorder, String> {
        let result = self.thread.join().unwrap_or_else(|_| Err("panicked".to_owned()));
        result.map_err(|error| format!("the {} failed: {error}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_without_measurements_has_no_latency() {
        let recorder = Recorder::new().unwrap();
        assert!(Phase::ALL.into_iter().all(|phase| recorder.latency(phase).is_none()));
    }

    #[test]
    fn a_wait_is_charged_to_the_busy_phase_and_counts_for_its_length() {
        let mut recorder = Recorder::new().unwrap();
        for _ in 0..1000 {
            recorder.record(Moment::In(Phase::Control), Moment::In(Phase::Control), Duration::from_micros(5));
        }
        recorder.record(Moment::In(Phase::Control), Moment::In(Phase::Doubling), PERIOD * 1000);
        let control = recorder.latency(Phase::Control).unwrap();
        assert_eq!(control.samples, 1000);
        assert!(control.worst_ns < 6_000, "{control:?}");
        let doubling = recorder.latency(Phase::Doubling).unwrap();
        assert_eq!(doubling.samples, 1000);
        assert!(doubling.worst_ns.abs_diff(200_000_000) < 400_000, "{doubling:?}");
        assert!(doubling.p999_ns > 190_000_000, "{doubling:?}");
    }

    #[test]
    fn the_longest_wait_is_bounded_and_not_lost() {
        let mut recorder = Recorder::new().unwrap();
        recorder.histograms[Phase::Idle.index()].record(LONGEST_NS).unwrap();
        recorder.record(Moment::In(Phase::Fill), Moment::In(Phase::Fill), Duration::ZERO);
        assert_eq!(recorder.latency(Phase::Fill).unwrap().worst_ns, 1);
    }

    #[test]
    fn canaries_measure_until_the_end() {
        let phase = Arc::new(PhaseCell::new());
        let start = Arc::new(Barrier::new(3));
        let pages = Canary::pages(&phase, &start).unwrap();
        let blocks = Canary::blocks(&phase, &start).unwrap();
        start.wait();
        thread::sleep(PERIOD * 50);
        phase.end();
        for canary in [pages, blocks] {
            let recorder = canary.join().unwrap();
            assert!(recorder.latency(Phase::Doubling).is_none());
        }
    }

    #[test]
    fn a_failing_canary_says_so() {
        let start = Arc::new(Barrier::new(1));
        let canary =
            Canary::start("odd canary", &Arc::new(PhaseCell::new()), &start, || Err("no luck".to_owned())).unwrap();
        assert_eq!(canary.join().unwrap_err(), "the odd canary failed: no luck");
    }
}
