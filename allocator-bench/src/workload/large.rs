//! `large`: blocks of 1 to 25 MiB with random lifetimes, each touched on every page. What counts here is how often an
//! allocator gives memory back to the kernel and has to fault it in again.

use crate::block::Block;
use crate::rng::Rng;

use super::{on_threads, scaled};

const SLOTS: usize = 20;
const REPLACEMENTS: usize = 500;
const MIB: usize = 1 << 20;
const MAX_MIB: usize = 25;

/// Plays the workload; every thread has its own table.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let replacements = scaled(REPLACEMENTS, scale);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0x1A + thread);
        let mut slots: [Option<Block>; SLOTS] = [const { None }; SLOTS];
        let (mut allocated_bytes, mut freed_bytes) = (0, 0);
        let mut free = |block: Option<Block>| {
            if let Some(block) = block {
                block.check_pages();
                freed_bytes += block.size_bytes() as u64;
            }
        };
        for _ in 0..replacements {
            let slot = &mut slots[rng.below(SLOTS)];
            // Freed first: a server that replaces a large buffer rarely holds both.
            free(slot.take());
            let mut block = Block::new(rng.between(MIB, MAX_MIB * MIB));
            block.touch_pages();
            allocated_bytes += block.size_bytes() as u64;
            *slot = Some(block);
        }
        slots.into_iter().for_each(&mut free);
        assert_eq!(freed_bytes, allocated_bytes);
        freed_bytes
    })
}
