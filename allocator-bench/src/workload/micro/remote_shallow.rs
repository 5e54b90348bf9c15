//! `remote_shallow`: a producer sends single blocks over a short queue, so that a block comes back soon after it was
//! allocated. Runs one pair of threads for each thread asked for.

use super::pipe::{Sender, between};
use crate::block::Block;
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const BLOCKS: usize = 4_000_000;
const QUEUED_BLOCKS: usize = 64;

/// Plays the workload; `pairs` producers each have a consumer of their own.
pub(super) fn run(pairs: usize, scale: f64) -> u64 {
    let blocks = scaled(BLOCKS, scale);
    on_threads(pairs, |pair| {
        let (sent_bytes, freed_bytes) = between(
            QUEUED_BLOCKS,
            |sender| produce(sender, blocks, Rng::new(0x4F + pair)),
            |receiver| receiver.map(|block: Block| block.size_bytes() as u64).sum::<u64>(),
        );
        assert_eq!(freed_bytes, sent_bytes);
        freed_bytes
    })
}

fn produce(mut sender: Sender<Block>, blocks: usize, mut rng: Rng) -> u64 {
    let mut sent_bytes = 0;
    for _ in 0..blocks {
        let block = Block::new(rng.between(64, 1024));
        sent_bytes += block.size_bytes() as u64;
        sender.send(block);
    }
    sent_bytes
}
