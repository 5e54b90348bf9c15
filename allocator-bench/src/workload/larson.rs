//! `larson`: a server whose threads come and go, after Larson and Krishnan. Each thread replaces blocks at random in an
//! array of its own, starts a successor, hands the array to it and ends; so most blocks are freed by another thread
//! than the one that allocated them, which may be gone by then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Scope;

use crate::block::Block;
use crate::rng::Rng;

use super::scaled;

const SLOTS: usize = 1000;
const MIN_BYTES: usize = 8;
const MAX_BYTES: usize = 1000;
const GENERATIONS: usize = 50;
const REPLACEMENTS_PER_GENERATION: usize = 150_000;

/// What passes from one generation to the next.
struct Inheritance {
    slots: Vec<Block>,
    rng: Rng,
    allocated_bytes: u64,
    freed_bytes: u64,
    generations_left: usize,
}

/// Plays the workload with `threads` chains of generations side by side.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let replacements = scaled(REPLACEMENTS_PER_GENERATION, scale);
    let total_bytes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for chain in 0..threads as u64 {
            let mut rng = Rng::new(0x1A5 + chain);
            let slots: Vec<Block> = (0..SLOTS).map(|_| Block::new(rng.between(MIN_BYTES, MAX_BYTES))).collect();
            let allocated_bytes = slots.iter().map(|block| block.size_bytes() as u64).sum();
            let first = Inheritance { slots, rng, allocated_bytes, freed_bytes: 0, generations_left: GENERATIONS };
            let total_bytes = &total_bytes;
            scope.spawn(move || live(scope, first, replacements, total_bytes));
        }
    });
    total_bytes.into_inner()
}

/// One generation; the last one frees everything and adds to `total_bytes`.
fn live<'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut own: Inheritance,
    replacements: usize,
    total_bytes: &'scope AtomicU64,
) {
    for _ in 0..replacements {
        let index = own.rng.below(SLOTS);
        let block = Block::new(own.rng.between(MIN_BYTES, MAX_BYTES));
        own.allocated_bytes += block.size_bytes() as u64;
        own.freed_bytes += std::mem::replace(&mut own.slots[index], block).size_bytes() as u64;
    }
    own.generations_left -= 1;
    if own.generations_left > 0 {
        scope.spawn(move || live(scope, own, replacements, total_bytes));
        return;
    }
    own.freed_bytes += own.slots.drain(..).map(|block| block.size_bytes() as u64).sum::<u64>();
    assert_eq!(own.freed_bytes, own.allocated_bytes);
    total_bytes.fetch_add(own.freed_bytes, Ordering::Relaxed);
}
