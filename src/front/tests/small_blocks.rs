//! Small blocks on several heaps: what lies on lists, in slabs, with others, and that slabs come back.

extern crate std;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::limits::{EMPTY_KEPT_BLOCK_BYTES_MIN, EMPTY_KEPT_BYTES_MAX};
use crate::lockfree::tests::Numbers;
use crate::span::size_class::Class;
use crate::units::Slices;

fn used_slices(engine: TestEngine) -> usize {
    engine.arena().reservations().map(|reservation| reservation.space.used_slices() as usize).sum()
}

fn slices_of_slab(bytes: usize) -> usize {
    Class::holding(bytes).unwrap().shape().slices as usize
}

fn blocks_of_slab(bytes: usize) -> usize {
    Class::holding(bytes).unwrap().shape().capacity as usize
}

/// As many blocks as so many slabs hold.
fn slabs_full(engine: TestEngine, heap: &Heap, bytes: usize, slabs: usize) -> Vec<*mut u8> {
    (0..blocks_of_slab(bytes) * slabs).map(|_| allocate(engine, heap, layout(bytes))).collect()
}

/// The same in an order without order.
fn shuffled(mut blocks: Vec<*mut u8>) -> Vec<*mut u8> {
    let mut numbers = Numbers::new(1);
    for index in (1..blocks.len()).rev() {
        blocks.swap(index, numbers.below(index as u64 + 1) as usize);
    }
    blocks
}

/// Blocks that were all freed once and taken again, so that the list takes back what is freed.
fn used_before(engine: TestEngine, heap: &Heap, bytes: usize, slabs: usize) -> Vec<*mut u8> {
    for block in slabs_full(engine, heap, bytes, slabs) {
        free(engine, heap, block);
    }
    slabs_full(engine, heap, bytes, slabs)
}

/// Slabs without used blocks that a heap keeps at most, when it keeps no others.
fn kept_empty(bytes: usize) -> usize {
    if bytes < EMPTY_KEPT_BLOCK_BYTES_MIN {
        0
    } else {
        EMPTY_KEPT_BYTES_MAX / Slices(slices_of_slab(bytes) as u32).in_bytes()
    }
}

#[test]
fn a_queue_that_fills_and_drains_makes_its_slabs_once() {
    const BYTES: usize = 16 << 10;
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let mut queue = std::collections::VecDeque::new();
    let mut drain = |count: usize| {
        queue.extend((0..count).map(|_| allocate(engine, heap, layout(BYTES))));
        queue.drain(..).for_each(|block| free(engine, heap, block));
        used_slices(engine)
    };
    let kept = drain(60);
    assert!(kept * Slices(1).in_bytes() >= 60 * BYTES - (64 << 10), "{kept} slices are kept");
    for count in [10, 60, 33, 60] {
        assert_eq!(drain(count), kept);
    }
    // What is more than a little goes back.
    let slices = drain(60 * 10);
    assert!(slices <= (kept_empty(BYTES) + 2) * slices_of_slab(BYTES), "{slices} slices");
    engine.release_heap(heap);
    assert_nothing_lost(engine, "a heap with empty slabs");
}

#[test]
fn a_class_that_shrinks_keeps_no_slabs_for_the_sake_of_a_list() {
    for bytes in [16, 64, 1000, 4096, 10_000, 32 << 10, 40 << 10] {
        let (engine, heap) = started(FakeOs::new(), Commit::Ready);
        let mut blocks = shuffled(used_before(engine, heap, bytes, 40));
        // Some go and come back, as in any program, so that the list is one that was filled with used blocks.
        for _ in 0..blocks.len() / 2 {
            free(engine, heap, blocks.pop().unwrap());
        }
        blocks.extend(slabs_full(engine, heap, bytes, 10));
        for block in shuffled(blocks) {
            free(engine, heap, block);
        }
        let slabs = used_slices(engine) / slices_of_slab(bytes);
        // The one that the heap allocates from; before the second slab grew sparse, a few may have lain on the list.
        assert!(slabs <= 2 + kept_empty(bytes), "{bytes}: {slabs} slabs for nothing");
        engine.release_heap(heap);
        assert_nothing_lost(engine, "a heap that is given up");
    }
}

#[test]
fn the_last_blocks_of_sparse_slabs_do_not_keep_them_in_use() {
    for bytes in [64, 1000, 4096] {
        let (engine, heap) = started(FakeOs::new(), Commit::Ready);
        let capacity = blocks_of_slab(bytes);
        let blocks = slabs_full(engine, heap, bytes, 64);
        // All slabs become sparse, and tell; one block of each stays.
        for slab in blocks.chunks(capacity) {
            slab[1..].iter().for_each(|block| free(engine, heap, *block));
        }
        // The list is filled anew, so that it could take what is freed next.
        let more: Vec<_> = (0..capacity - 1).map(|_| allocate(engine, heap, layout(bytes))).collect();
        blocks.chunks(capacity).for_each(|slab| free(engine, heap, slab[0]));
        more.into_iter().for_each(|block| free(engine, heap, block));
        let slabs = used_slices(engine) / slices_of_slab(bytes);
        assert!(slabs <= 6, "{bytes}: {slabs} slabs for nothing");
    }
}

