//! How threads that retire memory wake the one background thread, and learn that it must be started. Called by
//! `governor::worker`.
//!
//! Invariant: work that was queued before [`Doorbell::ring`] is seen by the worker before it sleeps, or the worker is
//! woken. Ringing costs one exchange, and a system call only when the worker sleeps.
//!
//! | word | meaning | goes to |
//! |---|---|---|
//! | `ABSENT` | no worker | `AWAKE` by the ringer, who must start it |
//! | `AWAKE` | the worker runs and will look at the queue again | `ASLEEP` by the worker |
//! | `ASLEEP` | the worker found nothing and sleeps, or is about to | `AWAKE` by a ringer, who must wake it |

use crate::atomic::{AtomicU32, Ordering};

const ABSENT: u32 = 0;
const AWAKE: u32 = 1;
/// The value on which the worker sleeps.
pub(crate) const ASLEEP: u32 = 2;

/// What the ringer has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ring {
    /// Nothing: the worker is awake.
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

    /// Says that something was queued.
    pub(crate) fn ring(&self) -> Ring {
        // AcqRel: Release pairs with the Acquire in `fall_asleep`. Whichever of the two exchanges is second reads the
        // first: either the worker sees what was queued before this call, or this call sees that it sleeps.
        match self.word.swap(AWAKE, Ordering::AcqRel) {
            ABSENT => Ring::Start,
            ASLEEP => Ring::Wake,
            _ => Ring::Heard,
        }
    }

    /// The worker could not be started, or is gone (a forked child): the next ringer tries again.
    pub(crate) fn reset(&self) {
        // Release: pairs with the Acquire in `ring`; the next starter sees what this one left. An exchange, not a
        // store: it passes on what threads published that rang since the failed start began, and that nobody has heard
        // yet.
        self.word.swap(ABSENT, Ordering::Release);
    }

    /// Worker: declares that it will sleep; it must look at the queue once more after this, and stay awake by
    /// [`stay_awake`](Self::stay_awake) if there is something.
    pub(crate) fn fall_asleep(&self) {
        // AcqRel: Acquire pairs with the Release in `ring`.
        self.word.swap(ASLEEP, Ordering::AcqRel);
    }

    /// Worker: takes `fall_asleep` back.
    pub(crate) fn stay_awake(&self) {
        // Relaxed: the worker is going to look at the queue anyway. An exchange, not a store: it passes on what a
        // ringer published since `fall_asleep`, so that the next `fall_asleep` sees it.
        self.word.swap(AWAKE, Ordering::Relaxed);
    }
}
