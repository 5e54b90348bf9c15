//! `rptest`: after Jansson's benchmark of rpmalloc. Each thread keeps an array of blocks and strides through it in two
//! places, in one freeing, in the other replacing. In every second loop it allocates as many blocks again for the next
//! thread in turn, which frees them.
//!
//! The usual parameters: 1000 blocks per thread; per loop 30 to 100 allocations and 0.8 times 30 to 100 frees; sizes of
//! 8 to 16 000 bytes, small ones more likely; nothing is freed elsewhere when there is one thread. The loops are more
//! here. The work per thread is constant.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::block::{Block, MIN_SIZE_BYTES};
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

use super::mailbox::{Batch, Mailboxes};

const SLOTS: usize = 1000;
const ALLOCATING_STRIDE: usize = 3;
const FREEING_STRIDE: usize = 7;
const LOOPS: usize = 200_000;
const CROSS_EVERY: usize = 2;
const MAX_BYTES: usize = 16_000;

/// Plays the workload; what is left in the mailboxes at the end is freed then.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let loops = scaled(LOOPS, scale);
    let (mailboxes, freed_bytes) = (Mailboxes::new(threads), AtomicU64::new(0));
    let allocated_bytes = on_threads(threads, |thread| {
        let thread = thread as usize;
        let mut worker = Worker::new(thread);
        for index in 0..loops {
            worker.free_some();
            worker.free_batch(mailboxes.take(thread));
            let count = worker.replace_some();
            if threads > 1 && index % CROSS_EVERY == 0 {
                let hops = 1 + index / CROSS_EVERY % (threads - 1);
                let batch = worker.new_batch(count);
                worker.free_batch(mailboxes.put((thread + hops) % threads, batch));
            }
        }
        // Relaxed: a sum, read after every thread was joined.
        freed_bytes.fetch_add(worker.free_all(), Ordering::Relaxed);
        worker.allocated_bytes
    });
    let waiting = (0..threads).flat_map(|thread| std::iter::from_fn(|| mailboxes.take(thread)).collect::<Vec<_>>());
    let waiting_bytes: u64 = waiting.flatten().map(|block| block.size_bytes() as u64).sum();
    assert_eq!(freed_bytes.into_inner() + waiting_bytes, allocated_bytes);
    allocated_bytes
}

struct Worker {
    slots: Vec<Option<Block>>,
    rng: Rng,
    allocating: usize,
    freeing: usize,
    allocated_bytes: u64,
    freed_bytes: u64,
}

impl Worker {
    fn new(thread: usize) -> Self {
        let (slots, rng) = ((0..SLOTS).map(|_| None).collect(), Rng::new(0x497 + thread as u64));
        Self { slots, rng, allocating: 0, freeing: 0, allocated_bytes: 0, freed_bytes: 0 }
    }

    fn new_block(&mut self) -> Block {
        let mut block = Block::new(random_bytes(&mut self.rng));
        block.touch_pages();
        self.allocated_bytes += block.size_bytes() as u64;
        block
    }

    fn free(&mut self, block: Option<Block>) {
        if let Some(block) = block {
            block.check_pages();
            self.freed_bytes += block.size_bytes() as u64;
        }
    }

    fn free_some(&mut self) {
        for _ in 0..self.rng.between(30, 100) * 8 / 10 {
            let block = self.slots[self.freeing].take();
            self.free(block);
            self.freeing = (self.freeing + FREEING_STRIDE) % SLOTS;
        }
    }

    /// Gives the number of allocations.
    fn replace_some(&mut self) -> usize {
        let count = self.rng.between(30, 100);
        for _ in 0..count {
            let block = self.slots[self.allocating].take();
            self.free(block);
            self.slots[self.allocating] = Some(self.new_block());
            self.allocating = (self.allocating + ALLOCATING_STRIDE) % SLOTS;
        }
        count
    }

    fn new_batch(&mut self, count: usize) -> Batch {
        (0..count).map(|_| self.new_block()).collect()
    }

    fn free_batch(&mut self, batch: Option<Batch>) {
        batch.into_iter().flatten().for_each(|block| self.free(Some(block)));
    }

    /// Frees the array; gives the bytes of all blocks that this thread freed.
    fn free_all(&mut self) -> u64 {
        for block in std::mem::take(&mut self.slots) {
            self.free(block);
        }
        self.freed_bytes
    }
}

/// An even number in the range, times how far two others are from adding up to the range: the original's linear drop.
fn random_bytes(rng: &mut Rng) -> usize {
    const RANGE: usize = MAX_BYTES - MIN_SIZE_BYTES;
    let (even, first, second) = (rng.below(RANGE), rng.below(RANGE), rng.below(RANGE));
    MIN_SIZE_BYTES + even * (first + second).abs_diff(RANGE) / RANGE
}
