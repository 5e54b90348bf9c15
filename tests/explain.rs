//! Aim: `explain()` tells the truth about the process it runs in, in each mode, before and after the first allocation,
//! and allocates nothing.
//!
//! Method: children with different options and limits print what it says; the parent reads it. One call is made before
//! Rust's runtime, when nothing was allocated. A wrapper counts allocations.

mod common;

use std::alloc::{GlobalAlloc, Layout};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{DEADLINE, Test};
use nix::sys::resource::Resource;

/// Counts what is asked of the allocator.
struct Counting(antifreeze::Antifreeze);

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: forwards every call as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { self.0.dealloc(block, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting(antifreeze::Antifreeze::new());

fn main() {
    common::run(&[
        Test::Here("before_the_first_allocation_nothing_has_started", before_the_first_allocation),
        Test::Here("every_option_and_every_promise_is_there", everything_is_there),
        Test::Here("it_says_what_the_kernel_says", facts_of_the_machine),
        Test::Here("a_small_buffer_learns_what_is_needed", small_buffers),
        Test::Here("it_allocates_nothing_and_leaves_no_file_open", allocates_nothing),
        Test::Here("each_mode_and_why_it_was_taken_is_told", modes),
        Test::Here("options_that_weaken_promises_are_told", weakening_options),
        Test::Here("a_narrow_reservation_is_told", narrow_reservation),
        Test::Job("tell", tell),
    ]);
}

/// What it said before Rust's runtime began.
static EARLY: OnceLock<([u8; 8192], Option<usize>)> = OnceLock::new();

/// Runs before `main`, with the constructors of libraries.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = early;

extern "C" fn early() {
    let mut buffer = [0; 8192];
    let length = antifreeze::explain(&mut buffer).ok().map(str::len);
    let _ = EARLY.set((buffer, length));
}

fn before_the_first_allocation() {
    let (buffer, length) = EARLY.get().expect("the constructor ran");
    let text = std::str::from_utf8(&buffer[..length.expect("8 KiB are enough")]).expect("text");
    assert!(text.contains("\nstate = not started"), "{text}");
    for number in 1..=6 {
        let line = text.lines().find(|line| line.starts_with(&format!("P{number} "))).expect("each promise has a line");
        assert!(line.ends_with(": not started"), "{line}");
    }
}

fn explained() -> String {
    let mut buffer = vec![0; 8192];
    antifreeze::explain(&mut buffer).expect("8 KiB are enough").to_owned()
}

fn tell(_: &[String]) {
    print!("{}", explained());
}

/// What a child says, without the variables that this process was given.
fn told(prepare: impl for<'a> FnOnce(&'a mut Command) -> &'a mut Command) -> String {
    let mut command = common::job("tell", &[]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ANTIFREEZE_") && !name.contains("TEST")) {
        command.env_remove(name);
    }
    prepare(&mut command);
    let ended = common::output_of(&mut command, DEADLINE);
    assert!(ended.status.success() && ended.stderr.is_empty(), "{} {}", ended.status, ended.stderr);
    ended.stdout
}

/// The value of a line `name = value`.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
    line.unwrap_or_else(|| panic!("no {name}: {text}"))
}

/// The reasons that weaken promise `number`.
fn reasons(text: &str, number: usize) -> Vec<&str> {
    let lines = text.lines().filter(|line| line.starts_with(&format!("P{number} ")));
    lines.filter_map(|line| line.split_once(": weakened: ")).map(|(_, reason)| reason).collect()
}

fn everything_is_there() {
    let text = explained();
    let mut buffer = [0; 2048];
    let options = antifreeze::options(&mut buffer).expect("2 KiB are enough");
    assert!(options.lines().count() > 10);
    for line in options.lines() {
        assert!(text.contains(line), "{line}");
    }
    for part in ["options:\n", "\nmachine:\n", "\nlayout:\n", "\npromises:\n"] {
        assert!(text.contains(part), "{part}");
    }
    for number in 1..=6 {
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with(&format!("P{number} "))).collect();
        let kept = lines.iter().filter(|line| line.ends_with(": kept")).count();
        assert_eq!(kept, usize::from(reasons(&text, number).is_empty()), "{lines:?}");
    }
}

