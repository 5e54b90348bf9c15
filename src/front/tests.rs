//! Whole engines on the fake kernel: every way through the layers, with every kernel call failing in turn.
//!
//! Method: an engine is leaked per case, worked with by heaps that the test drives itself, then asked whether anything
//! was lost: slices or rooms still in use, chunks that never come back.

extern crate std;

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::vec::Vec;

use super::allocate::{allocate, allocate_zeroed, deallocate, reallocate, usable_bytes};
use crate::arena::Found;
use crate::governor::Source;
use crate::limits::{CHUNK_BYTES, HUGE_BYTES_MIN, LINGER_MS, PURGE_PIECE_HUGE_BYTES, SLICE_BYTES};
use crate::options::Commit;
use crate::os::Os;
use crate::os::fake::FakeOs;
use crate::thread::engine::Engine;
use crate::thread::heap::Heap;
use crate::units::Nanos;

const MIB: usize = 1 << 20;

type TestEngine = &'static Engine<FakeOs>;

fn leak(os: FakeOs) -> TestEngine {
    Box::leak(Box::new(Engine::new(os)))
}

fn started(os: FakeOs, commit: Commit) -> (TestEngine, &'static Heap) {
    let engine = leak(os);
    assert!(engine.start(commit));
    (engine, engine.acquire_heap().unwrap())
}

fn os(engine: TestEngine) -> &'static FakeOs {
    engine.arena().kernel().os()
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 8).unwrap()
}

/// Writes to both ends of a block.
fn mark(block: *mut u8, bytes: usize, tag: u8) {
    // SAFETY: callers pass live blocks of at least `bytes >= 1`.
    unsafe {
        block.write(tag);
        block.add(bytes - 1).write(tag);
    }
}

fn free(engine: TestEngine, heap: &Heap, block: *mut u8) {
    // SAFETY: callers pass a live block and forget it.
    unsafe { deallocate(engine, heap, block.addr()) };
}

/// Purges all that is due, and then all the rest.
fn drain(engine: TestEngine) -> usize {
    os(engine).advance(Nanos::from_millis(LINGER_MS + 1));
    engine.arena().governor().drain_due(engine.arena().kernel(), engine)
}

/// Complains if anything is still in use or cannot come back.
fn assert_nothing_lost(engine: TestEngine, what: &str) {
    for _ in 0..3 {
        drain(engine);
    }
    for reservation in engine.arena().reservations() {
        assert_eq!(reservation.space.used_slices(), 0, "{what}: slices in use");
        for chunk in reservation.space.used_chunks() {
            assert!(!reservation.space.is_retired(chunk), "{what}: {chunk:?} is free and never purged");
        }
        for room in reservation.rooms.used_rooms() {
            let state = reservation.rooms.state(room).unwrap();
            assert!(!state.is_in_use() && state.warm() == 0, "{what}: {room:?} is {state:?}");
        }
    }
    assert!(engine.arena().retired().is_empty(), "{what}: the queue is not empty");
}

/// Allocates, grows, shrinks and frees blocks of all kinds; null is fine anywhere. Gives how many blocks it got.
fn scenario(engine: TestEngine, heap: &'static Heap) -> usize {
    let sizes = [1, 24, 100, 1000, 5000, 40_000, 300_000, 600_000, 3 * MIB, 10 * MIB, 33 * MIB, 100 * MIB];
    let mut live: Vec<(*mut u8, usize)> = Vec::new();
    for round in 0..3 {
        for bytes in sizes {
            let block = if round == 1 {
                allocate_zeroed(engine, heap, layout(bytes))
            } else {
                allocate(engine, heap, layout(bytes))
            };
            if !block.is_null() {
                mark(block, bytes, 1);
                live.push((block, bytes));
            }
        }
    }
    let got = live.len();
    for (index, (block, bytes)) in live.iter_mut().enumerate() {
        let wanted = if index % 2 == 0 { *bytes * 2 } else { *bytes / 2 + 1 };
        // SAFETY: the block is live with this layout, and replaced if it moved.
        let moved = unsafe { reallocate(engine, heap, NonNull::new(*block).unwrap(), layout(*bytes), wanted) };
        if moved.is_null() {
            mark(*block, *bytes, 2);
        } else {
            // SAFETY: the first byte is part of both sizes.
            assert_eq!(unsafe { moved.read() }, 1);
            mark(moved, wanted, 3);
            (*block, *bytes) = (moved, wanted);
        }
    }
    // Half of the blocks are freed by a thread of their own.
    let other = engine.acquire_heap();
    for (index, (block, _)) in live.into_iter().enumerate() {
        match other {
            Some(other) if index % 2 == 0 => free(engine, other, block),
            _ => free(engine, heap, block),
        }
    }
    if let Some(other) = other {
        engine.release_heap(other);
    }
    engine.release_heap(heap);
    got
}

