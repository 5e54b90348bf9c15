//! What a source tells: intervals in which a thread was off the processor, held mmap_lock or waited for it. Made by
//! `source`, kept by `recorder`, explained by `analysis`.

use lock_trace::Mode;
use serde::{Deserialize, Serialize};

use crate::stack::StackPair;

/// A thread, as its interval's source saw it. The numbers are those of the initial process-id namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Thread {
    /// The process.
    pub pid: i32,
    /// The thread.
    pub tid: i32,
    /// Its name at that time, of at most 15 bytes.
    pub name: String,
}

/// A thread by the numbers of its process and of itself.
pub type ThreadKey = (i32, i32);

impl Thread {
    /// Which one it is, whatever its name.
    #[must_use]
    pub fn key(&self) -> ThreadKey {
        (self.pid, self.tid)
    }
}

/// The system call that a thread was in, with the arguments it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The number, as the architecture counts.
    pub number: u64,
    /// The arguments.
    pub arguments: [u64; 6],
}

/// Why a thread was off the processor, as the scheduler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Sleep {
    /// It wanted to run: another one had the processor, or its cgroup had used up its share.
    Runnable,
    /// It slept until something happened or a signal came: sockets, timers, locks in user space.
    Interruptible,
    /// It slept in a way that no signal ends: locks of the kernel, disks.
    Uninterruptible,
    /// It was stopped, traced, or ended.
    Other,
}

/// Who ended a sleep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waker {
    /// The thread that ran when the sleeper was woken. In an interrupt that is whoever had the processor.
    pub thread: Thread,
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Where it was.
    pub stack: StackPair,
}

/// What an interval is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// Off the processor.
    OffCpu {
        /// Why.
        sleep: Sleep,
        /// Who ended it, if it was a sleep and the source sees that.
        waker: Option<Waker>,
    },
    /// It had mmap_lock.
    Hold {
        /// For reading or writing.
        mode: Mode,
    },
    /// It wanted mmap_lock.
    Wait {
        /// For reading or writing.
        mode: Mode,
    },
}

/// One interval of one thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// What it is.
    pub kind: Kind,
    /// Whose.
    pub thread: Thread,
    /// The watched process: whose lock it is. The same as the thread's, but for outsiders.
    pub owner_pid: i32,
    /// When it began, in nanoseconds of CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// When it ended; for one that is not over, when the source was asked.
    pub end_ns: u64,
    /// It was not over when the source was asked.
    pub unfinished: bool,
    /// The system call that the thread was in, if any; a page fault has none.
    pub call: Option<Call>,
    /// Where the thread was: when it left the processor, when it had got the lock, or when it let go of it.
    pub stack: StackPair,
}

impl Interval {
    /// How long it took.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// A thread of another process, which took the lock of the watched one.
    #[must_use]
    pub fn is_outsider(&self) -> bool {
        self.thread.pid != self.owner_pid
    }

    /// How much of it lies between two times.
    #[must_use]
    pub fn overlap_ns(&self, start_ns: u64, end_ns: u64) -> u64 {
        self.end_ns.min(end_ns).saturating_sub(self.start_ns.max(start_ns))
    }
}