fn facts_of_the_machine() {
    let text = explained();
    let file = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    assert_eq!(value(&text, "kernel"), file("/proc/sys/kernel/osrelease").expect("the kernel has a release"));
    match file("/sys/kernel/mm/transparent_hugepage/enabled") {
        Ok(choices) => assert!(choices.contains(&format!("[{}]", value(&text, "thp")))),
        Err(_) => assert_eq!(value(&text, "thp"), "unknown"),
    }
    assert_eq!(value(&text, "overcommit").get(..1), file("/proc/sys/vm/overcommit_memory").expect("a number").get(..1));
    assert_eq!(value(&text, "reservations"), "1");
    assert_eq!(value(&text, "state"), "started");
    assert_eq!(value(&text, "hugetlb_taken"), "0B");
    let stalls = file("/proc/pressure/memory").is_ok();
    assert!(stalls || value(&text, "stalls").starts_with("not told") || value(&text, "stalls").contains("cgroup"));
}

fn small_buffers() {
    let mut buffer = vec![0; 8192];
    let length = antifreeze::explain(&mut buffer).expect("8 KiB are enough").len();
    for room in [0, 1, 100, length - 64] {
        let small = antifreeze::explain(&mut buffer[..room]).expect_err("too small");
        // The use of memory, and so the length of its number, changes from call to call.
        assert!(small.bytes_needed.abs_diff(length) < 64, "{} and {length}", small.bytes_needed);
    }
}

fn allocates_nothing() {
    let mut buffer = vec![0; 8192];
    let open = || std::fs::read_dir("/proc/self/fd").expect("descriptors are listed").count();
    let open_before = open();
    let before = REQUESTS.load(Ordering::Relaxed);
    let worked = antifreeze::explain(&mut buffer).is_ok();
    let after = REQUESTS.load(Ordering::Relaxed);
    assert!(worked);
    assert_eq!((after, open()), (before, open_before));
}

fn modes() {
    let text = told(|child| child.env("ANTIFREEZE_COMMIT", "stepped"));
    assert_eq!(value(&text, "commit"), "stepped (environment)");
    assert!(text.contains("\nmode = stepped: the option says so\n"), "{text}");
    assert!(reasons(&text, 1).iter().any(|reason| reason.starts_with("memory is committed in steps, as")));

    let strict = value(&text, "overcommit").starts_with('2');
    let text = told(|child| child.env("ANTIFREEZE_COMMIT", "ready"));
    if strict {
        assert!(text.contains("\nmode = stepped: the kernel did not commit"), "{text}");
    } else {
        assert!(text.contains("\nmode = ready: all at start\n"), "{text}");
        assert_eq!(reasons(&text, 1), [""; 0]);
    }

    // Private writable memory is limited, so that not all of the reservation can be committed at once.
    let text = told(|child| common::limit(child.env("ANTIFREEZE_COMMIT", "ready"), Resource::RLIMIT_DATA, 1 << 30));
    assert!(text.contains("\nmode = stepped: the kernel did not commit all at once\n"), "{text}");
    assert_eq!(value(&text, "limit_data"), "1GiB");
    assert!(reasons(&text, 1).iter().any(|reason| reason.contains("RLIMIT_DATA")));
}

fn weakening_options() {
    for (variable, setting, number, beginning) in [
        ("ANTIFREEZE_GOVERNOR", "tick", 3, "governor = tick"),
        ("ANTIFREEZE_GOVERNOR", "tick", 4, "governor = tick"),
        ("ANTIFREEZE_DECAY", "off", 4, "decay = off"),
        ("ANTIFREEZE_PRESSURE", "off", 4, "pressure = off"),
        ("ANTIFREEZE_HUGETLB", "16TiB", 5, "0B of the 16TiB"),
    ] {
        let text = told(|child| child.env(variable, setting));
        assert!(reasons(&text, number).iter().any(|reason| reason.starts_with(beginning)), "{setting}: {text}");
        let text = told(|child| child);
        assert!(!reasons(&text, number).iter().any(|reason| reason.starts_with(beginning)), "{setting}: {text}");
    }
    let text = told(|child| child.env("ANTIFREEZE_WARM_RESERVE", "off"));
    assert!(text.contains("P5 growth without copying: note: warm_reserve = off"), "{text}");
}

fn narrow_reservation() {
    let text = told(|child| common::limit(child, Resource::RLIMIT_AS, 4 << 30));
    assert_eq!(value(&text, "limit_address_space"), "4GiB");
    assert!(reasons(&text, 1).iter().any(|reason| reason.starts_with("the kernel gave ")), "{text}");
    assert!(reasons(&text, 5).iter().any(|reason| reason.starts_with("the reservation is too narrow")), "{text}");

    // One that was chosen is no surprise, but has no rooms either.
    let text = told(|child| child.env("ANTIFREEZE_RESERVATION", "1GiB"));
    assert!(!reasons(&text, 1).iter().any(|reason| reason.starts_with("the kernel gave ")), "{text}");
    assert!(reasons(&text, 5).iter().any(|reason| reason.starts_with("the reservation is too narrow")), "{text}");
}
