//! `mleak`: after Leijen's test of threads that end. Ten threads at a time each allocate a zeroed block, put it into a
//! random place of a table, free the block that was there, and end. Nearly nothing but threads that start and end: an
//! allocator that forgets what an ended thread had grows without bound.
//!
//! The usual parameters, but twice the rounds: 2000 of ten threads, blocks of 128 bytes, 1000 places. For each thread
//! asked for there are ten. Most of the time is the kernel's, for starting threads. That no block is lost is counted
//! here; that resident memory stays flat is for the runner to show.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::block::Block;
use crate::rng::Rng;
use crate::workload::scaled;

const ROUNDS: usize = 2000;
const THREADS: usize = 10;
const PLACES: usize = 1000;
const BLOCK_BYTES: usize = 128;

/// Plays the workload with ten short threads at a time for each of `threads`.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let rounds = scaled(ROUNDS, scale);
    let together = THREADS * threads;
    let table: Vec<Mutex<Option<Block>>> = (0..PLACES).map(|_| Mutex::new(None)).collect();
    let freed = AtomicUsize::new(0);
    let mut rng = Rng::new(0x1EA);
    for round in 1..=rounds {
        std::thread::scope(|scope| {
            for _ in 0..together {
                let (place, freed) = (&table[rng.below(PLACES)], &freed);
                scope.spawn(move || leave_behind(place, freed));
            }
        });
        // Relaxed: every thread that counts has been joined.
        let live = round * together - freed.load(Ordering::Relaxed);
        assert!((1..=PLACES).contains(&live), "{live} blocks are live in {PLACES} places");
    }
    let left = table.into_iter().filter_map(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner)).count();
    let freed = freed.into_inner();
    assert_eq!(left + freed, rounds * together, "blocks were lost");
    // Which place a thread gets is drawn beforehand, so these are the same in every run.
    (freed * BLOCK_BYTES + left) as u64
}

/// What one thread does.
fn leave_behind(place: &Mutex<Option<Block>>, freed: &AtomicUsize) {
    let block = Block::zeroed(BLOCK_BYTES);
    let found = place.lock().unwrap_or_else(PoisonError::into_inner).replace(block);
    // Relaxed: a count, read after the thread was joined.
    freed.fetch_add(usize::from(found.is_some()), Ordering::Relaxed);
}
