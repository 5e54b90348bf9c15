//! The hash map of the incident: the sizes it can have, filling it, doubling it and checking it.
//!
//! The harness uses [`Size`] to choose what fits the machine; [`child`](crate::child) builds the [`Table`].

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::sizes::{needed_bytes, usable_bytes};

/// Bytes of one bucket: a key of 8 bytes, a value of 16, and one control byte of the hash table.
pub const BUCKET_BYTES: u64 = 25;
/// Control bytes beyond one for each bucket: a probe reads a group of them, also at the end of the table.
const CONTROL_GROUP_BYTES: u64 = 16;
/// More than a replay allocates beside its tables, its canaries' blocks counted once.
pub const BESIDE_BYTES: u64 = 256 << 20;

/// How large the table is before it doubles: a power of two of buckets, of which seven eighths can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    buckets_log2: u32,
}

/// Why a size was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// The wanted size does not fit, a smaller one does.
    #[error(
        "{} entries (7/8 of 2^{} buckets) need {} MiB at the peak, but only {} MiB may be used of the {} MiB available; \
         --keys {} would fit",
        wanted.entries(), wanted.buckets_log2(), needed_bytes(wanted.replay_bytes()) >> 20,
        usable_bytes(*available_bytes) >> 20, available_bytes >> 20, fitting.entries()
    )]
    TooBig {
        /// What was asked for.
        wanted: Size,
        /// The largest size that fits.
        fitting: Size,
        /// The memory there is.
        available_bytes: u64,
    },
    /// Not even the smallest size fits.
    #[error(
        "only {} KiB of memory are available; the smallest replay ({} entries) needs {} KiB",
        available_bytes >> 10, Size::SMALLEST.entries(), needed_bytes(Size::SMALLEST.replay_bytes()) >> 10
    )]
    NothingFits {
        /// The memory there is.
        available_bytes: u64,
    },
}

impl Size {
    /// The smallest replay: 2^16 buckets.
    pub const SMALLEST: Self = Self { buckets_log2: 16 };
    /// The size of the incident, 2^26 buckets, and the largest that is chosen unasked.
    pub const INCIDENT: Self = Self { buckets_log2: 26 };
    /// The largest that can be asked for; far more than any machine holds, and the arithmetic stays within 64 bits.
    pub const LARGEST: Self = Self { buckets_log2: 56 };

    /// The smallest size that holds `keys` entries, at least [`Size::SMALLEST`] and at most [`Size::LARGEST`].
    pub fn holding(keys: u64) -> Self {
        let mut size = Self::SMALLEST;
        while size.entries() < keys && size < Self::LARGEST {
            size.buckets_log2 += 1;
        }
        size
    }

    /// The size with exactly this many buckets, if it is one a replay can have.
    pub fn with_buckets(buckets: u64) -> Option<Self> {
        let size = Self { buckets_log2: buckets.checked_ilog2()? };
        (buckets.is_power_of_two() && (Self::SMALLEST..=Self::LARGEST).contains(&size)).then_some(size)
    }

    /// The same, or a sentence that says what is wrong.
    pub fn of_buckets(buckets: u64) -> Result<Self, String> {
        Self::with_buckets(buckets).ok_or_else(|| format!("{buckets} buckets are not a power of two from 65536"))
    }

    /// The largest size, at most `most`, for whose replay `bytes` are enough, beside what the harness takes.
    pub fn largest_within(bytes: u64, most: Self) -> Option<Self> {
        (Self::SMALLEST.buckets_log2..=most.buckets_log2)
            .rev()
            .map(|buckets_log2| Self { buckets_log2 })
            .find(|size| needed_bytes(size.replay_bytes()) <= bytes)
    }

    /// The size to run: the one asked for if it fits, else (nothing asked) the largest up to the incident's own that
    /// leaves half of the available memory alone.
    pub fn choose(keys: Option<u64>, available_bytes: u64) -> Result<Self, SizeError> {
        let fitting = Self::largest_within(usable_bytes(available_bytes), Self::LARGEST);
        let fitting = fitting.ok_or(SizeError::NothingFits { available_bytes })?;
        match keys.map(Self::holding) {
            Some(wanted) if wanted > fitting => Err(SizeError::TooBig { wanted, fitting, available_bytes }),
            Some(wanted) => Ok(wanted),
            None => Ok(Self::largest_within(available_bytes / 2, Self::INCIDENT).unwrap_or(Self::SMALLEST)),
        }
    }

