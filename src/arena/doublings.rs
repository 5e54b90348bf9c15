//! The doubling forecast: a program that has just replaced a huge block by one of twice the size will do so again.
//! Called by `arena::registry` for huge blocks, and by the governor.
//!
//! Invariant: hints on single words; a forecast that is lost or wrong costs some warm memory or its absence.

use crate::limits::CHUNK_BYTES;
use crate::number::Number;
use crate::units::{Chunks, Nanos};

/// The longest time from taking the larger block to freeing the smaller, in nanoseconds: copying a table takes seconds.
const DOUBLING_NS_MAX: u64 = 120_000_000_000;

/// The last huge block that was taken, and the forecast that awaits the governor.
pub(crate) struct Doublings {
    /// Most bytes that are forecast; 0 for no forecasts. Set once.
    bytes_max: Number,
    /// Chunks of the last huge block that was taken, and when. Any thread, the last one wins.
    claimed_chunks: Number,
    claimed_ns: Number,
    /// Bytes that are expected to be asked for next; 0 for none. Set by any thread, taken by the governor.
    forecast_bytes: Number,
}

impl Doublings {
    /// Nothing seen; no forecasts.
    pub(crate) const fn new() -> Self {
        Doublings {
            bytes_max: Number::new(0),
            claimed_chunks: Number::new(0),
            claimed_ns: Number::new(0),
            forecast_bytes: Number::new(0),
        }
    }

    /// Forecasts up to `bytes_max`; none without it.
    pub(crate) fn set_up(&self, bytes_max: Option<usize>) {
        self.bytes_max.set(bytes_max.unwrap_or(0) as u64);
    }

    fn is_off(&self) -> bool {
        self.bytes_max.get() == 0
    }

    /// Notes that a huge block of `chunks` was taken.
    pub(crate) fn note_claim(&self, now: Nanos, chunks: Chunks) {
        if !self.is_off() {
            self.claimed_chunks.set(u64::from(chunks.0));
            self.claimed_ns.set(now.0);
        }
    }

    /// Notes that a huge block of `chunks` was freed. Says whether a doubling was seen, and the next is forecast.
    pub(crate) fn note_release(&self, now: Nanos, chunks: Chunks) -> bool {
        if self.is_off() {
            return false;
        }
        let claimed = self.claimed_chunks.get();
        let recent = now.since(Nanos(self.claimed_ns.get())) <= Nanos(DOUBLING_NS_MAX);
        // Twice as much, give or take a quarter and what rounding to chunks adds.
        let half = u64::from(chunks.0);
        let doubled = half > 0 && 4 * claimed >= 7 * half.saturating_sub(1) && 4 * claimed <= 9 * (half + 1);
        let next = claimed.saturating_mul(2 * CHUNK_BYTES as u64);
        if !recent || !doubled || next > self.bytes_max.get() {
            return false;
        }
        // A doubling is one pair of blocks.
        self.claimed_chunks.set(0);
        self.forecast_bytes.set(next);
        true
    }

    /// Governor: the bytes of the next block by the forecast, once.
    pub(crate) fn take(&self) -> Option<u64> {
        let bytes = self.forecast_bytes.take();
        (bytes > 0).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn doublings(bytes_max: Option<usize>) -> Doublings {
        let doublings = Doublings::new();
        doublings.set_up(bytes_max);
        doublings
    }

    #[test]
    fn a_block_replaced_by_one_of_twice_the_size_forecasts_the_next() {
        let doublings = doublings(Some(1 << 40));
        doublings.note_claim(Nanos(1), Chunks(1680));
        assert!(doublings.note_release(Nanos(2), Chunks(840)));
        assert_eq!(doublings.take(), Some(2 * 1680 * 2 * MIB));
        assert_eq!(doublings.take(), None, "once");
        assert!(!doublings.note_release(Nanos(3), Chunks(840)), "one pair of blocks is one doubling");
    }

    #[test]
    fn other_sizes_old_claims_and_too_large_ones_forecast_nothing() {
        for (claimed, freed, later_ns, bytes_max) in [
            (1000, 900, 1, Some(1 << 40)),
            (1000, 1000, 1, Some(1 << 40)),
            (1000, 300, 1, Some(1 << 40)),
            (1000, 500, DOUBLING_NS_MAX + 1, Some(1 << 40)),
            (1000, 500, 1, Some(2000 << 20)),
            (1000, 500, 1, None),
        ] {
            let doublings = doublings(bytes_max);
            doublings.note_claim(Nanos(5), Chunks(claimed));
            assert!(!doublings.note_release(Nanos(5 + later_ns), Chunks(freed)), "{claimed} {freed} {bytes_max:?}");
            assert_eq!(doublings.take(), None);
        }
    }
}
