//! The state of one room of the huge region: who uses it, how far it is warm, whether the governor works on it. One
//! word. Called by `arena::rooms`.
//!
//! Invariant: a room that is in use has one owner, who alone grows, shrinks and releases it. Chunks below the live
//! count are never purged; chunks at or above the warm count read as zeroes, and so does every chunk of a free room
//! that is marked zero. While the governor works on a piece (it purges it, or makes it warm), the piece starts at the
//! warm count: nobody enters it, but what lies below is to be had as ever. So a request that fits below the piece takes
//! the room at once, and an owner grows up to the piece.
//!
//! | bits | meaning |
//! |---|---|
//! | 0..28 | live: chunks that the block in the room covers |
//! | 28..56 | warm: chunks from the start of the room that may be resident |
//! | 56 | in use |
//! | 57 | busy: the governor works on a piece that starts at the warm count |
//! | 58 | zero: the warm chunks read as zeroes. Only in a room that is not in use |

use crate::atomic::{AtomicU64, Ordering};

const COUNT_BITS: u32 = 28;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const IN_USE: u64 = 1 << 56;
const BUSY: u64 = 1 << 57;
const ZERO: u64 = 1 << 58;

/// One reading of a [`RoomWord`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RoomState(u64);

impl RoomState {
    const fn new(live: u32, warm: u32, flags: u64) -> Self {
        RoomState((live as u64 & COUNT_MASK) | ((warm as u64 & COUNT_MASK) << COUNT_BITS) | flags)
    }

    const fn flags(self) -> u64 {
        self.0 & (IN_USE | BUSY | ZERO)
    }

    /// Chunks that the block covers.
    pub(crate) const fn live(self) -> u32 {
        (self.0 & COUNT_MASK) as u32
    }

    /// Chunks from the start that may be resident.
    pub(crate) const fn warm(self) -> u32 {
        (self.0 >> COUNT_BITS & COUNT_MASK) as u32
    }

    /// Chunks from the start that may hold old data.
    pub(crate) const fn dirty(self) -> u32 {
        if self.0 & ZERO == 0 { self.warm() } else { 0 }
    }

    /// Whether a block lives here.
    pub(crate) const fn is_in_use(self) -> bool {
        self.0 & IN_USE != 0
    }

    /// Whether a block of `chunks` can have the room now.
    pub(crate) const fn is_available(self, chunks: u32) -> bool {
        !self.is_in_use() && (!self.is_busy() || chunks <= self.warm())
    }

    /// Whether the governor works on a piece of the room.
    pub(crate) const fn is_busy(self) -> bool {
        self.0 & BUSY != 0
    }

