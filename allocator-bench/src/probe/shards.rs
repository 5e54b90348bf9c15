//! Histograms for each kind of call, in shards, so that threads seldom write to the same words.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::histogram::{Histogram, Summary};
use crate::latency::Call;

const SHARDS: usize = 64;

static HISTOGRAMS: [[Histogram; Call::ALL.len()]; SHARDS] =
    [const { [const { Histogram::new() }; Call::ALL.len()] }; SHARDS];

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

/// A thread that has no shard yet.
const NONE: usize = usize::MAX;

thread_local! {
    // Constant and without a destructor, so that the allocator may use it at any time in a thread's life.
    static OWN_SHARD: Cell<usize> = const { Cell::new(NONE) };
}

/// Counts one call that took so many ticks.
#[inline]
pub(super) fn record(call: Call, ticks: u64) {
    let shard = OWN_SHARD.with(|own| {
        if own.get() == NONE {
            // Relaxed: only the number matters. Threads share shards when there are more of them.
            own.set(NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        own.get()
    });
    HISTOGRAMS[shard][call as usize].record(ticks);
}

/// All calls of one kind so far.
pub(super) fn summary(call: Call) -> Summary {
    Summary::of(HISTOGRAMS.iter().map(|shard| &shard[call as usize]))
}
