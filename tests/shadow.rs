//! Aim: no block that the allocator gives out overlaps another, is less aligned or less zero than asked, or loses its
//! contents, whatever threads do to it.
//!
//! Method: a shadow model. Seeded random work in four places of work at once; in each, one generation of threads
//! follows the other, and a thread that ends leaves its blocks to all. Each block's address, size, alignment and a
//! tag for its contents are kept beside it and checked at every step of its life. A map of all live blocks, or of
//! every k-th (the map has a lock, which keeps threads from meeting inside the allocator), finds overlaps.

mod common;

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Random, Test};

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

fn main() {
    common::run(&[
        Test::Here("live_blocks_stay_apart_and_keep_their_contents_ready", || in_mode("ready")),
        Test::Here("live_blocks_stay_apart_and_keep_their_contents_stepped", || in_mode("stepped")),
        Test::Job("random_work", random_work),
    ]);
}

const PLACES: usize = 4;
const GENERATIONS: u64 = 5;
const STEPS: usize = 8000;
/// Bytes in all live blocks of the model.
const LIVE_BYTES_MAX: usize = 512 << 20;
/// Blocks that one thread holds.
const LIVE_BLOCKS_MAX: usize = 3000;
const PAGE: usize = 4096;
/// Blocks up to this size are filled and checked whole; larger ones at both ends and at each page.
const WHOLE_BYTES_MAX: usize = 64 << 10;
const END_BYTES: usize = 64;

fn in_mode(mode: &str) {
    let seeds = match common::seed_from_environment() {
        Some(seed) => vec![seed],
        None => vec![1, 2, common::seed_from_clock()],
    };
    for (number, seed) in seeds.into_iter().enumerate() {
        // The first run looks at every block, the others let threads meet more freely.
        let every = if number == 0 { "1" } else { "16" };
        println!("shadow: ANTIFREEZE_TEST_SEED={seed} {mode}, every {every}th block in the map");
        let mut child = common::job("random_work", &[&seed.to_string(), every]);
        common::expect_success(child.env("ANTIFREEZE_COMMIT", mode), common::DEADLINE);
    }
}

/// A live block, as the model knows it.
struct Block {
    base: NonNull<u8>,
    layout: Layout,
    tag: u64,
    mapped: bool,
}

// SAFETY: a block belongs to whoever holds this record, on any thread.
unsafe impl Send for Block {}

/// What all threads of a run share.
struct World {
    seed: u64,
    every: usize,
    count: AtomicUsize,
    live_bytes: AtomicUsize,
    /// Start and end of live blocks.
    map: Mutex<BTreeMap<usize, usize>>,
    /// Blocks on their way to whoever frees them.
    left: Mutex<Vec<Block>>,
}

fn random_work(arguments: &[String]) {
    let number = |place: usize| arguments[place].parse::<u64>().expect("the parent passes numbers");
    let world = World {
        seed: number(0),
        every: number(1) as usize,
        count: AtomicUsize::new(0),
        live_bytes: AtomicUsize::new(0),
        map: Mutex::new(BTreeMap::new()),
        left: Mutex::new(Vec::new()),
    };
    std::thread::scope(|scope| {
        for place in 0..PLACES as u64 {
            let world = &world;
            scope.spawn(move || {
                for generation in 0..GENERATIONS {
                    if generation % 2 == 1 {
                        pause(world, place);
                    }
                    std::thread::scope(|inner| {
                        inner.spawn(|| live(world, place * GENERATIONS + generation));
                    });
                }
            });
        }
    });
    for block in world.left.lock().expect("no thread panicked").drain(..) {
        free(&world, block);
    }
    assert_eq!(world.live_bytes.load(Ordering::Relaxed), 0);
    assert!(world.map.lock().expect("no thread panicked").is_empty());
    let stats = antifreeze::stats();
    if std::env::var("ANTIFREEZE_COMMIT").is_ok_and(|mode| mode == "ready") && stats.commit.errors() == 0 {
        assert_eq!(stats.write_lock_calls, 0, "promise P1: {stats:?}");
    }
}

/// Frees what ended threads have left and waits about as long as free memory stays before it is purged, so that the
/// next generation takes memory while it is being given back.
fn pause(world: &World, place: u64) {
    let left = std::mem::take(&mut *world.left.lock().expect("no thread panicked"));
    left.into_iter().for_each(|block| free(world, block));
    let millis = Random::new(world.seed.wrapping_add(place)).below(60) as u64;
    std::thread::sleep(Duration::from_millis(480 + millis));
}

