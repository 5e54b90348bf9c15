//! A freeze, explained: what every output is made from, and what is kept on disk. Made by `analysis`, read by `report`.
//!
//! All times are nanoseconds of CLOCK_MONOTONIC; [`Window::trigger_wall`] ties them to the clock on the wall.

use lock_trace::Mode;
use serde::{Deserialize, Serialize};

use crate::event::{Sleep, Thread};
use crate::source::Losses;

/// One captured freeze.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Freeze {
    /// The answer in one sentence, without a full stop.
    pub sentence: String,
    /// What the sentence says, by its kind.
    pub cause: Cause,
    /// What was watched.
    pub target: Target,
    /// What set the trap off.
    pub trigger: Trigger,
    /// When.
    pub window: Window,
    /// Threads that were blocked in the frozen time, the longest first.
    pub blocked: Vec<Blocked>,
    /// Who was in whose way, the longest overlap first.
    pub pairs: Vec<Pair>,
    /// Who had what others wanted, the one that cost the most first: in all, the pairs included that are left out. None
    /// in a capture of a version that did not write them.
    #[serde(default)]
    pub holders: Vec<Holder>,
    /// How many of these there was no room for.
    #[serde(default)]
    pub left_out: LeftOut,
    /// mmap_lock in the window, if the source counts.
    pub lock: Option<LockTimes>,
    /// Time off the processor in the window by stack: those where threads were blocked, then the others, each the
    /// longest first.
    pub off_cpu: Vec<OffCpuStack>,
    /// The longest intervals of the window, in the order of their starts.
    pub intervals: Vec<Span>,
    /// The processes' memory when the trap went off and when the window ended, from files that take no lock.
    pub memory: Vec<MemoryPoint>,
    /// CPU time that the cgroup was refused in the frozen time, if it has a quota.
    pub throttled_ns: Option<u64>,
    /// What the probes saw, in and before the window.
    pub probes: Vec<ProbeLine>,
    /// How it was seen, and what was not.
    pub seen: Seen,
    /// The machine.
    pub machine: Machine,
}

/// How many of many there was no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Of [`Freeze::blocked`].
    pub blocked: u64,
    /// Of [`Freeze::pairs`], at least: of many waits, and of many that had a lock in turn, only the longest times are
    /// looked at pair by pair.
    pub pairs: u64,
    /// Of [`Freeze::holders`].
    #[serde(default)]
    pub holders: u64,
}

/// What kind of thing stood in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// mmap_lock: one thread held it, others waited.
    MmapLock,
    /// A lock in user space: one thread had it, others slept in futex(2).
    UserLock,
    /// Disk or network file systems: threads slept until a page or a write was done.
    Disk,
    /// The cgroup had used up its share of processor time.
    Throttled,
    /// Threads wanted to run and others had the processors.
    Starved,
    /// Another lock or resource of the kernel.
    Kernel,
    /// Threads were on the processor all the time: a long computation, or a spinning lock.
    Busy,
    /// The threads slept as they do when nothing is to be done: the requests did not reach them.
    Idle,
    /// Nothing of that can be told from what was seen.
    Unknown,
}

/// What was watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// As on the command line: `pid 17`, `unit nginx.service`.
    pub name: String,
    /// Its processes at the time, with their names.
    pub processes: Vec<(i32, String)>,
}

/// What set the trap off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// The probe, as on the command line.
    pub probe: String,
    /// What it found, such as `status 503`.
    pub found: String,
    /// How many failures in a row it took.
    pub failures: u32,
}

/// When.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The oldest interval that the flight recorder had.
    pub start_ns: u64,
    /// The first of the failures that set the trap off began: the service is taken to be frozen from here.
    pub frozen_ns: u64,
    /// The trap went off.
    pub trigger_ns: u64,
    /// The first success after that; `None` if there was none in the window.
    pub recovered_ns: Option<u64>,
    /// The window ended.
    pub end_ns: u64,
    /// `trigger_ns` as the time of day, RFC 3339 in UTC.
    pub trigger_wall: String,
}

impl Window {
    /// The end of the time that counts as frozen.
    #[must_use]
    pub fn frozen_end_ns(&self) -> u64 {
        self.recovered_ns.unwrap_or(self.end_ns)
    }
}

/// One frame of a stack, the innermost of those that were inlined into each other first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// The function, demangled; an address in hexadecimal digits where it is not known.
    pub function: String,
    /// File and line, if they are known.
    pub place: Option<String>,
    /// The program or library, by its file name; empty for the kernel.
    pub module: String,
    /// It was inlined into the next frame.
    pub inlined: bool,
}

