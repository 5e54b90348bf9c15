//! Tests of `lockfree::slice_bitmap`.

use std::thread;

use super::{Numbers, THREADS};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::lockfree::slice_bitmap::{SLICES, SliceBitmap};

fn chunk() -> SliceBitmap {
    SliceBitmap::from_word(AtomicU64::new(0))
}

/// A chunk of which the slices in `used` are in use.
fn chunk_with(used: u32) -> SliceBitmap {
    SliceBitmap::from_word(AtomicU64::new(u64::from(used)))
}

/// `find_run`, one place after the other.
fn find_run_naively(used: u32, count: u32, align: u32) -> Option<u32> {
    let is_free = |slice: u32| slice < SLICES && used & 1 << slice == 0;
    (0..SLICES).step_by(align as usize).find(|start| (*start..start + count).all(is_free))
}

#[test]
fn runs_are_found_where_a_plain_search_finds_them() {
    let mut numbers = Numbers::new(32);
    let mut masks = std::vec![0, u32::MAX, 1, 1 << 31, 0x5555_5555, 0xaaaa_aaaa, 0xffff_0000, 0x0000_ffff, 0x7fff_ffff];
    for _ in 0..2_000 {
        let [one, other, third] = [(); 3].map(|()| numbers.next() as u32);
        // Half full, nearly empty, nearly full, and in long runs.
        masks.extend([one, one & other & third, one | other | third, u32::MAX << (one % 32) >> (other % 32)]);
    }
    for used in masks {
        let state = chunk_with(used).state();
        assert_eq!(state.free_count(), used.count_zeros());
        assert_eq!(state.is_unused(), used == 0);
        for count in 1..=SLICES {
            for align in [1, 2, 4, 8, 16, 32] {
                let expected = find_run_naively(used, count, align);
                assert_eq!(state.find_run(count, align), expected, "{used:#x}, {count} at {align}");
            }
        }
    }
}

#[test]
fn a_claim_takes_its_slices_and_nothing_else() {
    let chunk = chunk();
    let claim = chunk.claim_run(3, 4).unwrap();
    assert_eq!((claim.start, claim.zeroed), (0, true));
    assert!(claim.before.is_unused());
    assert_eq!((claim.after.free_count(), claim.after), (29, chunk.state()));
    assert_eq!(chunk.claim_run(2, 2).map(|claim| claim.start), Some(4));
    assert_eq!(chunk.claim_run(1, 1).map(|claim| claim.start), Some(3), "the lowest place that fits");
    assert_eq!(chunk.claim_run(32, 1), None);
    assert_eq!(chunk.state().free_count(), 26);
}

#[test]
fn a_whole_chunk_can_be_claimed() {
    let chunk = chunk();
    assert!(chunk.claim_run(32, 32).is_some());
    assert_eq!((chunk.state().free_count(), chunk.claim_run(1, 1)), (0, None));
    assert!(chunk.release(0, 32).is_some());
    assert!(chunk.state().is_unused());
}

#[test]
fn exactly_the_named_slices_are_claimed_or_none() {
    let chunk = chunk();
    assert!(chunk.claim_at(30, 2).is_some());
    assert_eq!(chunk.claim_at(29, 2), None);
    assert_eq!(chunk.state().free_count(), 30);
    assert!(chunk.claim_at(28, 2).is_some());
}

#[test]
fn only_slices_in_use_are_released() {
    let chunk = chunk();
    assert!(chunk.claim_at(4, 4).is_some());
    assert_eq!(chunk.release(3, 2), None);
    assert_eq!(chunk.release(7, 2), None);
    assert_eq!(chunk.state().free_count(), 28, "a refused release changes nothing");
    let (before, after) = chunk.release(5, 2).unwrap();
    assert_eq!((before.free_count(), after.free_count()), (28, 30));
    assert_eq!(chunk.release(5, 1), None);
}

#[test]
fn slices_used_before_are_not_said_to_be_zero() {
    let chunk = chunk();
    assert!(chunk.claim_at(1, 1).is_some());
    chunk.release(1, 1);
    assert!(chunk.state().is_unused() && chunk.state().is_dirty());
    assert!(chunk.claim_at(0, 1).unwrap().zeroed);
    assert!(!chunk.claim_at(1, 2).unwrap().zeroed, "one of the two was used");
    assert!(chunk.claim_at(3, 29).unwrap().zeroed);
}

#[test]
fn a_purge_takes_only_unused_dirty_chunks_and_cleans_them() {
    let chunk = chunk();
    assert!(!chunk.begin_purge(), "clean");
    chunk.claim_at(0, 2);
    assert!(!chunk.begin_purge(), "in use");
    chunk.release(0, 2);
    assert!(chunk.begin_purge());
    assert!(!chunk.begin_purge() && chunk.claim_run(1, 1).is_none(), "taken");
    let state = chunk.finish_purge(true);
    assert!(state.is_unused() && !state.is_dirty());
    assert!(chunk.claim_at(0, 2).unwrap().zeroed);
}

#[test]
fn a_failed_purge_leaves_the_chunk_dirty() {
    let chunk = chunk();
    chunk.claim_at(0, 1);
    chunk.release(0, 1);
    assert!(chunk.begin_purge());
    let state = chunk.finish_purge(false);
    assert!(state.is_unused() && state.is_dirty());
    assert!(!chunk.claim_at(0, 1).unwrap().zeroed);
}

#[test]
fn no_slice_has_two_owners() {
    let chunk = chunk();
    let owners: [AtomicU32; SLICES as usize] = core::array::from_fn(|_| AtomicU32::new(0));
    let contents: [AtomicU32; SLICES as usize] = core::array::from_fn(|_| AtomicU32::new(0));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (chunk, owners, contents) = (&chunk, &owners, &contents);
            scope.spawn(move || {
                let mut numbers = Numbers::new(thread as u64);
                for _ in 0..20_000 {
                    if numbers.below(8) == 0 && chunk.begin_purge() {
                        contents.iter().for_each(|slice| slice.store(0, Ordering::Relaxed));
                        chunk.finish_purge(true);
                        continue;
                    }
                    let (count, align) = (1 + numbers.below(12) as u32, 1 << numbers.below(3));
                    let Some(claim) = chunk.claim_run(count, align) else { continue };
                    assert_eq!(claim.start % align, 0);
                    let run = claim.start as usize..(claim.start + count) as usize;
                    for slice in run.clone() {
                        assert_eq!(owners[slice].fetch_add(1, Ordering::Relaxed), 0);
                        let found = contents[slice].swap(1, Ordering::Relaxed);
                        assert!(found == 0 || !claim.zeroed);
                    }
                    run.for_each(|slice| assert_eq!(owners[slice].fetch_sub(1, Ordering::Relaxed), 1));
                    assert!(chunk.release(claim.start, count).is_some());
                }
            });
        }
    });
    assert!(chunk.state().is_unused());
}
