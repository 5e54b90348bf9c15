//! `churn`: the steady state of a server with many small objects. Sizes are log-uniform, lifetimes random.

use crate::block::Block;
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const SLOTS: usize = 20_000;
const REPLACEMENTS: usize = 10_000_000;
const MIN_BYTES: usize = 8;
/// 8 B to 4 KiB.
const OCTAVES: usize = 9;

/// Plays the workload; every thread has its own table.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let replacements = scaled(REPLACEMENTS, scale);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0xC4 + thread);
        let mut slots: Vec<Block> = (0..SLOTS).map(|_| Block::new(rng.log_uniform(MIN_BYTES, OCTAVES))).collect();
        let mut allocated_bytes: u64 = slots.iter().map(|block| block.size_bytes() as u64).sum();
        let mut freed_bytes = 0;
        for _ in 0..replacements {
            let slot = &mut slots[rng.below(SLOTS)];
            let mut block = Block::new(rng.log_uniform(MIN_BYTES, OCTAVES));
            block.touch_pages();
            allocated_bytes += block.size_bytes() as u64;
            freed_bytes += std::mem::replace(slot, block).size_bytes() as u64;
        }
        freed_bytes += slots.drain(..).map(|block| block.size_bytes() as u64).sum::<u64>();
        assert_eq!(freed_bytes, allocated_bytes);
        freed_bytes
    })
}