    /// Warm chunks that neither a block nor the first `keep` chunks of a free room cover.
    pub(crate) const fn retired(self, keep: u32) -> u32 {
        let floor = if self.is_in_use() { self.live() } else { keep };
        self.warm().saturating_sub(floor)
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

    /// Takes a free room for a block of `chunks`. Gives the state before: chunks from its dirty count on read as
    /// zeroes.
    pub(crate) fn claim(&self, chunks: u32) -> Option<RoomState> {
        // Acquire: pairs with the Release in `release` and `finish`; the last block's owner and the governor are done
        // with these chunks.
        self.update(Ordering::Acquire, |state| {
            let flags = state.flags() & BUSY | IN_USE;
            state.is_available(chunks).then(|| RoomState::new(chunks, state.warm().max(chunks), flags))
        })
        .ok()
    }

    /// Owner: covers `chunks`, more or fewer than now. Growing into a piece that the governor works on fails. Gives the
    /// state before.
    pub(crate) fn resize(&self, chunks: u32) -> Option<RoomState> {
        // AcqRel: growing, Acquire pairs with the Release in `finish`; shrinking, Release pairs with the Acquire in
        // `begin_purge`, as our use of the tail is over.
        self.update(Ordering::AcqRel, |state| {
            let fits = chunks <= state.warm() || !state.is_busy();
            (fits && state.is_in_use()).then(|| RoomState::new(chunks, state.warm().max(chunks), state.flags()))
        })
        .ok()
    }

    /// Owner: gives the room back. `None` if it was not in use: the caller freed twice.
    pub(crate) fn release(&self) -> Option<RoomState> {
        // Release: pairs with the Acquire in `claim` and `begin_purge`.
        self.update(Ordering::Release, |state| {
            state.is_in_use().then(|| RoomState::new(0, state.warm(), state.flags() & BUSY))
        })
        .ok()
    }

    /// Owner: takes a claim back before the room was touched; `before` is what [`claim`](Self::claim) gave.
    pub(crate) fn cancel(&self, before: RoomState) {
        // Release: pairs with the Acquire in `claim`, like `release`. A piece that the governor works on goes on. What
        // the claim alone made warm is cold again; whether the rest is zero is not known any more.
        let next = |state: RoomState| {
            let warm = if before.warm() >= state.live() { state.warm() } else { before.warm() };
            Some(RoomState::new(0, warm, state.flags() & BUSY))
        };
        // The closure never declines.
        let _ = self.update(Ordering::Release, next);
    }

    /// Governor: takes up to `chunks_max` warm chunks, from the top end, for a purge; none that a block covers, nor of
    /// the first `keep` chunks of a free room. They count as cold until [`finish`](Self::finish).
    pub(crate) fn begin_purge(&self, chunks_max: u32, keep: u32) -> Option<Piece> {
        // Acquire: pairs with the Release in `release` and `resize`.
        let from = |state: RoomState| state.warm() - state.retired(keep).min(chunks_max);
        let before = self
            .update(Ordering::Acquire, |state| {
                let idle = !state.is_busy() && state.retired(keep) > 0;
                idle.then(|| RoomState::new(state.live(), from(state), state.flags() | BUSY))
            })
            .ok()?;
        Some(Piece { from: from(before), to: before.warm() })
    }

    /// Governor: takes up to `chunks_max` cold chunks above the warm ones of a free room, below chunk `end`, to make
    /// them warm.
    pub(crate) fn begin_warm(&self, chunks_max: u32, end: u32) -> Option<Piece> {
        // Acquire: pairs with the Release in `finish`; who purged these chunks is done with them. A room without warm
        // chunks is zero.
        let before = self
            .update(Ordering::Acquire, |state| {
                let idle = state.flags() & (IN_USE | BUSY) == 0 && state.warm() < end;
                let zero = if state.warm() == 0 { ZERO } else { state.flags() & ZERO };
                idle.then(|| RoomState::new(0, state.warm(), BUSY | zero))
            })
            .ok()?;
        Some(Piece { from: before.warm(), to: before.warm().saturating_add(chunks_max).min(end) })
    }

    /// Forked child: if the parent's governor was at work here, ends that; up to chunk `end` all may be resident.
    pub(crate) fn recover(&self, end: u32) {
        // Relaxed: the child has one thread.
        let next = |state: RoomState| {
            let warm = state.warm().max(end);
            state.is_busy().then(|| RoomState::new(state.live(), warm, state.flags() & IN_USE))
        };
        // A room that is not busy is left as it is.
        let _ = self.update(Ordering::Relaxed, next);
    }

    /// Governor: ends what `begin_purge` or `begin_warm` began; says whether `piece` is `resident` now.
    pub(crate) fn finish(&self, piece: Piece, resident: bool) -> RoomState {
        // Release: pairs with the Acquire in `claim`, `resize` and `begin_warm`. Nobody moves the warm count of a busy
        // room. The closure never declines.
        let warm = if resident { piece.to } else { piece.from };
        let next = |state: RoomState| RoomState::new(state.live(), warm, state.flags() & !BUSY);
        match self.update(Ordering::Release, |state| Some(next(state))) {
            Ok(before) | Err(before) => next(before),
        }
    }
}
