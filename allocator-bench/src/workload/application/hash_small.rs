//! `hash_small`: a table of sessions. A hash map of small boxes grown from nothing to 100k entries, in which random
//! entries are replaced by others. One large block, doubled 15 times while it grows, among many small ones. The hash is
//! a cheap one (rustc-hash), so that a quarter of the instructions are the
//! allocator's. The work per thread is constant.

use rustc_hash::FxHashMap;

use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

use super::entries::{self, Entries, SmallBox};

const LIVE: usize = 100_000;
const REPLACEMENTS: usize = 3_500_000;

/// Plays the workload; every thread has its own map.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let replacements = scaled(REPLACEMENTS, scale);
    on_threads(threads, |thread| {
        entries::replace(&mut FxHashMap::default(), LIVE.min(replacements), replacements, Rng::new(0x4A + thread))
    })
}

impl Entries for FxHashMap<u64, SmallBox> {
    fn insert(&mut self, id: u64, value: SmallBox) -> bool {
        FxHashMap::insert(self, id, value).is_none()
    }

    fn remove(&mut self, id: u64) -> Option<SmallBox> {
        FxHashMap::remove(self, &id)
    }
}
