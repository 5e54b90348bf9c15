//! `small_batch`: ten thousand small blocks at a time, freed oldest first, newest first, and in a random order.

use crate::block::Block;
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const BATCH: usize = 10_000;
const REPEATS: usize = 1500;

/// Plays the workload; every thread has its own sizes and orders.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let repeats = scaled(REPEATS, scale);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0x5BA7 + thread);
        let sizes_bytes: Vec<usize> = (0..BATCH).map(|_| rng.between(16, 256)).collect();
        let oldest_first: Vec<usize> = (0..BATCH).collect();
        let newest_first: Vec<usize> = (0..BATCH).rev().collect();
        let mut shuffled = oldest_first.clone();
        rng.shuffle(&mut shuffled);

        let mut slots: Vec<Option<Block>> = Vec::with_capacity(BATCH);
        let mut freed_bytes = 0;
        for _ in 0..repeats {
            for order in [&oldest_first, &newest_first, &shuffled] {
                slots.extend(sizes_bytes.iter().map(|&size_bytes| Some(Block::new(size_bytes))));
                for &index in order {
                    let block = slots[index].take().expect("an order names each block once");
                    freed_bytes += block.size_bytes() as u64;
                }
                slots.clear();
            }
        }
        let expected = sizes_bytes.iter().sum::<usize>() * 3 * repeats;
        assert_eq!(freed_bytes, expected as u64);
        freed_bytes
    })
}
