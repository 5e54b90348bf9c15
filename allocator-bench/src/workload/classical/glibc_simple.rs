//! `glibc_simple`: after glibc's benchtests/bench-malloc-simple. So many blocks of one size are allocated, then freed
//! oldest first: within the reach of per-thread caches, and beyond it.
//!
//! The usual parameters: 25, 100, 400 and 1600 blocks of 16, 32 and 64 bytes, four times 2 million blocks for each pair
//! of these. The original plays three of the four on the main thread and one on another; here each thread plays all, so
//! that the work per thread is constant.

use crate::block::Block;
use crate::workload::{on_threads, scaled};

const SIZES_BYTES: [usize; 3] = [16, 32, 64];
const COUNTS: [usize; 4] = [25, 100, 400, 1600];
const BLOCKS_PER_COUNT: usize = 8_000_000;

/// Plays the workload; every thread does the same.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let blocks = scaled(BLOCKS_PER_COUNT, scale);
    on_threads(threads, |_| {
        let mut freed_bytes = 0;
        let mut live = Vec::with_capacity(COUNTS[COUNTS.len() - 1]);
        for size_bytes in SIZES_BYTES {
            for count in COUNTS {
                for _ in 0..(blocks / count).max(1) {
                    live.extend((0..count).map(|_| Block::new(size_bytes)));
                    freed_bytes += live.drain(..).map(|block| block.size_bytes() as u64).sum::<u64>();
                }
            }
        }
        let expected: usize = COUNTS.iter().map(|&count| (blocks / count).max(1) * count).sum();
        assert_eq!(freed_bytes, (expected * SIZES_BYTES.iter().sum::<usize>()) as u64);
        freed_bytes
    })
}
