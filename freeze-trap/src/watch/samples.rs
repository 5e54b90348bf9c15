//! What is counted since the beginning, as it was some time ago: for what happened within a window. Filled by the main
//! loop twice a second, asked when a capture ends.
//!
//! Invariant: bounded by the time that is kept; what is kept reaches back as far as was agreed on, or to the first.

use std::collections::VecDeque;

use crate::source::{Losses, Totals};

/// Counts at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Of the source, if it counts.
    pub totals: Option<Totals>,
    /// Of the source.
    pub losses: Losses,
    /// Threads that the source leaves out: no count since the beginning, but as many as there are.
    pub unwatched_threads: u64,
    /// Time that the cgroup was refused, if it has a quota.
    pub throttled_ns: Option<u64>,
    /// Processor time of the trap.
    pub own_cpu_ns: u64,
    /// Intervals that the recorder had no room for.
    pub dropped: u64,
}

/// The latest samples.
#[derive(Debug)]
pub struct Samples {
    history_ns: u64,
    kept: VecDeque<Sample>,
}

impl Samples {
    /// Without samples; those that are older than this may go.
    #[must_use]
    pub fn new(history_ns: u64) -> Self {
        Samples { history_ns, kept: VecDeque::new() }
    }

    /// Takes the next one. What a capture may still ask for, from `needed_ns` on, stays.
    pub fn push(&mut self, sample: Sample, needed_ns: Option<u64>) {
        let oldest_ns = sample.at_ns.saturating_sub(self.history_ns);
        let oldest_ns = needed_ns.map_or(oldest_ns, |needed_ns| needed_ns.min(oldest_ns));
        self.kept.push_back(sample);
        // The first that is kept is the last before that time.
        while self.kept.get(1).is_some_and(|second| second.at_ns <= oldest_ns) {
            self.kept.pop_front();
        }
    }

    /// The last one before a time, or the first that there is after it.
    #[must_use]
    pub fn before(&self, at_ns: u64) -> Option<&Sample> {
        let after = self.kept.partition_point(|sample| sample.at_ns <= at_ns);
        self.kept.get(after.saturating_sub(1))
    }

    /// The most threads that were left out at a time since then: when a service ends, there are none any more.
    #[must_use]
    pub fn unwatched_threads_max(&self, since_ns: u64) -> u64 {
        let since = self.kept.iter().filter(|sample| sample.at_ns >= since_ns);
        since.map(|sample| sample.unwatched_threads).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_before_a_time_is_there_as_long_as_it_may_be_asked_for() {
        let mut samples = Samples::new(100);
        assert_eq!(samples.before(5), None);
        for at_ns in (10..=1000).step_by(10) {
            samples.push(Sample { at_ns, ..Sample::default() }, (at_ns > 500).then_some(455));
        }
        let at = |at_ns| samples.before(at_ns).map(|sample| sample.at_ns);
        assert_eq!([455, 999, 2000].map(at), [Some(450), Some(990), Some(1000)]);
        assert_eq!(at(3), Some(450), "the first that there is");
        samples.push(Sample { at_ns: 1010, ..Sample::default() }, None);
        assert_eq!(samples.kept.len(), 11);
    }
}
