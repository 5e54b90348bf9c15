//! Systems that are not Linux: the same surface over [`std::alloc::System`], with every promise off.

extern crate std;

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use core::time::Duration;
use std::alloc::System;

use crate::choices::{Commit, Governor};
use crate::stats::{BufferTooSmall, PrewarmProgress, Stats};
use crate::text::Text;

/// The allocator of the system. This crate's own needs Linux; here it only forwards.
#[derive(Clone, Copy, Debug, Default)]
pub struct Antifreeze;

impl Antifreeze {
    /// The allocator.
    pub const fn new() -> Self {
        Antifreeze
    }

    /// Without effect here.
    #[must_use]
    pub const fn commit(self, _commit: Commit) -> Self {
        self
    }

    /// Without effect here.
    #[must_use]
    pub const fn governor(self, _governor: Governor) -> Self {
        self
    }

    /// Without effect here.
    #[must_use]
    pub const fn hold_budget(self, _hold_budget: Duration) -> Self {
        self
    }

    /// Without effect here.
    #[must_use]
    pub const fn pause(self, _pause: Duration) -> Self {
        self
    }

    /// Without effect here.
    #[must_use]
    pub const fn linger(self, _linger: Duration) -> Self {
        self
    }

    /// Without effect here.
    #[must_use]
    pub const fn decay(self, _decay: Option<Duration>) -> Self {
        self
    }

    /// Without effect here.
    #[must_use]
    pub const fn purge_rate(self, _purge_rate: Option<u64>) -> Self {
        self
    }

    /// Without effect here.
    #[must_use]
    pub const fn purge_calls(self, _purge_calls: Option<u64>) -> Self {
        self
    }

    /// Without effect here.
    #[must_use]
    pub const fn warm_reserve(self, _warm_reserve: Option<usize>) -> Self {
        self
    }

    /// Without effect here.
    #[must_use]
    pub const fn prewarm_hold(self, _prewarm_hold: Option<Duration>) -> Self {
        self
    }

    /// Without effect here.
    #[must_use]
    pub const fn forecast(self, _forecast: Option<usize>) -> Self {
        self
    }

    /// Without effect here.
    #[must_use]
    pub const fn pressure(self, _pressure: bool) -> Self {
        self
    }

    /// Without effect here.
    #[must_use]
    pub const fn hugetlb(self, _hugetlb: Option<usize>) -> Self {
        self
    }

    /// Without effect here.
    #[must_use]
    pub const fn reservation(self, _reservation: Option<usize>) -> Self {
        self
    }
}

// SAFETY: every method forwards to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Antifreeze {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: forwarded as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: forwarded as it came.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: forwarded as it came.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: forwarded as it came.
        unsafe { System.realloc(block, layout, bytes) }
    }
}

/// All zero: nothing is counted here.
pub fn stats() -> Stats {
    Stats::default()
}

/// As [`stats`].
pub fn counters() -> Stats {
    Stats::default()
}

/// Without effect here.
pub fn purge(_bytes: usize) {}

/// Nothing to do here.
pub fn tick() -> Option<Duration> {
    None
}

/// Empty: nothing can be chosen here.
/// # Errors
/// None here; on Linux the buffer may be too small.
pub fn options(_buffer: &mut [u8]) -> Result<&str, BufferTooSmall> {
    Ok("")
}

/// One line: nothing of the allocator is at work here.
/// # Errors
/// The buffer is too small.
pub fn explain(buffer: &mut [u8]) -> Result<&str, BufferTooSmall> {
    let mut text = Text::new(buffer);
    text.str(
        "antifreeze needs Linux: the system's allocator serves all requests here, and promises P1 to P6 are off\n",
    );
    text.finish().map_err(|bytes_needed| BufferTooSmall { bytes_needed })
}

/// A request for warm memory; refused here.
#[derive(Debug)]
pub struct Prewarm {
    wanted_bytes: u64,
}

/// Refused here.
pub fn prewarm(bytes: usize) -> Prewarm {
    Prewarm { wanted_bytes: bytes as u64 }
}

/// Refused here.
pub fn prewarm_blocks(bytes: usize) -> Prewarm {
    prewarm(bytes)
}

impl Prewarm {
    /// Refused here.
    pub fn progress(&self) -> PrewarmProgress {
        PrewarmProgress::refused(self.wanted_bytes)
    }

    /// Does not wait here.
    pub fn wait(&self, _time: Duration) -> PrewarmProgress {
        self.progress()
    }

    /// Without effect here.
    pub fn cancel(&self) {}
}

/// Zero: the system does not say.
/// # Safety
/// None here; on Linux `block` must be live.
pub unsafe fn usable_size(_block: NonNull<u8>) -> usize {
    0
}
