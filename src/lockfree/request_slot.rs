//! The state of one request to the background thread, shared by the thread that holds its handle and the worker. One
//! word. Called by `governor::requests`.
//!
//! Invariant: a slot belongs to one request from `claim` until the request has ended, its handle is gone and nothing is
//! kept for it. Whoever lets go last, the holder or the worker, frees it in the same exchange, so none is left behind
//! and none is taken while somebody still reads it. A handle of an earlier request, told apart by the generation,
//! changes nothing. What was written before `publish` is seen by the worker that finds the request queued; what was
//! written before `end` is seen by whoever finds it ended; what either side did before it let go is over for the next
//! to claim.
//!
//! | bits | meaning |
//! |---|---|
//! | 0..2 | `FREE`, `FILLING` (being written), `QUEUED` (the worker's to do), `ENDED` |
//! | 2 | somebody holds a handle |
//! | 3 | the request was cancelled |
//! | 4 | the worker keeps something for it, though it has ended |
//! | 5..32 | generation: grows with each claim |

use crate::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const FILLING: u32 = 1;
const QUEUED: u32 = 2;
const ENDED: u32 = 3;
const STATE_MASK: u32 = 3;
const HELD: u32 = 1 << 2;
const CANCELLED: u32 = 1 << 3;
const KEPT: u32 = 1 << 4;
const GENERATION: u32 = 1 << 5;

/// One reading of a [`RequestSlot`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RequestState(u32);

impl RequestState {
    /// Whether the worker has to deal with it.
    pub(crate) const fn is_queued(self) -> bool {
        self.0 & STATE_MASK == QUEUED
    }

    /// Whether it has ended.
    pub(crate) const fn has_ended(self) -> bool {
        self.0 & STATE_MASK == ENDED
    }

    /// Whether it was cancelled.
    pub(crate) const fn is_cancelled(self) -> bool {
        self.0 & CANCELLED != 0
    }

    /// Whether somebody holds a handle.
    pub(crate) const fn is_held(self) -> bool {
        self.0 & HELD != 0
    }

    /// Whether it has ended and the worker still keeps something for it.
    pub(crate) const fn is_kept(self) -> bool {
        self.0 & KEPT != 0
    }

    /// The request's generation.
    pub(crate) const fn generation(self) -> u32 {
        self.0 / GENERATION
    }

    /// The word itself, to sleep on.
    pub(crate) const fn word(self) -> u32 {
        self.0
    }
}

/// The word of an ended request that somebody has let go of: free if nobody is left.
const fn let_go_of(word: u32) -> u32 {
    let is_over = word & STATE_MASK == ENDED && word & (HELD | KEPT) == 0;
    if is_over { word & !(GENERATION - 1) | FREE } else { word }
}

/// Whether `word` is that of a request whose handle, of `generation`, is held.
const fn is_held_as(word: u32, generation: u32) -> bool {
    word / GENERATION == generation && word & HELD != 0
}

/// The word of the next generation, with nothing else set.
const fn next_generation(word: u32) -> u32 {
    (word / GENERATION).wrapping_add(1).wrapping_mul(GENERATION)
}

/// The shared word of one request.
pub(crate) struct RequestSlot {
    word: AtomicU32,
}

impl RequestSlot {
    /// A free slot; `word` must hold 0.
    pub(crate) const fn from_word(word: AtomicU32) -> Self {
        RequestSlot { word }
    }

    /// The word to sleep and wake on.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// The state now.
    pub(crate) fn state(&self) -> RequestState {
        // Acquire: pairs with the Release in `publish` and `end`.
        RequestState(self.word.load(Ordering::Acquire))
    }

    /// Replaces the word by what `next` makes of it, until that works or `next` declines. Gives the word before. Always
    /// an exchange, so that a claim acquires what every earlier one released.
    fn update(&self, order: Ordering, next: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        // Relaxed load and failure: a stale value fails the exchange.
        self.word.fetch_update(order, Ordering::Relaxed, next).ok()
    }

    /// Takes a free slot for a new request, whose handle the caller holds. Gives its generation.
    pub(crate) fn claim(&self) -> Option<u32> {
        let next = |word: u32| (word & STATE_MASK == FREE).then_some(next_generation(word) | HELD | FILLING);
        // Acquire: pairs with the Release in `end`, `settle` and `let_go`; the last request's holder and the worker are
        // done with what belongs to the slot.
        self.update(Ordering::Acquire, next).map(|before| next_generation(before) / GENERATION)
    }

    /// Claimer: hands the request to the worker, which sees what was written before.
    pub(crate) fn publish(&self) {
        // Release: pairs with the Acquire in `state`. The closure never declines.
        let _ = self.update(Ordering::Release, |word| Some(word & !STATE_MASK | QUEUED));
    }

    /// Worker: ends a queued request; `kept` if something is kept for it. Otherwise it is not the worker's any more.
    pub(crate) fn end(&self, kept: bool) {
        let kept = if kept { KEPT } else { 0 };
        // Release: pairs with the Acquire in `state` and `claim`. The closure never declines.
        let _ = self.update(Ordering::Release, |word| Some(let_go_of(word & !STATE_MASK | ENDED | kept)));
    }

    /// Worker: nothing is kept any more for an ended request. It is not the worker's any more.
    pub(crate) fn settle(&self) {
        // Release: pairs with the Acquire in `claim`. The closure never declines.
        let _ = self.update(Ordering::Release, |word| Some(let_go_of(word & !KEPT)));
    }

    /// Holder of the handle of `generation`: cancels the request. `false` if it is another one by now.
    pub(crate) fn cancel(&self, generation: u32) -> bool {
        // Relaxed: asks, and hands nothing over.
        self.update(Ordering::Relaxed, |word| is_held_as(word, generation).then_some(word | CANCELLED)).is_some()
    }

    /// Holder of the handle of `generation`: gives it up. Changes nothing if it is another request by now.
    pub(crate) fn let_go(&self, generation: u32) {
        // Release: pairs with the Acquire in `claim`; the holder has read what it wanted.
        let _ = self.update(Ordering::Release, |word| is_held_as(word, generation).then_some(let_go_of(word & !HELD)));
    }

    /// Forked child: frees the slot, whatever its state. To handles from before the fork it is another request's.
    pub(crate) fn clear(&self) {
        // Relaxed: one thread. The closure never declines.
        let _ = self.update(Ordering::Relaxed, |word| Some(next_generation(word)));
    }
}
