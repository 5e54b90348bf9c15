//! How many bytes one purge call may cover: learned from what the calls took. Pure; called by `governor::worker`.

use crate::limits::{CHUNK_BYTES, HOLD_BUDGET_NS, PURGE_PIECE_BYTES, PURGE_PIECE_HUGE_BYTES};
use crate::units::Nanos;

/// The current step for ranges that hugepages should back. They may turn out to be 4 KiB pages, thirty times slower.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    bytes: usize,
}

impl Step {
    /// The design's start.
    pub(crate) const fn new() -> Self {
        Step { bytes: PURGE_PIECE_HUGE_BYTES }
    }

    /// Bytes that the next call may cover: whole chunks.
    pub(crate) const fn bytes(self) -> usize {
        self.bytes
    }

    /// Learns that a call over `bytes` took `time`: halves at once when it overran the budget, grows by a chunk when it
    /// stayed under half of it.
    pub(crate) fn learn(&mut self, bytes: usize, time: Nanos) {
        if time.0 > HOLD_BUDGET_NS {
            self.bytes = (bytes / 2 / CHUNK_BYTES * CHUNK_BYTES).max(PURGE_PIECE_BYTES);
        } else if bytes >= self.bytes && time.0 < HOLD_BUDGET_NS / 2 {
            self.bytes = (self.bytes + CHUNK_BYTES).min(PURGE_PIECE_HUGE_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overrun_halves_the_step_at_once_and_never_below_a_piece() {
        let mut step = Step::new();
        step.learn(PURGE_PIECE_HUGE_BYTES, Nanos(HOLD_BUDGET_NS + 1));
        assert_eq!(step.bytes(), PURGE_PIECE_HUGE_BYTES / 2);
        for _ in 0..20 {
            let bytes = step.bytes();
            step.learn(bytes, Nanos(HOLD_BUDGET_NS * 2));
        }
        assert_eq!(step.bytes(), PURGE_PIECE_BYTES);
    }

    #[test]
    fn cheap_calls_let_the_step_grow_slowly_up_to_the_start() {
        let mut step = Step::new();
        step.learn(CHUNK_BYTES, Nanos(HOLD_BUDGET_NS * 2));
        let small = step.bytes();
        step.learn(small, Nanos(1000));
        assert_eq!(step.bytes(), small + CHUNK_BYTES);
        step.learn(CHUNK_BYTES / 2, Nanos(1000));
        assert_eq!(step.bytes(), small + CHUNK_BYTES, "a smaller call says nothing about the step");
        for _ in 0..100 {
            let bytes = step.bytes();
            step.learn(bytes, Nanos(1000));
        }
        assert_eq!(step.bytes(), PURGE_PIECE_HUGE_BYTES);
    }
}