/// Runs the scenario with `count` calls failing from each call number on, until one run is over before the failures.
fn fail_in_turn(commit: Commit, reserve_bytes_max: usize, count: usize) {
    for from in 0.. {
        let what = std::format!("{commit:?}, at most {reserve_bytes_max:#x}, {count} failures from call {from}");
        let engine = leak(FakeOs::new().narrow(reserve_bytes_max).failing(from, count));
        // A refused start may be tried again.
        if !engine.start(commit) && !engine.start(commit) {
            assert!(count > 2, "{what}: does not start");
            continue;
        }
        let Some(heap) = engine.acquire_heap().or_else(|| engine.acquire_heap()) else { continue };
        let got = scenario(engine, heap);
        assert!(got > 0 || count > 1, "{what}: no block at all");
        let reached = os(engine).calls() > from;
        os(engine).fail_from.store(usize::MAX, Ordering::SeqCst);
        assert_nothing_lost(engine, &what);
        // Afterwards all works again.
        let heap = engine.acquire_heap().unwrap();
        assert_eq!(scenario(engine, heap), 36, "{what}");
        assert_nothing_lost(engine, &what);
        if !reached {
            assert!(from > 3);
            return;
        }
    }
}

#[test]
fn nothing_is_lost_when_any_one_call_fails_in_ready_mode() {
    fail_in_turn(Commit::Ready, usize::MAX, 1);
}

#[test]
fn nothing_is_lost_when_any_one_call_fails_in_stepped_mode() {
    fail_in_turn(Commit::Stepped, usize::MAX, 1);
}

#[test]
fn nothing_is_lost_when_any_one_call_fails_in_narrow_reservations() {
    fail_in_turn(Commit::Ready, 256 * MIB, 1);
    fail_in_turn(Commit::Stepped, 256 * MIB, 1);
}

#[test]
fn nothing_is_lost_when_several_calls_in_a_row_fail() {
    fail_in_turn(Commit::Stepped, usize::MAX, 3);
    fail_in_turn(Commit::Stepped, 256 * MIB, 5);
}

#[test]
fn the_reservation_is_halved_until_the_kernel_agrees() {
    let (engine, heap) = started(FakeOs::new().narrow(3 << 30), Commit::Ready);
    let stats = engine.arena().kernel().counters().snapshot();
    assert!(stats.reserve.errors >= 6, "{stats:?}");
    assert_eq!(stats.write_lock_calls, 0, "start-up is over");
    assert!(!allocate(engine, heap, layout(100)).is_null());
}

#[test]
fn a_kernel_that_gives_nothing_makes_start_fail_and_nothing_else() {
    let engine = leak(FakeOs::new().narrow(MIB));
    assert!(!engine.start(Commit::Auto));
    assert_eq!(engine.arena().reservations().count(), 0);
    assert_eq!(engine.arena().kernel().counters().snapshot().reserve.bytes, 0);
}

#[test]
fn auto_is_stepped_where_all_memory_could_be_locked_or_commit_is_refused() {
    let (engine, _) = started(FakeOs::new(), Commit::Auto);
    assert!(!engine.arena().is_stepped());
    let mut locks = FakeOs::new();
    locks.facts.lockable_bytes = usize::MAX;
    let (engine, _) = started(locks, Commit::Auto);
    assert!(engine.arena().is_stepped());
    // reserve, four flags, metadata; the first of blocks is refused, as under strict overcommit.
    let (engine, _) = started(FakeOs::new().failing(6, 1), Commit::Auto);
    assert!(engine.arena().is_stepped());
}

