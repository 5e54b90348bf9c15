//! Hand-made intervals and stacks for the tests of this module.

use lock_trace::Mode;

use super::Observed;
use crate::event::{Call, Interval, Kind, Sleep, Thread, Waker};
use crate::freeze::{Frame, Window};
use crate::stack::{StackId, StackPair};
use crate::symbols::NamedStacks;

/// A millisecond.
pub(super) const MS: u64 = 1_000_000;
/// The watched process.
pub(super) const PID: i32 = 1;

/// `function@module; function@module`, the leaf first; those of the kernel have no module.
pub(super) fn frames(text: &str) -> Vec<Frame> {
    let one = |part: &str| {
        let (function, module) = part.rsplit_once('@').unwrap_or((part, ""));
        Frame { function: function.to_owned(), place: None, module: module.to_owned(), inlined: false }
    };
    text.split(';').map(str::trim).filter(|part| !part.is_empty()).map(one).collect()
}

pub(super) fn call(number: i64, arguments: &[u64]) -> Option<Call> {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    Some(Call { number: number as u64, arguments: all })
}

/// A thread of the watched process sleeps, without a stack.
pub(super) fn interval(tid: i32, start_ns: u64, end_ns: u64) -> Interval {
    Interval {
        kind: Kind::OffCpu { sleep: Sleep::Interruptible, waker: None },
        thread: thread(tid),
        owner_pid: PID,
        start_ns,
        end_ns,
        unfinished: false,
        call: None,
        stack: StackPair::default(),
    }
}

/// Threads have names by their numbers, as in the sentences below.
pub(super) fn thread(tid: i32) -> Thread {
    let name = match tid {
        1 => "main",
        41 => "reload",
        _ => "worker",
    };
    Thread { pid: PID, tid, name: name.to_owned() }
}

/// What was seen: ten seconds of history, and a freeze from second 10 to second 13 unless said otherwise.
pub(super) struct Sample {
    pub(super) intervals: Vec<Interval>,
    pub(super) stacks: NamedStacks,
    pub(super) window: Window,
    pub(super) throttled_ns: Option<u64>,
    pub(super) calm_ns: u64,
    next: u32,
}

impl Sample {
    pub(super) fn new() -> Sample {
        let window = Window {
            start_ns: 0,
            frozen_ns: 10_000 * MS,
            trigger_ns: 10_500 * MS,
            recovered_ns: Some(13_000 * MS),
            end_ns: 25_000 * MS,
            trigger_wall: String::new(),
        };
        Sample { intervals: Vec::new(), stacks: NamedStacks::new(), window, throttled_ns: None, calm_ns: 0, next: 0 }
    }

    /// A stack of its own.
    pub(super) fn stack(&mut self, kernel: &str, user: &str) -> StackPair {
        let mut one = |text: &str| {
            let id = StackId(self.next);
            self.next += 1;
            self.stacks.insert(id, frames(text));
            Some(id)
        };
        StackPair { kernel: one(kernel), user: one(user) }
    }

    /// Adds an interval between two times in milliseconds; gives it for changes.
    pub(super) fn add(&mut self, tid: i32, kind: Kind, ms: (u64, u64), stack: StackPair) -> &mut Interval {
        let one = Interval { kind, stack, ..interval(tid, ms.0 * MS, ms.1 * MS) };
        self.intervals.push(one);
        self.intervals.last_mut().expect("it was just added")
    }

    pub(super) fn sleep(&mut self, tid: i32, sleep: Sleep, ms: (u64, u64), stack: StackPair) -> &mut Interval {
        self.add(tid, Kind::OffCpu { sleep, waker: None }, ms, stack)
    }

    /// A sleep in futex(2) on the lock at an address, ended by another thread.
    pub(super) fn lock(&mut self, tid: i32, ms: (u64, u64), stack: StackPair, waker: Option<(i32, StackPair)>) {
        let waker = waker.map(|(tid, stack)| Waker { thread: thread(tid), at_ns: ms.1 * MS, stack });
        let one = self.add(tid, Kind::OffCpu { sleep: Sleep::Interruptible, waker }, ms, stack);
        one.call = call(libc::SYS_futex, &[0x1000]);
    }

    pub(super) fn hold(&mut self, tid: i32, mode: Mode, ms: (u64, u64), stack: StackPair) -> &mut Interval {
        self.add(tid, Kind::Hold { mode }, ms, stack)
    }

    pub(super) fn wait(&mut self, tid: i32, mode: Mode, ms: (u64, u64), stack: StackPair) -> &mut Interval {
        self.add(tid, Kind::Wait { mode }, ms, stack)
    }

    pub(super) fn observed(&self) -> Observed<'_> {
        Observed {
            intervals: &self.intervals,
            stacks: &self.stacks,
            window: &self.window,
            calm_ns: self.calm_ns,
            totals: None,
            throttled_ns: self.throttled_ns,
            cpus: 2,
            running: &[],
        }
    }
}
