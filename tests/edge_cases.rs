//! Aim: requests at the edges are served right or refused cleanly: no bytes, every alignment, sizes around each
//! boundary inside the allocator, absurd sizes, growth and shrinking in place.
//!
//! Method: direct calls of the installed allocator, in a process of its own for each test and mode. Nothing larger
//! than a few pages is written, so that the sizes cost address space only.

mod common;

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;
use std::time::Duration;

use test_support::skip;

use common::{Random, Test};

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

fn main() {
    common::run(&[
        Test::InEachMode("requests_of_no_bytes_give_a_pointer_that_can_be_freed", no_bytes),
        Test::InEachMode("every_alignment_is_kept_or_refused", every_alignment),
        Test::InEachMode("aligned_blocks_that_grow_and_shrink_stay_aligned", aligned_reallocation),
        Test::InEachMode("sizes_around_every_boundary_can_be_used_from_end_to_end", boundaries),
        Test::InEachMode("zeroed_blocks_of_every_kind_are_zero_also_when_used_before", zeroed_again),
        Test::InEachMode("absurd_sizes_are_refused_and_nothing_is_lost", absurd_sizes),
        Test::InEachMode("absurd_growth_is_refused_and_the_block_stays", absurd_growth),
        Test::InEachMode("200_gib_of_addresses_are_given_or_refused_and_nothing_is_lost", wide_request),
        Test::InEachMode("a_vector_doubled_from_32_mib_to_1_gib_never_moves", doubling_keeps_the_address),
        Test::InEachMode("a_vector_doubled_from_1_mib_to_1_gib_moves_at_most_once", growth_moves_at_most_once),
        Test::InEachMode("many_vectors_that_grow_side_by_side_keep_their_contents", growth_among_neighbours),
        Test::Here("large_blocks_that_grow_in_place_can_be_used_to_their_ends", growth_into_fresh_memory),
        Test::Job("growth_into_fresh_memory", |arguments| {
            grow_after(arguments[0].parse().expect("the parent passes a number"));
        }),
        Test::InEachMode("shrinking_keeps_the_contents", shrinking),
        Test::InEachMode("a_shrunk_block_can_grow_again_while_its_tail_is_given_back", shrinking_and_growing),
        Test::InEachMode("usable_size_is_at_least_what_was_asked_for_and_can_be_used", usable_size),
        Test::InEachMode("reallocation_to_the_same_size_stays", same_size),
        Test::Here("a_commit_mode_that_does_not_exist_gets_one_line_and_the_program_works", unknown_mode),
        Test::Job("works", |_| works()),
    ]);
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

fn layout(bytes: usize, align: usize) -> Layout {
    Layout::from_size_align(bytes, align).expect("the test asks for possible layouts")
}

/// A live block that knows its layout.
struct Block {
    base: NonNull<u8>,
    layout: Layout,
}

impl Block {
    fn try_new(bytes: usize, align: usize) -> Option<Block> {
        let layout = layout(bytes, align);
        // SAFETY: any layout may be asked for here: this allocator serves those of no bytes as well.
        let base = NonNull::new(unsafe { GLOBAL.alloc(layout) })?;
        assert!(base.addr().get().is_multiple_of(align), "{base:p} is not aligned for {layout:?}");
        Some(Block { base, layout })
    }

    fn new(bytes: usize, align: usize) -> Block {
        Self::try_new(bytes, align).unwrap_or_else(|| panic!("no memory for {bytes} bytes aligned to {align}"))
    }

    fn bytes(&self) -> usize {
        self.layout.size()
    }

    fn write(&mut self, at: usize, byte: u8) {
        assert!(at < self.bytes());
        // SAFETY: the block is ours, and `at` lies in it.
        unsafe { self.base.add(at).write(byte) };
    }

    fn read(&self, at: usize) -> u8 {
        assert!(at < self.bytes());
        // SAFETY: the block is ours, `at` lies in it, and the tests read only what they have written.
        unsafe { self.base.add(at).read() }
    }

    /// Writes both ends and one byte near each of them.
    fn mark(&mut self, byte: u8) {
        let bytes = self.bytes();
        for at in [0, 1, 15, 16, bytes.wrapping_sub(17), bytes.wrapping_sub(16), bytes.wrapping_sub(1)] {
            if at < bytes {
                self.write(at, byte ^ at as u8);
            }
        }
    }

    /// Checks what `mark` wrote.
    fn check(&self, byte: u8) {
        let bytes = self.bytes();
        for at in [0, 1, 15, 16, bytes.wrapping_sub(17), bytes.wrapping_sub(16), bytes.wrapping_sub(1)] {
            if at < bytes {
                assert_eq!(self.read(at), byte ^ at as u8, "{bytes} bytes at {:p}, offset {at}", self.base);
            }
        }
    }

    /// Says whether it worked; the block is as before if not.
    fn try_resize(&mut self, bytes: usize) -> bool {
        // SAFETY: the block is ours, with this layout; if it moves, only the new place is used.
        let base = unsafe { GLOBAL.realloc(self.base.as_ptr(), self.layout, bytes) };
        let Some(base) = NonNull::new(base) else { return false };
        assert!(base.addr().get().is_multiple_of(self.layout.align()), "{base:p} is not aligned any more");
        self.base = base;
        self.layout = layout(bytes, self.layout.align());
        true
    }

    fn resize(&mut self, bytes: usize) {
        let before = self.bytes();
        assert!(self.try_resize(bytes), "no memory to go from {before} to {bytes} bytes");
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the block is ours, with this layout, and not used again.
        unsafe { GLOBAL.dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// Allocates a bit of everything, to see that the allocator is in order.
fn works() {
    let mut blocks: Vec<Block> = [1, 100, 5000, 100 * KIB, 3 * MIB, 50 * MIB].map(|bytes| Block::new(bytes, 8)).into();
    for (number, block) in blocks.iter_mut().enumerate() {
        block.mark(number as u8);
    }
    for (number, block) in blocks.iter().enumerate() {
        block.check(number as u8);
    }
}

fn no_bytes() {
    for shift in 0..=30 {
        let align = 1 << shift;
        let blocks: Vec<Block> = (0..10).map(|_| Block::new(0, align)).collect();
        drop(blocks);
        // SAFETY: this allocator serves layouts of no bytes as well.
        let zeroed = NonNull::new(unsafe { GLOBAL.alloc_zeroed(layout(0, align)) }).expect("memory for nothing");
        let mut block = Block { base: zeroed, layout: layout(0, align) };
        block.resize(100);
        block.mark(3);
        block.check(3);
    }
    works();
}

fn every_alignment() {
    for shift in 0..=32 {
        let align: usize = 1 << shift;
        let sizes = [1, 16, 100, align / 2 + 1, align, align + 1, 3 * align, 100 * KIB, MIB, 33 * MIB];
        for bytes in sizes.into_iter().filter(|bytes| *bytes <= 4 * GIB) {
            let mut blocks: Vec<Block> = (0..3).map_while(|_| Block::try_new(bytes, align)).collect();
            assert!(shift > 30 || blocks.len() == 3 || bytes > GIB, "refused: {bytes} bytes aligned to 2^{shift}");
            for (number, block) in blocks.iter_mut().enumerate() {
                block.mark(number as u8);
            }
            for (number, block) in blocks.iter().enumerate() {
                block.check(number as u8);
            }
        }
    }
    // Beyond what any reservation is aligned to: refused or right.
    for shift in 33..=46 {
        if let Some(mut block) = Block::try_new(1, 1 << shift) {
            block.mark(1);
        }
    }
    works();
}

fn aligned_reallocation() {
    for shift in 0..=23 {
        let mut block = Block::new(100, 1 << shift);
        block.write(0, 42);
        block.write(99, 43);
        for bytes in [200, 5000, 70 * KIB, 700 * KIB, 3 * MIB, 40 * MIB, 3 * MIB, 600 * KIB, 70 * KIB, 5000, 100] {
            block.resize(bytes);
            assert_eq!((block.read(0), block.read(99)), (42, 43), "{bytes} bytes aligned to 2^{shift}");
        }
    }
}

/// Sizes at and next to every boundary that the allocator could have: powers of two, the steps between them, pages,
/// slices, the ends of the small, large and growing kinds, and chunks.
fn boundary_sizes() -> Vec<usize> {
    let mut sizes: Vec<usize> = (1..=1100).collect();
    for shift in 10..=26 {
        for step in 0..8 {
            sizes.push((1 << shift) + step * (1 << shift) / 8);
        }
    }
    sizes.extend((1..=40).map(|slices| slices * 64 * KIB));
    sizes.extend([512 * KIB, 2 * MIB, 4 * MIB, 32 * MIB, 64 * MIB, 128 * MIB]);
    let near = |size: &usize| [size - 1, *size, size + 1, size + 16];
    let mut sizes: Vec<usize> = sizes.iter().flat_map(near).filter(|size| *size > 0).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn boundaries() {
    let sizes = boundary_sizes();
    // All small ones live at the same time, so that neighbours would be hit by a block that is too short.
    let mut small: Vec<Block> =
        sizes.iter().filter(|bytes| **bytes <= MIB).map(|bytes| Block::new(*bytes, 1)).collect();
    for (number, block) in small.iter_mut().enumerate() {
        block.mark(number as u8);
    }
    for bytes in sizes.into_iter().filter(|bytes| *bytes > MIB) {
        let [mut one, mut two] = [Block::new(bytes, 1), Block::new(bytes, 1)];
        one.mark(1);
        two.mark(2);
        one.check(1);
        two.check(2);
    }
    for (number, block) in small.iter().enumerate() {
        block.check(number as u8);
    }
}

fn zeroed_again() {
    for bytes in [1, 8, 16, 17, 100, 1024, 5000, 40 * KIB, 100 * KIB, 512 * KIB, 512 * KIB + 1, MIB, 5 * MIB, 40 * MIB]
    {
        for round in 0..4 {
            let blocks: Vec<Block> = (0..3)
                .map(|_| {
                    // SAFETY: the size is not zero.
                    let base = unsafe { GLOBAL.alloc_zeroed(layout(bytes, 8)) };
                    Block { base: NonNull::new(base).expect("there is memory"), layout: layout(bytes, 8) }
                })
                .collect();
            for mut block in blocks {
                // SAFETY: the block is ours, holds `bytes`, and was zeroed.
                let contents = unsafe { std::slice::from_raw_parts_mut(block.base.as_mut(), bytes) };
                let dirty = contents.iter().position(|byte| *byte != 0);
                assert_eq!(dirty, None, "round {round}, {bytes} bytes at {:p}", block.base);
                contents.fill(0xff);
                block.mark(9);
            }
        }
    }
}

/// Sizes that no machine has.
const ABSURD: [usize; 9] = [
    1 << 46,
    (1 << 46) + 1,
    1 << 47,
    (1 << 47) - (2 << 20),
    1 << 48,
    1 << 60,
    1 << 62,
    isize::MAX as usize - (64 << 10),
    isize::MAX as usize - 4095,
];

fn absurd_sizes() {
    works();
    for round in 0..20 {
        for bytes in ABSURD {
            for align in [1, 4096, 2 * MIB, GIB] {
                let Ok(layout) = Layout::from_size_align(bytes, align) else { continue };
                // SAFETY: the size is not zero.
                let block = unsafe { if round % 2 == 0 { GLOBAL.alloc(layout) } else { GLOBAL.alloc_zeroed(layout) } };
                assert!(block.is_null(), "{bytes:#x} bytes at {block:p}");
            }
        }
        assert!(Vec::<u8>::new().try_reserve_exact(1 << 46).is_err());
        works();
    }
}

fn absurd_growth() {
    for start in [1, 100, 100 * KIB, MIB, 40 * MIB] {
        let mut block = Block::new(start, 8);
        block.mark(7);
        let base = block.base;
        for bytes in ABSURD {
            assert!(!block.try_resize(bytes), "{bytes:#x} bytes");
            assert_eq!(block.base, base);
            block.check(7);
        }
    }
    works();
}

fn wide_request() {
    let ready = std::env::var("ANTIFREEZE_COMMIT").is_ok_and(|mode| mode == "ready");
    let mut first = None;
    for _ in 0..20 {
        let mut given = Vec::new();
        while let Some(mut block) = Block::try_new(200 * GIB, 1) {
            block.mark(given.len() as u8);
            given.push(block);
            if given.len() == 4 {
                break;
            }
        }
        for (number, block) in given.iter().enumerate() {
            block.check(number as u8);
        }
        let first = *first.get_or_insert_with(|| {
            println!("edge_cases: {} blocks of 200 GiB", given.len());
            given.len()
        });
        assert!(given.len() >= first, "{first} blocks at first, then {}", given.len());
        drop(given);
        works();
    }
    if ready && antifreeze::stats().commit.errors() > 0 {
        skip("the machine does not let a process have all of its reservation at once");
    }
}

/// Doubles a vector from `start` bytes to 1 GiB and counts how often its address changes. Touches its ends only.
fn count_moves(start: usize) -> usize {
    let mut block = Block::new(start, 1);
    let mut moves = 0;
    let mut bytes = start;
    block.write(0, 1);
    while bytes < GIB {
        block.write(bytes - 1, 2);
        let before = block.base;
        bytes *= 2;
        block.resize(bytes);
        moves += usize::from(block.base != before);
        assert_eq!((block.read(0), block.read(bytes / 2 - 1)), (1, 2));
    }
    block.write(bytes - 1, 3);
    moves
}

fn doubling_keeps_the_address() {
    assert_eq!(count_moves(32 * MIB), 0);
    // The same with a vector, and beside blocks of its own kind: four in all, as many as can grow at a time in the
    // stepped mode.
    let _neighbours: Vec<Block> = (0..2).map(|_| Block::new(32 * MIB, 1)).collect();
    let mut vector: Vec<u8> = Vec::with_capacity(32 * MIB);
    let before = vector.as_ptr();
    while vector.capacity() < GIB {
        let bytes = vector.capacity() * 2;
        vector.reserve_exact(bytes);
        assert_eq!(vector.as_ptr(), before, "moved at {bytes} bytes");
    }
    assert_eq!(count_moves(32 * MIB), 0);
}

fn growth_moves_at_most_once() {
    for round in 0..3 {
        let moves = count_moves(MIB);
        assert!(moves <= 1, "{moves} moves in round {round}");
    }
    let _neighbours: Vec<Block> = (0..40).map(|_| Block::new(MIB, 1)).collect();
    let moves = count_moves(MIB);
    assert!(moves <= 1, "{moves} moves between neighbours");
}

fn growth_among_neighbours() {
    let seed = common::seed_from_environment().unwrap_or_else(common::seed_from_clock);
    println!("edge_cases: ANTIFREEZE_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let mut blocks: Vec<Block> = (0..200).map(|_| Block::new(random.log_uniform(16..=8 * MIB), 1)).collect();
    for (number, block) in blocks.iter_mut().enumerate() {
        block.mark(number as u8);
    }
    let mut live_bytes: usize = blocks.iter().map(Block::bytes).sum();
    for _ in 0..4000 {
        let number = random.below(blocks.len());
        let block = &mut blocks[number];
        block.check(number as u8);
        let bytes = match random.below(4) {
            0 => random.log_uniform(16..=64 * MIB),
            1 => (block.bytes() / 2).max(16),
            2 => block.bytes() + random.below(block.bytes()) + 1,
            _ => block.bytes() + 64 * KIB,
        };
        if live_bytes + bytes > 2 * GIB || bytes > 128 * MIB {
            continue;
        }
        live_bytes = live_bytes - block.bytes() + bytes;
        let head = [block.read(0), block.read(1)];
        let tail_at = block.bytes().min(bytes) - 1;
        let tail = (tail_at + 1 == block.bytes()).then(|| block.read(tail_at));
        block.resize(bytes);
        assert_eq!([block.read(0), block.read(1)], head, "seed {seed}");
        assert!(tail.is_none_or(|tail| block.read(tail_at) == tail), "seed {seed}");
        block.mark(number as u8);
    }
    for (number, block) in blocks.iter().enumerate() {
        block.check(number as u8);
    }
}

fn growth_into_fresh_memory() {
    let mut failures = Vec::new();
    for mode in common::MODES {
        // How many blocks come before decides where in a fresh region the growing one lies.
        for lead in 0..10 {
            let mut child = common::job("growth_into_fresh_memory", &[&lead.to_string()]);
            let ended = common::output_of(child.env("ANTIFREEZE_COMMIT", mode), common::DEADLINE);
            if !ended.status.success() {
                failures.push(format!("{mode}, after {lead} blocks: {} {}", ended.status, ended.stderr));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn grow_after(lead: usize) {
    let _others: Vec<Block> = (0..lead).map(|_| Block::new(MIB, 1)).collect();
    let mut block = Block::new(MIB, 1);
    // Sizes that grow in place among large blocks: not near enough to whole chunks for a room of their own.
    for tenths in [12, 25, 34, 43, 52, 61, 83, 103, 122] {
        block.resize(tenths * MIB / 10);
        block.mark(2);
        block.check(2);
    }
}

fn shrinking() {
    for start in [100, 5000, 100 * KIB, 600 * KIB, 5 * MIB, 33 * MIB, 300 * MIB] {
        let mut block = Block::new(start, 1);
        for at in 0..start.min(64) {
            block.write(at, at as u8);
        }
        let mut bytes = start;
        while bytes > 1 {
            bytes = (bytes * 2 / 3).max(1);
            block.resize(bytes);
            assert!((0..bytes.min(64)).all(|at| block.read(at) == at as u8), "{start} bytes shrunk to {bytes}");
        }
    }
}

fn shrinking_and_growing() {
    let step = 4 * MIB;
    for round in 1..=6 {
        let mut block = Block::new(512 * MIB, 1);
        (0..512 * MIB).step_by(step).for_each(|at| block.write(at, round));
        let purges = antifreeze::stats().purge.calls();
        block.resize(3 * MIB);
        if round % 2 == 0 {
            // Grows while its tail is being given back, piece by piece.
            assert!(common::eventually(common::DEADLINE, || antifreeze::stats().purge.calls() > purges));
        }
        block.resize(512 * MIB);
        assert_eq!(block.read(0), round);
        (0..512 * MIB).step_by(step).for_each(|at| block.write(at, round + 1));
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(30));
        }
        let lost = (0..512 * MIB).step_by(step).find(|at| block.read(*at) != round + 1);
        assert_eq!(lost, None, "round {round}: contents lost");
        // Whoever gets the memory next must not see them either.
        drop(block);
        // SAFETY: the size is not zero.
        let base = unsafe { GLOBAL.alloc_zeroed(layout(512 * MIB, 1)) };
        let zeroed = Block { base: NonNull::new(base).expect("there is memory"), layout: layout(512 * MIB, 1) };
        let dirty = (0..512 * MIB).step_by(step).find(|at| zeroed.read(*at) != 0);
        assert_eq!(dirty, None, "round {round}: not zero");
    }
}

fn usable_size() {
    for bytes in boundary_sizes() {
        let block = Block::new(bytes, 1);
        // SAFETY: the block is live and of this allocator.
        let usable = unsafe { antifreeze::usable_size(block.base) };
        assert!(usable >= bytes, "{usable} of {bytes} bytes are usable");
        assert!(
            usable <= bytes + bytes / 4 + 128 + 16 || bytes <= 128 || bytes > 512 * KIB,
            "{usable} bytes for {bytes}"
        );
        assert!(usable <= bytes + bytes / 8 + 64 * KIB, "{usable} bytes for {bytes}");
        // SAFETY: what is usable may be used.
        unsafe { block.base.add(usable - 1).write(1) };
    }
    for shift in 0..=30 {
        let block = Block::new(1, 1 << shift);
        // SAFETY: as above.
        assert!(unsafe { antifreeze::usable_size(block.base) } >= 1);
    }
}

fn same_size() {
    for bytes in [1, 100, 5000, 100 * KIB, 512 * KIB, MIB, 5 * MIB, 31 * MIB, 32 * MIB, 100 * MIB] {
        let mut block = Block::new(bytes, 1);
        block.mark(5);
        let before = block.base;
        block.resize(bytes);
        assert_eq!(block.base, before, "{bytes} bytes");
        block.check(5);
    }
}

fn unknown_mode() {
    for (mode, lines) in [("sideways", 1), ("Ready", 1), ("", 1), ("auto", 0), ("ready", 0), ("stepped", 0)] {
        let mut child = common::job("works", &[]);
        let ended = common::output_of(child.env("ANTIFREEZE_COMMIT", mode), common::DEADLINE);
        assert!(ended.status.success(), "{mode:?}: {} {}", ended.status, ended.stderr);
        assert_eq!(ended.stderr.lines().count(), lines, "{mode:?}: {}", ended.stderr);
        assert!(
            ended.stderr.lines().all(|line| line.starts_with("antifreeze: ANTIFREEZE_COMMIT=")),
            "{}",
            ended.stderr
        );
    }
}
