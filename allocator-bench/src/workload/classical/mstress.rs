//! `mstress`: after Leijen's stress test of mimalloc. Round by round new threads start; each allocates objects, keeps
//! some of them to its end, frees others at random, and swaps some with a table that all threads share and that
//! outlives the round. So lifetimes differ, blocks are freed by threads that came later, and threads do unequal work.
//!
//! The usual parameters: objects of 1 to 16 words, one in a hundred 100 times, one in a thousand 1000 times and one in
//! ten thousand 10 000 times as large; kept ones of 1 to 64 words; scale 50 (5000 objects and half as many kept, shared
//! out among the threads, then taken 1 to 8 times by thread); 1000 places in the table. The usual 25 rounds are more
//! here, and contents are marked on each page instead of filled. A fifth of the instructions are the allocator's, the
//! rest draws and locks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::block::Block;
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const ROUNDS: usize = 1500;
const OBJECTS: usize = 5000;
const PLACES: usize = 1000;
const WORD_BYTES: usize = size_of::<u64>();
const DOUBLINGS: usize = 5;
const KEPT_DOUBLINGS: usize = 7;

/// The table and the counts that all threads share.
struct Shared {
    places: Vec<Mutex<Option<Block>>>,
    freed_bytes: AtomicU64,
}

impl Shared {
    fn swap(&self, place: usize, object: Option<Block>) -> Option<Block> {
        let mut place = self.places[place].lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, object)
    }

    fn free(&self, object: Option<Block>) {
        if let Some(object) = object {
            object.check_pages();
            // Relaxed: a sum, read after every thread was joined.
            self.freed_bytes.fetch_add(object.size_bytes() as u64, Ordering::Relaxed);
        }
    }
}

/// Plays the workload with `threads` threads in each round.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let places = (0..PLACES).map(|_| Mutex::new(None)).collect();
    let shared = Shared { places, freed_bytes: AtomicU64::new(0) };
    let mut allocated_bytes = 0;
    let mut rng = Rng::new(0x57E);
    for round in 0..scaled(ROUNDS, scale) as u64 {
        allocated_bytes += on_threads(threads, |thread| {
            stress(&shared, OBJECTS / threads * weight(thread), Rng::new((round << 16) + thread))
        });
        for place in 0..PLACES {
            if chance(&mut rng, 50) {
                shared.free(shared.swap(place, None));
            }
        }
    }
    (0..PLACES).for_each(|place| shared.free(shared.swap(place, None)));
    assert_eq!(shared.freed_bytes.into_inner(), allocated_bytes);
    allocated_bytes
}

/// One thread of a round. What it draws does not depend on what it gets from the table.
fn stress(shared: &Shared, objects: usize, mut rng: Rng) -> u64 {
    let (mut to_allocate, mut to_keep, mut allocated_bytes) = (objects, objects / 2, 0);
    let (mut objects, mut kept) = (Vec::new(), Vec::with_capacity(to_keep));
    let mut allocate = |rng: &mut Rng, doublings| {
        let mut object = Block::new(random_words(rng, doublings) * WORD_BYTES);
        object.touch_pages();
        allocated_bytes += object.size_bytes() as u64;
        Some(object)
    };
    while to_allocate > 0 || to_keep > 0 {
        if to_keep == 0 || (to_allocate > 0 && chance(&mut rng, 50)) {
            to_allocate -= 1;
            objects.push(allocate(&mut rng, DOUBLINGS));
        } else {
            to_keep -= 1;
            kept.push(allocate(&mut rng, KEPT_DOUBLINGS));
        }
        if !objects.is_empty() && chance(&mut rng, 66) {
            let index = rng.below(objects.len());
            shared.free(objects[index].take());
        }
        if !objects.is_empty() && chance(&mut rng, 25) {
            let (index, place) = (rng.below(objects.len()), rng.below(PLACES));
            objects[index] = shared.swap(place, objects[index].take());
        }
    }
    kept.into_iter().chain(objects).for_each(|object| shared.free(object));
    allocated_bytes
}

/// Some threads do more than others.
fn weight(thread: u64) -> usize {
    thread as usize % 8 + 1
}

fn random_words(rng: &mut Rng, doublings: usize) -> usize {
    let words = 1 << rng.below(doublings);
    match rng.below(10_000) {
        0 => words * 10_000,
        1..10 => words * 1000,
        10..100 => words * 100,
        _ => words,
    }
}

fn chance(rng: &mut Rng, percent: usize) -> bool {
    rng.below(100) < percent
}
