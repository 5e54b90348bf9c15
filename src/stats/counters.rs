//! Counters of kernel calls. Any layer may add to them, [`Counters::snapshot`] reads them.

use crate::atomic::{AtomicU64, Ordering};

/// The kinds of kernel call that the allocator makes on its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    /// Address space taken.
    Reserve,
    /// Address space given back; start-up only.
    Unreserve,
    /// Access given to reserved pages.
    Commit,
    /// A flag set on a mapping.
    Advise,
    /// Contents given back to the kernel.
    Purge,
}

const CALLS: usize = 5;

impl Call {
    /// Whether the call takes mmap_lock for writing.
    const fn takes_write_lock(self) -> bool {
        !matches!(self, Call::Purge)
    }
}

struct CallCounters {
    calls: AtomicU64,
    errors: AtomicU64,
    bytes: AtomicU64,
}

/// The counters of one allocator.
pub(crate) struct Counters {
    by_call: [CallCounters; CALLS],
    write_lock_calls: AtomicU64,
    startup_write_lock_calls: AtomicU64,
}

impl Counters {
    /// All zero.
    pub(crate) const fn new() -> Self {
        Counters {
            by_call: [const {
                CallCounters { calls: AtomicU64::new(0), errors: AtomicU64::new(0), bytes: AtomicU64::new(0) }
            }; CALLS],
            write_lock_calls: AtomicU64::new(0),
            startup_write_lock_calls: AtomicU64::new(0),
        }
    }

    /// Counts one call over `bytes` that worked or did not.
    pub(crate) fn count(&self, call: Call, bytes: usize, worked: bool) {
        // Relaxed throughout: independent sums, read by people and tests.
        if call.takes_write_lock() {
            self.write_lock_calls.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(counters) = self.by_call.get(call as usize) {
            counters.calls.fetch_add(1, Ordering::Relaxed);
            if worked {
                counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            } else {
                counters.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Marks the end of start-up: write acquisitions from here on are what promise P1 is about.
    pub(crate) fn end_startup(&self) {
        self.startup_write_lock_calls.store(self.write_lock_calls.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The sums now.
    pub(crate) fn snapshot(&self) -> Stats {
        let read = |call: Call| {
            self.by_call.get(call as usize).map_or(CallStats::default(), |counters| CallStats {
                calls: counters.calls.load(Ordering::Relaxed),
                errors: counters.errors.load(Ordering::Relaxed),
                bytes: counters.bytes.load(Ordering::Relaxed),
            })
        };
        let startup = self.startup_write_lock_calls.load(Ordering::Relaxed);
        Stats {
            write_lock_calls: self.write_lock_calls.load(Ordering::Relaxed).saturating_sub(startup),
            startup_write_lock_calls: startup,
            reserve: read(Call::Reserve),
            unreserve: read(Call::Unreserve),
            commit: read(Call::Commit),
            advise: read(Call::Advise),
            purge: read(Call::Purge),
        }
    }
}

/// What one kind of kernel call has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CallStats {
    /// Calls made, with those that failed.
    pub calls: u64,
    /// Calls that the kernel refused.
    pub errors: u64,
    /// Bytes that the successful calls covered.
    pub bytes: u64,
}

/// A snapshot of the allocator's counters, by [`stats`](crate::stats()).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that took mmap_lock for writing since start-up ended. Promise P1: none in ready mode, a dozen in stepped
    /// mode.
    pub write_lock_calls: u64,
    /// Calls that took mmap_lock for writing during start-up.
    pub startup_write_lock_calls: u64,
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
}
