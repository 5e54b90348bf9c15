//! The word of a slab in which threads meet: who may own it, and the list of blocks that other threads have freed.
//! Called by `span::slab` and `thread::heap`.
//!
//! Invariant: a slab in state `OWNED` has one owner, and only that thread takes the list; a slab that is `FULL` or
//! `POOLED` has none. Any thread pushes. Lists are pushed to and taken whole, never popped, so there is no ABA.
//!
//! | bits | meaning |
//! |---|---|
//! | 0..20 | first block of the list: its place in the slab plus one; 0 for an empty list |
//! | 20..22 | state |
//! | 22..42 | blocks in the list |
//!
//! | state | meaning | goes to, by |
//! |---|---|---|
//! | `OWNED` | a thread allocates from it | `FULL` by the owner, when it has no free block; `POOLED` by the owner |
//! | `FULL` | no free block, nobody owns it, it is on no list | `OWNED` by the first thread that frees one of its |
//! | | | blocks |
//! | `POOLED` | on the stack of slabs without owner | `OWNED` by the thread that popped it from there |
//!
//! That a full slab belongs to nobody is what lets its memory come back when the thread that filled it never allocates
//! again; mimalloc 3 abandons full pages for the same reason.

use crate::atomic::{AtomicU64, Ordering};

const PLACE_BITS: u32 = 20;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;
/// In the low half of the word, so that its masks are immediate operands.
const STATE_SHIFT: u32 = PLACE_BITS;
const COUNT_SHIFT: u32 = STATE_SHIFT + 2;
const ONE_BLOCK: u64 = 1 << COUNT_SHIFT;

const OWNED: u64 = 0;
const FULL: u64 = 1 << STATE_SHIFT;
const POOLED: u64 = 2 << STATE_SHIFT;
const STATE_MASK: u64 = 3 << STATE_SHIFT;

/// The place of a block in its slab; the caller chooses the unit. At most 2^20 - 2.
pub(crate) type Place = usize;

/// A list of freed blocks, linked through the blocks by the threads that pushed them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chain {
    /// The block that was pushed last.
    pub(crate) head: Place,
    /// How many blocks the list has, never zero.
    pub(crate) count: u32,
}

/// What became of a push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Push {
    /// The blocks are on the list.
    Listed,
    /// The blocks are on the list of a slab without owner that has this many blocks in its list now. The caller sees
    /// what the last owner wrote before it pooled the slab.
    Pooled(u32),
    /// The slab was full and without owner: the caller owns it now. The blocks are *not* on the list.
    Adopted,
}

/// The shared word of a slab.
pub(crate) struct RemoteFree {
    word: AtomicU64,
}

fn chain_of(word: u64) -> Option<Chain> {
    let head = word & PLACE_MASK;
    let count = word >> COUNT_SHIFT;
    (head != 0).then(|| Chain { head: (head - 1) as Place, count: count as u32 })
}

impl RemoteFree {
    /// A slab in state `OWNED` with an empty list; `word` must hold 0. In place, a zeroed word is the same.
    #[cfg_attr(not(test), expect(dead_code, reason = "headers of slabs are made by zeroed memory"))]
    pub(crate) const fn from_word(word: AtomicU64) -> Self {
        RemoteFree { word }
    }

    /// Makes the word that of a new slab, owned by the caller.
    pub(crate) fn reset(&self) {
        // Relaxed: other threads learn of the slab through blocks that its owner hands them.
        self.word.store(OWNED, Ordering::Relaxed);
    }

    /// Whether the list is empty now. A hint, for the owner: cheaper than [`take`](Self::take).
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: a hint; `take` synchronises.
        self.word.load(Ordering::Relaxed) & PLACE_MASK == 0
    }

    /// Blocks in the list now; for the owner, at least as many stay until it takes them.
    pub(crate) fn count(&self) -> u32 {
        // Acquire: pairs with the Release in `push`; an owner that finds all blocks here may give the slab's memory
        // away without taking the list, and their last users are done with them.
        chain_of(self.word.load(Ordering::Acquire)).map_or(0, |list| list.count)
    }

    /// Puts `chain` in front of the list. `link(next)` must make the last block of the chain point to the block at
    /// `next`, or end the list for `None`; it may be called more than once.
    pub(crate) fn push(&self, chain: Chain, link: impl Fn(Option<Place>)) -> Push {
        // Relaxed: a stale value fails the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            // A state is one bit or none.
            if word & FULL != 0 {
                // Acquire: pairs with the Release in `detach`; we see the slab as its last owner left it.
                match self.word.compare_exchange_weak(word, OWNED, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return Push::Adopted,
                    Err(now) => word = now,
                }
                continue;
            }
            link(chain_of(word).map(|list| list.head));
            let new = (word & !PLACE_MASK) + u64::from(chain.count) * ONE_BLOCK + (chain.head as u64 + 1);
            // AcqRel. Release: pairs with the Acquire in `take` and `count`; the taker sees the links and that our use
            // of the blocks is over. Acquire: pairs with the Release in `pool`; who is told `Pooled` sees what was
            // noted before. Relaxed on failure: tried again.
            match self.word.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if new & POOLED != 0 => return Push::Pooled((new >> COUNT_SHIFT) as u32),
                Ok(_) => return Push::Listed,
                Err(now) => word = now,
            }
        }
    }

    /// Owner: takes the whole list.
    pub(crate) fn take(&self) -> Option<Chain> {
        if self.is_empty() {
            return None;
        }
        // Acquire: pairs with the Release in `push`.
        chain_of(self.word.swap(OWNED, Ordering::Acquire))
    }

    /// Owner: gives up a slab that has no free block. `false` if blocks have come back meanwhile: the caller still owns
    /// the slab.
    pub(crate) fn detach(&self) -> bool {
        // Release: pairs with the Acquire of an adopting `push`. Relaxed on failure: the caller takes the list next.
        self.word.compare_exchange(OWNED, FULL, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Owner: gives up a slab with free blocks, before it puts it on the stack of slabs without owner.
    pub(crate) fn pool(&self) {
        // Release: pairs with the Acquire in `adopt` and `push`. A list that is there stays.
        self.word.fetch_or(POOLED, Ordering::Release);
    }

    /// Becomes the owner of a slab that the caller has popped from the stack. Its list stays, to be taken.
    pub(crate) fn adopt(&self) {
        // Acquire: pairs with the Release in `pool`; we see the slab as its last owner left it.
        self.word.fetch_and(!STATE_MASK, Ordering::Acquire);
    }
}
