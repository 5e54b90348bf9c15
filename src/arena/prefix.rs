//! The committed prefix of a region: all of it in ready mode, growing geometrically in stepped mode. Called by
//! `arena::space`, `arena::rooms` and `arena::reservation`.
//!
//! Invariant: `[base, base + committed)` is readable and writable. Committing is idempotent on untouched memory, so two
//! threads that take the same step at the same time do no harm. They only waste calls, each of which takes mmap_lock
//! for writing: so who finds a step under way lets the others run for a moment before taking it as well, and no longer.

use core::ptr::NonNull;

use super::locking::Locking;
use super::refusal::Refusal;
use crate::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::limits::{CHUNK_BYTES, SLICE_BYTES, STEP_BYTES_MIN, STEP_YIELDS_MAX};
use crate::os::{Kernel, Os, OsError};
use crate::stats::counters::By;

/// How much to commit in all where `have` bytes are committed: `first` to begin with, then `growth` times as much each
/// time, and from 64 MiB on twice as much. Few calls while little is at stake, and `mlockall` locks at most about
/// twice what a large program uses.
pub(crate) fn next_step(have: usize, first: usize, growth: usize) -> usize {
    let factor = if have < STEP_BYTES_MIN { growth } else { 2 };
    have.saturating_mul(factor).max(first)
}

/// How much to try to commit in all after `target` was refused: a quarter of that step, so that the last memory takes
/// few calls as well, and in the end the `least` that is needed. `None` after that.
pub(crate) fn smaller_step(have: usize, target: usize, least: usize) -> Option<usize> {
    (target > least).then(|| least.max(have + (target - have) / 4))
}

/// Whether the next step is due ahead of need, where `used` of `committed` bytes are in use: from three quarters on.
/// The governor has until the rest is used up, which takes a program that does nothing but touch new memory a
/// millisecond at least; taken earlier, steps would make `mlockall` lock more.
pub(crate) fn wants_step(used: usize, committed: usize) -> bool {
    used >= committed / 4 * 3
}

/// One region and how much of it is committed.
pub(crate) struct Prefix {
    base: NonNull<u8>,
    bytes_max: usize,
    step_bytes: usize,
    growth: usize,
    /// Whether the first byte belongs to nobody, so that it can be touched.
    has_lead: bool,
    // any thread, only grows
    committed: AtomicUsize,
    // any thread: whether somebody is taking a step; a hint that may be out of date, as after a fork
    stepping: AtomicBool,
    refusal: Refusal,
    locking: &'static Locking,
}

impl Prefix {
    /// A region with nothing committed, whose steps are [`next_step`] of `step_bytes` and `growth`.
    pub(crate) const fn new(
        base: NonNull<u8>,
        bytes_max: usize,
        step_bytes: usize,
        growth: usize,
        locking: &'static Locking,
    ) -> Self {
        Prefix {
            base,
            bytes_max,
            step_bytes,
            growth,
            has_lead: false,
            committed: AtomicUsize::new(0),
            stepping: AtomicBool::new(false),
            refusal: Refusal::new(),
            locking,
        }
    }

    /// A region that is committed whole, by others.
    pub(crate) fn whole(base: NonNull<u8>, bytes: usize, locking: &'static Locking) -> Self {
        let prefix = Prefix::new(base, bytes, 0, 1, locking);
        prefix.note_committed(bytes);
        prefix
    }

    /// The same region, known to begin with a slice that is part of no block: its first page is touched when it is
    /// committed, so that no later fault in the mapping needs mmap_lock.
    pub(crate) const fn with_lead(mut self) -> Self {
        self.has_lead = true;
        self
    }

    /// Notes that the first `bytes` were committed together with what lies before them.
    pub(crate) fn note_committed(&self, bytes: usize) {
        // Release: pairs with the Acquire in `committed_bytes`.
        self.committed.fetch_max(bytes.min(self.bytes_max), Ordering::Release);
    }

    /// Bytes committed so far.
    pub(crate) fn committed_bytes(&self) -> usize {
        // Acquire: pairs with the Release in `ensure`.
        self.committed.load(Ordering::Acquire)
    }

