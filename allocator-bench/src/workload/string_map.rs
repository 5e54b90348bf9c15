//! `string_map`: what programs do with collections. A hash map of strings to byte vectors and a B-tree of boxes, each
//! with 100k entries, in which random entries are replaced.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::rng::Rng;

use super::{on_threads, scaled};

const LIVE: usize = 100_000;
const REPLACEMENTS: usize = 300_000;
const WORD_BYTES: usize = size_of::<u64>();

type TextMap = HashMap<String, Vec<u8>, BuildHasherDefault<DefaultHasher>>;
type BoxTree = BTreeMap<u64, Box<[u8; 48]>>;

/// Plays the workload; every thread has its own maps.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let replacements = scaled(REPLACEMENTS, scale);
    let live = LIVE.min(replacements);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0x3A + thread);
        let mut maps = Maps::default();
        let mut ids: Vec<u64> = (0..live).map(|_| rng.next_bits()).collect();
        ids.iter().for_each(|&id| maps.insert(id, &mut rng));
        let mut checksum = 0_u64;
        for _ in 0..replacements {
            let (slot, new) = (rng.below(live), rng.next_bits());
            let old = std::mem::replace(&mut ids[slot], new);
            checksum = checksum.wrapping_add(maps.remove(old));
            maps.insert(new, &mut rng);
        }
        assert_eq!((maps.texts.len(), maps.boxes.len()), (live, live));
        for id in ids {
            checksum = checksum.wrapping_add(maps.remove(id));
        }
        checksum
    })
}

#[derive(Default)]
struct Maps {
    texts: TextMap,
    boxes: BoxTree,
}

impl Maps {
    fn insert(&mut self, id: u64, rng: &mut Rng) {
        let mut value = vec![0xB7; rng.between(16, 256)];
        value[..WORD_BYTES].copy_from_slice(&id.to_le_bytes());
        assert!(self.texts.insert(key_of(id), value).is_none(), "two entries with the same key");
        let mut boxed = Box::new([0xB8; 48]);
        boxed[..WORD_BYTES].copy_from_slice(&id.to_le_bytes());
        assert!(self.boxes.insert(id, boxed).is_none(), "two entries with the same number");
    }

    /// Removes both entries, checks that they belong to `id`, and gives a checksum of them.
    fn remove(&mut self, id: u64) -> u64 {
        let value = self.texts.remove(&key_of(id)).expect("the entry is in the hash map");
        let boxed = self.boxes.remove(&id).expect("the entry is in the tree");
        let word = id.to_le_bytes();
        assert!(value.starts_with(&word) && value.ends_with(&[0xB7]), "a vector has lost its contents");
        assert!(boxed.starts_with(&word) && boxed.ends_with(&[0xB8]), "a box has lost its contents");
        id.wrapping_add(value.len() as u64)
    }
}

fn key_of(id: u64) -> String {
    format!("customer/{id:x}/cart")
}
