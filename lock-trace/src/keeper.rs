//! The longest intervals, in bounded memory: those over a threshold, and of these the longest ones.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::options::Options;
use crate::trace::Interval;

/// Keeps the longest intervals.
pub(crate) struct Keeper {
    over_ns: u64,
    most: usize,
    /// The shortest on top.
    heap: BinaryHeap<Reverse<Kept>>,
    dropped: u64,
}

/// Ordered by duration.
struct Kept(Interval);

impl Keeper {
    pub(crate) fn new(options: &Options) -> Keeper {
        Keeper { over_ns: options.keep_over_ns, most: options.keep_most, heap: BinaryHeap::new(), dropped: 0 }
    }

    /// Whether an interval of this duration belongs to those kept, as far as known. One that does not is counted.
    pub(crate) fn wants(&mut self, duration_ns: u64) -> bool {
        if duration_ns < self.over_ns {
            return false;
        }
        if self.heap.len() < self.most {
            return true;
        }
        let wanted = self.heap.peek().is_some_and(|Reverse(least)| least.0.duration_ns < duration_ns);
        self.dropped += u64::from(!wanted);
        wanted
    }

    /// Keeps an interval that is wanted, in place of the shortest if there are enough.
    pub(crate) fn keep(&mut self, interval: Interval) {
        self.heap.push(Reverse(Kept(interval)));
        if self.heap.len() > self.most {
            self.heap.pop();
            self.dropped += 1;
        }
    }

    /// The intervals, the longest first, and how many were dropped.
    pub(crate) fn finish(self) -> (Vec<Interval>, u64) {
        // Ascending order of the reversed one.
        let kept = self.heap.into_sorted_vec().into_iter().map(|Reverse(kept)| kept.0).collect();
        (kept, self.dropped)
    }
}

impl Kept {
    /// Of two that took equally long the earlier one counts as longer, so that the outcome does not depend on chance.
    fn rank(&self) -> (u64, Reverse<u64>, i32) {
        (self.0.duration_ns, Reverse(self.0.start_ns), self.0.tid)
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Kept) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Kept) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Kept) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Kept {}
