//! The clock that intervals are told in: CLOCK_MONOTONIC, which the kernel's events use as well.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of CLOCK_MONOTONIC.
///
/// # Panics
/// Never on Linux: the clock exists.
#[must_use]
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}
