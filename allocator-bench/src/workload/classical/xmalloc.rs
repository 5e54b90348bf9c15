//! `xmalloc`: asymmetric use, after Lever and Boreham ("malloc() performance in a multithreaded Linux environment",
//! 2000) and Eder. Some threads only allocate and put batches on a list that all share, others only free whatever batch
//! was put there last, whoever allocated it. Memory flows one way for as long as the program runs, which caches of
//! freed blocks per thread cannot serve.
//!
//! The usual parameters: 17 sizes of 8 bytes to 2 KiB in equal shares, at most 100 batches on the list. A batch has 120
//! blocks; in the latest form of the original it has 4096, which moves the work from handing over to cache misses. The
//! usual seconds are a fixed count. Runs one thread of each kind for each thread asked for; the work of each is
//! constant.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::block::Block;
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const BATCH: usize = 120;
const BATCHES_PER_THREAD: usize = 75_000;
const MAX_LISTED: usize = 100;
const SIZES_BYTES: [usize; 17] = [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048];

type Batch = Vec<Block>;

/// The shared list; `allocating` counts the threads that may still add to it.
struct List {
    state: Mutex<ListState>,
    not_empty: Condvar,
    not_full: Condvar,
}

struct ListState {
    batches: Vec<Batch>,
    allocating: usize,
}

impl List {
    fn new(allocating: usize) -> Self {
        let state = Mutex::new(ListState { batches: Vec::with_capacity(MAX_LISTED), allocating });
        Self { state, not_empty: Condvar::new(), not_full: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, ListState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, batch: Batch) {
        let full = |state: &mut ListState| state.batches.len() >= MAX_LISTED;
        let mut state = self.not_full.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        state.batches.push(batch);
        self.not_empty.notify_one();
    }

    /// The latest batch, or `None` when no more will come.
    fn take(&self) -> Option<Batch> {
        let empty = |state: &mut ListState| state.batches.is_empty() && state.allocating > 0;
        let mut state = self.not_empty.wait_while(self.lock(), empty).unwrap_or_else(PoisonError::into_inner);
        let batch = state.batches.pop();
        self.not_full.notify_one();
        batch
    }

    fn finish_allocating(&self) {
        self.lock().allocating -= 1;
        self.not_empty.notify_all();
    }
}

/// Plays the workload on `threads` allocating and `threads` freeing threads.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let batches = scaled(BATCHES_PER_THREAD, scale);
    let list = List::new(threads);
    std::thread::scope(|scope| {
        let freeing: Vec<_> = (0..threads).map(|_| scope.spawn(|| free_all(&list))).collect();
        let allocated_bytes = on_threads(threads, |thread| allocate(&list, batches, Rng::new(0x8A + thread)));
        let freed_bytes: u64 =
            freeing.into_iter().map(|thread| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).sum();
        assert_eq!(freed_bytes, allocated_bytes);
        freed_bytes
    })
}

fn allocate(list: &List, batches: usize, mut rng: Rng) -> u64 {
    let mut allocated_bytes = 0;
    for _ in 0..batches {
        let batch: Batch = (0..BATCH).map(|_| Block::new(SIZES_BYTES[rng.below(SIZES_BYTES.len())])).collect();
        allocated_bytes += batch.iter().map(|block| block.size_bytes() as u64).sum::<u64>();
        list.put(batch);
    }
    list.finish_allocating();
    allocated_bytes
}

fn free_all(list: &List) -> u64 {
    let mut freed_bytes = 0;
    while let Some(batch) = list.take() {
        freed_bytes += batch.into_iter().map(|block| block.size_bytes() as u64).sum::<u64>();
    }
    freed_bytes
}
