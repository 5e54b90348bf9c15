//! The explicit hugepage pool: who gets it, how much of it, and that what is in it stays there.

extern crate std;

use super::*;

const FREE_PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

/// An engine that asked for `wanted` bytes of a pool that has `pool_bytes`.
fn with_pool(pool_bytes: usize, wanted: usize, commit: Commit) -> (TestEngine, &'static Heap) {
    let mut machine = FakeOs::new();
    machine.pool_bytes = pool_bytes;
    let mut options = options(commit);
    options.hugetlb = Some(wanted);
    started_with(machine, options)
}

fn is_in_pool(engine: TestEngine, block: *mut u8) -> bool {
    matches!(engine.arena().find(block.addr()), Some(Found::Slice(reservation, _)) if reservation.space.is_pool())
}

#[test]
fn huge_blocks_come_from_the_pool_and_others_do_not() {
    for commit in [Commit::Ready, Commit::Stepped] {
        let (engine, heap) = with_pool(1 << 30, 200 * MIB + 5, commit);
        assert_eq!(engine.arena().pool_bytes(), 200 * MIB);
        for bytes in [1, 4096, MIB, 10 * MIB, HUGE_BYTES_MIN - 1] {
            assert!(!is_in_pool(engine, allocate(engine, heap, layout(bytes))), "{bytes}");
        }
        let [one, other] = [HUGE_BYTES_MIN, 150 * MIB].map(|bytes| allocate(engine, heap, layout(bytes)));
        assert!(is_in_pool(engine, one) && is_in_pool(engine, other));
        mark(other, 150 * MIB, 1);
        // More than the pool has left.
        let third = allocate(engine, heap, layout(HUGE_BYTES_MIN));
        assert!(!third.is_null() && !is_in_pool(engine, third));
        free(engine, heap, other);
        assert!(is_in_pool(engine, allocate(engine, heap, layout(100 * MIB))));
        assert_eq!(usable_bytes(engine, one.addr(), "test"), HUGE_BYTES_MIN);
    }
}

#[test]
fn the_most_that_the_kernel_grants_is_taken() {
    // What there is, what is asked for, what the kernel says is free, what is taken, in chunks.
    for (pool, wanted, free, taken) in [
        (32, 32, None, 32),
        (20, 32, Some(20), 20),
        (20, 32, None, 16),
        (3, 32, Some(20), 2),
        (0, 32, None, 0),
        (0, 1, None, 0),
    ] {
        let mut machine = FakeOs::new();
        machine.pool_bytes = pool * CHUNK_BYTES;
        if let Some(free) = free {
            machine.files.set(FREE_PAGES, std::format!("{free}\n"));
        }
        let mut options = options(Commit::Ready);
        options.hugetlb = Some(wanted * CHUNK_BYTES);
        let (engine, heap) = started_with(machine, options);
        assert_eq!(engine.arena().pool_bytes() / CHUNK_BYTES, taken, "{pool} {wanted} {free:?}");
        let reserve = engine.arena().kernel().counters().snapshot().reserve;
        assert_eq!(reserve.errors() > 0, taken < wanted, "refusals are counted");
        let block = allocate(engine, heap, layout(HUGE_BYTES_MIN));
        assert!(!block.is_null());
        assert_eq!(is_in_pool(engine, block), taken >= 16);
    }
}

#[test]
fn what_is_freed_in_the_pool_is_never_given_back_nor_taken_for_zero() {
    let (engine, heap) = with_pool(128 * MIB, 128 * MIB, Commit::Ready);
    for round in 0..3 {
        let block = allocate_zeroed(engine, heap, layout(100 * MIB));
        assert!(is_in_pool(engine, block));
        // SAFETY: the block is live and this large.
        let contents = unsafe { core::slice::from_raw_parts_mut(block, 100 * MIB) };
        assert!(contents.iter().all(|byte| *byte == 0), "round {round}");
        contents.fill(0xff);
        free(engine, heap, block);
        engine.arena().governor().ask(u64::MAX);
        assert_eq!(drain(engine), 0);
    }
    assert_eq!(engine.arena().count_retired().bytes(), 0);
    assert_eq!(engine.arena().cold_claimed_bytes(), 0, "no reserve for what is not warmed");
    let chunk = engine.arena().take_cold_chunk().unwrap();
    assert!(!is_in_pool(engine, chunk.base.as_ptr()));
}

#[test]
fn a_block_in_the_pool_grows_in_place_as_long_as_it_can() {
    let (engine, heap) = with_pool(200 * MIB, 200 * MIB, Commit::Ready);
    let block = allocate(engine, heap, layout(40 * MIB));
    mark(block, 40 * MIB, 7);
    let resize = |block: *mut u8, from, to| {
        // SAFETY: the block is live with this layout, and replaced.
        unsafe { reallocate(engine, heap, NonNull::new(block).unwrap(), layout(from), to) }
    };
    assert_eq!(resize(block, 40 * MIB, 120 * MIB), block);
    assert_eq!(resize(block, 120 * MIB, 40 * MIB), block);
    assert_eq!(resize(block, 40 * MIB, 200 * MIB), block);
    let moved = resize(block, 200 * MIB, 202 * MIB);
    assert!(!moved.is_null() && !is_in_pool(engine, moved));
    // SAFETY: live, and written above.
    assert_eq!(unsafe { moved.read() }, 7);
    // A block that grows out of a slab gets there as well, and all of the pool is free again.
    let vector = resize(allocate(engine, heap, layout(MIB)), MIB, 180 * MIB);
    assert!(is_in_pool(engine, vector));
}

#[test]
fn memory_that_was_warmed_for_a_block_goes_before_the_pool() {
    let (engine, heap) = with_pool(200 * MIB, 200 * MIB, Commit::Ready);
    let room = engine.keep_room(64 * MIB as u64).unwrap();
    let other = allocate(engine, heap, layout(140 * MIB));
    assert!(is_in_pool(engine, other), "the room is kept for smaller blocks");
    let block = allocate(engine, heap, layout(60 * MIB));
    assert!(!is_in_pool(engine, block) && !engine.kept_room(room).is_kept);
    assert!(is_in_pool(engine, allocate(engine, heap, layout(60 * MIB))));
}

#[test]
fn a_forked_child_places_nothing_in_the_pool() {
    let (engine, heap) = with_pool(200 * MIB, 200 * MIB, Commit::Ready);
    let block = allocate(engine, heap, layout(40 * MIB));
    mark(block, 40 * MIB, 3);
    engine.after_fork_in_child();
    assert!(!is_in_pool(engine, allocate(engine, heap, layout(40 * MIB))));
    // SAFETY: the block is live with this layout, and replaced.
    let grown = unsafe { reallocate(engine, heap, NonNull::new(block).unwrap(), layout(40 * MIB), 50 * MIB) };
    assert!(!is_in_pool(engine, grown));
    // SAFETY: live, and written above.
    assert_eq!(unsafe { grown.read() }, 3);
    assert_eq!(engine.arena().pool_bytes(), 200 * MIB);
}
