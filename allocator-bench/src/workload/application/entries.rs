//! What `btree_small` and `hash_small` share: small boxes, and random entries of a collection replaced by others.

use crate::rng::Rng;

const MIN_BYTES: usize = 16;
const MAX_BYTES: usize = 64;
const FILLER: u8 = 0xB7;

/// A value of 16 to 64 bytes that carries the number of its entry.
pub(super) struct SmallBox(Box<[u8]>);

/// A collection of small boxes by number.
pub(super) trait Entries {
    /// Gives false if the number was there already.
    fn insert(&mut self, id: u64, value: SmallBox) -> bool;
    fn remove(&mut self, id: u64) -> Option<SmallBox>;
}

impl SmallBox {
    fn new(id: u64, rng: &mut Rng) -> Self {
        let mut bytes = vec![FILLER; rng.between(MIN_BYTES, MAX_BYTES)].into_boxed_slice();
        bytes[..size_of::<u64>()].copy_from_slice(&id.to_le_bytes());
        Self(bytes)
    }

    /// Checks that the box belongs to `id`; gives a checksum.
    fn finish(self, id: u64) -> u64 {
        assert!(self.0.starts_with(&id.to_le_bytes()) && self.0.ends_with(&[FILLER]), "a box has lost its contents");
        id.wrapping_add(self.0.len() as u64)
    }
}

/// Fills `entries` up to `live`, replaces that many at random, then removes all; gives a checksum of what was removed.
pub(super) fn replace(entries: &mut impl Entries, live: usize, replacements: usize, mut rng: Rng) -> u64 {
    let insert = |entries: &mut _, rng: &mut Rng| {
        let id = rng.next_bits();
        assert!(Entries::insert(entries, id, SmallBox::new(id, rng)), "two entries with the same number");
        id
    };
    let remove = |entries: &mut _, id| Entries::remove(entries, id).expect("the entry is there").finish(id);
    let mut ids: Vec<u64> = (0..live).map(|_| insert(entries, &mut rng)).collect();
    let mut checksum = 0_u64;
    for _ in 0..replacements {
        let slot = rng.below(live);
        checksum = checksum.wrapping_add(remove(entries, ids[slot]));
        ids[slot] = insert(entries, &mut rng);
    }
    ids.into_iter().fold(checksum, |checksum, id| checksum.wrapping_add(remove(entries, id)))
}
