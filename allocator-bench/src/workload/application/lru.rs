//! `lru`: a cache of values of 1 to 64 KiB in front of something slow (the lru crate). Keys are skewed to the low ones;
//! a key that is not there gets a value of a random size, for which the least recently used one is evicted. So blocks
//! of many sizes live for very different times. About a third of the requests miss. Every thread has a cache of its
//! own, as in servers that shard by thread; the work per thread is constant.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::block::Block;
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const CAPACITY: NonZeroUsize = NonZeroUsize::new(1000).expect("above zero");
const KEYS: usize = 4000;
const REQUESTS: usize = 8_000_000;
const MIN_BYTES: usize = 1024;
/// 1 to 64 KiB.
const OCTAVES: usize = 6;

/// Plays the workload.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let requests = scaled(REQUESTS, scale);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0x14C + thread);
        let mut cache: LruCache<usize, Block> = LruCache::new(CAPACITY);
        let (mut allocated_bytes, mut freed_bytes) = (0, 0);
        for _ in 0..requests {
            let farthest = rng.below(KEYS) + 1;
            let key = rng.below(farthest);
            if let Some(value) = cache.get(&key) {
                value.check_pages();
                continue;
            }
            let mut value = Block::new(rng.log_uniform(MIN_BYTES, OCTAVES));
            value.touch_pages();
            allocated_bytes += value.size_bytes() as u64;
            freed_bytes += cache.push(key, value).map_or(0, |(_, evicted)| evicted.size_bytes() as u64);
        }
        while let Some((_, value)) = cache.pop_lru() {
            freed_bytes += value.size_bytes() as u64;
        }
        assert_eq!(freed_bytes, allocated_bytes);
        freed_bytes
    })
}