    /// At start, right after [`Locking::begin`]: commits exactly the first `bytes`, or the whole region if it is
    /// smaller. `false` if the kernel refuses.
    pub(crate) fn commit_first<O: Os>(&self, kernel: &Kernel<O>, bytes: usize) -> bool {
        let (have, target) = (self.committed_bytes(), bytes.min(self.bytes_max));
        // SAFETY: the range is reserved by us and untouched.
        target <= have
            || self.commit(kernel, have, target, |start, bytes| unsafe { kernel.commit(start, bytes, By::Application) })
    }

    /// Whether the next step should be taken ahead of need, where the first `used` bytes are in use.
    pub(crate) fn wants_step(&self, used: usize) -> bool {
        let committed = self.committed_bytes();
        used > 0 && committed < self.bytes_max && wants_step(used, committed)
    }

    /// Governor: takes the next step if it is wanted, whole or not at all. Says whether it did.
    pub(crate) fn step_ahead<O: Os>(&self, kernel: &Kernel<O>, used: usize) -> bool {
        let have = self.committed_bytes();
        let step = self.in_slices(self.step_from(have));
        if !self.wants_step(used)
            || !self.locking.allows_step(kernel, &self.refusal, step.saturating_sub(have), By::Governor)
            || !self.begins_step()
        {
            return false;
        }
        let was_taken = self.take_step(kernel, have, step, step, By::Governor);
        self.end_step();
        was_taken
    }

    /// Whether this thread is the one that takes the next step, as far as is known.
    fn begins_step(&self) -> bool {
        // Relaxed: only who waits depends on it; what is committed is told by `committed`.
        !self.stepping.swap(true, Ordering::Relaxed)
    }

    /// Whoever took the step, it is over.
    fn end_step(&self) {
        // Relaxed: as in `begins_step`.
        self.stepping.store(false, Ordering::Relaxed);
    }

    /// Lets others run while one of them takes a step. Says whether `bytes` were committed then.
    fn follows_step<O: Os>(&self, kernel: &Kernel<O>, bytes: usize) -> bool {
        for _ in 0..STEP_YIELDS_MAX {
            if self.committed_bytes() >= bytes {
                return true;
            }
            // Relaxed: as in `begins_step`.
            if !self.stepping.load(Ordering::Relaxed) {
                break;
            }
            kernel.os().yield_now();
        }
        self.committed_bytes() >= bytes
    }

    /// `bytes` up to the next slice, or to the end of the region.
    fn in_slices(&self, bytes: usize) -> usize {
        (bytes.div_ceil(SLICE_BYTES) * SLICE_BYTES).min(self.bytes_max)
    }

    fn step_from(&self, have: usize) -> usize {
        next_step(have, self.step_bytes, self.growth).min(self.bytes_max)
    }

    /// Makes sure that the first `bytes` are committed. `false` if the kernel refuses even just those, or the region
    /// ends before. Cost: a load; one system call when a step is due, and a page fault when it is the first, or up to
    /// [`STEP_YIELDS_MAX`] sched_yield(2) where another thread is taking it.
    pub(crate) fn ensure<O: Os>(&self, kernel: &Kernel<O>, bytes: usize, by: By) -> bool {
        if bytes <= self.committed_bytes() {
            return true;
        }
        if bytes > self.bytes_max {
            return false;
        }
        if !self.begins_step() && self.follows_step(kernel, bytes) {
            return true;
        }
        let have = self.committed_bytes();
        let is_there = bytes <= have || self.ensure_from(kernel, have, bytes, by);
        self.end_step();
        is_there
    }

    fn ensure_from<O: Os>(&self, kernel: &Kernel<O>, have: usize, bytes: usize, by: By) -> bool {
        let ample = bytes.max(self.step_from(have));
        let allowed = self.locking.allows_step(kernel, &self.refusal, ample - have, by);
        let step = if allowed { ample } else { bytes.next_multiple_of(CHUNK_BYTES) };
        let least = self.in_slices(bytes);
        self.take_step(kernel, have, self.in_slices(step).max(least), least, by)
    }

    /// Commits up to byte `step`, or less if that is refused, but at least up to byte `least`. `have < least <= step`.
    fn take_step<O: Os>(&self, kernel: &Kernel<O>, have: usize, step: usize, least: usize, by: By) -> bool {
        let now = kernel.os().coarse_now();
        let mut next = Some(step);
        while let Some(target) = next {
            if !self.refusal.covers(now, target - have) {
                // SAFETY: the range is reserved by us and untouched; what another thread committed meanwhile stays as
                // it is, as committing again does no harm.
                let commit = |start, bytes| unsafe { self.locking.commit(kernel, start, bytes, by) };
                if self.commit(kernel, have, target, commit) {
                    return true;
                }
                self.refusal.note(now, target - have);
            }
            next = smaller_step(have, target, least).map(|target| self.in_slices(target));
        }
        false
    }

