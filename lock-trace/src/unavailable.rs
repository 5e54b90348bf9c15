//! Why a process cannot be traced: each thing that is missing, and what would give it.

use serde::{Deserialize, Serialize};

/// A process cannot be traced here. Prints one line for each thing that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", lines(missing))]
pub struct Unavailable {
    /// What is missing; at least one thing.
    pub missing: Vec<Missing>,
}

/// One thing without which a process cannot be traced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// No such process, or it is not visible from here.
    #[error("there is no process {pid}: give the number of a running process as this PID namespace counts them")]
    Process {
        /// The number asked for.
        pid: u32,
    },
    /// The process has no address space.
    #[error(
        "process {pid} has no address space: it is a thread of the kernel, or it has ended; only running programs can \
         be traced"
    )]
    AddressSpace {
        /// The process.
        pid: u32,
    },
    /// The process may not be looked into, so that its address space cannot be told from others.
    #[error(
        "/proc/{pid}/mem cannot be opened ({why}): run as the user of that process, with \
         kernel.yama.ptrace_scope=0, or with CAP_SYS_PTRACE"
    )]
    Access {
        /// The process.
        pid: u32,
        /// What the system said.
        why: String,
    },
    /// The kernel has no perf events.
    #[error(
        "the kernel has no perf events ({why}): it takes CONFIG_PERF_EVENTS, and a sandbox must let \
         perf_event_open(2) through"
    )]
    PerfEvents {
        /// What the system said.
        why: String,
    },
    /// Perf events on whole processors are not permitted.
    #[error(
        "perf events on all processors are not permitted ({why}): run as root, or with CAP_PERFMON and \
         kernel.perf_event_paranoid of 2 or less, or set kernel.perf_event_paranoid=-1 (it is {paranoid})"
    )]
    Privilege {
        /// What the system said.
        why: String,
        /// `kernel.perf_event_paranoid` as it is.
        paranoid: String,
    },
    /// The description of the tracepoints cannot be read.
    #[error(
        "tracefs cannot be read ({why}): run as root, or mount it (mount -t tracefs tracefs /sys/kernel/tracing) and \
         let this user read the events below it"
    )]
    Tracefs {
        /// What the system said.
        why: String,
    },
    /// The kernel lacks a tracepoint.
    #[error(
        "the kernel has no tracepoint {name} ({why}): it takes Linux 5.11, CONFIG_FTRACE and CONFIG_FTRACE_SYSCALLS"
    )]
    Tracepoint {
        /// Group and name.
        name: String,
        /// What was looked for.
        why: String,
    },
    /// The rings may not have that much memory.
    #[error(
        "rings of {ring_bytes} bytes for each processor are not permitted ({why}): run with CAP_IPC_LOCK, raise \
         kernel.perf_event_mlock_kb (it is {mlock_kib}, for each processor) or RLIMIT_MEMLOCK, or ask for a \
         smaller ring_bytes"
    )]
    RingMemory {
        /// What was asked for.
        ring_bytes: usize,
        /// `kernel.perf_event_mlock_kb` as it is.
        mlock_kib: String,
        /// What the system said.
        why: String,
    },
    /// Too few file descriptors.
    #[error(
        "there are not enough file descriptors for {threads} threads on {cpus} processors: raise RLIMIT_NOFILE to at \
         least {wanted}"
    )]
    Descriptors {
        /// Threads of the process.
        threads: usize,
        /// Processors.
        cpus: usize,
        /// A limit that would do.
        wanted: usize,
    },
    /// Another step failed in a way that no privilege explains.
    #[error("{step} failed: {why}; please report this together with the version of the kernel")]
    Step {
        /// What was tried.
        step: String,
        /// What the system said.
        why: String,
    },
}

impl From<Missing> for Unavailable {
    fn from(missing: Missing) -> Unavailable {
        Unavailable { missing: vec![missing] }
    }
}

fn lines(missing: &[Missing]) -> String {
    let lines: Vec<String> = missing.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
