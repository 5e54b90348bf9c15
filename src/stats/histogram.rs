//! How long calls took: a histogram whose buckets double. `counters` records, everybody reads snapshots.
//!
//! Shape: bucket `i` counts times of 2^i to 2^(i+1) - 1 ns; the first also those of 0 ns, the last all longer ones.

#[cfg(target_os = "linux")]
use crate::atomic::{AtomicU64, Ordering};
#[cfg(target_os = "linux")]
use crate::units::Nanos;

/// Buckets of a histogram. The last begins at 2^31 ns, over two seconds: no call that is still in order takes as long.
pub(crate) const BUCKETS: usize = 32;

/// The longest time, in nanoseconds, that bucket `index` counts; `None` for the last bucket and past it.
pub(crate) fn bucket_max_ns(index: usize) -> Option<u64> {
    if index + 1 < BUCKETS { Some((2 << index) - 1) } else { None }
}

/// The histogram that is recorded to, from any thread.
#[cfg(target_os = "linux")]
pub(crate) struct AtomicHistogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

#[cfg(target_os = "linux")]
impl AtomicHistogram {
    /// Nothing recorded.
    pub(crate) const fn new() -> Self {
        AtomicHistogram {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
        }
    }

    /// Counts one call that took `time`.
    pub(crate) fn record(&self, time: Nanos) {
        let index = (time.0 | 1).ilog2() as usize;
        // Relaxed throughout: independent sums, read by people and tests.
        if let Some(bucket) = self.buckets.get(index.min(BUCKETS - 1)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(time.0, Ordering::Relaxed);
        self.max_ns.fetch_max(time.0, Ordering::Relaxed);
    }

    /// Puts the numbers as they are now in `histogram`.
    pub(crate) fn read(&self, histogram: &mut Histogram) {
        histogram.sum_ns = self.sum_ns.load(Ordering::Relaxed);
        histogram.max_ns = self.max_ns.load(Ordering::Relaxed);
        for (number, bucket) in histogram.buckets.iter_mut().zip(&self.buckets) {
            *number = bucket.load(Ordering::Relaxed);
        }
    }
}

/// How long the calls of one kind took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Histogram {
    /// All times together, in nanoseconds; counted.
    pub sum_ns: u64,
    /// The longest time, in nanoseconds; counted.
    pub max_ns: u64,
    /// Calls, counted by time: bucket `i` holds those of 2^i to 2^(i+1) - 1 ns, the first also those of 0 ns, the last
    /// all longer ones.
    pub buckets: [u64; BUCKETS],
}

impl Histogram {
    /// Calls in all buckets.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, bucket| sum.saturating_add(*bucket))
    }

    /// A time, in nanoseconds, that at least `per_mille` of 1000 calls did not exceed: the upper bound of the bucket in
    /// which the quantile lies, so at most twice the truth. In the last bucket it is the longest time. Zero if there
    /// were no calls.
    pub fn quantile_ns(&self, per_mille: u32) -> u64 {
        let count = self.count();
        if count == 0 {
            return 0;
        }
        let rank = (u128::from(count) * u128::from(per_mille.min(1000))).div_ceil(1000).max(1);
        let mut below = 0_u128;
        for (index, bucket) in self.buckets.iter().enumerate() {
            below += u128::from(*bucket);
            if below >= rank {
                return bucket_max_ns(index).unwrap_or(self.max_ns);
            }
        }
        self.max_ns
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn recorded(times_ns: &[u64]) -> Histogram {
        let histogram = AtomicHistogram::new();
        times_ns.iter().for_each(|time| histogram.record(Nanos(*time)));
        let mut read = Histogram { sum_ns: 1, max_ns: 1, buckets: [1; BUCKETS] };
        histogram.read(&mut read);
        read
    }

    /// The only bucket that a time is counted in.
    fn bucket_of(time_ns: u64) -> usize {
        let buckets = recorded(&[time_ns]).buckets;
        assert_eq!(buckets.iter().sum::<u64>(), 1);
        buckets.iter().position(|bucket| *bucket == 1).unwrap()
    }

    #[test]
    fn each_bucket_begins_where_the_one_before_ends() {
        assert_eq!((bucket_of(0), bucket_of(1)), (0, 0));
        for index in 0..BUCKETS - 1 {
            let max_ns = bucket_max_ns(index).unwrap();
            assert_eq!((bucket_of(1 << index), bucket_of(max_ns), bucket_of(max_ns + 1)), (index, index, index + 1));
        }
        assert_eq!((bucket_of(u64::MAX), bucket_max_ns(BUCKETS - 1)), (BUCKETS - 1, None));
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        let nothing = recorded(&[]);
        assert_eq!(nothing, Histogram::default());
        assert_eq!((nothing.count(), nothing.quantile_ns(0), nothing.quantile_ns(1000)), (0, 0, 0));
    }

    #[test]
    fn sum_and_longest_are_exact() {
        let some = recorded(&[5, 250_000, 7, 0]);
        assert_eq!((some.count(), some.sum_ns, some.max_ns), (4, 250_012, 250_000));
    }

    #[test]
    fn a_quantile_in_the_last_bucket_is_the_longest_time() {
        let some = recorded(&[3, 1 << 40, 1 << 41]);
        assert_eq!((some.quantile_ns(333), some.quantile_ns(334), some.quantile_ns(1000)), (3, 1 << 41, 1 << 41));
    }

    proptest! {
        /// The naive model is the sorted list of times.
        #[test]
        fn a_quantile_is_at_most_twice_the_time_at_its_rank(
            times in prop::collection::vec(0_u64..1 << 31, 1..200),
            per_mille in 0_u32..=1000,
        ) {
            let mut sorted: Vec<u64> = times.clone();
            sorted.sort_unstable();
            let rank = (sorted.len() * per_mille as usize).div_ceil(1000).max(1);
            let exact = sorted[rank - 1];
            let told = recorded(&times).quantile_ns(per_mille);
            prop_assert!(exact <= told && told <= exact.max(1) * 2, "{exact} {told}");
        }
    }

    #[test]
    fn absurd_counts_do_not_overflow() {
        let most = Histogram { sum_ns: u64::MAX, max_ns: 9, buckets: [u64::MAX; BUCKETS] };
        assert_eq!(most.count(), u64::MAX);
        assert!(most.quantile_ns(u32::MAX) > 0);
    }
}
