//! Which slices of a chunk are in use, and which may hold old data: one word a chunk. Called by `arena::space`.
//!
//! Invariant: a used bit has exactly one owner, the thread whose exchange set it. A slice whose dirty bit is clear
//! reads as zeroes. A chunk that is being purged has all its used bits set, owned by the purger, so nobody can take it.
//!
//! | bits | meaning |
//! |---|---|
//! | 0..32 | slice in use |
//! | 32..64 | slice handed out since the last purge: may be resident and not zero |

use crate::atomic::{AtomicU64, Ordering};

/// Slices in a chunk.
pub(crate) const SLICES: u32 = 32;
const USED: u64 = (1 << SLICES) - 1;

/// One reading of a [`SliceBitmap`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChunkState(u64);

impl ChunkState {
    /// How many slices are free.
    pub(crate) const fn free_count(self) -> u32 {
        SLICES - (self.0 & USED).count_ones()
    }

    /// Whether no slice is in use.
    pub(crate) const fn is_unused(self) -> bool {
        self.0 & USED == 0
    }

    /// Whether the slice at `place` is in use.
    pub(crate) const fn is_used(self, place: u32) -> bool {
        self.0 >> place & 1 != 0
    }

    /// How many slices are free and may hold old data.
    pub(crate) const fn free_dirty_count(self) -> u32 {
        (self.0 >> SLICES & !self.0 & USED).count_ones()
    }

    /// Whether some slice may hold old data.
    pub(crate) const fn is_dirty(self) -> bool {
        self.0 >> SLICES != 0
    }

    /// Where the lowest free run of `count` slices starts whose place is a multiple of `align`, a power of two.
    pub(crate) const fn find_run(self, count: u32, align: u32) -> Option<u32> {
        // `starts` keeps the bits at which a run of `have` free slices starts; each round makes the run longer.
        let mut starts = !self.0 & USED;
        let mut have = 1;
        while have < count && starts != 0 {
            let step = if count - have < have { count - have } else { have };
            starts &= starts >> step;
            have += step;
        }
        let mut aligned = starts;
        while aligned != 0 {
            let place = aligned.trailing_zeros();
            if place.is_multiple_of(align) {
                return Some(place);
            }
            aligned &= aligned - 1;
        }
        None
    }
}

/// What a successful claim found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    /// First slice of the run.
    pub(crate) start: u32,
    /// Whether every slice of the run reads as zeroes.
    pub(crate) zeroed: bool,
    /// The chunk before the claim.
    pub(crate) before: ChunkState,
    /// The chunk after the claim.
    pub(crate) after: ChunkState,
}

/// The word of one chunk.
pub(crate) struct SliceBitmap {
    word: AtomicU64,
}

/// Bits `start .. start + count`, in the used half.
const fn run(start: u32, count: u32) -> u64 {
    (((1_u64 << count) - 1) << start) & USED
}

impl SliceBitmap {
    /// A chunk with no slice in use and all of it zero; `word` must hold 0. In place, a zeroed word is the same.
    #[cfg_attr(not(test), expect(dead_code, reason = "tables of chunks are made by zeroed memory"))]
    pub(crate) const fn from_word(word: AtomicU64) -> Self {
        SliceBitmap { word }
    }

    /// The state now. A hint for searches: only claims decide.
    pub(crate) fn state(&self) -> ChunkState {
        // Relaxed: a hint; every decision is an exchange.
        ChunkState(self.word.load(Ordering::Relaxed))
    }

    /// Claims the lowest free run of `count` slices (1 to 32) at a multiple of `align` slices.
    pub(crate) fn claim_run(&self, count: u32, align: u32) -> Option<Claim> {
        // Relaxed: a stale value fails the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let start = ChunkState(word).find_run(count, align)?;
            match self.try_claim(word, start, count) {
                Ok(claim) => return Some(claim),
                Err(now) => word = now,
            }
        }
    }

    /// Claims exactly the slices `start .. start + count`, if all of them are free.
    pub(crate) fn claim_at(&self, start: u32, count: u32) -> Option<Claim> {
        // Relaxed: as in `claim_run`.
        let mut word = self.word.load(Ordering::Relaxed);
        while word & run(start, count) == 0 {
            match self.try_claim(word, start, count) {
                Ok(claim) => return Some(claim),
                Err(now) => word = now,
            }
        }
        None
    }

    fn try_claim(&self, word: u64, start: u32, count: u32) -> Result<Claim, u64> {
        let bits = run(start, count);
        let new = word | bits | (bits << SLICES);
        // Acquire: pairs with the Release in `release` and `finish_purge`; the last owner, or the purge, is done with
        // the slices before we use them. Relaxed on failure: the caller tries again.
        self.word.compare_exchange_weak(word, new, Ordering::Acquire, Ordering::Relaxed)?;
        let zeroed = word & (bits << SLICES) == 0;
        Ok(Claim { start, zeroed, before: ChunkState(word), after: ChunkState(new) })
    }

    /// Gives the slices `start .. start + count` back. `None` if one of them was not in use: the caller's books are
    /// wrong.
    pub(crate) fn release(&self, start: u32, count: u32) -> Option<(ChunkState, ChunkState)> {
        let bits = run(start, count);
        // Relaxed: a stale value fails the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        while word & bits == bits {
            let new = word & !bits;
            // Release: pairs with the Acquire of the next claim; our use of the slices is over before it.
            match self.word.compare_exchange_weak(word, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Some((ChunkState(word), ChunkState(new))),
                Err(now) => word = now,
            }
        }
        None
    }

    /// Takes the whole chunk for a purge, if no slice is in use and some is dirty.
    pub(crate) fn begin_purge(&self) -> bool {
        // Relaxed: a stale value fails the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        while ChunkState(word).is_unused() && ChunkState(word).is_dirty() {
            // Acquire: pairs with the Release in `release`; the last owner is done before the contents are dropped.
            match self.word.compare_exchange_weak(word, word | USED, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Ends a purge that [`begin_purge`](Self::begin_purge) started: all slices are free; all zero if it was `purged`.
    pub(crate) fn finish_purge(&self, purged: bool) -> ChunkState {
        // No exchange: the purger owns every used bit, and no other thread changes a word whose bits are all used.
        // Relaxed load: nothing has changed since our exchange.
        let word = if purged { 0 } else { self.word.load(Ordering::Relaxed) & !USED };
        // Release: pairs with the Acquire of the next claim; the purge is over before the memory is used.
        self.word.store(word, Ordering::Release);
        ChunkState(word)
    }
}
