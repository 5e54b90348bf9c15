//! How many times something took how long: a count, a sum, the longest, and a log-linear histogram. Kept for holds and
//! waits in each [`Row`](crate::Row), and added up over rows.

use serde::{Deserialize, Serialize};

/// Each doubling of time has this many buckets (as a power of two), so a bucket is at most 1/8 of its value wide.
const PARTS_LOG2: u32 = 3;

/// How many times something took how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many times.
    pub count: u64,
    /// Nanoseconds in all.
    pub total_ns: u64,
    /// Nanoseconds of the longest.
    pub longest_ns: u64,
    /// In rising order: so many took at most so many nanoseconds, and more than the bucket before says. Buckets that
    /// nothing fell into are left out.
    pub histogram: Vec<(u64, u64)>,
}

impl Tally {
    /// Counts one that took this long.
    pub fn add(&mut self, duration_ns: u64) {
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(duration_ns);
        self.longest_ns = self.longest_ns.max(duration_ns);
        self.fill(bucket(duration_ns), 1);
    }

    /// Counts what another one counted.
    pub fn merge(&mut self, other: &Tally) {
        self.count += other.count;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        for (up_to_ns, count) in &other.histogram {
            self.fill(*up_to_ns, *count);
        }
    }

    /// The time that this many of a thousand did not exceed, up to the width of a bucket; 0 if there were none.
    #[must_use]
    pub fn quantile_ns(&self, per_mille: u64) -> u64 {
        let wanted = self.count.saturating_mul(per_mille.min(1000)).div_ceil(1000).max(1);
        let mut seen = 0;
        let reached = self.histogram.iter().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        reached.map_or(self.longest_ns, |(up_to_ns, _)| (*up_to_ns).min(self.longest_ns))
    }

    fn fill(&mut self, up_to_ns: u64, count: u64) {
        match self.histogram.binary_search_by_key(&up_to_ns, |(up_to_ns, _)| *up_to_ns) {
            Ok(at) => self.histogram[at].1 += count,
            Err(at) => self.histogram.insert(at, (up_to_ns, count)),
        }
    }
}

/// The largest time in the bucket of this one.
fn bucket(duration_ns: u64) -> u64 {
    let shift = duration_ns.checked_ilog2().unwrap_or(0).saturating_sub(PARTS_LOG2);
    duration_ns | ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(durations: &[u64]) -> Tally {
        let mut tally = Tally::default();
        durations.iter().for_each(|duration| tally.add(*duration));
        tally
    }

    #[test]
    fn a_bucket_holds_its_times_and_is_narrow() {
        assert_eq!([0, 1, 7, 15, 16, 17, 1000].map(bucket), [0, 1, 7, 15, 17, 17, 1023]);
        assert_eq!(bucket(u64::MAX), u64::MAX);
        for time in (1..100_000).step_by(7) {
            assert!(bucket(time) >= time && bucket(time) - time <= time / 8, "{time}: {}", bucket(time));
            assert_eq!(bucket(bucket(time)), bucket(time));
        }
    }

    #[test]
    fn quantiles_come_from_the_buckets_and_never_exceed_the_longest() {
        let tally = tally(&[10, 10, 10, 1000]);
        assert_eq!((tally.count, tally.total_ns, tally.longest_ns), (4, 1030, 1000));
        assert_eq!([0, 500, 750, 751, 1000].map(|part| tally.quantile_ns(part)), [10, 10, 10, 1000, 1000]);
        assert_eq!(Tally::default().quantile_ns(999), 0);
    }

    #[test]
    fn merging_is_the_same_as_counting_all() {
        let (one, other) = ([3, 90, 90, 1 << 40], [0, 90, 5_000]);
        let mut merged = tally(&one);
        merged.merge(&tally(&other));
        assert_eq!(merged, tally(&[one.as_slice(), &other].concat()));
    }
}
