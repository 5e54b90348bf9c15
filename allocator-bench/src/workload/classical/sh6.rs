//! `sh6`: after MicroQuill's SmartHeap benchmark sh6bench (2000). Blocks of many sizes, small ones more often, in a
//! buffer of which half is freed oldest first and half newest first, while a fifth is kept ([`Ring`]).
//!
//! The usual parameters: sizes that grow by half from the smallest to 1000 bytes, each followed by its halves; 250
//! blocks of each size below 100 bytes, 50 of each above; a buffer of 10 000 blocks, 10 000
//! passes. The work per thread is constant.

use crate::block::{Block, MIN_SIZE_BYTES};
use crate::workload::{on_threads, scaled};

use super::ring::Ring;

const RING_SLOTS: usize = 10_000;
const MAX_BYTES: usize = 1000;
const SMALL_BYTES: usize = 100;
const PASSES: usize = 10_000;

/// Plays the workload; every thread has its own buffer.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let passes = scaled(PASSES, scale);
    let sizes_bytes = sizes_of_pass();
    on_threads(threads, |_| {
        let mut ring = Ring::new(RING_SLOTS);
        let mut allocated_bytes = 0;
        for _ in 0..passes {
            for &size_bytes in &sizes_bytes {
                let blocks = if size_bytes < SMALL_BYTES { 250 } else { 50 };
                for _ in 0..blocks {
                    ring.push(Block::new(size_bytes));
                }
                allocated_bytes += (size_bytes * blocks) as u64;
            }
        }
        let freed_bytes = ring.free_all();
        assert_eq!(freed_bytes, allocated_bytes);
        freed_bytes
    })
}

fn sizes_of_pass() -> Vec<usize> {
    let bases = std::iter::successors(Some(MIN_SIZE_BYTES), |&base| Some(base * 3 / 2 + 1));
    let halves = |base| std::iter::successors(Some(base), |&size| Some(size / 2));
    bases
        .take_while(|&base| base < MAX_BYTES)
        .flat_map(|base| halves(base).take_while(|&size| size >= MIN_SIZE_BYTES))
        .collect()
}
