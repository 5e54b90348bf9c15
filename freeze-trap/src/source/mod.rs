//! Where intervals come from: BPF programs, perf events, or samples of `/proc`. Called by `recorder`.
//!
//! Invariant: a source is armed before anything happens; taking from it, and asking what is not over, touch the watched
//! processes in no way.

pub mod bpf;
mod btf;
pub mod choose;
pub mod perf;
pub mod permits;
pub mod sampling;
mod wire;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Interval;
use crate::stack::Stacks;
use crate::symbols::MapsCache;

/// Bounds below which an interval is counted and not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// For time off the processor.
    pub off_cpu: Duration,
    /// For holds of mmap_lock, and waits for it.
    pub lock: Duration,
}

impl Default for Bounds {
    /// A millisecond; a tenth of one.
    fn default() -> Self {
        Bounds { off_cpu: Duration::from_millis(1), lock: Duration::from_micros(100) }
    }
}

/// Totals since the source was armed, those below the bounds included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Holds of mmap_lock, for reading and for writing, by the logarithm of their nanoseconds to the base 2.
    pub holds: [Vec<u64>; 2],
    /// Waits for mmap_lock, likewise.
    pub waits: [Vec<u64>; 2],
    /// How long mmap_lock was held, for reading and for writing, in nanoseconds.
    pub hold_ns: [u64; 2],
    /// How long threads waited for it, likewise.
    pub wait_ns: [u64; 2],
    /// How often a thread came back to a processor.
    pub switches: u64,
    /// How long threads were off the processor in nanoseconds: runnable, interruptible, uninterruptible, other.
    pub off_cpu_ns: [u64; 4],
}

/// What a source could not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Intervals that there was no room for.
    pub intervals: u64,
    /// How often a thread was not watched because there are too many; in a capture, with the threads that a source left
    /// out all the time.
    pub threads: u64,
}

/// Something that sees intervals of the watched processes.
pub trait Source {
    /// What it is called in a report.
    fn name(&self) -> &'static str;

    /// Says which processes are watched from now on.
    /// # Errors
    /// There are too many, or the kernel refuses.
    fn watch(&mut self, pids: &[i32]) -> anyhow::Result<()>;

    /// Says where code is mapped, now and then: a source that sees memory of stacks finds callers by it that no frame
    /// pointer leads to. Takes microseconds, and next to nothing if nothing has changed.
    fn learn(&mut self, _maps: &MapsCache) {}

    /// Gives what has ended since the last call, in the order in which it ended, more or less.
    /// # Errors
    /// The kernel's buffers cannot be read.
    fn take(&mut self, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) -> anyhow::Result<()>;

    /// Gives what has begun and is not over.
    /// # Errors
    /// The kernel's maps cannot be read.
    fn unfinished(&mut self, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) -> anyhow::Result<()>;

    /// Totals since it was armed; `None` if it does not count.
    /// # Errors
    /// The kernel's maps cannot be read.
    fn totals(&mut self) -> anyhow::Result<Option<Totals>>;

    /// What was lost since it was armed.
    /// # Errors
    /// The kernel's maps cannot be read.
    fn losses(&mut self) -> anyhow::Result<Losses>;

    /// How many threads are left out now, as there are too many, each once: those that [`Losses::threads`] does not
    /// count, as nothing happens that would tell of them. May go up and down.
    fn unwatched_threads(&mut self) -> u64 {
        0
    }
}