    /// The power of two of the buckets.
    pub const fn buckets_log2(self) -> u32 {
        self.buckets_log2
    }

    /// Buckets before the doubling.
    pub const fn buckets(self) -> u64 {
        1 << self.buckets_log2
    }

    /// Entries when the last free slot is taken: seven eighths of the buckets.
    pub const fn entries(self) -> u64 {
        self.buckets() / 8 * 7
    }

    /// Bytes of the table before it doubles.
    pub const fn table_bytes(self) -> u64 {
        self.buckets() * BUCKET_BYTES + CONTROL_GROUP_BYTES
    }

    /// Bytes of the table after it doubled.
    pub const fn doubled_bytes(self) -> u64 {
        self.buckets() * BUCKET_BYTES * 2 + CONTROL_GROUP_BYTES
    }

    /// Bytes that are enough for a whole replay.
    pub const fn replay_bytes(self) -> u64 {
        self.peak_bytes() + BESIDE_BYTES
    }

    /// Bytes while the doubling runs: the old table, and the new one of twice its size.
    pub const fn peak_bytes(self) -> u64 {
        self.buckets() * BUCKET_BYTES * 3
    }
}

/// A 64-bit finaliser: two rounds of multiplying and shifting, a bijection that spreads every input bit over all
/// others.
const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    word ^ (word >> 32)
}

/// The hasher of the map.
///
/// The standard hasher (SipHash, seeded at random) would take a good part of the fill and of the doubling, and would
/// place the entries differently in every run. This one costs a few cycles and is the same everywhere, so what is timed
/// is memory. The keys are our own counter, so nobody can attack it with collisions.
#[derive(Clone, Copy, Debug, Default)]
pub struct MixHasher(u64);

impl Hasher for MixHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word);
    }
}

/// The value stored for `key`, so that every entry can be checked from its key alone.
const fn value_of(key: u64) -> [u64; 2] {
    [mix(!key), !key]
}

/// The map of one replay.
#[derive(Debug)]
pub struct Table {
    map: HashMap<u64, [u64; 2], BuildHasherDefault<MixHasher>>,
    size: Size,
}

impl Table {
    /// Allocates the map and fills it to its last free slot.
    pub fn filled(size: Size) -> Result<Self, String> {
        let capacity = usize::try_from(size.entries()).map_err(|_| "the size exceeds the address space".to_owned())?;
        let mut map = HashMap::with_capacity_and_hasher(capacity, BuildHasherDefault::default());
        for key in 0..size.entries() {
            map.insert(key, value_of(key));
        }
        if map.capacity() != capacity {
            return Err(format!(
                "the filled map has room for {} entries instead of {capacity}: the standard library's table no longer \
                 uses 7/8 of a power of two, so the next insert would not double it",
                map.capacity()
            ));
        }
        Ok(Self { map, size })
    }

    /// The one insert that does not fit and makes the map double.
    pub fn double(&mut self) {
        let key = self.size.entries();
        self.map.insert(key, value_of(key));
    }