/// The life of one thread.
fn live(world: &World, number: u64) {
    let mut random = Random::new(world.seed.wrapping_mul(1000).wrapping_add(number));
    let mut blocks: Vec<Block> = Vec::new();
    let mut bytes_max = PAGE;
    for step in 0..STEPS {
        if step % 500 == 0 {
            // Phases of small blocks only bring many of them together; others mix everything.
            bytes_max = [64, 1 << 10, PAGE, 64 << 10, 1 << 20, 64 << 20][random.below(6)];
        }
        let live_bytes = world.live_bytes.load(Ordering::Relaxed);
        match random.below(100) {
            0..45 => {
                let layout = random_layout(&mut random, bytes_max);
                if live_bytes + layout.size() <= LIVE_BYTES_MAX && blocks.len() < LIVE_BLOCKS_MAX {
                    let zeroed = random.one_in(4);
                    blocks.push(allocate(world, &mut random, layout, zeroed));
                } else if !blocks.is_empty() {
                    free(world, take(&mut random, &mut blocks));
                }
            }
            45..62 if !blocks.is_empty() => {
                let block = take(&mut random, &mut blocks);
                let bytes = random_layout(&mut random, bytes_max).size();
                let fits = live_bytes + bytes <= LIVE_BYTES_MAX;
                blocks.push(if fits { reallocate(world, block, bytes) } else { block });
            }
            62..85 if !blocks.is_empty() => free(world, take(&mut random, &mut blocks)),
            85..93 if !blocks.is_empty() => {
                let block = take(&mut random, &mut blocks);
                world.left.lock().expect("no thread panicked").push(block);
            }
            _ => {
                let mut left = world.left.lock().expect("no thread panicked");
                let count = left.len();
                let block = (count > 0).then(|| left.swap_remove(random.below(count)));
                drop(left);
                if let Some(block) = block {
                    free(world, block);
                }
            }
        }
    }
    // The heirs get all that is left.
    world.left.lock().expect("no thread panicked").append(&mut blocks);
}

fn take(random: &mut Random, blocks: &mut Vec<Block>) -> Block {
    let place = random.below(blocks.len());
    blocks.swap_remove(place)
}

fn random_layout(random: &mut Random, bytes_max: usize) -> Layout {
    let bytes = random.log_uniform(1..=bytes_max);
    let align = match random.below(64) {
        0 => 1 << random.below(23),
        1..16 => 1 << random.below(13),
        _ => 1 << random.below(5),
    };
    Layout::from_size_align(bytes, align).expect("small sizes and powers of two make a layout")
}

