//! Plays a workload while the kernel counts its system calls and what they do to mmap_lock.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;

use allocator_bench::counts::{COUNTED_CALLS, Counts};
use allocator_bench::sample::Sample;
use lock_trace::{Counter, Point, Unavailable};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::launch::{Failure, Play, output_of, parsed};

/// Says what is missing where the kernel cannot count for this process.
///
/// # Errors
/// If the counters cannot be opened.
pub fn check() -> Result<(), Unavailable> {
    // On a thread of its own, so that children that are started later do not inherit them.
    on_new_thread(|| open().map(drop))
}

/// Counters that count nothing, held open while others come and go: the kernel takes its time to begin with each
/// tracepoint and to be done with it, but not while somebody else has it.
pub struct Held(#[expect(dead_code, reason = "held, not read")] Vec<Counter>);

/// Opens them; what cannot be opened is not held, which costs time only.
pub fn hold() -> Held {
    // On a thread of its own, as in `check`.
    Held(on_new_thread(open).unwrap_or_default())
}

/// Plays a workload in a new process of a `bench-*` binary; gives what it cost, as far as counting lets one know, and
/// what the kernel counted.
///
/// # Errors
/// If the child gives no result.
pub fn play(binary: &Path, play: &Play) -> Result<(Sample, Counts), Failure> {
    // A counter counts the next program that its thread starts, and each thread can start one only.
    on_new_thread(|| {
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("cannot count its system calls: {error}"));
        let counters = open().map_err(|error| failed(&error))?;
        let mut command = Command::new(binary);
        command.args(play.args());
        for counter in &counters {
            // The child reads it by this descriptor.
            fcntl(counter, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|error| failed(&error))?;
            command.arg(counter.as_fd().as_raw_fd().to_string());
        }
        let report = output_of(&mut command, play.deadline);
        // The kernel takes its time to be done with the filter.
        std::thread::spawn(move || drop(counters));
        let report = report?;
        let line = |number| report.lines().nth(number).unwrap_or_default();
        Ok((parsed(&report, line(0).parse())?, parsed(&report, line(1).parse())?))
    })
}

/// The counters in the order in which a child takes them.
fn open() -> Result<Vec<Counter>, Unavailable> {
    let calls = COUNTED_CALLS.map(|call| format!("syscalls/sys_enter_{call}"));
    let mut points: Vec<Point<'_>> = calls.iter().map(|name| Point { name, filter: None }).collect();
    points.push(Point { name: "raw_syscalls/sys_enter", filter: None });
    points.push(Point { name: "mmap_lock/mmap_lock_acquire_returned", filter: Some("write==1&&success==1") });
    Counter::for_next_program(&points)
}

fn on_new_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
