//! Threads that live through all bursts, as those of a service do, and allocate and free what they are told to.
//!
//! The [`burst`](crate::scenario::burst) scenario has them.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::block::Block;

/// The smallest block, and how many times as large the largest is, as a power of two: 4 MiB.
const BLOCK_BYTES_MIN: f64 = 16.0;
const BLOCK_RANGE_LOG2: f64 = 18.0;

/// What a worker is told.
#[derive(Debug)]
pub enum Order {
    /// To allocate so many bytes in blocks of sizes drawn from the seed, each with the mark.
    Allocate {
        /// Bytes of all blocks together.
        bytes: u64,
        /// The seed.
        seed: u64,
        /// The mark.
        mark: u8,
    },
    /// To check and free these, in their order.
    Free {
        /// The blocks.
        blocks: Vec<Block>,
        /// What they are marked with.
        mark: u8,
    },
}

/// The threads.
#[derive(Debug)]
pub struct Workers {
    orders: Vec<Sender<Order>>,
    answers: Receiver<Result<Vec<Block>, String>>,
}

impl Workers {
    /// Starts so many threads.
    pub fn start(count: u32) -> Result<Self, String> {
        let (sender, answers) = channel();
        let start = |number| {
            let (order, orders) = channel::<Order>();
            let sender = sender.clone();
            // Ends when nobody orders any more.
            let work = move || orders.iter().all(|order| sender.send(obey(order)).is_ok());
            let thread = thread::Builder::new().name(format!("worker {number}")).spawn(work);
            thread.map(|_| order).map_err(|error| format!("a worker could not be started: {error}"))
        };
        let orders: Result<Vec<_>, _> = (0..count).map(start).collect();
        Ok(Self { orders: orders?, answers })
    }

    /// Gives each worker the order for its number, and waits until all have obeyed; gives what was allocated.
    pub fn obey(&self, mut order: impl FnMut(u64) -> Order) -> Result<Vec<Block>, String> {
        let gone = || "a worker panicked".to_owned();
        for (number, worker) in (0..).zip(&self.orders) {
            worker.send(order(number)).map_err(|_| gone())?;
        }
        let mut all = Vec::new();
        for _ in &self.orders {
            all.extend(self.answers.recv().map_err(|_| gone())??);
        }
        Ok(all)
    }
}

fn obey(order: Order) -> Result<Vec<Block>, String> {
    match order {
        Order::Allocate { bytes, seed, mark } => {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut blocks, mut left) = (Vec::new(), bytes);
            while left > 0 {
                let length = block_bytes(random.f64()).min(left);
                let block = Block::touched(usize::try_from(length).unwrap_or(usize::MAX), mark);
                blocks.push(block.ok_or_else(|| format!("the allocator has no block of {length} bytes"))?);
                left -= length;
            }
            Ok(blocks)
        }
        Order::Free { blocks, mark } => {
            if blocks.into_iter().all(|block| block.has(mark)) {
                return Ok(Vec::new());
            }
            Err("a block changed while it was in use".to_owned())
        }
    }
}

/// The size of a block, log-uniform for a uniform number below one.
fn block_bytes(uniform: f64) -> u64 {
    (BLOCK_BYTES_MIN * (uniform * BLOCK_RANGE_LOG2).exp2()) as u64
}

/// The blocks in another order, dealt out to so many workers: most are freed by another thread than allocated them.
pub fn dealt(mut blocks: Vec<Block>, workers: u32, seed: u64) -> Vec<Vec<Block>> {
    fastrand::Rng::with_seed(seed).shuffle(&mut blocks);
    let share = blocks.len().div_ceil(workers as usize).max(1);
    (0..workers).map(|_| blocks.split_off(blocks.len().saturating_sub(share))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_log_uniform_between_16_bytes_and_4_mib() {
        assert_eq!([0.0, 0.5, 1.0].map(block_bytes), [16, 8192, 4 << 20]);
    }

    #[test]
    fn all_blocks_are_dealt_out_in_another_order() {
        let blocks = || (1..=100).map(|bytes| Block::touched(bytes, 1).unwrap()).collect::<Vec<_>>();
        let hands = dealt(blocks(), 3, 7);
        let mut sizes: Vec<_> = hands.iter().flatten().map(Block::bytes).collect();
        assert_eq!(hands.iter().map(Vec::len).collect::<Vec<_>>(), [34, 34, 32]);
        assert!(!sizes.is_sorted());
        sizes.sort_unstable();
        assert_eq!(sizes, (1..=100).collect::<Vec<_>>());
        assert!(obey(Order::Free { blocks: blocks(), mark: 2 }).is_err(), "a wrong mark is found");
    }
}
