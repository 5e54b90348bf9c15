//! Models of `lockfree::slice_bitmap`: threads claim, use and give back slices of one chunk while another purges it.
//!
//! Slices are memory that only who claimed them may touch; a purge touches all of the chunk. In every interleaving
//! nobody meets anybody in a slice, who claims one sees what its last owner wrote there, and a claim that is said to
//! read as zeroes does. Of the 32 slices most are claimed at the start and stay so; models of purges need all 32 to
//! be free, and look at two of them. A chunk is made warm as `arena::space` does it: taken whole like a run, touched,
//! and given back like a chunk whose purge failed.

use std::sync::Arc;

use crate::atomic::AtomicU64;
use crate::explore::{Memory, explore, join, spawn};

#[allow(dead_code, reason = "models call what threads call at the same time")]
#[path = "../../src/lockfree/slice_bitmap.rs"]
mod subject;
use subject::{SLICES, SliceBitmap};

struct Chunk {
    bitmap: SliceBitmap,
    /// What the first slices hold.
    slices: [Memory<u32>; 2],
}

impl Chunk {
    fn new() -> Self {
        Chunk { bitmap: SliceBitmap::from_word(AtomicU64::new(0)), slices: [Memory::new(0), Memory::new(0)] }
    }

    /// A chunk of which only the first `count` slices are free.
    fn with_free(count: u32) -> Arc<Self> {
        let chunk = Self::new();
        assert!(chunk.bitmap.claim_at(count, SLICES - count).is_some());
        Arc::new(chunk)
    }

    /// Claims a slice, checks that it is as the claim says, and writes to it.
    fn claim(&self) -> Option<u32> {
        let claim = self.bitmap.claim_run(1, 1)?;
        self.fill(claim.start, claim.zeroed);
        Some(claim.start)
    }

    fn fill(&self, start: u32, zeroed: bool) {
        let slice = &self.slices[start as usize];
        let found = slice.get();
        assert!(!zeroed || found == 0, "a slice said to be zero reads as {found}");
        slice.set(found + 1);
    }

    fn release(&self, start: u32) {
        assert!(self.bitmap.release(start, 1).is_some(), "the slice was in use");
    }

    /// Purges the chunk, if nobody uses it. Says whether it did.
    fn purge(&self, works: bool) -> bool {
        let taken = self.bitmap.begin_purge();
        if taken {
            for slice in &self.slices {
                slice.set(if works { 0 } else { slice.get() });
            }
            self.bitmap.finish_purge(works);
        }
        taken
    }

    /// Makes the chunk warm, if nobody uses it and none of it holds old data. Says whether it did.
    fn warm(&self) -> bool {
        let state = self.bitmap.state();
        if !state.is_unused() || state.is_dirty() {
            return false;
        }
        let Some(claim) = self.bitmap.claim_at(0, SLICES) else { return false };
        if !claim.zeroed {
            assert!(self.bitmap.release(0, SLICES).is_some(), "it was used in this very moment");
            return false;
        }
        for slice in &self.slices {
            assert_eq!(slice.get(), 0, "what is made warm was known to be zero");
            slice.set(0);
        }
        let state = self.bitmap.finish_purge(false);
        assert!(state.is_unused() && state.is_dirty(), "it is free, and worth a purge");
        true
    }

    /// Claims a slice, uses it, and gives it back. Says whether there was one.
    fn use_one(&self) -> bool {
        let claimed = self.claim();
        if let Some(start) = claimed {
            self.release(start);
        }
        claimed.is_some()
    }
}

#[test]
fn two_claims_never_share_a_slice() {
    explore(|| {
        let chunk = Chunk::with_free(2);
        let threads = [(), ()].map(|()| spawn(&chunk, |chunk| chunk.claim()));
        let mut starts = join(threads);
        starts.sort_unstable();
        assert_eq!(starts, [Some(0), Some(1)]);
        assert!(chunk.claim().is_none());
    });
}

