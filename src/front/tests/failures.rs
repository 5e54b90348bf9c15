//! Kernels that refuse: every call in turn, address space in halves, limits. Nothing may be lost by any of it.

extern crate std;

use super::*;

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
    assert!(stats.reserve.errors() >= 6, "{stats:?}");
    assert_eq!(stats.write_lock_calls, 0, "start-up is over");
    assert!(!allocate(engine, heap, layout(100)).is_null());
}

#[test]
fn a_kernel_that_gives_nothing_makes_start_fail_and_nothing_else() {
    let engine = leak(FakeOs::new().narrow(MIB));
    assert!(!engine.start(Commit::Auto));
    assert_eq!(engine.arena().reservations().count(), 0);
    assert_eq!(engine.arena().kernel().counters().snapshot().reserve.bytes(), 0);
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
