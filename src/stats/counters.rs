//! Counters of kernel calls, by kind of call and by kind of thread. `os::kernel` adds to them,
//! [`Counters::read`] reads them.

use super::governor::GovernorCounters;
use super::histogram::AtomicHistogram;
use super::{CallCounts, Stats};
use crate::atomic::{AtomicU64, Ordering};
use crate::units::Nanos;

/// The kinds of kernel call that the allocator makes on its memory, in the order of their fields in [`Stats`].
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
    /// Memory faulted ahead of need.
    Warm,
}

const CALLS: usize = 6;

impl Call {
    /// Whether the call takes mmap_lock for writing.
    const fn takes_write_lock(self) -> bool {
        !matches!(self, Call::Purge | Call::Warm)
    }

    /// Whether the call is sized to stay under the budget. The rest is done at start or when the reservation grows, and
    /// cannot be cut up.
    const fn has_budget(self) -> bool {
        matches!(self, Call::Commit | Call::Purge | Call::Warm)
    }
}

/// The kinds of thread that make them, in the order of their fields in [`CallStats`](super::CallStats).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    /// A thread of the program, within a request of its own.
    Application,
    /// The background thread, or one that the program lends for its work.
    Governor,
}

const THREADS: usize = 2;

struct CallCounters {
    errors: AtomicU64,
    bytes: AtomicU64,
    over_budget: AtomicU64,
    /// Counts the calls as well.
    time: AtomicHistogram,
}

impl CallCounters {
    const fn new() -> Self {
        CallCounters {
            errors: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            over_budget: AtomicU64::new(0),
            time: AtomicHistogram::new(),
        }
    }

    fn read(&self, counts: &mut CallCounts) {
        self.time.read(&mut counts.time);
        counts.calls = counts.time.count();
        counts.errors = self.errors.load(Ordering::Relaxed);
        counts.bytes = self.bytes.load(Ordering::Relaxed);
        counts.over_budget = self.over_budget.load(Ordering::Relaxed);
    }
}

/// The counters of one allocator.
pub(crate) struct Counters {
    by_call: [[CallCounters; THREADS]; CALLS],
    write_lock_calls: AtomicU64,
    startup_write_lock_calls: AtomicU64,
    hold_budget_ns: AtomicU64,
    /// What the governor counts itself.
    governor: GovernorCounters,
}

impl Counters {
    /// All zero, and no budget yet.
    pub(crate) const fn new() -> Self {
        Counters {
            by_call: [const { [const { CallCounters::new() }; THREADS] }; CALLS],
            write_lock_calls: AtomicU64::new(0),
            startup_write_lock_calls: AtomicU64::new(0),
            hold_budget_ns: AtomicU64::new(u64::MAX),
            governor: GovernorCounters::new(),
        }
    }

    /// Sets the time above which a call counts as over budget, from now on.
    pub(crate) fn set_hold_budget(&self, budget: Nanos) {
        self.hold_budget_ns.store(budget.0, Ordering::Relaxed);
    }

    /// What the governor counts itself.
    pub(crate) fn governor(&self) -> &GovernorCounters {
        &self.governor
    }

