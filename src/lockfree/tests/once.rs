//! Tests of `lockfree::once`.

use std::thread;

use super::THREADS;
use crate::atomic::{AtomicU32, Ordering};
use crate::lockfree::once::Once;

fn once() -> Once {
    Once::from_state(AtomicU32::new(0))
}

#[test]
fn the_closure_runs_once() {
    let once = once();
    assert!(!once.is_done());
    assert!(once.run(|| true, || {}));
    assert!(once.is_done());
    assert!(once.run(|| panic!("a second run"), || {}));
}

#[test]
fn a_failure_leaves_the_door_open() {
    let once = once();
    assert!(!once.run(|| false, || {}));
    assert!(!once.is_done());
    assert!(once.run(|| true, || {}));
}

#[test]
fn it_is_not_done_while_the_closure_runs() {
    let once = once();
    assert!(once.run(|| !once.is_done(), || {}));
}

#[test]
fn all_threads_wait_for_the_one_that_runs_the_closure() {
    for works_from in 1..=3 {
        let (once, runs) = (once(), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let init = || {
                        let run = runs.fetch_add(1, Ordering::Relaxed) + 1;
                        thread::yield_now();
                        run >= works_from
                    };
                    while !once.run(init, thread::yield_now) {}
                    assert!(once.is_done());
                });
            }
        });
        assert_eq!(runs.load(Ordering::Relaxed), works_from);
    }
}
