//! `xmalloc`: asymmetric use after Lever and Boreham. Some threads only allocate and put batches on a list that all
//! share, others only free whatever batch is next, whoever allocated it. Runs one of each for each thread asked for.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::block::Block;
use crate::rng::Rng;

use super::{on_threads, scaled};

const BATCH: usize = 120;
const BATCHES_PER_THREAD: usize = 40_000;
const MAX_LISTED: usize = 64;
const MIN_BYTES: usize = 16;
/// 16 B to 1 KiB.
const OCTAVES: usize = 6;

type Batch = Vec<Block>;

/// The shared list; `allocating` counts the threads that may still add to it.
struct List {
    state: Mutex<ListState>,
    changed: Condvar,
}

struct ListState {
    batches: VecDeque<Batch>,
    allocating: usize,
}

impl List {
    fn new(allocating: usize) -> Self {
        let batches = VecDeque::with_capacity(MAX_LISTED);
        Self { state: Mutex::new(ListState { batches, allocating }), changed: Condvar::new() }
    }

    fn wait_while(&self, condition: impl FnMut(&mut ListState) -> bool) -> MutexGuard<'_, ListState> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.wait_while(state, condition).unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, batch: Batch) {
        let mut state = self.wait_while(|state| state.batches.len() >= MAX_LISTED);
        state.batches.push_back(batch);
        drop(state);
        self.changed.notify_all();
    }

    /// The next batch, or `None` when no more will come.
    fn take(&self) -> Option<Batch> {
        let mut state = self.wait_while(|state| state.batches.is_empty() && state.allocating > 0);
        let batch = state.batches.pop_front();
        drop(state);
        self.changed.notify_all();
        batch
    }

    fn finish_allocating(&self) {
        self.wait_while(|_| false).allocating -= 1;
        self.changed.notify_all();
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
        let batch: Batch = (0..BATCH).map(|_| Block::new(rng.log_uniform(MIN_BYTES, OCTAVES))).collect();
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
