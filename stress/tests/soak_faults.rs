//! Aim: a soak injects faults, the C library's allocator stands them, and an allocator that does not get over them is
//! found.
//!
//! Method: processes of their own, without libtest, because the filter that injects faults stays for the life of the
//! process. This one is honest; it starts itself again once for each lie. Where the kernel refuses the filter that must
//! be said in the report.

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::unistd::{getpid, gettid};
use stress::soak::plan::{Length, SoakPlan};
use stress::soak::run::soak;
use test_support::skip;

const PLAN: SoakPlan =
    SoakPlan { seed: 11, length: Length::Steps(12_000), threads: 4, bytes_most: 512 << 20, faults: true, forks: true };
/// A lie is found in a calm, which a number of steps need not reach: threads that are refused everything are quick. It
/// ends when it is found.
const LIE_PLAN: SoakPlan = SoakPlan { length: Length::TimeMs(60_000), ..PLAN };
/// Names the lie to the process that tells it.
const LIE: &str = "SOAK_FAULTS_LIE";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// After the first refusal of the kernel nobody gets memory any more.
    RefuseForEver,
    /// No forked child gets memory.
    RefuseChildren,
}

/// The system's allocator, which may lie, but never to the thread that watches the soak.
struct Liar {
    lie: OnceLock<Lie>,
    watch: AtomicI32,
    was_refused: AtomicBool,
}

#[global_allocator]
static LIAR: Liar = Liar { lie: OnceLock::new(), watch: AtomicI32::new(0), was_refused: AtomicBool::new(false) };

impl Liar {
    fn refuses(&self) -> bool {
        let watch = self.watch.load(Ordering::Relaxed);
        match self.lie.get() {
            Some(Lie::RefuseForEver) => self.was_refused.load(Ordering::Relaxed) && gettid().as_raw() != watch,
            Some(Lie::RefuseChildren) => getpid().as_raw() != watch,
            None => false,
        }
    }

    fn note(&self, base: *mut u8) -> *mut u8 {
        if base.is_null() {
            self.was_refused.store(true, Ordering::Relaxed);
        }
        base
    }
}

// SAFETY: all memory is the system allocator's; what is refused stays as it is.
unsafe impl GlobalAlloc for Liar {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        if self.refuses() { null_mut() } else { self.note(unsafe { System.alloc(layout) }) }
    }

    unsafe fn dealloc(&self, base: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(base, layout) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        if self.refuses() { null_mut() } else { self.note(unsafe { System.alloc_zeroed(layout) }) }
    }

    unsafe fn realloc(&self, base: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        if self.refuses() { null_mut() } else { self.note(unsafe { System.realloc(base, layout, bytes) }) }
    }
}

/// The end of a soak under this lie: what was found, as an error, or why no faults were injected.
fn lie(lie: Lie) -> Result<Option<String>, String> {
    // SAFETY: no other thread is there yet. Without this the C library seldom asks the kernel, and is seldom refused.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 16 << 10) };
    LIAR.watch.store(getpid().as_raw(), Ordering::Relaxed);
    LIAR.lie.set(lie).expect("one lie for a process");
    soak(&LIE_PLAN, |_| {}).map(|report| report.faults_refused).map_err(|failure| failure.to_string())
}

/// Has another process tell the lie, and checks that it is found.
fn is_found(lie: Lie, place: &str) {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).env(LIE, format!("{lie:?}")).output().unwrap();
    let found = String::from_utf8_lossy(&output.stdout);
    // Without faults some lies are not told.
    let is_skipped = found.starts_with("Ok(Some(");
    assert!(is_skipped || found.contains("expected memory, seen null") && found.contains(place), "{lie:?}: {output:?}");
}

fn main() {
    match std::env::var(LIE).as_deref() {
        Ok("RefuseForEver") => return println!("{:?}", lie(Lie::RefuseForEver)),
        Ok("RefuseChildren") => return println!("{:?}", lie(Lie::RefuseChildren)),
        _ => {}
    }
    // First: a process that was started under a filter can have none of its own.
    is_found(Lie::RefuseForEver, "");
    is_found(Lie::RefuseChildren, "in a forked child");

    let report = soak(&PLAN, |_| {}).unwrap_or_else(|failure| panic!("{failure}"));
    println!("soak_faults: {report:#?}");
    assert_eq!(report.thread_steps, [12_000; 4]);
    let faults = report.faults;
    if let Some(why) = &report.faults_refused {
        assert_eq!(faults.calls(), 0, "{report:?}");
        skip(format_args!("no faults can be injected: {why}"));
        return;
    }
    assert!(faults.calls() > 0 && faults.address_space_windows + faults.data_windows > 0, "{report:?}");
    assert!(report.counts.start_refusals > 0, "{report:?}");

    // A second soak in the same process cannot have its own schedule, and says so.
    let again =
        soak(&SoakPlan { length: Length::Steps(50), ..PLAN }, |_| {}).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!((again.faults.calls(), again.counts.refusals), (0, 0), "{again:?}");
    assert!(again.faults_refused.is_some_and(|why| why.contains("before")));
}