#[test]
fn slabs_that_other_threads_have_emptied_are_given_back_while_their_owner_lives() {
    const BYTES: usize = 1000;
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let other = engine.acquire_heap().unwrap();
    let capacity = blocks_of_slab(BYTES);
    let blocks = slabs_full(engine, heap, BYTES, 60);
    // The first free of a full slab's blocks makes the slab this heap's again; the rest come from another thread.
    let give_back = |blocks: &[*mut u8]| {
        blocks.chunks(capacity).for_each(|slab| free(engine, heap, slab[0]));
        blocks.chunks(capacity).flat_map(|slab| &slab[1..]).for_each(|block| free(engine, other, *block));
    };
    give_back(&blocks);
    let before = used_slices(engine);
    // It goes on working: each slab that it gets to keep is a moment to look at another one.
    give_back(&slabs_full(engine, heap, BYTES, 60));
    let last = slabs_full(engine, heap, BYTES, 30);
    for slab in last.chunks(capacity) {
        free(engine, heap, slab[0]);
    }
    assert!(used_slices(engine) < before, "{} slices of {before}", used_slices(engine));
}

#[test]
fn a_block_on_the_list_of_one_heap_may_be_of_a_slab_of_another() {
    const BYTES: usize = 1000;
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let other = engine.acquire_heap().unwrap();
    let capacity = blocks_of_slab(BYTES);
    let foreign = slabs_full(engine, other, BYTES, 60);
    let own = used_before(engine, heap, BYTES, 2);
    // The first free makes a full slab this heap's, the second goes on its list; it keeps the last few such slabs, and
    // the others go to whoever wants them.
    for slab in foreign.chunks(capacity) {
        free(engine, heap, slab[0]);
        free(engine, heap, slab[1]);
    }
    let theirs = slabs_full(engine, other, BYTES, 2);
    engine.release_heap(heap);
    for block in foreign.chunks(capacity).flat_map(|slab| &slab[2..]).chain(&own).chain(&theirs) {
        free(engine, other, *block);
    }
    engine.release_heap(other);
    assert_nothing_lost(engine, "lists of two heaps");
}

/// One step; indices are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Allocate { heap: usize, bytes: usize, zeroed: bool, count: usize },
    Free { heap: usize, block: usize, count: usize },
    HandBack { heap: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![6 => 1..200_usize, 3 => 200..5000_usize, 1 => 5000..(50_usize << 10)];
    let count = || prop_oneof![4 => 1..8_usize, 1 => 8..300_usize];
    prop_oneof![
        8 => (any::<usize>(), bytes, any::<bool>(), count())
            .prop_map(|(heap, bytes, zeroed, count)| Step::Allocate { heap, bytes, zeroed, count }),
        8 => (any::<usize>(), any::<usize>(), count())
            .prop_map(|(heap, block, count)| Step::Free { heap, block, count }),
        1 => any::<usize>().prop_map(|heap| Step::HandBack { heap }),
    ]
}

struct Live {
    block: *mut u8,
    bytes: usize,
    tag: u8,
}

impl Live {
    fn contents(&mut self) -> &mut [u8] {
        // SAFETY: the block is live, this large, and only this test knows it.
        unsafe { core::slice::from_raw_parts_mut(self.block, self.bytes) }
    }

    fn free(mut self, engine: TestEngine, heap: &Heap) {
        let tag = self.tag;
        assert!(
            self.contents().iter().all(|byte| *byte == tag),
            "{:p} of {} bytes has changed",
            self.block,
            self.bytes
        );
        free(engine, heap, self.block);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_lives_of_small_blocks_keep_their_contents(steps in vec(step(), 1..200)) {
        let (engine, first) = started(FakeOs::new(), Commit::Ready);
        let mut heaps = [first, engine.acquire_heap().unwrap(), engine.acquire_heap().unwrap()];
        let mut live: Vec<Live> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Allocate { heap, bytes, zeroed, count } => {
                    // At most some MiB of real memory.
                    for _ in 0..count.min(1 + (1 << 18) / bytes) {
                        let allocate = if zeroed { allocate_zeroed } else { allocate };
                        let block = allocate(engine, heaps[heap % 3], layout(bytes));
                        let mut one = Live { block, bytes, tag: number as u8 | 1 };
                        if zeroed {
                            assert!(one.contents().iter().all(|byte| *byte == 0), "dirty");
                        }
                        let tag = one.tag;
                        one.contents().fill(tag);
                        live.push(one);
                    }
                }
                Step::Free { heap, block, count } => {
                    for _ in 0..count.min(live.len()) {
                        live.swap_remove(block % live.len()).free(engine, heaps[heap % 3]);
                    }
                }
                Step::HandBack { heap } => {
                    engine.release_heap(heaps[heap % 3]);
                    heaps[heap % 3] = engine.acquire_heap().unwrap();
                }
            }
        }
        for (number, one) in live.into_iter().enumerate() {
            one.free(engine, heaps[number % 3]);
        }
        for heap in heaps {
            engine.release_heap(heap);
        }
        assert_all_back(engine, "small blocks");
    }
}
