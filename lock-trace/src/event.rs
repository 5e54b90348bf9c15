//! What a source tells the assembler: one thing that happened to one thread. Made by `kernel` from perf records, and
//! by any other source that can see the same tracepoints.

use serde::{Deserialize, Serialize};

/// One thing that happened, at a time of CLOCK_MONOTONIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// The thread that it happened to.
    pub tid: i32,
    /// The process of that thread; another one than the traced process makes it an outsider.
    pub pid: i32,
    /// The processor, where the source knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened to a thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    /// The thread asks for mmap_lock and may have to wait (`mmap_lock_start_locking`).
    Start {
        /// For writing, not for reading.
        write: bool,
        /// How the thread came to ask.
        context: Context,
    },
    /// The attempt is over (`mmap_lock_acquire_returned`). Without a `Start` before it, it was a try that does not
    /// wait, or a hold for writing that goes on as one for reading.
    Acquired {
        /// For writing, not for reading.
        write: bool,
        /// Whether the thread has the lock now.
        success: bool,
        /// How the thread came to ask.
        context: Context,
    },
    /// The thread gives the lock back (`mmap_lock_released`).
    Released {
        /// It was held for writing, not for reading.
        write: bool,
    },
    /// The thread enters one of the traced system calls.
    Enter {
        /// The number of the call on this architecture.
        number: i64,
        /// Its arguments.
        args: [u64; 6],
    },
    /// The thread returns from one of the traced system calls.
    Exit {
        /// The number of the call on this architecture.
        number: i64,
    },
    /// The thread has this name from now on.
    Comm {
        /// The name, at most 15 bytes.
        name: String,
        /// The name comes from a program that was executed: the address space is another one from now on.
        exec: bool,
    },
    /// The thread begins, with the name of the thread that started it.
    ThreadStarted {
        /// The thread that started it.
        parent: i32,
    },
    /// The thread ends.
    ThreadEnded,
    /// The source could not record this many events before this one.
    Lost {
        /// How many.
        count: u64,
    },
}

/// Where in the kernel a thread was when it asked for the lock, as far as its registers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Context {
    /// Not in a system call: a page fault, or another exception.
    Fault,
    /// In a system call.
    Call,
    /// A thread of the kernel itself, such as khugepaged.
    Kernel,
    /// The source cannot tell.
    Unknown,
}
