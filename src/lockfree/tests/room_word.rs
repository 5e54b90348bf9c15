//! Tests of `lockfree::room_word`.

use std::thread;

use super::{Numbers, THREADS};
use crate::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::lockfree::room_word::{Piece, RoomState, RoomWord};

fn room() -> RoomWord {
    RoomWord::from_word(AtomicU64::new(0))
}

/// A free room whose first `warm` chunks were used.
fn warmed(warm: u32) -> RoomWord {
    let room = room();
    room.claim(warm);
    room.release();
    room
}

/// A free room whose first `warm` chunks were made warm and not used.
fn zeroed(warm: u32) -> RoomWord {
    let room = room();
    let piece = room.begin_warm(warm, warm).unwrap();
    room.finish(piece, true);
    room
}

/// Live and warm chunks.
fn counts(room: &RoomWord) -> (u32, u32) {
    let state = room.state();
    (state.live(), state.warm())
}

#[test]
fn a_room_is_claimed_once_and_stays_warm_after_its_release() {
    let room = room();
    assert!(room.state().is_available(9) && room.state().retired(0) == 0);
    assert_eq!(room.claim(5).map(RoomState::warm), Some(0));
    assert!(room.state().is_in_use() && !room.state().is_available(1));
    assert_eq!(room.claim(1), None);
    assert_eq!(room.release().map(RoomState::warm), Some(5));
    assert_eq!(room.release(), None, "a second release is refused");
    assert!(room.state().is_available(9) && room.state().retired(0) == 5);
    assert_eq!(room.claim(3).map(|before| (before.warm(), before.dirty())), Some((5, 5)));
    assert_eq!(counts(&room), (3, 5));
}

#[test]
fn sizes_change_only_in_rooms_in_use() {
    let room = room();
    assert_eq!(room.resize(1), None);
    room.claim(4);
    assert_eq!(room.resize(9).map(|before| (before.live(), before.warm())), Some((4, 4)));
    assert_eq!(room.resize(2).map(|before| (before.live(), before.warm())), Some((9, 9)));
    assert_eq!(counts(&room), (2, 9));
    assert_eq!(room.state().retired(0), 7);
}

#[test]
fn the_largest_counts_fit() {
    let most = (1 << 28) - 1;
    let room = room();
    assert_eq!(room.claim(most).map(RoomState::warm), Some(0));
    assert_eq!(counts(&room), (most, most));
    assert!(room.state().is_in_use() && !room.state().is_busy());
    room.resize(0);
    let piece = room.begin_purge(u32::MAX, 0).unwrap();
    assert_eq!(piece, Piece { from: 0, to: most });
    assert!(room.state().is_in_use() && room.state().is_busy());
    room.finish(piece, true);
    assert!(room.release().is_some());
    assert_eq!(counts(&room), (0, most));
    let room = zeroed(most - 1);
    assert_eq!(room.begin_warm(u32::MAX, most), Some(Piece { from: most - 1, to: most }));
    assert_eq!(room.state().dirty(), 0);
}

#[test]
fn a_purge_takes_the_top_end_first_and_leaves_the_block_alone() {
    let room = room();
    room.claim(10);
    assert_eq!(room.begin_purge(4, 0), None, "the block covers all that is warm");
    room.resize(3);
    let piece = room.begin_purge(4, 0).unwrap();
    assert_eq!(piece, Piece { from: 6, to: 10 });
    assert_eq!(room.begin_purge(4, 0), None, "one piece at a time");
    assert_eq!(room.finish(piece, false).warm(), 6);
    let piece = room.begin_purge(4, 0).unwrap();
    assert_eq!(piece, Piece { from: 3, to: 6 });
    assert_eq!(room.finish(piece, false).retired(0), 0);
}

#[test]
fn the_first_chunks_are_kept_in_a_free_room_only() {
    let room = warmed(6);
    assert_eq!([0, 4, 6, 9].map(|keep| room.state().retired(keep)), [6, 2, 0, 0]);
    let piece = room.begin_purge(9, 4).unwrap();
    assert_eq!(piece, Piece { from: 4, to: 6 });
    room.finish(piece, false);
    assert_eq!(room.begin_purge(9, 4), None);
    room.claim(2);
    assert_eq!(room.state().retired(4), 2);
    assert_eq!(room.begin_purge(9, 4), Some(Piece { from: 2, to: 4 }));
}

#[test]
fn a_failed_purge_leaves_chunks_warm() {
    let room = warmed(4);
    let piece = room.begin_purge(4, 0).unwrap();
    assert_eq!(room.finish(piece, true).retired(0), 4);
    assert_eq!(room.begin_purge(4, 0), Some(piece));
}

