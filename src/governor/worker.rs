//! The background thread: when to purge and on which thread. The only caller of purges. Started by `arena` when the
//! first range is retired.
//!
//! Invariant: sleeps without a time-out while nothing is retired; a range that was queued before the doorbell rang is
//! seen. Each call covers one piece inside one mapping and is followed by a pause, because the lock it takes can be won
//! back by a tight loop for up to 4 ms.

use core::ffi::c_void;
use core::ptr::NonNull;

use super::step::Step;
use crate::limits::PURGE_PAUSE_NS;
use crate::lockfree::doorbell::{ASLEEP, Doorbell, Ring};
use crate::os::{Kernel, Os};
use crate::units::Nanos;

/// How long the worker waits after the kernel refused a purge, in nanoseconds: the reason is seldom gone at once.
/// Doubled with each refusal in a row, up to about a minute.
const REFUSED_PAUSE_NS: u64 = 1_000_000_000;
const REFUSED_DOUBLINGS_MAX: u32 = 6;

/// What the worker remembers from call to call.
struct Memory {
    step: Step,
    /// Refusals in a row.
    refused: u32,
}

/// A range that the worker may purge: nobody else uses it until [`Source::finish`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) base: NonNull<u8>,
    pub(crate) bytes: usize,
    /// Whether hugepages should back it.
    pub(crate) huge: bool,
}

/// What there is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// Purge this.
    Piece(Piece),
    /// Nothing is due for this long.
    Wait(Nanos),
    /// Nothing is retired.
    Nothing,
}

/// Where retired ranges come from.
pub(crate) trait Source {
    /// The next piece that is due at `now`, of at most `huge_bytes_max` if hugepages back it.
    fn next(&self, now: Nanos, huge_bytes_max: usize) -> Next;
    /// Takes back the piece that the last `next` gave.
    fn finish(&self, purged: bool);
}

/// The governor's side that other threads see.
pub(crate) struct Governor {
    doorbell: Doorbell,
}

impl Governor {
    /// Not started.
    pub(crate) const fn new(doorbell: Doorbell) -> Self {
        Governor { doorbell }
    }

    /// Says that a range was queued: starts the worker by `start`, or wakes it, if need be. At most one system call
    /// here, none while the worker is awake.
    pub(crate) fn notify<O: Os>(&self, kernel: &Kernel<O>, start: impl FnOnce() -> bool) {
        match self.doorbell.ring() {
            Ring::Heard => {}
            Ring::Wake => kernel.os().wake(self.doorbell.word()),
            Ring::Start => {
                if !start() {
                    // Without threads memory is kept until the next range is retired, when this is tried again.
                    self.doorbell.reset();
                }
            }
        }
    }

    /// Forked child: the worker is gone; the next retired range starts a new one.
    pub(crate) fn reset(&self) {
        self.doorbell.reset();
    }

    /// The life of the worker.
    pub(crate) fn run<O: Os>(&self, kernel: &Kernel<O>, source: &impl Source) -> ! {
        kernel.os().name_thread();
        let mut memory = Memory { step: Step::new(), refused: 0 };
        loop {
            match source.next(kernel.os().coarse_now(), memory.step.bytes()) {
                Next::Piece(piece) => Self::purge(kernel, source, piece, &mut memory),
                Next::Wait(time) => kernel.os().sleep(time),
                Next::Nothing => {
                    self.doorbell.fall_asleep();
                    // Once more: a range queued before the worker said that it sleeps rang at one awake.
                    match source.next(kernel.os().coarse_now(), memory.step.bytes()) {
                        Next::Nothing => kernel.os().wait(self.doorbell.word(), ASLEEP),
                        Next::Wait(time) => {
                            self.doorbell.stay_awake();
                            kernel.os().sleep(time);
                        }
                        Next::Piece(piece) => {
                            self.doorbell.stay_awake();
                            Self::purge(kernel, source, piece, &mut memory);
                        }
                    }
                }
            }
        }
    }

    fn purge<O: Os>(kernel: &Kernel<O>, source: &impl Source, piece: Piece, memory: &mut Memory) {
        let start = kernel.os().now();
        // SAFETY: the source has taken the piece out of use until `finish`, and it lies inside one mapping.
        let purged = unsafe { kernel.purge(piece.base, piece.bytes) }.is_ok();
        let time = kernel.os().now().since(start);
        if piece.huge && purged {
            memory.step.learn(piece.bytes, time);
        }
        source.finish(purged);
        let pause_ns = if purged {
            memory.refused = 0;
            PURGE_PAUSE_NS
        } else {
            memory.refused = (memory.refused + 1).min(REFUSED_DOUBLINGS_MAX);
            REFUSED_PAUSE_NS << (memory.refused - 1)
        };
        kernel.os().sleep(Nanos(pause_ns));
    }

    /// Drains what is due on the calling thread, without pauses; for tests and programs that lend a thread.
    #[cfg(test)]
    pub(crate) fn drain_due<O: Os>(&self, kernel: &Kernel<O>, source: &impl Source) -> usize {
        let mut bytes = 0;
        let mut memory = Memory { step: Step::new(), refused: 0 };
        while let Next::Piece(piece) = source.next(kernel.os().coarse_now(), memory.step.bytes()) {
            let before = kernel.counters().snapshot().purge.errors();
            Self::purge(kernel, source, piece, &mut memory);
            if kernel.counters().snapshot().purge.errors() > before {
                break;
            }
            bytes += piece.bytes;
        }
        bytes
    }
}

/// What `pthread_create` wants a thread's main to look like.
pub(crate) type ThreadMain = extern "C" fn(*mut c_void) -> *mut c_void;
