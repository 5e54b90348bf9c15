//! One-shot initialisation without parking, allocating or unwinding. Called by `front` to start the engine.
//!
//! Invariant: the closure runs on one thread at a time and, once it has returned `true`, never again; who sees
//! [`Once::is_done`] sees everything that it wrote. A closure that fails leaves the door open for the next caller.
//!
//! | word | meaning | goes to |
//! |---|---|---|
//! | `NEW` | nobody has tried, or the last try failed | `RUNNING` |
//! | `RUNNING` | one thread runs the closure, others spin | `DONE`, `NEW` |
//! | `DONE` | finished, for good | |

use crate::atomic::{AtomicU32, Ordering, spin_loop};

const NEW: u32 = 0;
const RUNNING: u32 = 1;
const DONE: u32 = 2;

/// The state of one initialisation.
pub(crate) struct Once {
    state: AtomicU32,
}

impl Once {
    /// A fresh one; `state` must hold 0.
    pub(crate) const fn from_state(state: AtomicU32) -> Self {
        Once { state }
    }

    /// Whether the initialisation has finished. Cost: one load.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        // Acquire: pairs with the Release of DONE in `run`; makes what the closure wrote visible.
        self.state.load(Ordering::Acquire) == DONE
    }

    /// Runs `init` unless it has succeeded already; waits while another thread runs it. Says whether the initialisation
    /// is finished now. `wait` is called on each round of waiting.
    pub(crate) fn run(&self, init: impl FnOnce() -> bool, mut wait: impl FnMut()) -> bool {
        loop {
            // Acquire on success: pairs with the Release of NEW by a failed try, whose leftovers this try must see.
            // Acquire on failure: pairs with the Release of DONE.
            match self.state.compare_exchange(NEW, RUNNING, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => {
                    let done = init();
                    // Release: pairs with the Acquire loads here and in `is_done`.
                    self.state.store(if done { DONE } else { NEW }, Ordering::Release);
                    return done;
                }
                Err(DONE) => return true,
                Err(_) => {
                    spin_loop();
                    wait();
                }
            }
        }
    }
}
