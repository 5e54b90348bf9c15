//! The clock that a child, the harness and the kernel's tracepoints have in common.
//!
//! `std::time::Instant` reads the same clock but does not tell its value, which other processes need.

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn now_ns() -> u64 {
    // It fails only for a clock that the kernel does not know, and this one it always does.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| (time.tv_sec() as u64).saturating_mul(1_000_000_000) + time.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_forward() {
        let first = now_ns();
        assert!(first > 0 && now_ns() >= first);
    }
}