    /// Checks the doubled map: its length, every entry it iterates over, and a sample of look-ups.
    pub fn check_doubled(&self) -> Result<(), String> {
        let keys = self.size.entries() + 1;
        let length = self.map.len() as u64;
        let capacity = self.map.capacity() as u64;
        if length != keys {
            return Err(format!("the map says it has {length} entries instead of {keys}"));
        }
        if capacity != self.size.entries() * 2 {
            return Err(format!("the map has room for {capacity} entries after the insert: it did not double"));
        }
        let mut seen = 0_u64;
        let mut key_mix = 0_u64;
        for (&key, &value) in &self.map {
            if key >= keys || value != value_of(key) {
                return Err(format!("the map holds key {key:#x} with value {value:x?}, which was never inserted"));
            }
            seen += 1;
            key_mix = key_mix.wrapping_add(mix(key));
        }
        if seen != keys || key_mix != (0..keys).fold(0, |sum: u64, key| sum.wrapping_add(mix(key))) {
            return Err(format!("iterating met {seen} entries, which are not the {keys} that were inserted"));
        }
        let step = usize::try_from((keys / 65_536).max(1)).unwrap_or(usize::MAX);
        for key in (0..keys).step_by(step).chain([keys - 1]) {
            if self.map.get(&key) != Some(&value_of(key)) {
                return Err(format!("key {key} gives {:x?} instead of what was inserted", self.map.get(&key)));
            }
        }
        match self.map.get(&keys) {
            Some(value) => Err(format!("key {keys} gives {value:x?} although it was never inserted")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_incident_has_its_known_numbers() {
        assert_eq!(Size::INCIDENT.entries(), 58_720_256);
        assert_eq!(Size::INCIDENT.peak_bytes(), 5_033_164_800);
        assert_eq!((Size::INCIDENT.table_bytes(), Size::INCIDENT.doubled_bytes()), (1_677_721_616, 3_355_443_216));
    }

    #[test]
    fn keys_are_rounded_up_to_a_full_table() {
        assert_eq!(Size::holding(1), Size::SMALLEST);
        assert_eq!(Size::holding(57_344), Size::SMALLEST);
        assert_eq!(Size::holding(57_345).entries(), 114_688);
        assert_eq!(Size::holding(58_720_256), Size::INCIDENT);
        assert_eq!(Size::holding(u64::MAX), Size::LARGEST);
    }

    #[test]
    fn the_default_leaves_half_of_the_memory() {
        assert_eq!(Size::choose(None, 64 * GIB), Ok(Size::INCIDENT));
        assert_eq!(Size::choose(None, 11 * GIB), Ok(Size::INCIDENT));
        assert_eq!(Size::choose(None, 9 * GIB).map(Size::buckets_log2), Ok(25));
        assert_eq!(Size::choose(None, 500 << 20), Ok(Size::SMALLEST));
    }

    #[test]
    fn all_that_is_taken_must_fit() {
        // The tables of the smallest replay are 5 MiB, but 388 MiB are taken.
        let error = Size::choose(None, 150 << 20).unwrap_err().to_string();
        assert_eq!(
            error,
            "only 153600 KiB of memory are available; the smallest replay (57344 entries) needs 398016 KiB"
        );
        let error = Size::choose(Some(4_000_000), 600 << 20).unwrap_err().to_string();
        let said = "7340032 entries (7/8 of 2^23 buckets) need 984 MiB at the peak, but only 540 MiB may be used";
        assert!(error.starts_with(said) && error.ends_with("--keys 1835008 would fit"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let error = Size::choose(Some(58_720_256), 4 * GIB).unwrap_err();
        assert_eq!(
            error.to_string(),
            "58720256 entries (7/8 of 2^26 buckets) need 5184 MiB at the peak, but only 3686 MiB may be used of the 4096 MiB available; \
             --keys 29360128 would fit"
        );
        assert_eq!(Size::choose(Some(29_360_128), 4 * GIB).map(Size::entries), Ok(29_360_128));
        assert!(Size::choose(Some(u64::MAX), 4 * GIB).is_err());
        let error = Size::choose(None, 1 << 20).unwrap_err();
        assert!(error.to_string().starts_with("only 1024 KiB"), "{error}");
    }

    #[test]
    fn only_powers_of_two_are_bucket_counts() {
        assert_eq!(Size::with_buckets(1 << 26), Some(Size::INCIDENT));
        for buckets in [0, 1, 1 << 15, (1 << 20) + 1, 1 << 57, u64::MAX] {
            assert_eq!(Size::with_buckets(buckets), None, "{buckets}");
        }
    }

    #[test]
    fn a_table_doubles_on_the_next_insert_and_is_right() {
        let mut table = Table::filled(Size::SMALLEST).unwrap();
        assert!(table.check_doubled().is_err());
        table.double();
        assert_eq!(table.check_doubled(), Ok(()));
    }

    #[test]
    fn a_wrong_table_is_found() {
        let mut table = Table::filled(Size::SMALLEST).unwrap();
        table.double();
        table.map.insert(7, [0, 0]);
        assert!(table.check_doubled().unwrap_err().contains("key 0x7 "));
        table.map.remove(&7);
        assert!(table.check_doubled().unwrap_err().contains("57344 entries instead of 57345"));
    }
}
