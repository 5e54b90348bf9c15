//! `cache_scratch`: passive false sharing, after Berger's Hoard. One thread allocates an 8-byte object for each thread,
//! next to each other. Each thread frees the one it was given and goes on as in [`cache_thrash`](super::cache_thrash):
//! allocates, writes many times, frees. An allocator that gives a freed object to the thread that freed it keeps the
//! threads on one cache line for good.
//!
//! The usual parameters, as there. Next to nothing of the time on one thread is the allocator's.

use std::sync::Mutex;

use crate::block::Block;
use crate::workload::on_threads;

use super::cache_thrash::allocate_and_write;

const OBJECT_BYTES: usize = 8;

/// Plays the workload; the threads share out the writes.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let given: Vec<Mutex<Option<Block>>> = (0..threads).map(|_| Mutex::new(Some(Block::new(OBJECT_BYTES)))).collect();
    on_threads(threads, |thread| {
        let own = given[thread as usize].lock().expect("no thread panics with the lock").take();
        let freed_bytes = own.expect("each thread takes its own").size_bytes() as u64;
        freed_bytes + allocate_and_write(threads, scale)
    })
}