#[test]
fn a_process_that_outgrows_its_reservation_gets_further_ones() {
    let (engine, heap) = started(FakeOs::new().narrow(256 * MIB), Commit::Ready);
    let blocks: Vec<_> = (0..100).map(|_| allocate(engine, heap, layout(8 * MIB))).collect();
    assert!(blocks.iter().all(|block| !block.is_null()));
    assert!(engine.arena().reservations().count() >= 3);
    for block in &blocks {
        assert_eq!(usable_bytes(engine, block.addr()), 8 * MIB);
        mark(*block, 8 * MIB, 7);
    }
    // More than any reservation of this kernel can hold.
    assert!(allocate(engine, heap, layout(300 * MIB)).is_null());
    blocks.into_iter().for_each(|block| free(engine, heap, block));
    engine.release_heap(heap);
    assert_nothing_lost(engine, "after growth");
}

#[test]
fn a_process_at_its_limit_leaves_the_kernel_alone() {
    let (engine, heap) = started(FakeOs::new().narrow(256 * MIB), Commit::Ready);
    // More than this kernel gives in one reservation: refused again and again, asked for once.
    assert!(allocate(engine, heap, layout(300 * MIB)).is_null());
    let calls = os(engine).calls();
    (0..1000).for_each(|_| assert!(allocate(engine, heap, layout(300 * MIB)).is_null()));
    assert_eq!(os(engine).calls(), calls);
    // A second later it is worth another try.
    os(engine).advance(Nanos::from_millis(1001));
    assert!(allocate(engine, heap, layout(300 * MIB)).is_null());
    assert!(os(engine).calls() > calls);
}

#[test]
fn every_slice_can_be_had_again_at_the_limit() {
    let mut limited = FakeOs::new().narrow(256 * MIB);
    limited.facts.memory_bytes = 64 * MIB;
    let (engine, heap) = started(limited, Commit::Ready);
    os(engine).fail_next(usize::MAX);
    let fill = || {
        let mut blocks = Vec::new();
        loop {
            let block = allocate(engine, heap, layout(MIB));
            if block.is_null() {
                return blocks;
            }
            blocks.push(block);
        }
    };
    let first = fill();
    let count = first.len();
    assert!(count > 190, "{count}");
    first.into_iter().for_each(|block| free(engine, heap, block));
    assert_eq!(fill().len(), count);
}

#[test]
fn a_block_grown_out_of_the_first_region_stays_in_committed_memory() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    let blocks: Vec<_> = (0..4).map(|_| allocate(engine, heap, layout(MIB))).collect();
    let wanted = 5 * MIB + MIB / 5;
    // SAFETY: the block is live with this layout.
    let grown = unsafe { reallocate(engine, heap, NonNull::new(blocks[3]).unwrap(), layout(MIB), wanted) };
    mark(grown, wanted, 1);
}

#[test]
fn foreign_addresses_are_recognised() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    let local = 0_u8;
    assert!(engine.arena().find((&raw const local).addr()).is_none());
    assert!(engine.arena().find(0).is_none() && engine.arena().find(usize::MAX).is_none());
    let block = allocate(engine, heap, layout(40 * MIB));
    assert!(matches!(engine.arena().find(block.addr() + 5), Some(Found::Room(_, _, 5))));
    let block = allocate(engine, heap, layout(40));
    assert!(matches!(engine.arena().find(block.addr()), Some(Found::Slice(..))));
}

#[test]
fn the_stepped_mode_commits_in_few_steps() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    // 3 GiB in pieces that all come from slabs and spans.
    let blocks: Vec<_> =
        (0..6000).map(|n| allocate(engine, heap, layout(if n % 2 == 0 { 8 << 10 } else { MIB }))).collect();
    assert!(blocks.iter().all(|block| !block.is_null()));
    let stats = engine.arena().kernel().counters().snapshot();
    assert!(stats.write_lock_calls <= 12, "{stats:?}");
}

#[test]
fn the_ready_mode_never_calls_the_kernel_for_memory_again() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let calls = os(engine).calls();
    let blocks: Vec<_> = (0..2000).map(|n| allocate(engine, heap, layout(n * n * 16 + 1))).collect();
    assert!(blocks.iter().all(|block| !block.is_null()));
    assert_eq!(os(engine).calls(), calls);
}

#[test]
fn a_growing_block_moves_once_and_then_never() {
    for commit in [Commit::Ready, Commit::Stepped] {
        let (engine, heap) = started(FakeOs::new(), commit);
        let mut bytes = MIB;
        let mut block = allocate(engine, heap, layout(bytes));
        let mut moves = 0;
        while bytes < 1 << 30 {
            // SAFETY: the block is live with this layout, and replaced.
            let grown = unsafe { reallocate(engine, heap, NonNull::new(block).unwrap(), layout(bytes), bytes * 2) };
            moves += usize::from(grown != block);
            (block, bytes) = (grown, bytes * 2);
        }
        assert!(!block.is_null() && moves <= 1, "{commit:?}: {moves} moves");
    }
}

