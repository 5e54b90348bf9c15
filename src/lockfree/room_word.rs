//! The state of one room of the huge region: who uses it, how far it is warm, whether a purge is running. One word.
//! Called by `arena::rooms`.
//!
//! Invariant: a room that is in use has one owner, who alone grows, shrinks and releases it. Chunks below the live
//! count are never purged; chunks at or above the warm count read as zeroes. While a purge runs nobody enters its
//! chunks: a free room is not handed out and a room in use does not grow (its owner then copies instead of waiting).
//!
//! | bits | meaning |
//! |---|---|
//! | 0..28 | live: chunks that the block in the room covers |
//! | 28..56 | warm: chunks from the start of the room that may be resident and not zero |
//! | 56 | in use |
//! | 57 | a purge runs on the chunks between the caller's mark and the warm count |

use crate::atomic::{AtomicU64, Ordering};

const COUNT_BITS: u32 = 28;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const IN_USE: u64 = 1 << 56;
const PURGING: u64 = 1 << 57;

/// One reading of a [`RoomWord`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RoomState(u64);

impl RoomState {
    const fn new(live: u32, warm: u32, flags: u64) -> Self {
        RoomState((live as u64 & COUNT_MASK) | ((warm as u64 & COUNT_MASK) << COUNT_BITS) | flags)
    }

    const fn flags(self) -> u64 {
        self.0 & (IN_USE | PURGING)
    }

    /// Chunks that the block covers.
    pub(crate) const fn live(self) -> u32 {
        (self.0 & COUNT_MASK) as u32
    }

    /// Chunks from the start that may be resident and not zero.
    pub(crate) const fn warm(self) -> u32 {
        (self.0 >> COUNT_BITS & COUNT_MASK) as u32
    }

    /// Whether a block lives here.
    pub(crate) const fn is_in_use(self) -> bool {
        self.0 & IN_USE != 0
    }

    /// Whether the room can be claimed: not in use and not being purged.
    pub(crate) const fn is_available(self) -> bool {
        self.flags() == 0
    }

    /// Whether a purge runs in the room.
    pub(crate) const fn is_being_purged(self) -> bool {
        self.0 & PURGING != 0
    }

    /// Whether there are warm chunks that no block covers.
    pub(crate) const fn has_retired(self) -> bool {
        self.warm() > self.live()
    }
}

/// The chunks `from .. to` of a room, counted from its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// The shared word of one room.
pub(crate) struct RoomWord {
    word: AtomicU64,
}

impl RoomWord {
    /// A cold room nobody uses; `word` must hold 0. In place, a zeroed word is the same.
    #[cfg_attr(not(test), expect(dead_code, reason = "rooms are made by zeroed memory"))]
    pub(crate) const fn from_word(word: AtomicU64) -> Self {
        RoomWord { word }
    }

    /// The state now.
    pub(crate) fn state(&self) -> RoomState {
        // Relaxed: a hint for searches; for the owner, its own part of the word is what it wrote last.
        RoomState(self.word.load(Ordering::Relaxed))
    }

    /// Replaces the state by what `next` makes of it, until that works or `next` declines. Gives the state before.
    fn update(&self, order: Ordering, next: impl Fn(RoomState) -> Option<RoomState>) -> Result<RoomState, RoomState> {
        // Relaxed load and failure: a stale value fails the exchange.
        self.word
            .fetch_update(order, Ordering::Relaxed, |word| next(RoomState(word)).map(|state| state.0))
            .map(RoomState)
            .map_err(RoomState)
    }

    /// Takes a free room for a block of `chunks`. Gives the warm count before: chunks from there on read as zeroes.
    pub(crate) fn claim(&self, chunks: u32) -> Option<u32> {
        // Acquire: pairs with the Release in `release` and `finish_purge`; the last block's owner and the purge are
        // done.
        self.update(Ordering::Acquire, |state| {
            state.is_available().then(|| RoomState::new(chunks, state.warm().max(chunks), IN_USE))
        })
        .ok()
        .map(RoomState::warm)
    }

    /// Owner: covers `chunks`, more or fewer than now. Growing fails while a purge runs. Gives the state before.
    pub(crate) fn resize(&self, chunks: u32) -> Option<RoomState> {
        // AcqRel: growing, Acquire pairs with the Release in `finish_purge`; shrinking, Release pairs with the Acquire
        // in `begin_purge`, as our use of the tail is over.
        self.update(Ordering::AcqRel, |state| {
            let fits = chunks <= state.live() || state.flags() & PURGING == 0;
            (fits && state.is_in_use()).then(|| RoomState::new(chunks, state.warm().max(chunks), state.flags()))
        })
        .ok()
    }

    /// Owner: gives the room back. `None` if it was not in use: the caller freed twice.
    pub(crate) fn release(&self) -> Option<RoomState> {
        // Release: pairs with the Acquire in `claim` and `begin_purge`.
        self.update(Ordering::Release, |state| {
            state.is_in_use().then(|| RoomState::new(0, state.warm(), state.flags() & PURGING))
        })
        .ok()
    }

    /// Owner: takes a claim back before the room was touched; `warm` is what [`claim`](Self::claim) gave.
    pub(crate) fn cancel(&self, warm: u32) {
        // Release: pairs with the Acquire in `claim`, like `release`. A purge of chunks that were warm before goes on.
        let next = |state: RoomState| {
            let warm = if warm > state.live() { state.warm() } else { warm };
            Some(RoomState::new(0, warm, state.flags() & PURGING))
        };
        // The closure never declines.
        let _ = self.update(Ordering::Release, next);
    }

    /// Takes up to `chunks_max` warm chunks that no block covers, from the top end, for a purge.
    pub(crate) fn begin_purge(&self, chunks_max: u32) -> Option<Piece> {
        // Acquire: pairs with the Release in `release` and `resize`.
        let before = self
            .update(Ordering::Acquire, |state| {
                let idle = state.flags() & PURGING == 0 && state.has_retired();
                idle.then(|| RoomState::new(state.live(), state.warm(), state.flags() | PURGING))
            })
            .ok()?;
        let from = before.live().max(before.warm().saturating_sub(chunks_max));
        Some(Piece { from, to: before.warm() })
    }

    /// Ends the purge of `piece`; it is cold now if it was `purged`.
    pub(crate) fn finish_purge(&self, piece: Piece, purged: bool) -> RoomState {
        // Release: pairs with the Acquire in `claim` and `resize`. The closure never declines.
        let warm = |state: RoomState| if purged { piece.from } else { state.warm() };
        let next = |state: RoomState| RoomState::new(state.live(), warm(state), state.flags() & IN_USE);
        match self.update(Ordering::Release, |state| Some(next(state))) {
            Ok(before) | Err(before) => next(before),
        }
    }
}
