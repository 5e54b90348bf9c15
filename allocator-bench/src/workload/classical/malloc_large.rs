//! `malloc_large`: after Kutenin's benchmark of large blocks. Twenty blocks of 5 to 25 MiB with random lifetimes, each
//! touched on every page. What counts here is how often an allocator gives memory back to the kernel and has to fault
//! it in again.
//!
//! The usual parameters: 20 blocks, 1000 replacements; the threads share out both, so that the total is constant.

use crate::block::Block;
use crate::rng::Rng;
use crate::workload::{on_threads, scaled, share};

const SLOTS: usize = 20;
const REPLACEMENTS: usize = 1000;
const MIB: usize = 1 << 20;
const MIN_MIB: usize = 5;
const MAX_MIB: usize = 25;

/// Plays the workload; every thread has its share of the blocks.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let replacements = scaled(REPLACEMENTS, scale);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0x1A + thread);
        let mut slots: Vec<Option<Block>> = (0..share(SLOTS, threads, thread)).map(|_| None).collect();
        let (mut allocated_bytes, mut freed_bytes) = (0, 0);
        let mut free = |block: Option<Block>| {
            if let Some(block) = block {
                block.check_pages();
                freed_bytes += block.size_bytes() as u64;
            }
        };
        for _ in 0..share(replacements, threads, thread) {
            let index = rng.below(slots.len());
            // Freed first: a server that replaces a large buffer rarely holds both.
            free(slots[index].take());
            let mut block = Block::new(rng.between(MIN_MIB * MIB, MAX_MIB * MIB));
            block.touch_pages();
            allocated_bytes += block.size_bytes() as u64;
            slots[index] = Some(block);
        }
        slots.into_iter().for_each(&mut free);
        assert_eq!(freed_bytes, allocated_bytes);
        freed_bytes
    })
}
