//! How many bytes one purge call may cover: learned from what the calls took. Pure; called by `governor::worker`.

use crate::limits::{CHUNK_BYTES, HOLD_BUDGET_NS, PURGE_PIECE_BYTES, PURGE_PIECE_HUGE_BYTES};
use crate::units::Nanos;

/// The current step for ranges that hugepages should back. They may turn out to be 4 KiB pages, thirty times slower.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    bytes: usize,
}

impl Step {
    /// One chunk: in budget whatever the pages are.
    pub(crate) const fn new() -> Self {
        Step { bytes: PURGE_PIECE_BYTES }
    }

    /// Bytes that the next call may cover: whole chunks.
    pub(crate) const fn bytes(self) -> usize {
        self.bytes
    }

    /// Learns that a call over `bytes` took `time`: as many bytes as fit three quarters of the budget at this rate, at
    /// once if those are fewer than now, otherwise at most twice as many as now.
    pub(crate) fn learn(&mut self, bytes: usize, time: Nanos) {
        let affordable = (bytes as u64).saturating_mul(HOLD_BUDGET_NS / 4 * 3) / time.0.max(1);
        let whole = usize::try_from(affordable).unwrap_or(usize::MAX) / CHUNK_BYTES * CHUNK_BYTES;
        // A short piece tells little of a long one: it never makes the step grow.
        let most = if bytes >= self.bytes { self.bytes * 2 } else { self.bytes };
        self.bytes = whole.min(most).clamp(PURGE_PIECE_BYTES, PURGE_PIECE_HUGE_BYTES);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    /// Purges of `ns_per_mib` over and over; gives the steps.
    fn steps(ns_per_mib: u64, from: Step) -> std::vec::Vec<Step> {
        let mut step = from;
        let calls = (0..20).map(|_| {
            let bytes = step.bytes();
            step.learn(bytes, Nanos((bytes >> 20) as u64 * ns_per_mib));
            step
        });
        calls.collect()
    }

    #[test]
    fn cheap_calls_double_the_step_up_to_the_most() {
        let steps = steps(3_000, Step::new());
        let first: std::vec::Vec<_> = steps.iter().take(5).map(|step| step.bytes() / PURGE_PIECE_BYTES).collect();
        assert_eq!(first, [2, 4, 8, 16, 31], "no further than three quarters of the budget");
        assert!(steps.iter().all(|step| (step.bytes() >> 20) as u64 * 3_000 <= HOLD_BUDGET_NS));
        let all_free = Step::new();
        assert_eq!(self::steps(1, all_free).last().map(|step| step.bytes()), Some(PURGE_PIECE_HUGE_BYTES));
    }

    #[test]
    fn small_pages_never_take_the_step_over_the_budget() {
        for ns_per_mib in [75_000, 80_000, 120_000] {
            for step in steps(ns_per_mib, Step::new()) {
                assert!(step.bytes() == PURGE_PIECE_BYTES, "{step:?} at {ns_per_mib}");
            }
        }
    }

    #[test]
    fn an_overrun_shrinks_the_step_at_once() {
        let mut step = Step { bytes: PURGE_PIECE_HUGE_BYTES };
        step.learn(PURGE_PIECE_HUGE_BYTES, Nanos(HOLD_BUDGET_NS * 16));
        assert_eq!(step.bytes(), 2 * CHUNK_BYTES / 2);
        step.learn(CHUNK_BYTES, Nanos(HOLD_BUDGET_NS * 100));
        assert_eq!(step.bytes(), PURGE_PIECE_BYTES, "never less than a chunk");
    }

    #[test]
    fn a_short_piece_does_not_make_the_step_grow() {
        let mut step = Step { bytes: 8 * CHUNK_BYTES };
        step.learn(CHUNK_BYTES, Nanos(1));
        assert_eq!(step.bytes(), 8 * CHUNK_BYTES);
    }
}
