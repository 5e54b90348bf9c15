//! Models of `lockfree::room_word`: an owner grows, shrinks and releases a room, others claim it, and one thread
//! purges it or makes it warm.
//!
//! Chunks are memory: those that the block covers are the owner's, those of a piece are the governor's until it has
//! finished. In every interleaving the two never meet in a chunk, a room has one owner, what lies below a piece is to
//! be had at any time, and chunks that are said to read as zeroes do.

use std::sync::Arc;

use crate::atomic::AtomicU64;
use crate::explore::{Memory, explore, join, spawn};

#[allow(dead_code, reason = "models call what threads call at the same time")]
#[path = "../../src/lockfree/room_word.rs"]
mod subject;
use subject::{Piece, RoomState, RoomWord};

/// Chunks of a room.
const CHUNKS: u32 = 3;

struct Room {
    word: RoomWord,
    chunks: [Memory<u32>; CHUNKS as usize],
}

impl Room {
    fn new() -> Arc<Self> {
        Arc::new(Room { word: RoomWord::from_word(AtomicU64::new(0)), chunks: std::array::from_fn(|_| Memory::new(0)) })
    }

    /// A room whose first `warm` chunks were used and hold data.
    fn warmed(warm: u32) -> Arc<Self> {
        let room = Self::new();
        assert!(room.claim(warm).is_some());
        room.release();
        room
    }

