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

const SLOTS: usize = 5000;
const MIN_BYTES: usize = 8;
pub(super) const MAX_BYTES: usize = 1000;
const GENERATIONS: usize = 30;
const REPLACEMENTS_PER_GENERATION: usize = 100 * SLOTS;

/// What the server keeps in its slots.
pub(super) trait Object: Send {
    /// Allocates an object of at least `size_bytes`.
    fn new(size_bytes: usize) -> Self;
    /// The size that it takes.
    fn size_bytes(&self) -> usize;
}

impl Object for Block {
    fn new(size_bytes: usize) -> Self {
        Block::new(size_bytes)
    }

    fn size_bytes(&self) -> usize {
        Block::size_bytes(self)
    }
}

/// Plays the workload with blocks whose sizes are known at run time.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    play::<Block>(threads, scale)
}

/// What passes from one generation to the next.
struct Inheritance<O> {
    slots: Vec<O>,
    rng: Rng,
    allocated_bytes: u64,
    freed_bytes: u64,
    generations_left: usize,
}

impl<O: Object> Inheritance<O> {
    fn random_object(rng: &mut Rng) -> O {
        O::new(rng.between(MIN_BYTES, MAX_BYTES))
    }

    fn new(chain: u64) -> Self {
        let mut rng = Rng::new(0x1A5 + chain);
        let mut slots: Vec<O> = (0..SLOTS).map(|_| Self::random_object(&mut rng)).collect();
        rng.shuffle(&mut slots);
        let allocated_bytes = slots.iter().map(|object| object.size_bytes() as u64).sum();
        Self { slots, rng, allocated_bytes, freed_bytes: 0, generations_left: GENERATIONS }
    }
}

/// Plays the workload with `threads` chains of generations side by side.
pub(super) fn play<O: Object>(threads: usize, scale: f64) -> u64 {
    let replacements = scaled(REPLACEMENTS_PER_GENERATION, scale);
    let total_bytes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for chain in 0..threads as u64 {
            let (first, total_bytes) = (Inheritance::<O>::new(chain), &total_bytes);
            scope.spawn(move || live(scope, first, replacements, total_bytes));
        }
    });
    total_bytes.into_inner()
}

/// One generation; the last one frees everything and adds to `total_bytes`.
fn live<'scope, O: Object + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut own: Inheritance<O>,
    replacements: usize,
    total_bytes: &'scope AtomicU64,
) {
    for _ in 0..replacements {
        let index = own.rng.below(SLOTS);
        let object = Inheritance::<O>::random_object(&mut own.rng);
        own.allocated_bytes += object.size_bytes() as u64;
        own.freed_bytes += std::mem::replace(&mut own.slots[index], object).size_bytes() as u64;
    }
    own.generations_left -= 1;
    if own.generations_left > 0 {
        scope.spawn(move || live(scope, own, replacements, total_bytes));
        return;
    }
    own.freed_bytes += own.slots.drain(..).map(|object| object.size_bytes() as u64).sum::<u64>();
    assert_eq!(own.freed_bytes, own.allocated_bytes);
    // Relaxed: a sum, read after the scope has joined every thread.
    total_bytes.fetch_add(own.freed_bytes, Ordering::Relaxed);
}