#[test]
fn a_room_is_made_warm_in_pieces_up_to_the_end() {
    let room = warmed(1);
    let piece = room.begin_warm(3, 6).unwrap();
    assert_eq!(piece, Piece { from: 1, to: 4 });
    assert_eq!((room.begin_warm(3, 6), room.begin_purge(3, 0)), (None, None), "one piece at a time");
    assert_eq!(room.finish(piece, true).warm(), 4);
    let piece = room.begin_warm(3, 6).unwrap();
    assert_eq!(piece, Piece { from: 4, to: 6 });
    assert_eq!(room.finish(piece, false).warm(), 4, "it did not work");
    room.finish(room.begin_warm(u32::MAX, 6).unwrap(), true);
    assert_eq!(room.begin_warm(3, 6), None);
    assert_eq!(room.begin_warm(3, 5), None, "it is warm beyond that");
    room.claim(1);
    assert_eq!(room.begin_warm(3, 9), None, "a room in use is not made warm");
}

#[test]
fn a_room_made_warm_reads_as_zeroes_until_it_is_used() {
    let room = zeroed(4);
    assert_eq!((room.state().warm(), room.state().dirty()), (4, 0));
    room.finish(room.begin_warm(2, 6).unwrap(), true);
    room.finish(room.begin_purge(1, 0).unwrap(), false);
    room.finish(room.begin_purge(1, 0).unwrap(), true);
    assert_eq!((room.state().warm(), room.state().dirty()), (5, 0));
    let piece = room.begin_warm(1, 6).unwrap();
    assert_eq!(room.claim(5).map(|before| (before.warm(), before.dirty())), Some((5, 0)));
    assert_eq!(room.state().dirty(), 5);
    room.finish(piece, true);
    room.release();
    assert_eq!(room.state().dirty(), 6);
    room.finish(room.begin_warm(1, 7).unwrap(), true);
    assert_eq!(room.claim(1).map(RoomState::dirty), Some(7));
    room.release();
    room.finish(room.begin_purge(9, 0).unwrap(), false);
    room.finish(room.begin_warm(2, 2).unwrap(), true);
    assert_eq!(room.state().dirty(), 0, "all of it was cold");
}

#[test]
fn while_the_governor_works_a_block_shrinks_and_grows_up_to_the_piece() {
    for failed in [false, true] {
        let room = room();
        room.claim(8);
        room.resize(4);
        let piece = room.begin_purge(2, 0).unwrap();
        assert_eq!(piece, Piece { from: 6, to: 8 });
        assert_eq!(room.resize(7), None);
        assert!(room.resize(6).is_some() && room.resize(2).is_some() && room.resize(5).is_some());
        assert_eq!(room.resize(7), None);
        assert_eq!(counts(&room), (5, 6));
        room.finish(piece, failed);
        assert_eq!(counts(&room), (5, if failed { 8 } else { 6 }));
        assert_eq!(room.resize(7).map(RoomState::dirty), Some(if failed { 8 } else { 6 }));
    }
}

#[test]
fn while_the_governor_works_the_room_below_the_piece_is_handed_out() {
    let room = room();
    room.claim(8);
    room.resize(4);
    let piece = room.begin_purge(3, 0).unwrap();
    assert_eq!(piece, Piece { from: 5, to: 8 });
    assert!(room.release().is_some());
    assert!(room.state().is_available(5) && !room.state().is_available(6) && !room.state().is_in_use());
    assert_eq!(room.claim(6), None);
    assert_eq!(room.claim(5).map(RoomState::warm), Some(5));
    assert!(room.state().is_busy() && room.release().is_some() && room.state().is_busy());
    assert!(room.claim(1).is_some());
    assert!(!room.finish(piece, false).is_busy());
    assert_eq!(counts(&room), (1, 5));
}

#[test]
fn a_cancelled_claim_leaves_the_room_as_warm_as_it_was() {
    for warm in [0, 2, 3, 5] {
        let room = if warm > 0 { warmed(warm) } else { room() };
        let before = room.state();
        assert_eq!(room.claim(3), Some(before));
        room.cancel(before);
        assert_eq!(room.state(), before);
    }
    let room = zeroed(2);
    let before = room.claim(3).unwrap();
    room.cancel(before);
    assert_eq!((room.state().warm(), room.state().dirty()), (2, 2), "whether it is zero is not known any more");
}

#[test]
fn a_claim_cancelled_while_the_governor_works_leaves_the_piece_alone() {
    for resident in [false, true] {
        let room = warmed(5);
        let before = room.claim(3).unwrap();
        let piece = room.begin_purge(8, 0).unwrap();
        assert_eq!(piece, Piece { from: 3, to: 5 });
        room.cancel(before);
        assert!(room.state().is_busy());
        assert_eq!(room.claim(4), None);
        assert_eq!(counts(&room), (0, 3));
        room.finish(piece, resident);
        assert_eq!(counts(&room), (0, if resident { 5 } else { 3 }));
        assert!(room.state().is_available(9));
    }
}