    /// A block of `live` chunks below warm ones that it has used and given up.
    fn shrunk(live: u32) -> Arc<Self> {
        let room = Self::new();
        assert!(room.claim(CHUNKS).is_some() && room.resize(CHUNKS, live));
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

    /// Claims the room and fills the block. Gives the state before.
    fn claim(&self, chunks: u32) -> Option<RoomState> {
        let before = self.word.claim(chunks)?;
        self.fill(0, chunks, before.dirty());
        Some(before)
    }

    /// Owner: changes the size from `had` chunks, and writes to what is new. Says whether that worked.
    fn resize(&self, had: u32, chunks: u32) -> bool {
        let Some(before) = self.word.resize(chunks) else { return false };
        assert_eq!(before.live(), had);
        self.fill(had, chunks, before.dirty());
        true
    }

    fn release(&self) {
        assert!(self.word.release().is_some());
    }

    /// Purges up to `chunks_max` chunks, none of the first `keep` of a free room. Says whether there were any.
    fn purge(&self, chunks_max: u32, keep: u32, works: bool) -> bool {
        let Some(piece) = self.word.begin_purge(chunks_max, keep) else { return false };
        self.govern(piece, |found| if works { 0 } else { found });
        self.word.finish(piece, !works);
        true
    }

    /// Makes up to `chunks_max` chunks warm. Says whether there were any.
    fn warm(&self, chunks_max: u32) -> bool {
        let Some(piece) = self.word.begin_warm(chunks_max, CHUNKS) else { return false };
        self.govern(piece, |found| {
            assert_eq!(found, 0, "a cold chunk holds data");
            found
        });
        self.word.finish(piece, true);
        true
    }

    /// What the governor does to the chunks of a piece.
    fn govern(&self, piece: Piece, work: impl Fn(u32) -> u32) {
        assert!(piece.from < piece.to && piece.to <= CHUNKS);
        for chunk in &self.chunks[piece.from as usize..piece.to as usize] {
            chunk.set(work(chunk.get()));
        }
    }

    /// After the threads have ended: chunks that count as zero are, and nothing is left marked.
    fn check(&self, in_use: bool) {
        let state = self.word.state();
        assert_eq!(state.is_in_use(), in_use);
        assert!(!state.is_busy(), "a piece is left behind");
        assert!(!in_use || state.dirty() == state.warm(), "a room in use counts as zero");
        for chunk in &self.chunks[state.dirty() as usize..] {
            assert_eq!(chunk.get(), 0, "a chunk that counts as zero holds data");
        }
    }

    fn check_warm(&self, warm: u32) {
        assert_eq!(self.word.state().warm(), warm);
        self.check(false);
    }
}

#[test]
fn an_owner_that_shrinks_and_grows_never_meets_a_purge() {
    explore(|| {
        let room = Room::shrunk(2);
        let owner = spawn(&room, |room| {
            room.chunks[1].set(7);
            assert!(room.resize(2, 1), "shrinking never fails");
            room.chunks[0].set(7);
            room.resize(1, 3)
        });
        room.purge(3, 0, true);
        let grown = owner.join().unwrap();
        assert_eq!(room.word.state().live(), if grown { 3 } else { 1 });
        room.check(true);
    });
}

#[test]
fn an_owner_grows_up_to_a_piece_at_any_time() {
    explore(|| {
        let room = Room::shrunk(1);
        let governor = spawn(&room, |room| room.purge(1, 0, true));
        assert!(room.resize(1, 2), "the piece lies above");
        let grown = room.resize(2, 3);
        assert!(governor.join().unwrap() || grown, "one of the two came first");
        room.check(true);
    });
}

#[test]
fn a_piece_that_is_purged_is_not_handed_out() {
    explore(|| {
        let room = Room::shrunk(1);
        let owner = spawn(&room, |room| {
            room.chunks[0].set(7);
            room.release();
        });
        let governor = spawn(&room, |room| room.purge(3, 0, true));
        let claimed = room.claim(3);
        owner.join().unwrap();
        governor.join().unwrap();
        room.check(claimed.is_some());
    });
}

#[test]
fn a_request_takes_the_room_below_a_piece_that_is_purged() {
    explore(|| {
        let room = Room::warmed(3);
        let governor = spawn(&room, |room| room.purge(1, 0, true));
        assert!(room.claim(2).is_some(), "the piece lies above");
        room.resize(2, 3);
        room.release();
        let claimed = room.claim(3);
        governor.join().unwrap();
        room.check(claimed.is_some());
    });
}

#[test]
fn a_request_takes_the_room_below_a_piece_that_is_made_warm() {
    explore(|| {
        let room = Room::warmed(1);
        let governor = spawn(&room, |room| room.warm(1));
        let before = room.claim(1).expect("the piece lies above");
        assert_eq!(before.dirty(), before.warm(), "warm chunks with data do not become zero");
        room.resize(1, 3);
        room.release();
        governor.join().unwrap();
        room.check(false);
    });
}

#[test]
fn a_room_is_warmed_in_pieces_while_blocks_come_and_go() {
    explore(|| {
        let room = Room::warmed(1);
        let governor = spawn(&room, |room| {
            room.warm(1);
            room.warm(3);
        });
        for chunks in [2, 3] {
            if room.claim(chunks).is_some() {
                room.release();
            }
        }
        governor.join().unwrap();
        room.check(false);
    });
}

#[test]
fn a_cold_room_that_is_made_warm_stays_zero_until_it_is_used() {
    for (works, cancelled) in [(true, true), (false, false)] {
        explore(move || {
            let room = Room::new();
            let governor = spawn(&room, move |room| {
                room.warm(3);
                room.purge(1, 0, works);
            });
            let first = room.word.claim(2);
            if let Some(before) = first {
                assert_eq!(before.dirty(), 0);
                if cancelled {
                    room.word.cancel(before);
                } else {
                    room.fill(0, 2, before.dirty());
                    room.release();
                }
            }
            let second = room.claim(3);
            if let (None, Some(before)) = (first, second) {
                assert_eq!(before.dirty(), 0, "nobody used it");
            }
            governor.join().unwrap();
            room.check(second.is_some());
        });
    }
}

#[test]
fn a_room_is_claimed_by_one_of_two() {
    explore(|| {
        let room = Room::warmed(1);
        let threads = [(), ()].map(|()| {
            spawn(&room, |room| {
                let before = room.claim(1);
                // The owner goes on using it.
                if before.is_some() {
                    room.fill(0, 1, 1);
                }
                before.map(RoomState::warm)
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
                    room.release();
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
        let governor = spawn(&room, |room| room.purge(3, 0, true));
        if let Some(before) = room.word.claim(1) {
            room.word.cancel(before);
            if room.claim(2).is_some() {
                room.release();
            }
        }
        governor.join().unwrap();
        room.check(false);
    });
}

#[test]
fn a_claim_up_to_a_piece_that_is_taken_back_keeps_the_piece() {
    explore(|| {
        let room = Room::warmed(3);
        let governor = spawn(&room, |room| assert!(room.purge(1, 0, false)));
        let before = room.word.claim(2).expect("the piece lies above");
        room.word.cancel(before);
        governor.join().unwrap();
        room.check_warm(3);
    });
    explore(|| {
        let room = Room::warmed(1);
        let governor = spawn(&room, |room| room.warm(1));
        let before = room.word.claim(1).expect("the piece lies above");
        room.word.cancel(before);
        let warmed = governor.join().unwrap();
        room.check_warm(if warmed { 2 } else { 1 });
    });
}

#[test]
fn a_claim_that_is_taken_back_warms_nothing() {
    explore(|| {
        let room = Room::warmed(1);
        let governor = spawn(&room, |room| room.purge(3, 0, true));
        if let Some(before) = room.word.claim(3) {
            room.word.cancel(before);
        }
        let purged = governor.join().unwrap();
        room.check_warm(if purged { 0 } else { 1 });
    });
}

#[test]
fn a_purge_that_failed_leaves_its_chunks_warm() {
    explore(|| {
        let room = Room::warmed(2);
        let governor = spawn(&room, |room| room.purge(1, 0, false));
        let claimed = room.claim(2);
        assert!(governor.join().unwrap() || claimed.is_some_and(|before| before.warm() == 2), "one came first");
        room.check(claimed.is_some());
        assert_eq!(room.word.state().warm(), 2);
    });
}

#[test]
fn the_first_chunks_of_a_free_room_are_kept() {
    explore(|| {
        let room = Room::warmed(3);
        let governor = spawn(&room, |room| room.purge(3, 2, true));
        assert!(room.claim(2).is_some(), "what is kept is to be had");
        room.release();
        assert!(governor.join().unwrap());
        assert_eq!([0, 1, 2].map(|number: usize| room.chunks[number].get()), [2, 2, 0]);
        room.check_warm(2);
    });
}

#[test]
fn what_a_block_covers_beyond_the_kept_chunks_is_not_purged() {
    explore(|| {
        let room = Room::warmed(3);
        let governor = spawn(&room, |room| room.purge(3, 1, true));
        let claimed = room.claim(3);
        let purged = governor.join().unwrap();
        assert!(claimed.is_some() || purged, "one of the two came first");
        room.check(claimed.is_some());
    });
}

#[test]
fn two_that_govern_one_room_never_share_a_piece() {
    explore(|| {
        let room = Room::warmed(2);
        let other = spawn(&room, |room| {
            room.purge(1, 0, true);
            room.purge(1, 0, false);
        });
        room.warm(1);
        room.purge(1, 0, true);
        other.join().unwrap();
        room.check(false);
    });
}
