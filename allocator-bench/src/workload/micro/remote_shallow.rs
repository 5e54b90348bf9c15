//! `remote_shallow`: a producer sends single blocks over a short channel, so that a block comes back soon after it was
//! allocated. Runs one pair of threads for each thread asked for.

use std::sync::mpsc::sync_channel;

use crate::block::Block;
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const MESSAGES: usize = 1_000_000;
const CHANNEL_MESSAGES: usize = 64;

/// Plays the workload; `pairs` producers each have a consumer of their own.
pub(super) fn run(pairs: usize, scale: f64) -> u64 {
    let messages = scaled(MESSAGES, scale);
    on_threads(pairs, |pair| {
        let (sender, receiver) = sync_channel::<Block>(CHANNEL_MESSAGES);
        std::thread::scope(|scope| {
            let consumer =
                scope.spawn(move || receiver.into_iter().map(|block| block.size_bytes() as u64).sum::<u64>());
            let mut rng = Rng::new(0x4F + pair);
            let mut sent_bytes = 0;
            for _ in 0..messages {
                let block = Block::new(rng.between(64, 1024));
                sent_bytes += block.size_bytes() as u64;
                sender.send(block).expect("the consumer receives until the channel closes");
            }
            drop(sender);
            let freed_bytes = consumer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert_eq!(freed_bytes, sent_bytes);
            freed_bytes
        })
    })
}
