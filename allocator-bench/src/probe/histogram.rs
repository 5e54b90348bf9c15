//! A histogram of fixed size with buckets that grow with the value, 1/32 of it wide: the atomic one that is recorded
//! into, and the sum of some that is asked.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets for each doubling, as a power of two.
const STEPS_LOG2: u32 = 5;
const STEPS: usize = 1 << STEPS_LOG2;

/// Values of this many bits and more share the last bucket; their exact maximum is kept.
const BITS_MAX: u32 = 40;

const BUCKETS: usize = STEPS * (BITS_MAX - STEPS_LOG2 + 1) as usize;

/// A histogram that any number of threads record into.
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    max: AtomicU64,
}

impl Histogram {
    pub(super) const fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], max: AtomicU64::new(0) }
    }

    #[inline]
    pub(super) fn record(&self, value: u64) {
        // Relaxed: they are sums, read when the threads have been joined.
        self.buckets[bucket_of(value)].fetch_add(1, Ordering::Relaxed);
        // Relaxed: likewise; looked at first because it seldom changes.
        if value > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(value, Ordering::Relaxed);
        }
    }
}

fn bucket_of(value: u64) -> usize {
    let value = value.min((1 << BITS_MAX) - 1);
    let bits = u64::BITS - value.leading_zeros();
    let shift = bits.saturating_sub(STEPS_LOG2 + 1);
    ((shift as usize) << STEPS_LOG2) + (value >> shift) as usize
}

/// The largest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let shift = (bucket >> STEPS_LOG2).saturating_sub(1);
    let step = bucket - (shift << STEPS_LOG2);
    ((step as u64 + 1) << shift) - 1
}

/// What several histograms hold together.
pub(super) struct Summary {
    buckets: Vec<u64>,
    max: u64,
}

impl Summary {
    pub(super) fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        let mut summary = Self { buckets: vec![0; BUCKETS], max: 0 };
        for histogram in histograms {
            for (sum, bucket) in summary.buckets.iter_mut().zip(&histogram.buckets) {
                // Relaxed: the recording threads have been joined.
                *sum += bucket.load(Ordering::Relaxed);
            }
            // Relaxed: likewise.
            summary.max = summary.max.max(histogram.max.load(Ordering::Relaxed));
        }
        summary
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// The value that this share of all values do not exceed, to within the width of a bucket; 0 if there are none.
    pub(super) fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_bound(bucket).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::{BITS_MAX, BUCKETS, Histogram, Summary, bucket_of, upper_bound};

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        assert_eq!((bucket_of(0), bucket_of(31), bucket_of(63), bucket_of(64)), (0, 31, 63, 64));
        for bucket in 0..BUCKETS - 1 {
            let last = upper_bound(bucket);
            assert_eq!((bucket_of(last), bucket_of(last + 1)), (bucket, bucket + 1));
        }
        assert_eq!(upper_bound(BUCKETS - 1), (1 << BITS_MAX) - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_a_bucket_of_the_value() {
        let histograms = [Histogram::new(), Histogram::new()];
        for value in 1..=10_000_u64 {
            histograms[value as usize % 2].record(value);
        }
        let summary = Summary::of(histograms.iter());
        assert_eq!((summary.count(), summary.max()), (10_000, 10_000));
        for (share, exact) in [(0.5, 5000), (0.99, 9900), (0.999, 9990), (1.0, 10_000)] {
            let value = summary.quantile(share);
            assert!(value >= exact && value <= exact + exact / 32, "{share}: {value}");
        }
        assert_eq!(Summary::of([Histogram::new()].iter()).quantile(0.5), 0);
    }
}
