//! Models of `lockfree::once`: two threads want something initialised, and a third looks whether it is.
//!
//! What the closure writes is memory: the closures of two threads may not overlap, and who is told that the
//! initialisation is finished may read. Asserted besides: one closure succeeds, and after one that failed another runs.

use std::sync::Arc;

use crate::atomic::AtomicU32;
use crate::explore::{Memory, explore, join, spawn};

#[allow(dead_code, reason = "models call what threads call at the same time")]
#[path = "../../src/lockfree/once.rs"]
mod subject;
use subject::Once;

struct Lazy {
    once: Once,
    /// How often the closure ran.
    runs: Memory<u32>,
}

impl Lazy {
    fn new() -> Arc<Self> {
        Arc::new(Lazy { once: Once::from_state(AtomicU32::new(0)), runs: Memory::new(0) })
    }

    /// Runs a closure that works from the given run on.
    fn run(&self, works_from: u32) -> bool {
        let init = || {
            self.runs.set(self.runs.get() + 1);
            self.runs.get() >= works_from
        };
        self.once.run(init, || {})
    }
}

#[test]
fn the_closure_runs_once_and_all_see_what_it_wrote() {
    explore(|| {
        let lazy = Lazy::new();
        let threads = [(), ()].map(|()| {
            spawn(&lazy, |lazy| {
                assert!(lazy.run(1));
                assert_eq!(lazy.runs.get(), 1);
            })
        });
        if lazy.once.is_done() {
            assert_eq!(lazy.runs.get(), 1);
        }
        join(threads);
        assert!(lazy.once.is_done());
    });
}

#[test]
fn after_a_failure_the_next_caller_tries_again() {
    explore(|| {
        let lazy = Lazy::new();
        let threads = [(), ()].map(|()| {
            spawn(&lazy, |lazy| {
                let done = lazy.run(2);
                if done {
                    assert_eq!(lazy.runs.get(), 2);
                }
                done
            })
        });
        let mut done = join(threads);
        done.sort_unstable();
        assert_eq!(done, [false, true]);
        assert_eq!(lazy.runs.get(), 2);
    });
}
