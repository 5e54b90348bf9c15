//! The runs of one allocator in one row, and the figures of them.

use allocator_bench::counts::Counts;
use allocator_bench::latency::{Call, Latencies, Latency};
use allocator_bench::sample::Sample;
use allocator_bench::summary::median;

use super::distance::Distance;
use super::launch::Failure;

/// What one run of one child gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Run {
    /// A measured round.
    Timed(Timed),
    /// The round in which the kernel counted.
    Counted(Counts),
    /// The round in which each call was timed.
    Probed(Latencies),
}

/// What a run of a measured round gave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timed {
    /// What the child measured.
    pub sample: Sample,
    /// How far the processors were from each other, where that is known.
    pub distance: Option<Distance>,
}

impl From<Sample> for Timed {
    fn from(sample: Sample) -> Self {
        Self { sample, distance: None }
    }
}

/// The runs of one allocator in one row.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// One for each measured round.
    pub timed: Vec<Timed>,
    /// What the kernel counted.
    pub counts: Option<Counts>,
    /// What its calls took.
    pub latencies: Option<Latencies>,
    /// Why there is no more of that.
    pub failure: Option<Failure>,
}

impl Cell {
    /// Adds what a run gave.
    pub fn add(&mut self, run: Run) {
        match run {
            Run::Timed(timed) => self.timed.push(timed),
            Run::Counted(counts) => self.counts = Some(counts),
            Run::Probed(latencies) => self.latencies = Some(latencies),
        }
    }

    /// Median wall time, unless the child failed.
    pub fn wall_ns(&self) -> Option<u64> {
        self.median_of(|sample| sample.wall_ns)
    }

    /// Median of the peak memory, unless the child failed.
    pub fn peak_rss_kib(&self) -> Option<u64> {
        self.median_of(|sample| sample.peak_rss_kib)
    }

    /// Median of the memory that is left at the end, unless the child failed.
    pub fn final_rss_kib(&self) -> Option<u64> {
        self.median_of(|sample| sample.final_rss_kib)
    }

    /// Median of a figure over the measured rounds, unless the child failed.
    pub fn median_of(&self, figure: impl Fn(&Sample) -> u64) -> Option<u64> {
        if self.failure.is_some() { None } else { median(self.timed.iter().map(|timed| figure(&timed.sample))) }
    }

    /// What its calls of one kind took, if there were any.
    pub fn latency(&self, call: Call) -> Option<Latency> {
        self.latencies.map(|latencies| latencies[call as usize]).filter(|latency| latency.count > 0)
    }

    /// How far apart the wall times are, as a share of their median.
    pub fn spread(&self) -> Option<f64> {
        let walls_ns = || self.timed.iter().map(|timed| timed.sample.wall_ns);
        let (least, most) = (walls_ns().min()?, walls_ns().max()?);
        Some((most - least) as f64 / self.wall_ns()?.max(1) as f64)
    }
}
