//! The maps that the service keeps: each behind a lock as people write it, and filled to its last free slot. The
//! [`server`](super::server) asks them; the process that starts the server chooses one.
//!
//! The put that finds no free slot runs while the lock is held for writing, so every reader waits for it. How long
//! depends on the map: one moves all entries at once, the other a few with each later put.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::protocol::{Value, value_of};
use crate::clock::now_ns;
use crate::table::{MixHasher, Size};

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// The value that was replaced.
    pub previous: Option<Value>,
    /// When the index was taken, by `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// When it was about to be let go.
    pub end_ns: u64,
}

/// An index that many threads use.
pub trait Index: Send + Sync + 'static {
    /// The value of `key`.
    fn get(&self, key: u64) -> Option<Value>;

    /// Keeps `value` for `key`.
    fn put(&self, key: u64, value: Value) -> Put;

    /// The number of entries.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries there is room for before the next table is allocated.
    fn room(&self) -> u64;
}

/// Which map an index is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum IndexKind {
    /// `std::collections::HashMap`, which moves every entry when it doubles.
    Whole,
    /// `griddle::HashMap`, which allocates the doubled table at once and moves eight entries with each later put.
    Incremental,
}

impl fmt::Display for IndexKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Whole => "whole",
            Self::Incremental => "incremental",
        })
    }
}

/// The part of a map that an index needs.
trait Map: Send + Sync + 'static {
    fn with_room(entries: usize) -> Self;
    fn get(&self, key: u64) -> Option<Value>;
    fn put(&mut self, key: u64, value: Value) -> Option<Value>;
    fn len(&self) -> usize;
    fn capacity(&self) -> usize;
}

/// A map that moves all of its entries when it doubles.
type WholeMap = HashMap<u64, Value, BuildHasherDefault<MixHasher>>;
/// A map that moves a few of its entries with each put after it doubled.
type IncrementalMap = griddle::HashMap<u64, Value, BuildHasherDefault<MixHasher>>;

/// Puts by way of the entry: `HashMap::insert` makes room before it looks whether the key exists, so in a full map it
/// would double also for a value that only replaces another.
fn put_whole(map: &mut WholeMap, key: u64, value: Value) -> Option<Value> {
    match map.entry(key) {
        Entry::Occupied(mut entry) => Some(entry.insert(value)),
        Entry::Vacant(entry) => {
            entry.insert(value);
            None
        }
    }
}

/// Both maps have the same methods, and no trait that says so.
macro_rules! map {
    ($map:ty, $put:path) => {
        impl Map for $map {
            fn with_room(entries: usize) -> Self {
                Self::with_capacity_and_hasher(entries, BuildHasherDefault::default())
            }

            fn get(&self, key: u64) -> Option<Value> {
                self.get(&key).copied()
            }

            fn put(&mut self, key: u64, value: Value) -> Option<Value> {
                $put(self, key, value)
            }

            fn len(&self) -> usize {
                self.len()
            }

            fn capacity(&self) -> usize {
                self.capacity()
            }
        }
    };
}

map!(WholeMap, put_whole);
map!(IncrementalMap, IncrementalMap::insert);

/// A map behind the lock of the standard library.
struct Locked<M>(RwLock<M>);

impl<M: Map> Locked<M> {
    /// An index that is full: the keys from 0 to `size.entries() - 1`, and no free slot.
    fn filled(size: Size) -> Result<Self, String> {
        let entries = usize::try_from(size.entries()).map_err(|_| "the size exceeds the address space".to_owned())?;
        let mut map = M::with_room(entries);
        for key in 0..size.entries() {
            map.put(key, value_of(key));
        }
        if map.capacity() != entries {
            return Err(format!(
                "the filled index has room for {} entries instead of {entries}: its table no longer uses 7/8 of a power \
                 of two, so the next put would not make it grow",
                map.capacity()
            ));
        }
        Ok(Self(RwLock::new(map)))
    }

