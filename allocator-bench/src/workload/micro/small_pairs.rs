//! `small_pairs`: the fast path, one size at a time. A block is freed right after it was allocated, then a hundred are
//! allocated and freed newest first.

use crate::block::Block;
use crate::workload::{on_threads, scaled};

const SIZES_BYTES: [usize; 14] = [8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];
const PAIRS_PER_SIZE: usize = 3_000_000;
const WINDOW: usize = 100;

/// Plays the workload; every thread does the same.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let pairs = scaled(PAIRS_PER_SIZE, scale);
    on_threads(threads, |_| {
        let mut window = Vec::with_capacity(WINDOW);
        let mut freed_bytes = 0;
        for size_bytes in SIZES_BYTES {
            for _ in 0..pairs {
                freed_bytes += Block::new(size_bytes).size_bytes() as u64;
            }
            for _ in 0..pairs.div_ceil(WINDOW) {
                window.extend((0..WINDOW).map(|_| Block::new(size_bytes)));
                while let Some(block) = window.pop() {
                    freed_bytes += block.size_bytes() as u64;
                }
            }
        }
        let expected = SIZES_BYTES.iter().sum::<usize>() * (pairs + pairs.div_ceil(WINDOW) * WINDOW);
        assert_eq!(freed_bytes, expected as u64);
        freed_bytes
    })
}
