//! How threads that retire memory, or want some made warm, reach the one background thread, and learn that it must be
//! started. Called by `governor::worker`.
//!
//! Invariant: work that was queued before [`Doorbell::ring`] is seen by the worker before it falls asleep, or the
//! worker is woken; urgent work also before it dozes. Ringing costs one exchange, and a system call only when the
//! worker sleeps, or dozes and the work is urgent.
//!
//! | bits | meaning |
//! |---|---|
//! | 0..2 | state of the worker, see below |
//! | 2 | somebody rang since the worker changed its state |
//! | 3 | somebody rang urgently since then |
//!
//! | state | meaning | goes to |
//! |---|---|---|
//! | `ABSENT` | no worker; the first to ring must start it | `AWAKE` by the worker |
//! | `AWAKE` | the worker runs and will look at the queues again | any, by the worker |
//! | `ASLEEP` | the worker sleeps, or is about to; the first to ring must wake it | `AWAKE` by the worker |
//! | `DOZING` | the worker sleeps for a time; the first to ring urgently must wake it | `AWAKE` by the worker |

use crate::atomic::{AtomicU32, Ordering};

const ABSENT: u32 = 0;
const AWAKE: u32 = 1;
/// The value on which the worker sleeps.
pub(crate) const ASLEEP: u32 = 2;
const DOZING: u32 = 3;
const STATE_MASK: u32 = 3;
const RUNG: u32 = 1 << 2;
const URGENT: u32 = 1 << 3;

/// What the ringer has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ring {
    /// Nothing: the worker will look.
    Heard,
    /// Wake the worker.
    Wake,
    /// Start the worker.
    Start,
}

/// The state of the worker.
pub(crate) struct Doorbell {
    word: AtomicU32,
}

impl Doorbell {
    /// No worker yet; `word` must hold 0.
    pub(crate) const fn from_word(word: AtomicU32) -> Self {
        Doorbell { word }
    }

    /// The word to sleep and wake on.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// Says that something was queued; `urgent` if it cannot wait until the worker has dozed off its time.
    pub(crate) fn ring(&self, urgent: bool) -> Ring {
        let mark = if urgent { RUNG | URGENT } else { RUNG };
        // AcqRel: Release pairs with the Acquire in `change`. Whichever of the two exchanges is second reads the first:
        // either the worker sees what was queued before this call, or this call sees that it sleeps.
        let before = self.word.fetch_or(mark, Ordering::AcqRel);
        match before & STATE_MASK {
            ABSENT if before & RUNG == 0 => Ring::Start,
            ASLEEP if before & RUNG == 0 => Ring::Wake,
            DOZING if urgent && before & URGENT == 0 => Ring::Wake,
            _ => Ring::Heard,
        }
    }

    /// Whether there is no worker and nobody rang for one.
    pub(crate) fn is_untouched(&self) -> bool {
        // Relaxed: a hint.
        self.word.load(Ordering::Relaxed) == ABSENT
    }

    /// The worker could not be started, or is gone (a forked child): the next ringer tries again.
    pub(crate) fn reset(&self) {
        self.change(ABSENT);
    }

    /// Worker: is up, and looks at all there is after this.
    pub(crate) fn wake_up(&self) {
        self.change(AWAKE);
    }

    /// Worker: declares that it will sleep; it must look at all there is once more after this, and
    /// [`wake_up`](Self::wake_up) if there is something.
    pub(crate) fn fall_asleep(&self) {
        self.change(ASLEEP);
    }

    /// Worker: declares that it will doze. `false` if something urgent came in since it looked: it must look again.
    pub(crate) fn doze(&self) -> bool {
        self.change(DOZING) & URGENT == 0
    }

    /// Worker, dozing: the value to doze on; `None` if something urgent came in.
    pub(crate) fn dozing_on(&self) -> Option<u32> {
        // Relaxed: a stale value makes the wait end at once; the worker looks again after `wake_up`.
        let word = self.word.load(Ordering::Relaxed);
        (word & URGENT == 0).then_some(word)
    }

    /// An exchange, never a store: it passes on what threads published that rang before, also to the next worker if
    /// this one is gone.
    fn change(&self, state: u32) -> u32 {
        // AcqRel: Acquire pairs with the Release in `ring`. Release pairs with the Acquire in `ring`: the next starter
        // sees what a failed start left.
        self.word.swap(state, Ordering::AcqRel)
    }
}