    /// Counts one call over `bytes` that took `time` and worked or did not.
    pub(crate) fn count(&self, call: Call, by: By, bytes: usize, time: Nanos, worked: bool) {
        // Relaxed throughout: independent sums, read by people and tests.
        if call.takes_write_lock() {
            self.write_lock_calls.fetch_add(1, Ordering::Relaxed);
        }
        let Some(counters) = self.by_call.get(call as usize).and_then(|threads| threads.get(by as usize)) else {
            return;
        };
        counters.time.record(time);
        if worked {
            counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        } else {
            counters.errors.fetch_add(1, Ordering::Relaxed);
        }
        if call.has_budget() && time.0 > self.hold_budget_ns.load(Ordering::Relaxed) {
            counters.over_budget.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Marks the end of start-up: write acquisitions from here on are what promise P1 is about.
    pub(crate) fn end_startup(&self) {
        self.startup_write_lock_calls.store(self.write_lock_calls.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The sums now. What is not counted here, `memory`, is left at zero.
    pub(crate) fn snapshot(&self) -> Stats {
        let mut stats = Stats::default();
        self.read(&mut stats);
        stats
    }

    /// Puts the sums as they are now in `stats`, all but `memory`.
    pub(crate) fn read(&self, stats: &mut Stats) {
        let startup = self.startup_write_lock_calls.load(Ordering::Relaxed);
        stats.write_lock_calls = self.write_lock_calls.load(Ordering::Relaxed).saturating_sub(startup);
        stats.startup_write_lock_calls = startup;
        let calls = [
            &mut stats.reserve,
            &mut stats.unreserve,
            &mut stats.commit,
            &mut stats.advise,
            &mut stats.purge,
            &mut stats.warm,
        ];
        for (stats, [application, governor]) in calls.into_iter().zip(&self.by_call) {
            application.read(&mut stats.application);
            governor.read(&mut stats.governor);
        }
        stats.over_budget_calls = stats.by_call().iter().map(|(_, call)| call.over_budget()).sum();
        stats.governor = self.governor.snapshot();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::CallStats;

    const BUDGET_NS: u64 = 250_000;

    const ALL: [Call; CALLS] = [Call::Reserve, Call::Unreserve, Call::Commit, Call::Advise, Call::Purge, Call::Warm];

    /// What a snapshot says of one kind of call.
    fn of(stats: &Stats, call: Call) -> CallStats {
        *stats.by_call()[call as usize].1
    }

    #[test]
    fn each_kind_of_call_and_of_thread_has_counters_of_its_own() {
        for call in ALL {
            for by in [By::Application, By::Governor] {
                let counters = Counters::new();
                counters.count(call, by, 4096, Nanos(100), true);
                counters.count(call, by, 8192, Nanos(50), false);
                let stats = counters.snapshot();
                for other in ALL {
                    let expected = if other == call { (2, 1, 4096) } else { (0, 0, 0) };
                    let found = of(&stats, other);
                    assert_eq!((found.calls(), found.errors(), found.bytes()), expected, "{call:?} {by:?} {other:?}");
                }
                let CallStats { application, governor } = of(&stats, call);
                let (own, foreign) =
                    if by == By::Application { (application, governor) } else { (governor, application) };
                assert_eq!((own.calls, own.time.sum_ns, own.time.max_ns), (2, 150, 100));
                assert_eq!(foreign, CallCounts::default());
            }
        }
    }

    #[test]
    fn only_calls_that_can_be_cut_up_have_a_budget() {
        for call in ALL {
            let counters = Counters::new();
            counters.set_hold_budget(Nanos(BUDGET_NS));
            counters.count(call, By::Governor, 1, Nanos(BUDGET_NS), true);
            assert_eq!(counters.snapshot().over_budget_calls, 0, "{call:?} at the budget");
            counters.count(call, By::Governor, 1, Nanos(BUDGET_NS + 1), true);
            counters.count(call, By::Application, 1, Nanos(BUDGET_NS * 2), false);
            let stats = counters.snapshot();
            let expected = if [Call::Commit, Call::Purge, Call::Warm].contains(&call) { 2 } else { 0 };
            assert_eq!((stats.over_budget_calls, of(&stats, call).over_budget()), (expected, expected), "{call:?}");
        }
    }

    #[test]
    fn a_new_budget_counts_for_later_calls() {
        let counters = Counters::new();
        counters.count(Call::Purge, By::Governor, 1, Nanos(2_000), true);
        counters.set_hold_budget(Nanos(1_000));
        counters.count(Call::Purge, By::Governor, 1, Nanos(2_000), true);
        assert_eq!(counters.snapshot().purge.governor.over_budget, 1);
    }

    #[test]
    fn purges_and_warming_take_no_write_lock() {
        let counters = Counters::new();
        ALL.iter().for_each(|call| counters.count(*call, By::Application, 1, Nanos(1), true));
        assert_eq!((counters.snapshot().write_lock_calls, counters.snapshot().startup_write_lock_calls), (4, 0));
        counters.end_startup();
        ALL.iter().for_each(|call| counters.count(*call, By::Governor, 1, Nanos(1), false));
        assert_eq!((counters.snapshot().write_lock_calls, counters.snapshot().startup_write_lock_calls), (4, 4));
    }
}
