//! `churn_medium`: buffers of 1 to 256 KiB with random lifetimes, each touched on every page.

use crate::block::Block;
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const SLOTS: usize = 500;
const REPLACEMENTS: usize = 2_400_000;
const MIN_BYTES: usize = 1024;
/// 1 to 256 KiB.
const OCTAVES: usize = 8;

/// Plays the workload; every thread has its own table.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let replacements = scaled(REPLACEMENTS, scale);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0xC5 + thread);
        let mut slots: Vec<Option<Block>> = (0..SLOTS).map(|_| None).collect();
        let (mut allocated_bytes, mut freed_bytes) = (0, 0);
        let mut free = |block: Option<Block>| {
            if let Some(block) = block {
                block.check_pages();
                freed_bytes += block.size_bytes() as u64;
            }
        };
        for _ in 0..replacements {
            let mut block = Block::new(rng.log_uniform(MIN_BYTES, OCTAVES));
            block.touch_pages();
            allocated_bytes += block.size_bytes() as u64;
            free(slots[rng.below(SLOTS)].replace(block));
        }
        slots.drain(..).for_each(&mut free);
        assert_eq!(freed_bytes, allocated_bytes);
        freed_bytes
    })
}
