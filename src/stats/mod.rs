//! Layer 0: what the allocator has done, for people and tests. No decision is ever taken from these numbers.
//!
//! Every number has one meaning, the one at its field here; `table` gives it a name for the printers in `print`, and
//! `docs/STATS.md` says what to do when it is odd.

#[cfg(target_os = "linux")]
pub(crate) mod counters;
mod governor;
mod histogram;
mod prewarm;
mod print;
pub(crate) mod table;

#[cfg(target_os = "linux")]
pub(crate) use governor::GovernorCounters;
pub use governor::GovernorStats;
pub use histogram::Histogram;
pub use prewarm::{PrewarmProgress, PrewarmState};
pub use print::BufferTooSmall;
#[cfg(all(test, feature = "metrics-http"))]
pub(crate) use print::exposition;

/// A snapshot of the allocator's statistics, by [`stats`](crate::stats()). The numbers are read one after the other
/// while the program runs, so sums of several may be off by what happened meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Calls, counted: took mmap_lock for writing since start-up ended. Promise P1: none in ready mode, a dozen in
    /// stepped mode.
    pub write_lock_calls: u64,
    /// Calls, counted: took mmap_lock for writing during start-up.
    pub startup_write_lock_calls: u64,
    /// Calls, counted: took longer than the hold budget. The sum over `commit`, `purge` and `warm`, as only those are
    /// sized to stay under it.
    pub over_budget_calls: u64,
    /// Address space taken (`mmap`).
    pub reserve: CallStats,
    /// Address space given back (`munmap`); only what could not be set up.
    pub unreserve: CallStats,
    /// Access given to reserved pages (`mprotect`).
    pub commit: CallStats,
    /// Flags set on mappings (`madvise`), at start-up.
    pub advise: CallStats,
    /// Contents given back to the kernel (`madvise(MADV_DONTNEED)`), by the background thread.
    pub purge: CallStats,
    /// Memory faulted ahead of need, by the background thread.
    pub warm: CallStats,
    /// Where memory is.
    pub memory: MemoryStats,
    /// What the background thread has done and is about.
    pub governor: GovernorStats,
}

impl Stats {
    /// The kinds of kernel call with their names.
    pub(crate) fn by_call(&self) -> [(&'static str, &CallStats); 6] {
        [
            ("reserve", &self.reserve),
            ("unreserve", &self.unreserve),
            ("commit", &self.commit),
            ("advise", &self.advise),
            ("purge", &self.purge),
            ("warm", &self.warm),
        ]
    }
}

/// Where memory is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Bytes, computed: in blocks that the program holds, rounded up to the sizes of blocks, plus blocks on threads'
    /// lists.
    pub allocated: u64,
    /// Bytes, computed: slices, and chunks of rooms, that hold blocks. What it exceeds `allocated` by is fragmentation.
    pub active: u64,
    /// Bytes, computed: `active` + `warm` + `metadata`. An upper bound of what is in memory: what was never touched is
    /// not backed.
    pub resident: u64,
    /// Bytes, computed: reserved address space that is not resident. Costs no memory.
    pub retained: u64,
    /// Bytes, computed: free and still backed. A request gets these first.
    pub warm: u64,
    /// Bytes, computed: the allocator's own records, as far as committed and used.
    pub metadata: u64,
    /// Bytes, computed: address space taken from the kernel.
    pub reserved: u64,
    /// Bytes, computed: address space that is readable and writable. All of it in ready mode.
    pub committed: u64,
}

/// What one kind of kernel call has done so far, by the kind of thread that made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CallStats {
    /// Made on threads of the program.
    pub application: CallCounts,
    /// Made on the background thread, or on one that the program lends for its work.
    pub governor: CallCounts,
}

impl CallStats {
    /// Calls made, with those that failed.
    pub fn calls(&self) -> u64 {
        self.sum(|counts| counts.calls)
    }

    /// Calls that the kernel refused.
    pub fn errors(&self) -> u64 {
        self.sum(|counts| counts.errors)
    }

    /// Bytes that the successful calls covered.
    pub fn bytes(&self) -> u64 {
        self.sum(|counts| counts.bytes)
    }

    /// Calls that took longer than the hold budget. Zero for kinds of call that have none.
    pub fn over_budget(&self) -> u64 {
        self.sum(|counts| counts.over_budget)
    }

    fn sum(&self, part: fn(&CallCounts) -> u64) -> u64 {
        part(&self.application).saturating_add(part(&self.governor))
    }
}

/// What one kind of kernel call on one kind of thread has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CallCounts {
    /// Calls, counted, with those that failed.
    pub calls: u64,
    /// Calls, counted, that the kernel refused.
    pub errors: u64,
    /// Bytes, counted, that the successful calls covered.
    pub bytes: u64,
    /// Calls, counted, that took longer than the hold budget. Zero for kinds of call that have none.
    pub over_budget: u64,
    /// How long the calls took, by the monotonic clock, with those that failed.
    pub time: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_thread_make_up_the_sums() {
        let counts =
            |n| CallCounts { calls: n, errors: n * 2, bytes: n * 3, over_budget: n * 4, ..CallCounts::default() };
        let both = CallStats { application: counts(1), governor: counts(100) };
        assert_eq!((both.calls(), both.errors(), both.bytes(), both.over_budget()), (101, 202, 303, 404));
    }
}