#[test]
fn reallocation_within_a_size_class_stays() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    for (bytes, align) in [(1, 1), (7, 1), (1, 4096), (40, 64)] {
        let layout = Layout::from_size_align(bytes, align).unwrap();
        let block = allocate(engine, heap, layout);
        // SAFETY: the block is live with this layout.
        let same = unsafe { reallocate(engine, heap, NonNull::new(block).unwrap(), layout, bytes) };
        assert_eq!(same, block, "{layout:?}");
    }
}

#[test]
fn a_large_request_wastes_less_than_an_eighth() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let mut bytes = 512 * 1024 + 1;
    while bytes < 1 << 30 {
        let block = allocate(engine, heap, layout(bytes));
        let waste = usable_bytes(engine, block.addr()) - bytes;
        assert!(waste * 8 < bytes, "{bytes} wastes {waste}");
        free(engine, heap, block);
        bytes += bytes / 9 + 1;
    }
}

#[test]
fn spans_fill_the_fullest_chunk_first() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let chunk_of = |block: *mut u8| block.addr() / CHUNK_BYTES;
    // Three chunks of two spans each, 15 slices a span.
    let spans: Vec<_> = (0..6).map(|_| allocate(engine, heap, layout(15 * SLICE_BYTES))).collect();
    let [a, b, c] = [spans[0], spans[2], spans[4]].map(chunk_of);
    assert!(a != b && b != c);
    free(engine, heap, spans[0]);
    free(engine, heap, spans[1]);
    free(engine, heap, spans[2]);
    // The first chunk is empty, the second half full: a span that fits both goes to the second.
    let span = allocate(engine, heap, layout(10 * SLICE_BYTES));
    assert_eq!(chunk_of(span), b);
}

#[test]
fn freed_memory_lingers_then_is_purged_in_bounded_pieces() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let span = allocate(engine, heap, layout(20 * MIB));
    let huge = allocate(engine, heap, layout(300 * MIB));
    mark(span, 20 * MIB, 9);
    mark(huge, 300 * MIB, 9);
    free(engine, heap, span);
    free(engine, heap, huge);
    assert_eq!(os(engine).threads(), 1, "the governor's thread was asked for once");
    assert_eq!(engine.arena().governor().drain_due(engine.arena().kernel(), engine), 0, "nothing is due yet");
    assert_eq!(drain(engine), 320 * MIB);
    for purged in os(engine).purges() {
        assert!(purged.bytes <= PURGE_PIECE_HUGE_BYTES && purged.base.is_multiple_of(CHUNK_BYTES), "{purged:?}");
    }
    // What was purged reads as zeroes, and is known to.
    let again = allocate_zeroed(engine, heap, layout(300 * MIB));
    assert_eq!(again, huge);
    // SAFETY: the block is live and this large.
    assert_eq!(unsafe { (again.read(), again.add(300 * MIB - 1).read()) }, (0, 0));
}

#[test]
fn memory_that_is_taken_back_in_time_is_not_purged() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let span = allocate(engine, heap, layout(2 * MIB));
    free(engine, heap, span);
    let again = allocate(engine, heap, layout(2 * MIB));
    assert_eq!(again, span, "warm memory first");
    drain(engine);
    assert!(os(engine).purges().is_empty());
}

#[test]
fn a_queue_that_overflows_loses_nothing() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    // More chunks than the queue has places. Dirty by the books, though nothing was touched.
    let spans: Vec<_> =
        (0..crate::limits::RETIRED_ENTRIES + 500).map(|_| allocate(engine, heap, layout(2 * MIB))).collect();
    assert!(spans.iter().all(|span| !span.is_null()));
    spans.into_iter().for_each(|span| free(engine, heap, span));
    engine.release_heap(heap);
    assert_nothing_lost(engine, "after an overflow");
}

