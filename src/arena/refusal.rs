//! What the kernel has lately refused, so that a process at its limit does not ask again on every request: each call
//! takes mmap_lock for writing. Called by `arena::prefix`, `arena::rooms` and `arena::registry`.

use crate::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::units::Nanos;

/// How long a refusal counts, in nanoseconds.
const REFUSED_NS: u64 = 1_000_000_000;

/// The smallest amount that was refused, and when. Hints: a stale one costs a call or a second.
pub(crate) struct Refusal {
    /// 0 for none.
    bytes: AtomicUsize,
    at_ns: AtomicU64,
}

impl Refusal {
    /// Nothing was refused.
    pub(crate) const fn new() -> Self {
        Refusal { bytes: AtomicUsize::new(0), at_ns: AtomicU64::new(0) }
    }

    /// Notes that `bytes` were refused at `now`.
    pub(crate) fn note(&self, now: Nanos, bytes: usize) {
        // Relaxed: hints.
        self.bytes.store(bytes, Ordering::Relaxed);
        self.at_ns.store(now.0, Ordering::Relaxed);
    }

    /// Forgets the refusal: what was refused has worked since.
    pub(crate) fn forget(&self) {
        // Relaxed: a hint.
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// Whether something was refused at some time and has not worked since.
    pub(crate) fn stands(&self) -> bool {
        // Relaxed: a hint.
        self.bytes.load(Ordering::Relaxed) > 0
    }

    /// The smallest amount that was refused and is not worth asking for again yet.
    pub(crate) fn bytes(&self, now: Nanos) -> Option<usize> {
        // Relaxed: hints.
        let bytes = self.bytes.load(Ordering::Relaxed);
        let recent = bytes > 0 && now.since(Nanos(self.at_ns.load(Ordering::Relaxed))) < Nanos(REFUSED_NS);
        recent.then_some(bytes)
    }

    /// Whether asking for `bytes` is not worth a call yet.
    pub(crate) fn covers(&self, now: Nanos, bytes: usize) -> bool {
        self.bytes(now).is_some_and(|refused| bytes >= refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_covers_as_much_and_more_for_a_second() {
        let refusal = Refusal::new();
        let at = Nanos(5_000_000_000);
        assert!(!refusal.covers(at, usize::MAX));
        refusal.note(at, 100);
        assert!(refusal.covers(at, 100) && refusal.covers(Nanos(at.0 + REFUSED_NS - 1), 101));
        assert!(!refusal.covers(at, 99) && !refusal.covers(Nanos(at.0 + REFUSED_NS), 100));
    }

    #[test]
    fn a_refusal_stands_until_it_is_forgotten() {
        let refusal = Refusal::new();
        assert!(!refusal.stands());
        refusal.note(Nanos(1), 100);
        assert!(refusal.stands());
        refusal.forget();
        assert!(!refusal.stands() && !refusal.covers(Nanos(1), 100));
    }
}
