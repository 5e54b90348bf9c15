//! `remote`: a producer allocates, a consumer frees, in batches over a bounded channel. Runs one such pair of threads
//! for each thread asked for.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::block::Block;
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const BLOCKS: usize = 18_000_000;
const CHANNEL_BATCHES: usize = 16;

/// Plays the workload; `pairs` producers each have a consumer of their own.
pub(super) fn run(pairs: usize, scale: f64) -> u64 {
    let blocks = scaled(BLOCKS, scale);
    on_threads(pairs, |pair| {
        let (sender, receiver) = sync_channel(CHANNEL_BATCHES);
        std::thread::scope(|scope| {
            let consumer = scope.spawn(move || consume(receiver));
            let sent_bytes = produce(sender, blocks, Rng::new(0x4E + pair));
            let freed_bytes = consumer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert_eq!(freed_bytes, sent_bytes);
            freed_bytes
        })
    })
}

fn produce(sender: SyncSender<Vec<Block>>, blocks: usize, mut rng: Rng) -> u64 {
    let (mut sent_bytes, mut left) = (0, blocks);
    while left > 0 {
        let count = rng.between(64, 256).min(left);
        let batch: Vec<Block> = (0..count).map(|_| Block::new(rng.between(16, 512))).collect();
        sent_bytes += batch.iter().map(|block| block.size_bytes() as u64).sum::<u64>();
        left -= count;
        sender.send(batch).expect("the consumer receives until the channel closes");
    }
    sent_bytes
}

fn consume(receiver: Receiver<Vec<Block>>) -> u64 {
    receiver.into_iter().flatten().map(|block| block.size_bytes() as u64).sum()
}