    /// Commits from byte `have` to byte `target`, where `have < target <= bytes_max`, by `commit`.
    fn commit<O: Os>(
        &self,
        kernel: &Kernel<O>,
        have: usize,
        target: usize,
        commit: impl FnOnce(NonNull<u8>, usize) -> Result<(), OsError>,
    ) -> bool {
        // SAFETY: the start of a range in our region.
        let start = unsafe { self.base.byte_add(have) };
        if commit(start, target - have).is_err() {
            return false;
        }
        if have == 0 && self.has_lead {
            // SAFETY: the first byte of a region is never part of a block: see `Reservation::prepare`.
            unsafe { kernel.os().touch(self.base) };
        }
        // Release: pairs with the Acquire in `committed_bytes`.
        self.committed.fetch_max(target, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::alloc::{Layout, alloc};
    use std::boxed::Box;

    use super::*;
    use crate::os::fake::FakeOs;

    const MIB: usize = 1 << 20;

    /// A region of 64 MiB with steps of 1 MiB, and its kernel; both for ever.
    fn region() -> (&'static Prefix, &'static Kernel<FakeOs>) {
        let locking = Box::leak(Box::new(Locking::none()));
        let layout = Layout::from_size_align(64 * MIB, CHUNK_BYTES).unwrap();
        // SAFETY: the layout has a size.
        let base = NonNull::new(unsafe { alloc(layout) }).unwrap();
        let prefix = Box::leak(Box::new(Prefix::new(base, 64 * MIB, MIB, 2, locking)));
        (prefix, Box::leak(Box::new(Kernel::new(FakeOs::new()))))
    }

    /// A thread in the middle of the first step, which it takes when the other one gives way.
    struct Stepper(&'static Prefix);

    // SAFETY: a region is shared by all threads wherever it is used; only its addresses keep the type from being so.
    unsafe impl Send for Stepper {}

    impl Stepper {
        fn finish(self) {
            self.0.note_committed(MIB);
            self.0.end_step();
        }
    }

    #[test]
    fn a_step_that_another_thread_is_taking_is_not_taken_twice() {
        let (prefix, kernel) = region();
        assert!(prefix.begins_step());
        let stepper = Stepper(prefix);
        kernel.os().on_next_yield(move || stepper.finish());
        assert!(prefix.ensure(kernel, 4096, By::Application));
        assert_eq!((kernel.os().calls(), prefix.committed_bytes()), (0, MIB));
        assert!(prefix.begins_step(), "nobody is at it any more");
    }

    #[test]
    fn a_step_that_does_not_suffice_is_followed_by_the_next() {
        let (prefix, kernel) = region();
        assert!(prefix.begins_step());
        let stepper = Stepper(prefix);
        kernel.os().on_next_yield(move || stepper.finish());
        assert!(prefix.ensure(kernel, 3 * MIB, By::Application));
        assert_eq!((kernel.os().calls(), prefix.committed_bytes()), (1, 3 * MIB));
        assert!(prefix.begins_step());
    }

    #[test]
    fn nobody_waits_for_ever_for_a_step() {
        let (prefix, kernel) = region();
        assert!(prefix.begins_step(), "by a thread that a fork has left behind");
        assert!(prefix.ensure(kernel, 4096, By::Application));
        assert_eq!((kernel.os().calls(), prefix.committed_bytes()), (1, MIB));
        assert!(prefix.begins_step(), "what was left behind is forgotten");
    }

    #[test]
    fn the_governor_leaves_a_step_that_is_under_way() {
        let (prefix, kernel) = region();
        assert!(prefix.ensure(kernel, 4096, By::Application));
        assert!(prefix.begins_step());
        assert!(!prefix.step_ahead(kernel, MIB));
        prefix.end_step();
        assert!(prefix.step_ahead(kernel, MIB));
        assert_eq!((kernel.os().calls(), prefix.committed_bytes()), (2, 2 * MIB));
    }
}
