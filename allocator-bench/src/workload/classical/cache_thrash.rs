//! `cache_thrash`: active false sharing, after Berger's Hoard. Every thread allocates an 8-byte object, writes to it
//! many times, frees it, and so on. An allocator that gives parts of one cache line to two threads makes them wait for
//! each other's writes, and this scales worse than the number of threads.
//!
//! The usual parameters: 1000 objects, 2 000 000 writes of each, shared out among the threads, so that the total is
//! constant; a write is of the whole object. Next to nothing of the time on one thread is the allocator's: only two
//! threads and more show anything.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::workload::{on_threads, scaled};

const OBJECTS: usize = 1000;
const WRITES_PER_OBJECT: usize = 2_000_000;

/// Plays the workload; the threads share out the writes, and each has all its objects to itself.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    on_threads(threads, |_| allocate_and_write(threads, scale))
}

/// What one of the threads does.
pub(super) fn allocate_and_write(threads: usize, scale: f64) -> u64 {
    let writes = scaled(WRITES_PER_OBJECT, scale) / threads + 1;
    (0..OBJECTS).map(|_| write_often(writes)).sum()
}

fn write_often(writes: usize) -> u64 {
    let object = Box::new(AtomicU64::new(0));
    for _ in 0..writes {
        // Relaxed: no other thread has the object. Atomic only so that every write reaches the cache line.
        object.store(object.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
    let found = object.into_inner();
    assert_eq!(found, writes as u64, "another thread wrote to an object that is not its own");
    found
}
