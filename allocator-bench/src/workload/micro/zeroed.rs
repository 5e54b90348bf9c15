//! `zeroed`: zeroed blocks of 64 B to 64 KiB, two hundred alive. An allocator that knows which of its memory is fresh
//! from the kernel need not clear it again.

use crate::block::Block;
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const WINDOW: usize = 200;
const ALLOCATIONS: usize = 2_500_000;
const MIN_BYTES: usize = 64;
/// 64 B to 64 KiB.
const OCTAVES: usize = 10;

/// Plays the workload; every thread has its own window.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let allocations = scaled(ALLOCATIONS, scale);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0x2E0 + thread);
        let mut window: Vec<Option<Block>> = (0..WINDOW).map(|_| None).collect();
        let (mut allocated_bytes, mut freed_bytes) = (0, 0);
        for index in 0..allocations {
            let block = Block::zeroed(rng.log_uniform(MIN_BYTES, OCTAVES));
            allocated_bytes += block.size_bytes() as u64;
            if let Some(oldest) = window[index % WINDOW].replace(block) {
                freed_bytes += oldest.size_bytes() as u64;
            }
        }
        freed_bytes += window.drain(..).flatten().map(|block| block.size_bytes() as u64).sum::<u64>();
        assert_eq!(freed_bytes, allocated_bytes);
        freed_bytes
    })
}
