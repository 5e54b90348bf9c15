//! Who held mmap_lock of a process and who waited for it: by thread, mode and system call, with durations, from the
//! kernel's own tracepoints. Programs that judge an allocator, tests, and tools that watch a service call it.
//!
//! ```no_run
//! use lock_trace::{Mode, Options, Tracer};
//!
//! let tracer = Tracer::attach(1234, &Options::default())?;
//! std::thread::sleep(std::time::Duration::from_secs(10));
//! let trace = tracer.stop()?;
//! println!("{trace}");
//! println!("longest hold for writing: {} ns", trace.holds(Mode::Write).longest_ns);
//! for wait in trace.worst(3) {
//!     println!("{wait}, because of {:?}", wait.blame);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it sees
//!
//! [`Tracer`] opens perf events: `mmap_lock:*` on each processor, filtered in the kernel by the address space, so that
//! threads born later and readers from outside are seen; `raw_syscalls:*` on each thread, filtered by the calls that
//! can take the lock; names, births and ends of threads. One ring for each processor carries them to a thread of this
//! process, which puts them in order and hands them to an [`Assembler`]. That one knows no kernel, and takes
//! [`Event`]s of any source. A wait is the time from `start_locking` to `acquire_returned`; `lock:contention_*` is
//! not used, because it fires for each contended spinlock of the whole machine and tells nothing more about this lock.
//! What a thread was doing outside of the traced calls is told from its registers on x86-64 (a fault, or another system
//! call), and is [`Activity::Unknown`] elsewhere.
//!
//! The pointer that the filter compares is learned by reading one byte of `/proc/PID/mem` before the trace begins. That
//! file stays open, so that the kernel cannot give the same pointer to another process. Nothing else is left, nor needs
//! to be cleaned up when the tracing program is killed: no tracefs instance, and no mount that a path leads to.
//!
//! Who wants to know only how often a program passes a tracepoint opens [`Counter`]s, which record nothing.
//!
//! # What it costs
//!
//! On Linux 6.18, 2 processors of an AMD EPYC (virtual machine, busy with other work), in processor time, medians of
//! 20 and 102 rounds: mmap, one touch and munmap of 64 KiB take 21.5 µs instead of 8.9 µs, which is 1.1 µs for each of
//! 11 events; a system call that is not traced takes 0.70 µs instead of 0.23 µs, for the filters look at each. Faults
//! that do not take the lock cost nothing. Other processes are not recorded, but the kernel takes its slower way
//! through their system calls meanwhile. Memory: [`Options::ring_bytes`] for each processor, the intervals that are
//! kept, and what is counted for each thread.
//!
//! # What it takes
//!
//! Linux 5.11 with `CONFIG_FTRACE_SYSCALLS`; root, or CAP_PERFMON with a tracefs that the user may read, CAP_SYS_PTRACE
//! for processes of other users, and CAP_IPC_LOCK for rings above `kernel.perf_event_mlock_kb`. [`Unavailable`] says
//! what is missing. It takes 2 file descriptors for each thread and processor.
//!
//! # What it does not see
//!
//! - Per-mapping locks, which most faults take instead since Linux 6.4: they have no tracepoints.
//! - Holds that had begun before ([`Losses::unmatched_releases`]), and processors switched on after `attach`.
//! - The system calls of 32-bit programs on a 64-bit kernel: their numbers mean other calls.
//! - After execve(2) the process has another address space; [`Trace::gone_ns`] says when.

pub use activity::Activity;
pub use assembler::Assembler;
pub use event::{Context, Event, EventKind};
pub use kernel::counter::{Counter, Point};
pub use kernel::{Error, Tracer};
pub use options::Options;
pub use tally::Tally;
pub use trace::{Blame, CallRow, Interval, IntervalKind, Losses, Mode, Row, Trace};
pub use unavailable::{Missing, Unavailable};

/// The parts of the [`Tracer`], for programs that record other tracepoints, or more of these.
pub mod events {
    pub use crate::kernel::address_space::AddressSpace;
    pub use crate::kernel::format::{Field, Format};
    pub use crate::kernel::merge::{Merge, SLACK_NS};
    pub use crate::kernel::perf::Tracepoint;
    pub use crate::kernel::process::{thread_name, threads};
    pub use crate::kernel::record::{Switch, switch, thread_event};
    pub use crate::kernel::rings::{ALL_THREADS, Rings};
    pub use crate::kernel::sample::{Contents, NO_FRAMES, Sample, USER_FRAMES};
    pub use crate::kernel::tracefs::Tracefs;
}

mod activity;
mod assembler;
mod calls;
mod ended;
mod event;
mod keeper;
mod kernel;
mod options;
mod tally;
mod text;
mod thread;
mod trace;
mod unavailable;
