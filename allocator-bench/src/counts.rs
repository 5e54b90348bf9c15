//! What the kernel was asked during one workload, by kind of system call, counted by the kernel itself.

use crate::figures::{Figures, figures};

/// The system calls that have a count of their own, in the order of their counters; those of all calls and of the lock
/// follow.
pub const COUNTED_CALLS: [&str; 8] = ["mmap", "munmap", "mremap", "brk", "madvise", "mprotect", "futex", "sched_yield"];

/// How many counters a child is given.
pub const COUNTERS: usize = COUNTED_CALLS.len() + 2;

figures! {
    /// System calls during one workload, and what they did to the lock of the address space.
    Counts {
        /// Calls of mmap(2).
        mmap_calls,
        /// Calls of munmap(2).
        munmap_calls,
        /// Calls of mremap(2).
        mremap_calls,
        /// Calls of brk(2).
        brk_calls,
        /// Calls of madvise(2).
        madvise_calls,
        /// Calls of mprotect(2).
        mprotect_calls,
        /// Calls of futex(2).
        futex_calls,
        /// Calls of sched_yield(2).
        sched_yield_calls,
        /// All other system calls.
        other_calls,
        /// How often mmap_lock was taken for writing.
        lock_writes,
    }
}

impl Counts {
    /// Makes the counts of what the counters went up by. The child's own reading of the last counters is one of the
    /// other calls, and left out.
    pub fn from_counters(increase: &[u64; COUNTERS]) -> Self {
        let [mmap_calls, munmap_calls, mremap_calls, brk_calls, madvise_calls, mprotect_calls, ..] = *increase;
        let [.., futex_calls, sched_yield_calls, all_calls, lock_writes] = *increase;
        let named_calls: u64 = increase[..COUNTED_CALLS.len()].iter().sum();
        Self {
            mmap_calls,
            munmap_calls,
            mremap_calls,
            brk_calls,
            madvise_calls,
            mprotect_calls,
            futex_calls,
            sched_yield_calls,
            other_calls: all_calls.saturating_sub(named_calls + 1),
            lock_writes,
        }
    }

    /// All system calls.
    pub fn all_calls(&self) -> u64 {
        self.values()[..=COUNTED_CALLS.len()].iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{COUNTED_CALLS, Counts};
    use crate::figures::Figures;

    #[test]
    fn calls_and_fields_are_in_the_same_order() {
        let fields = Counts::NAMES.iter().map(|name| name.trim_end_matches("_calls"));
        assert!(fields.eq(COUNTED_CALLS.into_iter().chain(["other", "lock_writes"])));
    }

    #[test]
    fn what_has_no_name_is_others() {
        let counts = Counts::from_counters(&[1, 2, 3, 4, 5, 6, 7, 8, 40, 9]);
        assert_eq!((counts.other_calls, counts.lock_writes, counts.all_calls()), (3, 9, 39));
    }
}
