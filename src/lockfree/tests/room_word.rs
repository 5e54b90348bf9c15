//! Tests of `lockfree::room_word`.

use std::thread;

use super::{Numbers, THREADS};
use crate::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::lockfree::room_word::{Piece, RoomWord};

fn room() -> RoomWord {
    RoomWord::from_word(AtomicU64::new(0))
}

/// Live and warm chunks.
fn counts(room: &RoomWord) -> (u32, u32) {
    let state = room.state();
    (state.live(), state.warm())
}

#[test]
fn a_room_is_claimed_once_and_stays_warm_after_its_release() {
    let room = room();
    assert!(room.state().is_available() && !room.state().has_retired());
    assert_eq!(room.claim(5), Some(0));
    assert!(room.state().is_in_use());
    assert_eq!(room.claim(1), None);
    assert_eq!(room.release().map(|before| before.warm()), Some(5));
    assert_eq!(room.release(), None, "a second release is refused");
    assert!(room.state().is_available() && room.state().has_retired());
    assert_eq!(room.claim(3), Some(5));
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
    assert!(room.state().has_retired());
}

#[test]
fn the_largest_counts_fit() {
    let most = (1 << 28) - 1;
    let room = room();
    assert_eq!(room.claim(most), Some(0));
    assert_eq!(counts(&room), (most, most));
    assert!(room.state().is_in_use());
    room.resize(0);
    assert_eq!(room.begin_purge(u32::MAX), Some(Piece { from: 0, to: most }));
    assert!(room.state().is_in_use());
}

#[test]
fn a_purge_takes_the_top_end_first_and_leaves_the_block_alone() {
    let room = room();
    room.claim(10);
    assert_eq!(room.begin_purge(4), None, "the block covers all that is warm");
    room.resize(3);
    let piece = room.begin_purge(4).unwrap();
    assert_eq!(piece, Piece { from: 6, to: 10 });
    assert_eq!(room.begin_purge(4), None, "one purge at a time");
    assert_eq!(room.finish_purge(piece, true).warm(), 6);
    let piece = room.begin_purge(4).unwrap();
    assert_eq!(piece, Piece { from: 3, to: 6 });
    assert!(!room.finish_purge(piece, true).has_retired());
}

#[test]
fn a_failed_purge_leaves_chunks_warm() {
    let room = room();
    room.claim(4);
    room.release();
    let piece = room.begin_purge(4).unwrap();
    assert!(room.finish_purge(piece, false).has_retired());
    assert_eq!(room.begin_purge(4), Some(piece));
}

#[test]
fn while_a_purge_runs_a_block_shrinks_but_does_not_grow() {
    let room = room();
    room.claim(8);
    room.resize(4);
    let piece = room.begin_purge(2).unwrap();
    assert_eq!(piece, Piece { from: 6, to: 8 });
    assert_eq!(room.resize(5), None);
    assert!(room.resize(4).is_some() && room.resize(2).is_some());
    assert_eq!(room.resize(3), None);
    room.finish_purge(piece, true);
    assert_eq!(counts(&room), (2, 6));
    assert!(room.resize(7).is_some());
    assert_eq!(counts(&room), (7, 7));
}

#[test]
fn while_a_purge_runs_a_released_room_is_not_handed_out() {
    let room = room();
    room.claim(8);
    room.resize(4);
    let piece = room.begin_purge(8).unwrap();
    assert!(room.release().is_some());
    assert!(!room.state().is_available() && !room.state().is_in_use());
    assert_eq!(room.claim(1), None);
    room.finish_purge(piece, true);
    assert_eq!(room.claim(1), Some(4));
}

#[test]
fn a_cancelled_claim_leaves_the_room_as_it_was() {
    for warm in [0, 2, 5] {
        let room = room();
        if warm > 0 {
            room.claim(warm);
            room.release();
        }
        let before = room.state();
        assert_eq!(room.claim(3), Some(warm));
        room.cancel(warm);
        assert_eq!(room.state(), before);
    }
}

#[test]
fn a_claim_cancelled_during_a_purge_leaves_the_purge_running() {
    let room = room();
    room.claim(5);
    room.release();
    let warm = room.claim(3).unwrap();
    let piece = room.begin_purge(8).unwrap();
    assert_eq!(piece, Piece { from: 3, to: 5 });
    room.cancel(warm);
    assert_eq!(room.claim(1), None);
    assert_eq!(counts(&room), (0, 5));
    room.finish_purge(piece, true);
    assert_eq!(counts(&room), (0, 3));
    assert!(room.state().is_available());
}

#[test]
fn owners_and_a_purger_never_share_a_chunk() {
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
            assert!(!was || chunk < zeroed_from, "a cold chunk holds data");
        }
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let Some(piece) = room.begin_purge(2) else { continue };
                enter(piece.from, piece.to);
                (piece.from..piece.to).for_each(|chunk| dirty[chunk as usize].store(false, Ordering::Relaxed));
                leave(piece.from, piece.to);
                room.finish_purge(piece, true);
            }
        });
        let owners: [_; THREADS - 1] = core::array::from_fn(|thread| {
            let (room, enter, leave, fill) = (&room, &enter, &leave, &fill);
            scope.spawn(move || {
                let mut numbers = Numbers::new(thread as u64);
                for _ in 0..20_000 {
                    let size = |numbers: &mut Numbers| 1 + numbers.below(u64::from(CHUNKS)) as u32;
                    let mut live = size(&mut numbers);
                    let Some(warm) = room.claim(live) else { continue };
                    enter(0, live);
                    fill(0, live, warm);
                    let wanted = size(&mut numbers);
                    leave(wanted.min(live), live);
                    match room.resize(wanted) {
                        Some(before) if wanted > live => {
                            enter(live, wanted);
                            fill(live, wanted, before.warm().max(before.live()));
                            live = wanted;
                        }
                        Some(_) => live = wanted,
                        None => assert!(wanted > live, "shrinking never fails"),
                    }
                    leave(0, live);
                    assert!(room.release().is_some());
                }
            })
        });
        for owner in owners {
            owner.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(room.state().is_available());
}
