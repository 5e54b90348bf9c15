//! Aim: a service of a thousand threads is watched like one of four: when all of them wait for one thread, that one is
//! told, nothing is lost, the counts are of all, and what is written stays readable.
//!
//! Method: a service freezes again and again on a mutex, or on mmap_lock, that its crowd of threads needs as well; the
//! first capture in which they were all blocked is looked at.

mod trap;

use freeze_trap::freeze::{Cause, Freeze};
use freeze_trap::report;
use freeze_trap::source::Bounds;
use freeze_trap::source::bpf::Bpf;
use test_support::skip;
use trap::{Service, Trap, port, wait_for};

const CROWD: u64 = 1000;
/// Of a report, and of a page.
const LINES_MAX: usize = 400;
const PAGE_BYTES_MAX: usize = 2 << 20;

/// Rows of those that were blocked on something, those that are left out included.
fn blocked(freeze: &Freeze) -> u64 {
    freeze.blocked.len() as u64 + freeze.left_out.blocked
}

/// A capture in which at least so many were blocked; `None`, with a line, where BPF cannot be had.
fn caught(kind: &str, cause: Cause, blocked_min: u64) -> Option<Freeze> {
    if let Err(why) = Bpf::arm(&Bounds::default(), 64) {
        skip(format_args!("{why:#}"));
        return None;
    }
    let port = port();
    let crowd = CROWD.to_string();
    let service = Service::start(port, &[kind, "--crowd", &crowd, "--mib", "512", "--every", "2", "--lasts", "3"]);
    let probe = format!("http://127.0.0.1:{port}/,every=100ms,within=300ms,failures=1");
    let often = ["--cooldown", "10ms", "--captures-per-hour", "1000", "--window", "3s", "--history", "3s"];
    let pid = service.pid().to_string();
    let mut trap = Trap::watch(&[&often[..], &["--source", "bpf", "--pid", &pid, "--probe", &probe]].concat());
    trap.hears("armed");
    let is_it = |freeze: &Freeze| {
        println!("{} blocked: {}", blocked(freeze), freeze.sentence);
        freeze.cause == cause && blocked(freeze) >= blocked_min && freeze.sentence.contains("(culprit)")
    };
    Some(wait_for("the threads to be blocked by the culprit", || trap.freezes().into_iter().find(is_it)))
}

fn is_complete_and_readable(freeze: &Freeze) {
    assert_eq!((freeze.seen.losses.intervals, freeze.seen.losses.threads), (0, 0), "{}", freeze.sentence);
    let text = report::text(freeze, 100, false);
    let left_out = blocked(freeze) - 10;
    assert!(text.contains(&format!("and {left_out} rows more")), "{text}");
    assert!(text.lines().count() < LINES_MAX, "{text}");
    let page = report::page(freeze);
    assert!(page.len() < PAGE_BYTES_MAX, "{} bytes", page.len());
}

#[test]
fn a_thousand_threads_that_wait_for_a_mutex_are_told_with_the_one_that_had_it() {
    let Some(freeze) = caught("user-lock", Cause::UserLock, CROWD) else { return };
    is_complete_and_readable(&freeze);
    assert!(freeze.sentence.contains("index::reload"), "{}", freeze.sentence);
    assert_eq!(freeze.pairs[0].holder.name, "culprit", "{:?}", freeze.pairs[0]);
    assert!(freeze.left_out.pairs > 0);
}

#[test]
fn that_there_are_too_many_threads_is_told() {
    let port = port();
    let service = Service::start(port, &["nothing", "--every", "100", "--crowd", "100"]);
    let pid = service.pid().to_string();
    let mut trap = Trap::watch(&["--source", "sampling", "--threads-max", "50", "--pid", &pid]);
    trap.hears("not all threads are watched: there are more than --threads-max");
}

#[test]
fn a_thousand_threads_that_wait_for_mmap_lock_are_told_with_the_one_that_held_it() {
    // It lets go of the lock between two calls: not all come by while it has it.
    let Some(freeze) = caught("mmap-lock", Cause::MmapLock, CROWD / 2) else { return };
    is_complete_and_readable(&freeze);
}
