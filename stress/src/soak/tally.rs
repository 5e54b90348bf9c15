//! What the threads have done, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A step was begun.
    Step,
    /// A block was allocated.
    Allocation,
    /// A block was freed.
    Free,
    /// The size of a block was changed.
    Realloc,
    /// A block was freed by a thread that was sent it.
    RemoteFree,
    /// A child was forked.
    Fork,
    /// A thread was started.
    Thread,
    /// A block, or a change of its size, was refused, and that had a reason.
    Refusal,
    /// A thread or child could not be started.
    StartRefusal,
}

const EVENTS: usize = Event::StartRefusal as usize + 1;

/// Counters that one thread at a time writes and anybody reads.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; EVENTS]);

impl Tally {
    /// Counts one event.
    pub fn count(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        let of = |event: Event| self.0[event as usize].load(Ordering::Relaxed);
        Counts {
            steps: of(Event::Step),
            allocations: of(Event::Allocation),
            frees: of(Event::Free),
            reallocs: of(Event::Realloc),
            remote_frees: of(Event::RemoteFree),
            forks: of(Event::Fork),
            threads: of(Event::Thread),
            refusals: of(Event::Refusal),
            start_refusals: of(Event::StartRefusal),
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Steps of all threads.
    pub steps: u64,
    /// Blocks allocated.
    pub allocations: u64,
    /// Blocks freed.
    pub frees: u64,
    /// Changes of a block's size.
    pub reallocs: u64,
    /// Blocks freed by another thread than held them.
    pub remote_frees: u64,
    /// Children forked.
    pub forks: u64,
    /// Threads started.
    pub threads: u64,
    /// Requests for memory that were refused, with reason.
    pub refusals: u64,
    /// Threads and children that could not be started.
    pub start_refusals: u64,
}

impl Counts {
    /// Both together.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            steps: self.steps + other.steps,
            allocations: self.allocations + other.allocations,
            frees: self.frees + other.frees,
            reallocs: self.reallocs + other.reallocs,
            remote_frees: self.remote_frees + other.remote_frees,
            forks: self.forks + other.forks,
            threads: self.threads + other.threads,
            refusals: self.refusals + other.refusals,
            start_refusals: self.start_refusals + other.start_refusals,
        }
    }
}
