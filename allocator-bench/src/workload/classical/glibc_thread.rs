//! `glibc_thread`: after glibc's benchtests/bench-malloc-thread. Blocks of a working set are replaced in a random
//! order; sizes have an inverse square distribution, so that most are tiny and a few are large.
//!
//! The usual parameters: 1024 blocks per thread, sizes of 4 bytes to 32 KiB; 8000 sizes and 4096 places drawn
//! beforehand and used in turn, which keeps random numbers out of the loop. The usual seconds are a fixed count here.
//! The work per thread is constant.

use crate::block::{Block, MIN_SIZE_BYTES};
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const SLOTS: usize = 1024;
const REPLACEMENTS: usize = 48_000_000;
const MIN_BYTES: f64 = 4.0;
const MAX_BYTES: f64 = 32_768.0;
const SIZES: usize = 8000;
const PLACES: usize = 4 * SLOTS;
const RESOLUTION: usize = 1 << 30;

/// Plays the workload; every thread has its own working set, and all have the same tables.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let replacements = scaled(REPLACEMENTS, scale);
    let mut rng = Rng::new(88);
    let sizes_bytes: Vec<usize> = (0..SIZES).map(|_| inverse_square_bytes(rng.below(RESOLUTION))).collect();
    let places: Vec<usize> = (0..PLACES).map(|_| rng.below(SLOTS)).collect();
    on_threads(threads, |_| {
        let mut slots: Vec<Option<Block>> = (0..SLOTS).map(|_| None).collect();
        let (mut allocated_bytes, mut freed_bytes) = (0, 0);
        let draws = sizes_bytes.iter().cycle().zip(places.iter().cycle());
        for (&size_bytes, &place) in draws.take(replacements) {
            let slot = &mut slots[place];
            freed_bytes += slot.take().map_or(0, |block| block.size_bytes() as u64);
            let mut block = Block::new(size_bytes);
            block.touch_pages();
            allocated_bytes += size_bytes as u64;
            *slot = Some(block);
        }
        freed_bytes += slots.drain(..).flatten().map(|block| block.size_bytes() as u64).sum::<u64>();
        assert_eq!(freed_bytes, allocated_bytes);
        freed_bytes
    })
}

/// The size below which a share of `drawn` in [`RESOLUTION`] lies, were sizes as likely as the inverse of their square.
fn inverse_square_bytes(drawn: usize) -> usize {
    let share = drawn as f64 / RESOLUTION as f64;
    let size = 1.0 / (1.0 / MIN_BYTES + (1.0 / MAX_BYTES - 1.0 / MIN_BYTES) * share);
    (size as usize).max(MIN_SIZE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::{RESOLUTION, inverse_square_bytes};

    #[test]
    fn half_of_the_sizes_are_below_the_double_of_the_smallest() {
        assert_eq!(inverse_square_bytes(0), 8);
        assert_eq!(inverse_square_bytes(RESOLUTION * 3 / 4), 15);
        assert!(inverse_square_bytes(RESOLUTION - 1) > 32_000);
    }
}