#[test]
fn a_shrunk_huge_block_gives_its_tail_back_and_keeps_the_rest() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let block = allocate(engine, heap, layout(200 * MIB));
    mark(block, 50 * MIB, 5);
    // SAFETY: the block is live with this layout.
    let shrunk = unsafe { reallocate(engine, heap, NonNull::new(block).unwrap(), layout(200 * MIB), 50 * MIB) };
    assert_eq!(shrunk, block);
    assert_eq!(drain(engine), 150 * MIB);
    // SAFETY: live, and both bytes were written above.
    assert_eq!(unsafe { (block.read(), block.add(50 * MIB - 1).read()) }, (5, 5));
}

#[test]
fn a_fork_in_the_middle_of_a_purge_gives_the_piece_back() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let block = allocate(engine, heap, layout(HUGE_BYTES_MIN));
    let span = allocate(engine, heap, layout(2 * MIB));
    for freed in [block, span] {
        free(engine, heap, freed);
        os(engine).advance(Nanos::from_millis(LINGER_MS + 1));
        // The parent's worker has taken the piece when the process forks.
        assert!(matches!(engine.next(os(engine).now(), usize::MAX), crate::governor::Next::Piece(_)));
        engine.after_fork_in_child();
    }
    engine.release_heap(heap);
    assert_nothing_lost(engine, "in the child");
}

#[test]
fn slabs_left_by_an_ended_thread_serve_others_or_come_back() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let blocks: Vec<_> = (0..10_000).map(|_| allocate(engine, heap, layout(64))).collect();
    engine.release_heap(heap);
    let heir = engine.acquire_heap().unwrap();
    let slices: u32 = engine.arena().reservations().map(|reservation| reservation.space.used_slices()).sum();
    let more: Vec<_> = (0..200).map(|_| allocate(engine, heir, layout(64))).collect();
    let now: u32 = engine.arena().reservations().map(|reservation| reservation.space.used_slices()).sum();
    assert_eq!(slices, now, "the last slab of the ended thread had room");
    blocks.into_iter().chain(more).for_each(|block| free(engine, heir, block));
    engine.release_heap(heir);
    assert_nothing_lost(engine, "after the heir");
}

#[test]
fn a_slab_in_the_pool_is_swept_when_its_last_block_is_freed() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let blocks: Vec<_> = (0..100).map(|_| allocate(engine, heap, layout(128))).collect();
    engine.release_heap(heap);
    let other = engine.acquire_heap().unwrap();
    blocks.into_iter().for_each(|block| free(engine, other, block));
    // Nobody allocates this class again; the governor's thread finds the slab.
    assert_nothing_lost(engine, "after the sweep");
}

#[test]
fn zeroed_blocks_are_zero_after_any_history() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    for bytes in [16, 100, 5000, 70_000, MIB, 40 * MIB] {
        for _ in 0..20 {
            let block = allocate_zeroed(engine, heap, layout(bytes));
            // SAFETY: the block is live and this large.
            let contents = unsafe { core::slice::from_raw_parts_mut(block, bytes) };
            assert!(contents.iter().all(|byte| *byte == 0), "{bytes}");
            contents.fill(0xff);
            free(engine, heap, block);
        }
    }
}

#[test]
fn alignments_hold_up_to_a_gibibyte_and_beyond() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    for shift in 0..=32 {
        for bytes in [1, 1000, 100_000, 3 * MIB, 40 * MIB] {
            let layout = Layout::from_size_align(bytes, 1 << shift).unwrap();
            let block = allocate(engine, heap, layout);
            assert!(!block.is_null() && block.addr().is_multiple_of(1 << shift), "2^{shift}, {bytes}");
            mark(block, bytes, 1);
            free(engine, heap, block);
        }
    }
}

#[test]
fn a_range_that_is_used_again_and_again_keeps_nothing_from_being_purged() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let churned = allocate(engine, heap, layout(3 * MIB));
    let rest = allocate(engine, heap, layout(20 * MIB));
    free(engine, heap, churned);
    free(engine, heap, rest);
    for _ in 0..20 {
        os(engine).advance(Nanos::from_millis(LINGER_MS / 5));
        let churned = allocate(engine, heap, layout(3 * MIB));
        free(engine, heap, churned);
        engine.arena().governor().drain_due(engine.arena().kernel(), engine);
    }
    let purged: usize = os(engine).purges().iter().map(|purged| purged.bytes).sum();
    assert!(purged >= 18 * MIB, "{purged}");
}

