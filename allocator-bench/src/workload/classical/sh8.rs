//! `sh8`: after MicroQuill's SmartHeap benchmark sh8bench (2005). Like [`sh6`](super::sh6), with a histogram of sizes
//! that are mostly tiny; and while the threads work, the main thread allocates many equal blocks for others to free, so
//! that frees from elsewhere and a thread's own frees meet.
//!
//! The usual parameters: the histogram below, iterations and buffer shared out among the threads, 8-byte blocks to be
//! freed elsewhere. The counts are smaller here. The total is constant.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::block::Block;
use crate::workload::{on_threads, scaled, share};

use super::ring::Ring;

/// A size, and how many blocks of it one iteration allocates.
const HISTOGRAM: [(usize, usize); 12] = [
    (8, 1000),
    (16, 5000),
    (48, 1000),
    (72, 100),
    (148, 100),
    (200, 100),
    (520, 10),
    (1056, 5),
    (4096, 3),
    (9162, 1),
    (34_562, 1),
    (168_524, 1),
];
const RING_SLOTS: usize = 100_000;
const ITERATIONS: usize = 80_000;
const FOREIGN_BYTES: usize = 8;
const FOREIGN_BATCH: usize = 100;
const FOREIGN_BATCHES: usize = 100_000;
const MAX_WAITING: usize = 64;

type Batch = Vec<Block>;

/// Plays the workload on `threads` threads and a further one that allocates for them.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let (iterations, batches) = (scaled(ITERATIONS, scale), scaled(FOREIGN_BATCHES, scale));
    let channels = (0..threads).map(|_| sync_channel(MAX_WAITING));
    let (senders, receivers): (Vec<SyncSender<Batch>>, Vec<Receiver<Batch>>) = channels.unzip();
    let receivers: Vec<_> = receivers.into_iter().map(std::sync::Mutex::new).collect();
    std::thread::scope(|scope| {
        let allocating = scope.spawn(move || allocate_for_others(&senders, batches));
        let worked_bytes = on_threads(threads, |thread| {
            let foreign = receivers[thread as usize].lock().expect("only this thread locks it");
            work(&foreign, share(iterations, threads, thread), RING_SLOTS / threads)
        });
        let foreign_bytes = allocating.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert_eq!(foreign_bytes, (batches * FOREIGN_BATCH * FOREIGN_BYTES) as u64);
        worked_bytes
    })
}

fn allocate_for_others(senders: &[SyncSender<Batch>], batches: usize) -> u64 {
    let mut sent_bytes = 0;
    for sender in senders.iter().cycle().take(batches) {
        let batch: Batch = (0..FOREIGN_BATCH).map(|_| Block::new(FOREIGN_BYTES)).collect();
        sent_bytes += (FOREIGN_BATCH * FOREIGN_BYTES) as u64;
        sender.send(batch).expect("a thread receives until the channel closes");
    }
    sent_bytes
}

/// What one thread does: it frees what has come from the other thread, then allocates the next entry of the histogram.
fn work(foreign: &Receiver<Batch>, iterations: usize, slots: usize) -> u64 {
    let mut ring = Ring::new(slots);
    let (mut allocated_bytes, mut foreign_bytes) = (0, 0);
    let mut free_foreign = |batch: Batch| {
        foreign_bytes += batch.into_iter().map(|block| block.size_bytes() as u64).sum::<u64>();
    };
    for &(size_bytes, blocks) in HISTOGRAM.iter().cycle().take(iterations) {
        foreign.try_iter().for_each(&mut free_foreign);
        for _ in 0..blocks {
            ring.push(Block::new(size_bytes));
        }
        allocated_bytes += (size_bytes * blocks) as u64;
    }
    foreign.iter().for_each(&mut free_foreign);
    let freed_bytes = ring.free_all();
    assert_eq!(freed_bytes, allocated_bytes);
    freed_bytes + foreign_bytes
}