#[test]
fn the_next_owner_of_a_slice_sees_what_the_last_one_left() {
    explore(|| {
        let chunk = Chunk::with_free(1);
        let threads = [(), ()].map(|()| {
            spawn(&chunk, |chunk| {
                let claimed = chunk.claim();
                if let Some(start) = claimed {
                    chunk.release(start);
                }
                u32::from(claimed.is_some())
            })
        });
        let claims: u32 = join(threads).iter().sum();
        assert!(claims >= 1);
        assert_eq!(chunk.slices[0].get(), claims);
    });
}

#[test]
fn a_run_is_claimed_whole_or_not_at_all() {
    explore(|| {
        let chunk = Chunk::with_free(2);
        let other = spawn(&chunk, |chunk| chunk.bitmap.claim_at(1, 1).map(|claim| chunk.fill(1, claim.zeroed)));
        let both = chunk.bitmap.claim_at(0, 2).map(|claim| [0, 1].map(|slice| chunk.fill(slice, claim.zeroed)));
        let one = other.join().unwrap();
        assert!(one.is_some() != both.is_some());
        assert_eq!(chunk.claim().is_some(), one.is_some(), "who failed has taken nothing");
    });
}

#[test]
fn a_chunk_that_is_purged_is_claimed_by_nobody() {
    explore(|| {
        let chunk = Arc::new(Chunk::new());
        let owner = spawn(&chunk, {
            let start = chunk.claim().unwrap();
            move |chunk| {
                chunk.slices[start as usize].set(7);
                chunk.release(start);
            }
        });
        let purger = spawn(&chunk, |chunk| chunk.purge(true));
        let claimed = chunk.claim();
        owner.join().unwrap();
        purger.join().unwrap();
        if let Some(start) = claimed {
            assert!(!chunk.purge(true), "a slice is in use");
            chunk.release(start);
        }
        // What is clean needs no purge, and what is not is purged.
        let dirty = chunk.slices.iter().any(|slice| slice.get() != 0);
        assert_eq!(chunk.purge(true), dirty);
    });
}

#[test]
fn a_purge_that_failed_leaves_the_chunk_dirty() {
    explore(|| {
        let chunk = Arc::new(Chunk::new());
        let start = chunk.claim().unwrap();
        chunk.release(start);
        let purger = spawn(&chunk, |chunk| chunk.purge(false));
        let claimed = chunk.claim();
        let purged = purger.join().unwrap();
        assert!(purged || claimed.is_some(), "one of the two came first");
        match claimed {
            Some(start) => chunk.release(start),
            None => assert_eq!(chunk.claim(), Some(0)),
        }
    });
}

#[test]
fn a_chunk_that_is_made_warm_is_claimed_by_nobody() {
    explore(|| {
        let chunk = Arc::new(Chunk::new());
        let warmer = spawn(&chunk, |chunk| chunk.warm());
        let used = chunk.use_one();
        let claimed = chunk.claim();
        let warmed = warmer.join().unwrap();
        if let Some(start) = claimed {
            assert!(!chunk.warm(), "a slice is in use");
            chunk.release(start);
        }
        assert!(used || claimed.is_some() || warmed, "only who made it warm kept the others out");
        assert!(chunk.bitmap.state().is_unused(), "nothing stays taken");
        assert!(chunk.purge(true), "what was used or made warm is worth a purge");
    });
}

#[test]
fn a_chunk_purged_and_made_warm_again_is_never_said_to_be_zero_when_it_is_not() {
    explore(|| {
        let chunk = Arc::new(Chunk::new());
        chunk.use_one();
        let user = spawn(&chunk, |chunk| chunk.use_one());
        let purged = chunk.purge(true);
        let warmed = chunk.warm();
        let used = user.join().unwrap();
        assert!(purged || used, "only the user kept the purge out");
        assert!(chunk.bitmap.state().is_unused());
        assert!(warmed || used, "only the user kept it cold");
        assert!(chunk.use_one(), "nothing stays taken");
        // What was purged after all that is zero, and can be made warm.
        assert!(chunk.purge(true) && chunk.warm() && chunk.use_one());
    });
}
