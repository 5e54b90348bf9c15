//! `btree_small`: an index in memory. A B-tree of small boxes with 100k entries, in which random entries are replaced
//! by others. Its nodes are split and merged all the time, so blocks of a few hundred bytes mix with the small boxes. A
//! tenth of the instructions are the allocator's, the rest mostly the tree's search. The work per thread is constant.

use std::collections::BTreeMap;

use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

use super::entries::{self, Entries, SmallBox};

const LIVE: usize = 100_000;
const REPLACEMENTS: usize = 700_000;

/// Plays the workload; every thread has its own tree.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let replacements = scaled(REPLACEMENTS, scale);
    on_threads(threads, |thread| {
        entries::replace(&mut BTreeMap::new(), LIVE.min(replacements), replacements, Rng::new(0xB7 + thread))
    })
}

impl Entries for BTreeMap<u64, SmallBox> {
    fn insert(&mut self, id: u64, value: SmallBox) -> bool {
        BTreeMap::insert(self, id, value).is_none()
    }

    fn remove(&mut self, id: u64) -> Option<SmallBox> {
        BTreeMap::remove(self, &id)
    }
}
