//! How much free memory is kept faulted ahead of need: by how fast the program has lately taken memory that was cold.
//! Pure. Called by `governor::worker`.
//!
//! Invariant: never more than the option allows, or an eighth of what the program has taken, and nothing for one that
//! does not grow. The target follows growth up at once and falls by half each second; between the low and the high
//! watermark nothing is done.

use crate::limits::CHUNK_BYTES;
use crate::units::Nanos;

/// For how long the reserve should last at the rate of growth that was seen, in nanoseconds.
const HORIZON_NS: u64 = 100_000_000;
/// Time in which the target falls to half when growth has stopped, in nanoseconds.
const HALVED_NS: u64 = 1_000_000_000;
/// Shortest time between two looks that says something of a rate, in nanoseconds.
const LOOK_NS_MIN: u64 = 5_000_000;
/// The reserve is at most this part of what the program has taken: a small one that grows for some milliseconds, as all
/// do at first, is not made twice as large.
const PART_OF_CLAIMED: u64 = 8;

/// The reserve's watermarks.
pub(crate) struct Reserve {
    bytes_max: usize,
    target: usize,
    claimed: u64,
    at: Nanos,
    halved_at: Nanos,
}

impl Reserve {
    /// No growth seen yet; at most `bytes_max`.
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Reserve { bytes_max, target: 0, claimed: 0, at: Nanos(0), halved_at: Nanos(0) }
    }

    /// Learns that until `now` the program has taken `claimed` cold bytes in its life.
    pub(crate) fn observe(&mut self, now: Nanos, claimed: u64) {
        let time = now.since(self.at);
        if time < Nanos(LOOK_NS_MIN) {
            return;
        }
        let grown = claimed.saturating_sub(self.claimed);
        let wanted = u128::from(grown) * u128::from(HORIZON_NS) / u128::from(time.0);
        let wanted = wanted.min(u128::from(claimed / PART_OF_CLAIMED));
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.bytes_max) / CHUNK_BYTES * CHUNK_BYTES;
        self.claimed = claimed;
        self.at = now;
        if wanted >= self.target {
            self.target = wanted;
            self.halved_at = now;
        }
        while self.target > 0 && now.since(self.halved_at) >= Nanos(HALVED_NS) {
            self.target = self.target / 2 / CHUNK_BYTES * CHUNK_BYTES;
            self.halved_at = Nanos(self.halved_at.0 + HALVED_NS);
        }
    }

    /// The high watermark: what should be there, in bytes.
    pub(crate) fn high_bytes(&self) -> usize {
        self.target
    }

    /// The low watermark: refilling begins below it.
    pub(crate) fn low_bytes(&self) -> usize {
        self.target / 2
    }

    /// Forgets the target, under pressure.
    pub(crate) fn give_up(&mut self) {
        self.target = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn at(millis: u64) -> Nanos {
        Nanos::from_millis(1_000_000 + millis)
    }

    /// A reserve that has looked once.
    fn reserve() -> Reserve {
        let mut reserve = Reserve::new(64 * MIB);
        reserve.observe(at(0), 0);
        reserve
    }

    #[test]
    fn a_program_that_does_not_grow_has_none() {
        let mut reserve = reserve();
        for second in 1..10 {
            reserve.observe(at(second * 1_000), 0);
        }
        assert_eq!(reserve.high_bytes(), 0);
    }

    #[test]
    fn the_target_is_a_tenth_of_a_second_of_growth_up_to_the_most() {
        for (claimed_mib, wanted_mib) in [(1, 0), (100, 10), (555, 54), (5_000, 64)] {
            let mut reserve = reserve();
            reserve.observe(at(1_000), claimed_mib << 20);
            assert_eq!(reserve.high_bytes() / MIB, wanted_mib, "{claimed_mib} MiB in a second");
            assert!(reserve.low_bytes() <= reserve.high_bytes() / 2);
        }
    }

    #[test]
    fn it_is_an_eighth_of_what_was_taken_at_most() {
        for (claimed_mib, wanted_mib) in [(4, 0), (15, 0), (16, 2), (100, 12)] {
            let mut reserve = reserve();
            reserve.observe(at(10), claimed_mib << 20);
            assert_eq!(reserve.high_bytes() / MIB, wanted_mib, "{claimed_mib} MiB in 10 ms");
        }
    }

    #[test]
    fn it_falls_by_half_each_second_without_growth() {
        let mut reserve = reserve();
        reserve.observe(at(10), 600 << 20);
        let mut before = reserve.high_bytes();
        assert_eq!(before, 64 * MIB);
        for second in 1..=6 {
            reserve.observe(at(10 + second * 1_000), 600 << 20);
            assert!(reserve.high_bytes() <= before / 2, "after {second} s");
            before = reserve.high_bytes();
        }
        assert_eq!(before, 0);
    }

    #[test]
    fn looks_in_quick_succession_say_nothing() {
        let mut reserve = reserve();
        reserve.observe(at(1), 64 << 20);
        assert_eq!(reserve.high_bytes(), 0);
    }
}