#[test]
fn a_claim_up_to_a_piece_cancelled_after_it_was_finished_keeps_its_chunks() {
    for resident in [false, true] {
        let room = warmed(5);
        let piece = room.begin_purge(2, 0).unwrap();
        let before = room.claim(3).unwrap();
        room.finish(piece, resident);
        room.cancel(before);
        assert_eq!(counts(&room), (0, if resident { 5 } else { 3 }));
    }
}

#[test]
fn owners_and_the_governor_never_share_a_chunk() {
    const CHUNKS: u32 = 6;
    let room = room();
    // Who is in a chunk, and whether it holds data.
    let inside: [AtomicU32; CHUNKS as usize] = core::array::from_fn(|_| AtomicU32::new(0));
    let dirty: [AtomicBool; CHUNKS as usize] = core::array::from_fn(|_| AtomicBool::new(false));
    let enter = |from: u32, to: u32| {
        (from..to).for_each(|chunk| assert_eq!(inside[chunk as usize].fetch_add(1, Ordering::Relaxed), 0));
    };
    let leave = |from: u32, to: u32| {
        (from..to).for_each(|chunk| assert_eq!(inside[chunk as usize].fetch_sub(1, Ordering::Relaxed), 1));
    };
    let fill = |from: u32, to: u32, zeroed_from: u32| {
        for chunk in from..to {
            let was = dirty[chunk as usize].swap(true, Ordering::Relaxed);
            assert!(!was || chunk < zeroed_from, "a chunk said to be zero holds data");
        }
    };
    let govern = |piece: Piece, work: &dyn Fn(&AtomicBool)| {
        assert!(piece.from < piece.to && piece.to <= CHUNKS);
        enter(piece.from, piece.to);
        dirty[piece.from as usize..piece.to as usize].iter().for_each(work);
        leave(piece.from, piece.to);
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut numbers = Numbers::new(THREADS as u64);
            let mut chance = |of: u64| numbers.below(of) as u32;
            while !over.load(Ordering::Relaxed) {
                if chance(2) == 0 {
                    let Some(piece) = room.begin_warm(1 + chance(2), CHUNKS) else { continue };
                    govern(piece, &|chunk| assert!(!chunk.load(Ordering::Relaxed), "a cold chunk holds data"));
                    room.finish(piece, chance(4) > 0);
                } else {
                    let Some(piece) = room.begin_purge(1 + chance(6), chance(3)) else { continue };
                    let fails = chance(4) == 0;
                    govern(piece, &|chunk| _ = chunk.fetch_and(fails, Ordering::Relaxed));
                    room.finish(piece, fails);
                }
            }
        });
        let owners: [_; THREADS - 1] = core::array::from_fn(|thread| {
            let (room, enter, leave, fill) = (&room, &enter, &leave, &fill);
            scope.spawn(move || {
                let mut numbers = Numbers::new(thread as u64);
                for _ in 0..20_000 {
                    let size = |numbers: &mut Numbers| 1 + numbers.below(u64::from(CHUNKS)) as u32;
                    let mut live = size(&mut numbers);
                    let Some(before) = room.claim(live) else { continue };
                    enter(0, live);
                    if numbers.below(4) == 0 {
                        leave(0, live);
                        room.cancel(before);
                        continue;
                    }
                    fill(0, live, before.dirty());
                    let wanted = size(&mut numbers);
                    leave(wanted.min(live), live);
                    match room.resize(wanted) {
                        Some(before) if wanted > live => {
                            enter(live, wanted);
                            fill(live, wanted, before.dirty());
                            live = wanted;
                        }
                        Some(_) => live = wanted,
                        None => assert!(wanted > live, "shrinking never fails"),
                    }
                    leave(0, live);
                    assert!(room.release().is_some());
                    if numbers.below(8) == 0 {
                        // The room is the governor's for a while.
                        thread::yield_now();
                    }
                }
            })
        });
        let ends = owners.map(thread::ScopedJoinHandle::join);
        // Before the results, so that the governor ends even if an owner failed.
        over.store(true, Ordering::Relaxed);
        assert!(ends.iter().all(Result::is_ok));
    });
    assert!(room.state().is_available(CHUNKS) && !room.state().is_busy());
    for chunk in &dirty[room.state().dirty() as usize..] {
        assert!(!chunk.load(Ordering::Relaxed), "a chunk that counts as zero holds data");
    }
}

#[test]
fn a_forked_child_recovers_a_room_that_was_being_worked_on() {
    let room = room();
    room.claim(8);
    room.resize(3);
    assert!(room.begin_purge(2, 0).is_some());
    room.recover(10);
    assert!(room.state().is_in_use() && !room.state().is_busy());
    assert_eq!(counts(&room), (3, 10));
    let before = room.state();
    room.recover(20);
    assert_eq!(room.state(), before, "a room that is not worked on is left alone");
}
