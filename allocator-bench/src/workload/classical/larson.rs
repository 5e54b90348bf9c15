//! `larson`: a server whose threads come and go, after Larson and Krishnan ("Memory allocation for long-running server
//! applications", 1998). Each thread replaces blocks at random in an array of its own, starts a successor, hands the
//! array to it and ends; so most blocks are freed by another thread than the one that allocated them, which may be gone
//! by then.
//!
//! The usual parameters: sizes of 8 to 1000 bytes, 5000 blocks per thread, a generation of 100 rounds (500 000
//! replacements, scaled here). The usual five seconds are a fixed number of generations here. The work per thread is
//! constant.
//!
//! Published in two forms, with plain and with sized frees. In Rust every free is given its layout, so this one stands
//! for both where the size is known at run time only; see [`larson_sized`](super::larson_sized) for the other case.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Scope;

use crate::block::Block;
use crate::rng::Rng;
use crate::workload::scaled;

pub(super) const SLOTS: usize = 5000;
const MIN_BYTES: usize = 8;
const MAX_BYTES: usize = 1000;
const GENERATIONS: usize = 60;
const REPLACEMENTS_PER_GENERATION: usize = 100 * SLOTS;

/// The array of objects that a chain of threads works on.
pub(super) trait Slots: Send {
    /// An array full of random objects.
    fn new(rng: &mut Rng) -> Self;
    /// Replaces objects at random places by others of random sizes.
    fn replace(&mut self, replacements: usize, rng: &mut Rng);
    /// Frees all; gives the bytes of every object that was ever freed.
    fn free(self) -> u64;
}

/// Blocks whose sizes are known at run time only.
struct Blocks {
    slots: Vec<Block>,
    allocated_bytes: u64,
    freed_bytes: u64,
}

impl Slots for Blocks {
    fn new(rng: &mut Rng) -> Self {
        let mut slots: Vec<_> = (0..SLOTS).map(|_| Block::new(rng.between(MIN_BYTES, MAX_BYTES))).collect();
        rng.shuffle(&mut slots);
        let allocated_bytes = slots.iter().map(|block| block.size_bytes() as u64).sum();
        Self { slots, allocated_bytes, freed_bytes: 0 }
    }

    fn replace(&mut self, replacements: usize, rng: &mut Rng) {
        for _ in 0..replacements {
            let slot = &mut self.slots[rng.below(SLOTS)];
            let block = Block::new(rng.between(MIN_BYTES, MAX_BYTES));
            self.allocated_bytes += block.size_bytes() as u64;
            self.freed_bytes += std::mem::replace(slot, block).size_bytes() as u64;
        }
    }

    fn free(self) -> u64 {
        let left_bytes: u64 = self.slots.into_iter().map(|block| block.size_bytes() as u64).sum();
        assert_eq!(self.freed_bytes + left_bytes, self.allocated_bytes);
        self.allocated_bytes
    }
}

/// Plays the workload with blocks whose sizes are known at run time.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    play::<Blocks>(threads, scale)
}

/// Plays the workload with `threads` chains of generations side by side.
pub(super) fn play<S: Slots>(threads: usize, scale: f64) -> u64 {
    let replacements = scaled(REPLACEMENTS_PER_GENERATION, scale);
    let total_bytes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for chain in 0..threads as u64 {
            let (mut rng, total_bytes) = (Rng::new(0x1A5 + chain), &total_bytes);
            let first = Inheritance { slots: S::new(&mut rng), rng, generations_left: GENERATIONS };
            scope.spawn(move || live(scope, first, replacements, total_bytes));
        }
    });
    total_bytes.into_inner()
}

/// What passes from one generation to the next.
struct Inheritance<S> {
    slots: S,
    rng: Rng,
    generations_left: usize,
}

/// One generation; the last one frees everything and adds to `total_bytes`.
fn live<'scope, S: Slots + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut own: Inheritance<S>,
    replacements: usize,
    total_bytes: &'scope AtomicU64,
) {
    own.slots.replace(replacements, &mut own.rng);
    own.generations_left -= 1;
    if own.generations_left > 0 {
        scope.spawn(move || live(scope, own, replacements, total_bytes));
    } else {
        // Relaxed: a sum, read after the scope has joined every thread.
        total_bytes.fetch_add(own.slots.free(), Ordering::Relaxed);
    }
}