    // A map is left whole by whatever panics while it is locked: nothing of ours runs in the middle of an insert but
    // the hasher, which does not panic.
    fn read<T>(&self, what: impl FnOnce(&M) -> T) -> T {
        what(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<M: Map> Index for Locked<M> {
    fn get(&self, key: u64) -> Option<Value> {
        self.read(|map| map.get(key))
    }

    fn put(&self, key: u64, value: Value) -> Put {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let start_ns = now_ns();
        let previous = map.put(key, value);
        Put { previous, start_ns, end_ns: now_ns() }
    }

    fn len(&self) -> u64 {
        self.read(|map| map.len() as u64)
    }

    fn room(&self) -> u64 {
        self.read(|map| map.capacity() as u64)
    }
}

/// An index of this kind and size with no free slot: it holds the keys from 0 to `size.entries() - 1`, each with
/// [`value_of`] it, and the next new key makes it allocate a table of twice the size.
pub fn filled(kind: IndexKind, size: Size) -> Result<Arc<dyn Index>, String> {
    Ok(match kind {
        IndexKind::Whole => Arc::new(Locked::<WholeMap>::filled(size)?),
        IndexKind::Incremental => Arc::new(Locked::<IncrementalMap>::filled(size)?),
    })
}

/// Checks that `index` holds the keys from 0 to `keys - 1` with their values, and nothing else.
pub fn check(index: &dyn Index, keys: u64) -> Result<(), String> {
    if index.len() != keys {
        return Err(format!("the index says it has {} entries instead of {keys}", index.len()));
    }
    // As many right entries as there are entries: none is left that was never put.
    match (0..keys).find(|key| index.get(*key) != Some(value_of(*key))) {
        Some(key) => Err(format!("key {key} gives {:x?} instead of what was put", index.get(key))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [IndexKind; 2] = [IndexKind::Whole, IndexKind::Incremental];

    #[test]
    fn a_full_index_grows_with_the_next_key_and_keeps_every_entry() {
        for kind in KINDS {
            let keys = Size::SMALLEST.entries();
            let index = filled(kind, Size::SMALLEST).unwrap();
            assert_eq!(check(&*index, keys), Ok(()), "{kind}");
            assert_eq!((index.len(), index.room()), (keys, keys), "{kind}");
            let put = index.put(keys, value_of(keys));
            assert_eq!(put.previous, None, "{kind}");
            assert!(put.start_ns <= put.end_ns, "{kind}: {put:?}");
            assert_eq!(index.room(), keys * 2, "{kind}: it doubled");
            assert_eq!(check(&*index, keys + 1), Ok(()), "{kind}");
            assert_eq!(index.get(keys + 1), None, "{kind}");
        }
    }

    #[test]
    fn replacing_does_not_grow() {
        for kind in KINDS {
            let keys = Size::SMALLEST.entries();
            let index = filled(kind, Size::SMALLEST).unwrap();
            for key in 0..1000 {
                assert_eq!(index.put(key, value_of(key)).previous, Some(value_of(key)), "{kind}");
            }
            assert_eq!(index.room(), keys, "{kind}");
            assert!(!index.is_empty(), "{kind}");
        }
    }

    #[test]
    fn an_incremental_index_stays_right_until_all_has_moved() {
        let keys = Size::SMALLEST.entries();
        let index = filled(IndexKind::Incremental, Size::SMALLEST).unwrap();
        // Eight move with each put, so this is enough for all and some more.
        let more = keys / 8 + 100;
        for key in keys..keys + more {
            index.put(key, value_of(key));
        }
        assert_eq!(check(&*index, keys + more), Ok(()));
    }

    #[test]
    fn a_wrong_index_is_found() {
        let keys = Size::SMALLEST.entries();
        let index = filled(IndexKind::Whole, Size::SMALLEST).unwrap();
        assert!(check(&*index, keys + 1).unwrap_err().contains("57344 entries instead of 57345"));
        index.put(7, [0; 16]);
        assert!(check(&*index, keys).unwrap_err().starts_with("key 7 gives"));
    }
}
