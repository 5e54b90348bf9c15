//! Aim: no workload lets an allocator get away with handing out memory that is in use.
//!
//! Method: this program's allocator does that once, when it is armed: it gives the block that it gave last, still in
//! use, to a second request that fits into it. Each workload plays in a child of its own, which has to end with a
//! failed check or a crash. Memory is never used again, so that the fault is the only one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use allocator_bench::workload;
use nix::sys::signal::Signal;

const NAME_VARIABLE: &str = "BROKEN_ALLOCATOR_WORKLOAD";
const NOTICED: i32 = 2;
const NOTICED_NOTHING: i32 = 3;
const NOT_BROKEN: i32 = 4;
/// Seconds after which a child counts as hanging.
const HANG_S: u32 = 60;

/// What never asks for memory while it has a larger block of the same alignment that was handed out last.
const NEVER_BROKEN: [&str; 3] = ["cache_scratch", "cache_thrash", "vec_grow"];

/// Most of its memory is what the standard library keeps about threads, whose contents nobody checks.
const UNCHECKED: &str = "mleak";

/// Another thread may free a block just as it is handed out again, which then does no harm.
const TRIES: usize = 3;

/// Allocations that still go well after arming; zero when not armed, and after the fault.
static UNTIL_BROKEN: AtomicUsize = AtomicUsize::new(0);

/// The scale of a workload, and the allocations before the fault: a few for a few large blocks, otherwise enough to be
/// past what is only prepared.
fn plan(name: &str) -> (f64, usize) {
    match name {
        "malloc_large" => (0.01, 3),
        _ => (0.0005, 100),
    }
}

/// The block that was handed out last, if it is still in use, and its size.
static LAST: AtomicPtr<u8> = AtomicPtr::new(null_mut());
static LAST_BYTES: AtomicUsize = AtomicUsize::new(0);

struct Broken;

// SAFETY: not a word of it while armed; that is the point. Otherwise every call goes to the system's allocator, but for
// frees, which do nothing.
unsafe impl GlobalAlloc for Broken {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Relaxed everywhere: a race only moves the fault to another request.
        let until = UNTIL_BROKEN.load(Ordering::Relaxed);
        if until == 1 {
            let last = LAST.load(Ordering::Relaxed);
            let fits =
                layout.size() <= LAST_BYTES.load(Ordering::Relaxed) && last.addr().is_multiple_of(layout.align());
            if !last.is_null() && fits {
                UNTIL_BROKEN.store(0, Ordering::Relaxed);
                return last;
            }
        } else if until > 1 {
            UNTIL_BROKEN.store(until - 1, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        let block = unsafe { System.alloc(layout) };
        LAST.store(block, Ordering::Relaxed);
        LAST_BYTES.store(layout.size(), Ordering::Relaxed);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        if block == LAST.load(Ordering::Relaxed) {
            LAST.store(null_mut(), Ordering::Relaxed);
        }
    }
}

#[global_allocator]
static BROKEN: Broken = Broken;

/// Plays one workload and exits, in a child; does nothing otherwise.
#[test]
fn child() {
    let Ok(name) = std::env::var(NAME_VARIABLE) else { return };
    let workload = workload::find(&name).expect("the parent names a workload");
    nix::unistd::alarm::set(HANG_S);
    // A thread that waits for one that panicked would wait for ever.
    std::panic::set_hook(Box::new(|_| std::process::exit(NOTICED)));
    let (scale, allocations_before) = plan(&name);
    UNTIL_BROKEN.store(allocations_before, Ordering::Relaxed);
    (workload.run)(1, scale);
    let was_broken = UNTIL_BROKEN.swap(0, Ordering::Relaxed) == 0;
    std::process::exit(if was_broken { NOTICED_NOTHING } else { NOT_BROKEN });
}

#[test]
fn every_workload_notices_memory_that_is_handed_out_twice() {
    for workload in workload::ALL.iter().filter(|workload| workload.name != UNCHECKED) {
        let expected = if NEVER_BROKEN.contains(&workload.name) { Some(NOT_BROKEN) } else { None };
        let ended = (0..TRIES).map(|_| play_in_child(workload.name)).find(|ended| *ended != Some(NOTICED_NOTHING));
        let ended = ended.unwrap_or_else(|| panic!("{} noticed nothing", workload.name));
        assert!(expected.is_none_or(|expected| ended == Some(expected)), "{} ended with {ended:?}", workload.name);
        assert!(expected.is_some() || ended != Some(NOT_BROKEN), "{} was not broken", workload.name);
    }
}

/// The exit code of a child, `None` if a signal ended it.
fn play_in_child(name: &str) -> Option<i32> {
    let own = std::env::current_exe().expect("a running program has a path");
    let mut child = Command::new(own);
    child.args(["--exact", "child"]).env(NAME_VARIABLE, name).stdout(Stdio::null()).stderr(Stdio::null());
    let status = child.status().expect("the child can be started");
    assert!(!status.success(), "{name} did not play");
    assert!(status.signal() != Some(Signal::SIGALRM as i32), "{name} hangs");
    status.code()
}