#[test]
fn a_zeroed_huge_block_does_not_take_a_warm_room() {
    for commit in [Commit::Ready, Commit::Stepped] {
        let (engine, heap) = started(FakeOs::new(), commit);
        let sparse = allocate_zeroed(engine, heap, layout(1 << 30));
        mark(sparse, 1, 1);
        free(engine, heap, sparse);
        // The books say that all of the first room may be dirty; writing zeroes to it would touch a gibibyte.
        let again = allocate_zeroed(engine, heap, layout(1 << 30));
        assert!(!again.is_null() && again != sparse);
        // A block that need not be zero takes the warm one.
        assert_eq!(allocate(engine, heap, layout(1 << 30)), sparse);
    }
}

#[test]
fn a_copied_stale_link_is_not_taken_for_a_free_block() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let other = engine.acquire_heap().unwrap();
    let blocks: Vec<_> = (0..64).map(|_| allocate(engine, heap, layout(64)).cast::<usize>()).collect();
    let (freed, live) = blocks.split_at(32);
    freed.iter().for_each(|block| free(engine, heap, block.cast()));
    // A program may move memory that it never wrote, and with it what we left there.
    for (stale, block) in freed.iter().zip(live) {
        // SAFETY: both are blocks of this test; the stale word is only copied.
        unsafe { block.write(stale.read()) };
        free(engine, other, block.cast());
    }
    engine.release_heap(heap);
    engine.release_heap(other);
    assert_nothing_lost(engine, "after stale links");
}

#[test]
fn a_huge_block_without_a_room_grows_in_place_as_well() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    let blocks: Vec<_> = (0..8).map(|_| allocate(engine, heap, layout(HUGE_BYTES_MIN))).collect();
    let mut block = blocks[7];
    assert!(matches!(engine.arena().find(block.addr()), Some(Found::Slice(..))));
    for step in 1..=100 {
        let [have, want] = [step - 1, step].map(|steps| HUGE_BYTES_MIN + steps * MIB);
        // SAFETY: the block is live with this layout.
        let grown = unsafe { reallocate(engine, heap, NonNull::new(block).unwrap(), layout(have), want) };
        assert_eq!(grown, block, "step {step}");
        block = grown;
    }
}

#[test]
fn a_block_that_grows_into_a_running_purge_waits_for_the_one_piece() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let block = allocate(engine, heap, layout(100 * MIB));
    let resize = |from, to| {
        // SAFETY: the block is live with this layout, and stays where it is.
        unsafe { reallocate(engine, heap, NonNull::new(block).unwrap(), layout(from), to) }
    };
    assert_eq!(resize(100 * MIB, 40 * MIB), block);
    os(engine).advance(Nanos::from_millis(LINGER_MS + 1));
    let crate::governor::Next::Piece(piece) = engine.next(os(engine).now(), usize::MAX) else {
        panic!("nothing is due")
    };
    assert!(piece.bytes <= crate::limits::PURGE_PIECE_IN_USE_BYTES);
    os(engine).on_next_yield(move || engine.finish(true));
    assert_eq!(resize(40 * MIB, 100 * MIB), block, "not copied");
    assert!(matches!(engine.next(os(engine).now(), usize::MAX), crate::governor::Next::Nothing));
}

#[test]
fn an_idle_thread_pins_a_bounded_amount() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let idle = engine.acquire_heap().unwrap();
    let mut blocks: Vec<_> = [64, 512, 4096, 16 << 10, 256 << 10]
        .into_iter()
        .flat_map(|bytes| (0..(20 * MIB / bytes)).map(move |_| bytes))
        .map(|bytes| allocate(engine, heap, layout(bytes)))
        .collect();
    // One thread frees a block here and there, of full slabs mostly, and then does nothing any more.
    blocks = blocks
        .into_iter()
        .enumerate()
        .filter(|(index, block)| {
            let keep = index % 8 != 0;
            if !keep {
                free(engine, idle, *block);
            }
            keep
        })
        .map(|(_, block)| block)
        .collect();
    blocks.into_iter().for_each(|block| free(engine, heap, block));
    engine.release_heap(heap);
    for _ in 0..5 {
        drain(engine);
    }
    let kept: usize = engine.arena().reservations().map(|reservation| reservation.space.used_slices() as usize).sum();
    let bound = crate::limits::PARTIAL_HEAP_BYTES_MAX + 2 * MIB;
    assert!(kept * SLICE_BYTES <= bound, "{} MiB of 100 are kept", kept * SLICE_BYTES / MIB);
}
