//! Where blocks go, how they grow, what they contain at first.

extern crate std;

use super::*;

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
fn heaps_take_their_own_memory_again() {
    const BYTES: usize = 256 << 10;
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let heaps = [heap, engine.acquire_heap().unwrap()];
    // In turns, so that the slabs of the heaps lie among each other; those of the third keep every chunk in use.
    let third = engine.acquire_heap().unwrap();
    let (mut first, mut kept) = ([const { Vec::new() }; 2], Vec::new());
    for _ in 0..24 {
        kept.push(allocate(engine, third, layout(BYTES)));
        (0..2).for_each(|turn| first[turn].push(allocate(engine, heaps[turn], layout(BYTES))));
    }
    (0..2).for_each(|turn| first[turn].iter().for_each(|block| free(engine, heaps[turn], *block)));
    let mut second = [const { Vec::new() }; 2];
    for _ in 0..24 {
        (0..2).for_each(|turn| second[turn].push(allocate(engine, heaps[turn], layout(BYTES))));
    }
    first.iter_mut().chain(&mut second).for_each(|blocks| blocks.sort_unstable());
    assert_eq!(second, first);
    (0..2).for_each(|turn| second[turn].iter().for_each(|block| free(engine, heaps[turn], *block)));
    kept.iter().for_each(|block| free(engine, third, *block));
    heaps.into_iter().chain([third]).for_each(|heap| engine.release_heap(heap));
    assert_nothing_lost(engine, "after taking it again");
}

#[test]
fn free_chunks_stay_free_while_there_is_other_memory() {
    const BYTES: usize = 512 << 10;
    for purged in [false, true] {
        let (engine, heap) = started(FakeOs::new(), Commit::Ready);
        let blocks: Vec<_> = (0..64).map(|_| allocate(engine, heap, layout(BYTES))).collect();
        // One block in every fourth chunk stays.
        let freed = blocks.iter().enumerate().filter(|(number, _)| number % 16 != 0);
        freed.for_each(|(_, block)| free(engine, heap, *block));
        assert!(!purged || drain(engine) > 0);
        let free_chunks = || {
            let states = |reservation: &'static Reservation| {
                reservation.space.used_chunks().filter_map(|chunk| reservation.space.chunk_state(chunk))
            };
            engine.arena().reservations().flat_map(states).filter(|state| state.is_unused()).count()
        };
        let before = free_chunks();
        assert!(before >= 8, "{before} chunks are free");
        // The heap has room for some of these in slabs of its own, and the four chunks in use have some for the rest.
        (0..12).for_each(|_| assert!(!allocate(engine, heap, layout(BYTES)).is_null()));
        assert_eq!(free_chunks(), before, "purged: {purged}");
    }
}

#[test]
fn huge_blocks_have_few_low_address_bits_in_common() {
    /// What AMD's Zen looks its first data cache up by, as Lipp et al. found ("Take A Way", 2020).
    fn cache_hash(address: usize) -> usize {
        let bit = |number: usize| address >> number & 1;
        let pairs = [(12, 27), (13, 26), (14, 25), (15, 20), (16, 21), (17, 22), (18, 23), (19, 24)];
        pairs.iter().enumerate().map(|(place, (low, high))| (bit(*low) ^ bit(*high)) << place).sum()
    }
    for commit in [Commit::Ready, Commit::Stepped] {
        let (engine, heap) = started(FakeOs::new(), commit);
        let blocks: Vec<_> = (0..4).map(|_| allocate(engine, heap, layout(1 << 30))).collect();
        let mut hashes: Vec<_> = blocks.iter().map(|block| cache_hash(block.addr())).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 4, "{commit:?}: {blocks:?}");
        // What lies between a room's start and its block was never a block.
        assert!(matches!(engine.arena().find(blocks[1].addr()), Some(Found::Room(_, _, 0))));
        assert!(engine.arena().find(blocks[1].addr() - 1).is_none());
    }
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
        let waste = usable_bytes(engine, block.addr(), "test") - bytes;
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