/// Eight bytes of a block's contents.
fn contents(tag: u64, place: usize) -> u64 {
    (tag ^ place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The places that are written and checked in a block of `bytes`: offset and length of each, eight bytes at most.
fn places(bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let words = |from: usize, to: usize| (from..to).step_by(8).map(move |at| (at, (to - at).min(8)));
    let whole = bytes <= WHOLE_BYTES_MAX;
    let head = words(0, if whole { bytes } else { END_BYTES });
    let pages = (PAGE..if whole { 0 } else { bytes - END_BYTES }).step_by(PAGE).map(|at| (at, 8));
    // The tail starts at a multiple of eight, so that a word that belongs to two parts has one value.
    let tail = words(if whole { 0 } else { (bytes - END_BYTES) & !7 }, if whole { 0 } else { bytes });
    head.chain(pages).chain(tail)
}

/// Writes the contents that `block`'s tag stands for.
fn fill(block: &Block) {
    for (at, length) in places(block.layout.size()) {
        let word = contents(block.tag, at).to_ne_bytes();
        // SAFETY: `at + length` is at most the size of the block, which is ours.
        unsafe { block.base.add(at).copy_from_nonoverlapping(NonNull::from(&word).cast(), length) };
    }
}

/// Checks the contents of the first `bytes` of `block`, which was filled for `filled` bytes.
fn check(world: &World, block: &Block, filled: usize, bytes: usize) {
    // Only places that filling wrote count: those of the size it had then.
    for (at, length) in places(filled).filter(|(at, length)| at + length <= bytes) {
        let mut word = [0; 8];
        // SAFETY: as in `fill`.
        unsafe { NonNull::from(&mut word).cast::<u8>().copy_from_nonoverlapping(block.base.add(at), length) };
        let wanted = contents(block.tag, at).to_ne_bytes();
        assert!(
            word[..length] == wanted[..length],
            "contents lost: seed {} block {:p} {:?} offset {at}: {:02x?} instead of {:02x?}",
            world.seed,
            block.base,
            block.layout,
            &word[..length],
            &wanted[..length]
        );
    }
}

fn check_zeroed(world: &World, random: &mut Random, base: NonNull<u8>, bytes: usize) {
    let check = |at: usize, length: usize| {
        // SAFETY: `at + length` is at most the size of the block, which is ours and initialised with zeroes.
        let part = unsafe { std::slice::from_raw_parts(base.add(at).as_ptr(), length) };
        let place = part.iter().position(|byte| *byte != 0);
        assert!(
            place.is_none(),
            "not zero: seed {} block {base:p} of {bytes} at {}",
            world.seed,
            at + place.unwrap_or(0)
        );
    };
    if bytes <= 4 * WHOLE_BYTES_MAX || random.one_in(16) {
        return check(0, bytes);
    }
    for (at, length) in places(bytes) {
        check(at, length);
    }
    // What smaller blocks left lies anywhere.
    for _ in 0..64 {
        check(random.below(bytes - END_BYTES), END_BYTES);
    }
}

/// Notes a new block in the model.
fn enter(world: &World, base: NonNull<u8>, layout: Layout, tag: u64) -> Block {
    let start = base.addr().get();
    assert!(start.is_multiple_of(layout.align()), "not aligned: seed {} block {base:p} {layout:?}", world.seed);
    world.live_bytes.fetch_add(layout.size(), Ordering::Relaxed);
    let mapped = (tag as usize).is_multiple_of(world.every);
    if mapped {
        let end = start + layout.size();
        let mut map = world.map.lock().expect("no thread panicked");
        let below = map.range(..end).next_back().map(|(start, end)| (*start, *end));
        assert!(
            below.is_none_or(|(_, below)| below <= start),
            "overlap: seed {} block {base:p} {layout:?} with {below:x?}",
            world.seed
        );
        map.insert(start, end);
    }
    Block { base, layout, tag, mapped }
}

/// Takes a block out of the model, before the allocator gets it back.
fn leave(world: &World, block: &Block) {
    world.live_bytes.fetch_sub(block.layout.size(), Ordering::Relaxed);
    if block.mapped {
        let end = world.map.lock().expect("no thread panicked").remove(&block.base.addr().get());
        assert_eq!(end, Some(block.base.addr().get() + block.layout.size()), "the model is wrong");
    }
}

fn allocate(world: &World, random: &mut Random, layout: Layout, zeroed: bool) -> Block {
    // SAFETY: the size is not zero.
    let base = unsafe { if zeroed { GLOBAL.alloc_zeroed(layout) } else { GLOBAL.alloc(layout) } };
    let base = NonNull::new(base).unwrap_or_else(|| panic!("no memory: seed {} {layout:?}", world.seed));
    let block = enter(world, base, layout, world.count.fetch_add(1, Ordering::Relaxed) as u64);
    if zeroed {
        check_zeroed(world, random, base, layout.size());
    }
    fill(&block);
    block
}

fn free(world: &World, block: Block) {
    check(world, &block, block.layout.size(), block.layout.size());
    leave(world, &block);
    // SAFETY: the block is ours, and nobody uses it from now on.
    unsafe { GLOBAL.dealloc(block.base.as_ptr(), block.layout) };
}

fn reallocate(world: &World, block: Block, bytes: usize) -> Block {
    let old = block.layout.size();
    check(world, &block, old, old);
    leave(world, &block);
    // SAFETY: the block is ours, `bytes` is not zero, and the old place is not used again.
    let base = unsafe { GLOBAL.realloc(block.base.as_ptr(), block.layout, bytes) };
    let base = NonNull::new(base).unwrap_or_else(|| panic!("no memory: seed {} {bytes}", world.seed));
    let layout = Layout::from_size_align(bytes, block.layout.align()).expect("the alignment was good before");
    let block = enter(world, base, layout, block.tag);
    check(world, &block, old, old.min(bytes));
    fill(&block);
    block
}
