//! A global allocator around another one that times each of its calls. The `probe-*` binaries run under it; the
//! `bench-*` binaries, whose times count, do not.
//!
//! Nothing in here allocates: the clock is the processor's, the histograms are static.

mod histogram;
mod shards;
mod ticks;

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::latency::{Call, Latencies, Latency};
use histogram::Summary;

/// Whether calls are timed now.
static RECORDING: AtomicBool = AtomicBool::new(false);

/// How often nothing is timed to learn what timing takes.
const EMPTY_MEASUREMENTS: usize = 1001;

/// The least time over which the rate of the clock is measured.
const RATE_TIME: Duration = Duration::from_millis(20);

/// The allocator inside, with each call timed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probe<A>(A);

impl<A> Probe<A> {
    /// Wraps an allocator.
    pub const fn new(inner: A) -> Self {
        Self(inner)
    }
}

// SAFETY: every call is handed on unchanged, and its result too.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Probe<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract, which is that of the allocator inside.
        timed(Call::Alloc, || unsafe { self.0.alloc(layout) })
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        timed(Call::AllocZeroed, || unsafe { self.0.alloc_zeroed(layout) })
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // SAFETY: as for `alloc`.
        timed(Call::Realloc, || unsafe { self.0.realloc(block, layout, new_bytes) })
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as for `alloc`.
        timed(Call::Dealloc, || unsafe { self.0.dealloc(block, layout) });
    }
}

#[inline]
fn timed<T>(call: Call, work: impl FnOnce() -> T) -> T {
    // Relaxed: a call that begins while the flag changes may be timed or not.
    if !RECORDING.load(Ordering::Relaxed) {
        return work();
    }
    let start = ticks::start();
    let result = work();
    let ticks = ticks::end().saturating_sub(start);
    shards::record(call, ticks);
    result
}

/// Times every call while `work` runs, and gives what it returned with the durations. What an empty measurement takes
/// is taken off each.
pub fn record<T>(work: impl FnOnce() -> T) -> (T, Latencies) {
    let floor_ticks = empty_ticks();
    let (start, start_ticks) = (Instant::now(), ticks::start());
    // Relaxed: threads that `work` starts see it by their start, others may miss the first calls.
    RECORDING.store(true, Ordering::Relaxed);
    let result = work();
    // Relaxed: the threads of `work` have been joined.
    RECORDING.store(false, Ordering::Relaxed);
    while start.elapsed() < RATE_TIME {
        std::hint::spin_loop();
    }
    let ns_per_tick = start.elapsed().as_nanos() as f64 / ticks::end().saturating_sub(start_ticks).max(1) as f64;
    let in_ns = |ticks: u64| (ticks.saturating_sub(floor_ticks) as f64 * ns_per_tick).round() as u64;
    (result, Call::ALL.map(|call| latency(&shards::summary(call), in_ns)))
}

fn latency(summary: &Summary, in_ns: impl Fn(u64) -> u64) -> Latency {
    Latency {
        count: summary.count(),
        p50_ns: in_ns(summary.quantile(0.5)),
        p99_ns: in_ns(summary.quantile(0.99)),
        p999_ns: in_ns(summary.quantile(0.999)),
        max_ns: in_ns(summary.max()),
    }
}

/// What timing nothing takes, in the median.
fn empty_ticks() -> u64 {
    let mut taken = [0; EMPTY_MEASUREMENTS];
    for ticks in &mut taken {
        let start = ticks::start();
        *ticks = ticks::end().saturating_sub(start);
    }
    taken.sort_unstable();
    taken[EMPTY_MEASUREMENTS / 2]
}

#[cfg(test)]
mod tests {
    use std::alloc::{GlobalAlloc, Layout, System};

    use super::{Probe, record};

    #[test]
    fn each_call_is_counted_under_its_kind_while_recording() {
        let probe = Probe::new(System);
        let layout = Layout::from_size_align(64, 8).expect("a valid layout");
        // SAFETY: the layout has a size, and each block is resized and freed with the layout that it has.
        let round = || unsafe {
            let block = probe.realloc(probe.alloc(layout), layout, 128);
            probe.dealloc(block, Layout::from_size_align_unchecked(128, 8));
            probe.dealloc(probe.alloc_zeroed(layout), layout);
        };
        round();
        let ((), latencies) = record(|| (0..1000).for_each(|_| round()));
        round();
        assert_eq!(latencies.map(|latency| latency.count), [1000, 1000, 1000, 2000]);
        for latency in latencies {
            assert!(latency.p50_ns <= latency.p99_ns && latency.p99_ns <= latency.p999_ns, "{latency:?}");
            assert!(latency.p999_ns <= latency.max_ns && latency.max_ns > 0, "{latency:?}");
        }
    }
}
