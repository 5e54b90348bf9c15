//! Models of `lockfree::room_word`: an owner grows, shrinks and releases a room, others claim it, and one thread
//! purges it.
//!
//! Chunks are memory: those that the block covers are the owner's, those of a piece are the purger's until it has
//! finished. In every interleaving the two never meet in a chunk, a room has one owner, and chunks that are said to
//! read as zeroes do.

use std::sync::Arc;

use crate::atomic::AtomicU64;
use crate::explore::{Memory, explore, join, spawn};

#[allow(dead_code, reason = "models call what threads call at the same time")]
#[path = "../../src/lockfree/room_word.rs"]
mod subject;
use subject::RoomWord;

struct Room {
    word: RoomWord,
    chunks: [Memory<u32>; 3],
}

impl Room {
    fn new() -> Arc<Self> {
        Arc::new(Room { word: RoomWord::from_word(AtomicU64::new(0)), chunks: std::array::from_fn(|_| Memory::new(0)) })
    }

    /// A room whose first `warm` chunks were used and hold data.
    fn warmed(warm: u32) -> Arc<Self> {
        let room = Self::new();
        assert!(room.claim(warm).is_some());
        assert!(room.word.release().is_some());
        room
    }

    /// Writes to the chunks `from .. to`, of which those at or above `zeroed_from` must read as zeroes.
    fn fill(&self, from: u32, to: u32, zeroed_from: u32) {
        for number in from..to {
            let chunk = &self.chunks[number as usize];
            let found = chunk.get();
            assert!(number < zeroed_from || found == 0, "a chunk said to be zero reads as {found}");
            chunk.set(found + 1);
        }
    }

    /// Claims the room and fills the block. Gives the warm count before.
    fn claim(&self, chunks: u32) -> Option<u32> {
        let warm = self.word.claim(chunks)?;
        self.fill(0, chunks, warm);
        Some(warm)
    }

    /// Owner: changes the size from `had` chunks, and writes to what is new. Says whether that worked.
    fn resize(&self, had: u32, chunks: u32) -> bool {
        let Some(before) = self.word.resize(chunks) else { return false };
        assert_eq!(before.live(), had);
        self.fill(had, chunks, before.warm().max(before.live()));
        true
    }

    /// Purges up to `chunks_max` chunks. Says whether there were any.
    fn purge(&self, chunks_max: u32, works: bool) -> bool {
        let Some(piece) = self.word.begin_purge(chunks_max) else { return false };
        assert!(piece.from < piece.to);
        for number in piece.from..piece.to {
            let chunk = &self.chunks[number as usize];
            chunk.set(if works { 0 } else { chunk.get() });
        }
        self.word.finish_purge(piece, works);
        true
    }

    /// After the threads have ended: chunks that count as cold are zero, and nothing is left marked.
    fn check(&self, in_use: bool) {
        let state = self.word.state();
        assert_eq!(state.is_in_use(), in_use);
        assert_eq!(state.is_available(), !in_use, "no purge is left behind");
        for chunk in &self.chunks[state.warm() as usize..] {
            assert_eq!(chunk.get(), 0, "a cold chunk holds data");
        }
    }
}

#[test]
fn an_owner_that_shrinks_and_grows_never_meets_a_purge() {
    explore(|| {
        let room = Room::new();
        assert!(room.claim(3) == Some(0) && room.resize(3, 2));
        let owner = spawn(&room, |room| {
            room.chunks[1].set(7);
            assert!(room.resize(2, 1), "shrinking never fails");
            room.chunks[0].set(7);
            room.resize(1, 3)
        });
        room.purge(3, true);
        let grown = owner.join().unwrap();
        assert_eq!(room.word.state().live(), if grown { 3 } else { 1 });
        room.check(true);
    });
}

#[test]
fn a_free_room_is_not_handed_out_while_it_is_purged() {
    explore(|| {
        let room = Room::new();
        assert!(room.claim(2) == Some(0) && room.resize(2, 1));
        let owner = spawn(&room, |room| {
            room.chunks[0].set(7);
            assert!(room.word.release().is_some());
        });
        let purger = spawn(&room, |room| room.purge(1, true));
        let claimed = room.claim(3);
        owner.join().unwrap();
        purger.join().unwrap();
        room.check(claimed.is_some());
    });
}

#[test]
fn a_room_is_claimed_by_one_of_two() {
    explore(|| {
        let room = Room::warmed(1);
        let threads = [(), ()].map(|()| {
            spawn(&room, |room| {
                let warm = room.claim(1);
                // The owner goes on using it.
                if warm.is_some() {
                    room.fill(0, 1, 1);
                }
                warm
            })
        });
        let mut claims = join(threads);
        claims.sort_unstable();
        assert_eq!(claims, [None, Some(1)]);
        assert!(room.word.release().is_some() && room.word.release().is_none(), "a second release is refused");
    });
}

#[test]
fn the_next_owner_of_a_room_sees_what_the_last_one_left() {
    explore(|| {
        let room = Room::new();
        let threads = [(), ()].map(|()| {
            spawn(&room, |room| {
                let claimed = room.claim(1).is_some();
                if claimed {
                    assert!(room.word.release().is_some());
                }
                u32::from(claimed)
            })
        });
        let claims: u32 = join(threads).iter().sum();
        assert_eq!(room.chunks[0].get(), claims);
        room.check(false);
    });
}

#[test]
fn a_claim_that_is_taken_back_leaves_a_purge_running() {
    explore(|| {
        let room = Room::warmed(2);
        let purger = spawn(&room, |room| room.purge(3, true));
        if let Some(warm) = room.word.claim(1) {
            room.word.cancel(warm);
            if room.claim(3).is_some() {
                assert!(room.word.release().is_some());
            }
        }
        purger.join().unwrap();
        room.check(false);
    });
}

#[test]
fn a_purge_that_failed_leaves_its_chunks_warm() {
    explore(|| {
        let room = Room::warmed(2);
        let purger = spawn(&room, |room| room.purge(1, false));
        let claimed = room.claim(2);
        assert!(purger.join().unwrap() || claimed == Some(2), "one of the two came first");
        room.check(claimed.is_some());
        assert_eq!(room.word.state().warm(), 2);
    });
}
