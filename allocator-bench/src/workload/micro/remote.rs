//! `remote`: a producer allocates, a consumer frees, in batches over a bounded queue. Runs one such pair of threads for
//! each thread asked for.

use super::pipe::{Sender, between};
use crate::block::Block;
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const BLOCKS: usize = 18_000_000;
const QUEUED_BATCHES: usize = 16;

/// Plays the workload; `pairs` producers each have a consumer of their own.
pub(super) fn run(pairs: usize, scale: f64) -> u64 {
    let blocks = scaled(BLOCKS, scale);
    on_threads(pairs, |pair| {
        let (sent_bytes, freed_bytes) = between(
            QUEUED_BATCHES,
            |sender| produce(sender, blocks, Rng::new(0x4E + pair)),
            |receiver| receiver.flatten().map(|block: Block| block.size_bytes() as u64).sum::<u64>(),
        );
        assert_eq!(freed_bytes, sent_bytes);
        freed_bytes
    })
}

fn produce(mut sender: Sender<Vec<Block>>, blocks: usize, mut rng: Rng) -> u64 {
    let (mut sent_bytes, mut left) = (0, blocks);
    while left > 0 {
        let count = rng.between(64, 256).min(left);
        let batch: Vec<Block> = (0..count).map(|_| Block::new(rng.between(16, 512))).collect();
        sent_bytes += batch.iter().map(|block| block.size_bytes() as u64).sum::<u64>();
        left -= count;
        sender.send(batch);
    }
    sent_bytes
}
