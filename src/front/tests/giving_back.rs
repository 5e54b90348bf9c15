//! How memory comes back: lingering, purges, the pool of slabs without owner, forks, ended and idle threads.

extern crate std;

use super::*;

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
    assert_eq!(live(engine, Options::new().linger), 0, "nothing is due yet");
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
fn a_chunk_whose_hint_is_missing_for_a_moment_is_not_slept_over() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let span = allocate(engine, heap, layout(2 * MIB));
    free(engine, heap, span);
    for reservation in engine.arena().reservations() {
        let chunks = reservation.space.used_chunks().filter(|chunk| reservation.space.is_retired(*chunk));
        chunks.for_each(|chunk| reservation.space.hide_retired(chunk));
    }
    assert_ne!(engine.governor_round(), Some(After::Sleep), "nobody would ring again");
    assert_eq!(drain(engine), 2 * MIB);
}

#[test]
fn memory_that_is_free_for_hours_keeps_its_age() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let span = allocate(engine, heap, layout(2 * MIB));
    free(engine, heap, span);
    assert_eq!(live(engine, Nanos(1)), 0, "seen");
    os(engine).advance(Nanos::from_millis(3 * 3_600_000));
    assert_eq!(live(engine, Nanos::from_millis(10)), 2 * MIB);
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
        // The parent's worker has taken the piece when the process forks.
        assert!(take_piece(engine).is_some());
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
fn a_range_that_is_used_again_and_again_keeps_nothing_from_being_purged() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let churned = allocate(engine, heap, layout(3 * MIB));
    let rest = allocate(engine, heap, layout(20 * MIB));
    free(engine, heap, churned);
    free(engine, heap, rest);
    // For longer than the decay time.
    for _ in 0..60 {
        let churned = allocate(engine, heap, layout(3 * MIB));
        free(engine, heap, churned);
        live(engine, Nanos::from_millis(100));
    }
    let purged: usize = os(engine).purges().iter().map(|purged| purged.bytes).sum();
    assert!(purged >= 18 * MIB, "{purged}");
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
fn a_block_that_grows_into_a_running_purge_waits_for_the_one_piece() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let block = allocate(engine, heap, layout(100 * MIB));
    let resize = |from, to| {
        // SAFETY: the block is live with this layout, and stays where it is.
        unsafe { reallocate(engine, heap, NonNull::new(block).unwrap(), layout(from), to) }
    };
    assert_eq!(resize(100 * MIB, 40 * MIB), block);
    let piece = take_piece(engine).unwrap();
    assert!(piece.bytes <= crate::limits::PURGE_PIECE_IN_USE_BYTES);
    os(engine).on_next_yield(move || engine.finish(piece.slot, false));
    assert_eq!(resize(40 * MIB, 100 * MIB), block, "not copied");
    assert!(take_piece(engine).is_none());
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

#[test]
fn growth_that_fails_leaves_clean_chunks_clean() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let claim = |bytes| allocate(engine, heap, layout(bytes));
    // The first block lies in small pages; the others begin at chunks of hugepages, one after the other.
    let first = claim(3 * MIB / 2);
    let before = claim(3 * MIB);
    free(engine, heap, before);
    let block = claim(3 * MIB / 2);
    drain(engine);
    let neighbour = claim(3 * MIB);
    assert_eq!((block, neighbour.addr()), (before, before.addr() + 2 * CHUNK_BYTES));
    os(engine).take_purge_calls();
    // SAFETY: the block is live with this layout, and forgotten.
    let moved = unsafe { reallocate(engine, heap, NonNull::new(block).unwrap(), layout(3 * MIB / 2), 9 * MIB / 2) };
    assert_ne!(moved, block, "a neighbour is in the way");
    drain(engine);
    let purged: usize = os(engine).take_purge_calls().iter().map(|call| call.bytes).sum();
    assert_eq!(purged, 2 * MIB, "what the block has left, and no more");
    [first, moved, neighbour].into_iter().for_each(|block| free(engine, heap, block));
}

#[test]
fn what_is_asked_for_before_the_first_round_is_given_back_on_old_kernels_too() {
    let mut os = FakeOs::new();
    os.release = "5.10.0";
    let mut never = options(Commit::Ready);
    never.decay = None;
    let (engine, heap) = started_with(os, never);
    let block = allocate(engine, heap, layout(64 * MIB));
    free(engine, heap, block);
    engine.arena().governor().ask(u64::MAX);
    assert_eq!(live(engine, Nanos::from_millis(200)), 64 * MIB);
}