/// A stack with names: the program's part, then the kernel's, each the leaf first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stack {
    /// In the kernel.
    pub kernel: Vec<Frame>,
    /// In the program.
    pub user: Vec<Frame>,
}

/// A thread that was blocked in the frozen time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blocked {
    /// The thread.
    pub thread: Thread,
    /// On what.
    pub on: Cause,
    /// For how long in all, within the frozen time.
    pub total_ns: u64,
    /// The longest single time.
    pub longest_ns: u64,
    /// It was still blocked when the window ended.
    pub unfinished: bool,
    /// Where it was for the longest time.
    pub stack: Stack,
}

/// One thread in the way of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The thread that had what the other one wanted.
    pub holder: Thread,
    /// Its process is not one of the watched: a monitor that reads `/proc/PID/smaps`, a debugger.
    pub outsider: bool,
    /// The thread that waited.
    pub waiter: Thread,
    /// What it was about.
    pub on: Cause,
    /// How the holder held it, for mmap_lock.
    pub mode: Option<Mode>,
    /// What the holder was doing, such as `munmap of 1.7 GB`.
    pub doing: String,
    /// The first function of the program itself on the holder's stack.
    pub called_from: Option<String>,
    /// How long the one held while the other waited.
    pub overlap_ns: u64,
    /// The holder's stack.
    pub stack: Stack,
}

/// A thread that had what others wanted, with all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// The one of its pairs that overlaps the longest.
    pub longest: Pair,
    /// How many threads waited for it.
    pub waiters: u64,
    /// How long they waited for it, each for itself, in all.
    pub overlap_ns: u64,
    /// Not all were looked at one by one: it may have been more of them, and for longer.
    pub at_least: bool,
}

/// Durations around mmap_lock in the window, of all threads, by the logarithm of their nanoseconds to the base 2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LockTimes {
    /// Holds for reading.
    pub read_holds: Vec<u64>,
    /// Holds for writing.
    pub write_holds: Vec<u64>,
    /// Waits for reading.
    pub read_waits: Vec<u64>,
    /// Waits for writing.
    pub write_waits: Vec<u64>,
}

/// Time off the processor at one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OffCpuStack {
    /// Where.
    pub stack: Stack,
    /// Why, as the scheduler sees it.
    pub sleep: Sleep,
    /// What it is taken for.
    pub on: Cause,
    /// In all, in the frozen time.
    pub frozen_ns: u64,
    /// In all, in the window.
    pub total_ns: u64,
    /// How often.
    pub count: u64,
    /// Names of threads, each with its time in nanoseconds, the longest first.
    pub threads: Vec<(String, u64)>,
}

/// An interval for the time line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Whose.
    pub thread: Thread,
    /// It is an outsider's.
    pub outsider: bool,
    /// What it is.
    pub what: SpanKind,
    /// From when.
    pub start_ns: u64,
    /// Until when.
    pub end_ns: u64,
    /// What the thread was doing, such as `munmap of 1.7 GB` or `page fault`.
    pub doing: String,
    /// It was not over when the window ended.
    pub unfinished: bool,
}

/// What a [`Span`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SpanKind {
    /// The thread held mmap_lock.
    Hold(Mode),
    /// It waited for mmap_lock.
    Wait(Mode),
    /// It was off the processor.
    OffCpu(Sleep),
}

/// The memory of the watched processes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPoint {
    /// When.
    pub at_ns: u64,
    /// Resident, in bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Page faults so far, without and with a disk.
    pub faults: [u64; 2],
    /// Threads.
    pub threads: u64,
}

/// What one probe saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeLine {
    /// The probe, as on the command line.
    pub name: String,
    /// One for each time that it was asked: when it began, how long it took in nanoseconds, and why it failed if it
    /// did.
    pub points: Vec<(u64, u64, Option<String>)>,
}

/// How the freeze was seen, and what was not seen of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The source, such as `BPF on tracepoints`.
    pub source: String,
    /// What it lost in the window.
    pub losses: Losses,
    /// Intervals that the flight recorder had to drop to stay within its bounds, in the window.
    pub dropped: u64,
    /// Frames whose function is not known, of all that are shown.
    pub unknown_frames: (u64, u64),
    /// Processor time that the trap itself took in the window.
    pub own_cpu_ns: u64,
    /// What a privilege or option that is missing would add, a line each.
    pub missing: Vec<String>,
}

/// The machine, for the reader.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub host: String,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// How many processors are on line.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The trap's version.
    pub version: String,
}
