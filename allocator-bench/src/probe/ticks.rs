//! The processor's clock: its time-stamp counter on x86-64, the kernel's monotonic clock in nanoseconds elsewhere.

/// The time before what is to be measured.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn start() -> u64 {
    use std::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: every x86-64 processor has both instructions. The first fence keeps earlier work out of the measurement;
    // the second has the counter read before what is measured begins, which could hide in its shadow otherwise.
    unsafe {
        _mm_lfence();
        let ticks = _rdtsc();
        _mm_lfence();
        ticks
    }
}

/// The time after what was to be measured.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn end() -> u64 {
    use std::arch::x86_64::{__rdtscp, _mm_lfence};
    let mut processor = 0;
    // SAFETY: every x86-64 processor that Linux gives a stable counter has the instruction. It waits for what was to be
    // measured, and the fence keeps later work out.
    unsafe {
        let ticks = __rdtscp(&raw mut processor);
        _mm_lfence();
        ticks
    }
}

/// The time before what is to be measured.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(super) fn start() -> u64 {
    now_ns()
}

/// The time after what was to be measured.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(super) fn end() -> u64 {
    now_ns()
}

#[cfg(not(target_arch = "x86_64"))]
fn now_ns() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    // Without the clock every duration is zero.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}
