//! The committed prefix of a region: all of it in ready mode, growing geometrically in stepped mode. Called by
//! `arena::space`, `arena::rooms` and `arena::reservation`.
//!
//! Invariant: `[base, base + committed)` is readable and writable. Committing is idempotent on untouched memory, so two
//! threads that take the same step at the same time do no harm, and nobody waits.

use core::ptr::NonNull;

use super::refusal::Refusal;
use crate::atomic::{AtomicUsize, Ordering};
use crate::limits::SLICE_BYTES;
use crate::os::{Kernel, Os};
use crate::stats::counters::By;

/// How much to commit in all where `have` bytes are committed: `first` to begin with, then `growth` times as much each
/// time, and from 256 MiB on twice as much. Few calls while little is at stake, and `mlockall` locks at most about
/// twice what a large program uses.
pub(crate) fn next_step(have: usize, first: usize, growth: usize) -> usize {
    let factor = if have < 256 << 20 { growth } else { 2 };
    have.saturating_mul(factor).max(first)
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
    refusal: Refusal,
}

impl Prefix {
    /// A region with nothing committed, whose steps are [`next_step`] of `step_bytes` and `growth`.
    pub(crate) const fn new(base: NonNull<u8>, bytes_max: usize, step_bytes: usize, growth: usize) -> Self {
        Prefix {
            base,
            bytes_max,
            step_bytes,
            growth,
            has_lead: false,
            committed: AtomicUsize::new(0),
            refusal: Refusal::new(),
        }
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

    /// Commits the whole region, if it has any bytes.
    pub(crate) fn ensure_all<O: Os>(&self, kernel: &Kernel<O>) -> bool {
        self.bytes_max == 0 || self.ensure(kernel, self.bytes_max)
    }

    /// Makes sure that the first `bytes` are committed. `false` if the kernel refuses even just those, or the region
    /// ends before. Cost: a load; one system call when a step is due, and a page fault when it is the first.
    pub(crate) fn ensure<O: Os>(&self, kernel: &Kernel<O>, bytes: usize) -> bool {
        let have = self.committed_bytes();
        if bytes <= have {
            return true;
        }
        let now = kernel.os().coarse_now();
        if bytes > self.bytes_max || self.refusal.covers(now, bytes) {
            return false;
        }
        let whole = |bytes: usize| (bytes.div_ceil(SLICE_BYTES) * SLICE_BYTES).min(self.bytes_max);
        let least = whole(bytes);
        let step = whole(bytes.max(next_step(have, self.step_bytes, self.growth)));
        let tries = [step, least];
        for target in tries.into_iter().take(if step == least { 1 } else { 2 }) {
            // SAFETY: `have < bytes <= target <= bytes_max`, so the range lies in our region.
            let start = unsafe { self.base.byte_add(have) };
            // SAFETY: the range is reserved by us and untouched; what another thread committed meanwhile stays as it
            // is, as committing again does no harm.
            if unsafe { kernel.commit(start, target - have, By::Application) }.is_ok() {
                if have == 0 && self.has_lead {
                    // SAFETY: the first byte of a region is never part of a block: see `Reservation::prepare`.
                    unsafe { kernel.os().touch(self.base) };
                }
                // Release: pairs with the Acquire in `committed_bytes`.
                self.committed.fetch_max(target, Ordering::Release);
                return true;
            }
        }
        self.refusal.note(now, bytes);
        false
    }
}
