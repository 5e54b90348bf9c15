//! Unit types, so that a chunk count is never passed as bytes, and the only shifts between the units. Called by all
//! layers.

use core::time::Duration;

use crate::limits::{CHUNK_BYTES, CHUNK_SHIFT, SLICE_BYTES, SLICE_SHIFT, SLICES_PER_CHUNK};

/// A moment of the monotonic clock, or a length of time, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Nanos(pub(crate) u64);

impl Nanos {
    /// `millis` milliseconds.
    pub(crate) const fn from_millis(millis: u64) -> Self {
        Nanos(millis.saturating_mul(1_000_000))
    }

    /// `time`, or the longest there is: 584 years.
    pub(crate) const fn from_duration(time: Duration) -> Self {
        let ns = time.as_nanos();
        Nanos(if ns > u64::MAX as u128 { u64::MAX } else { ns as u64 })
    }

    /// Time from `earlier` to `self`; zero if the clock seems to have gone back.
    pub(crate) const fn since(self, earlier: Self) -> Self {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A number of slices (64 KiB each).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Slices(pub(crate) u32);

impl Slices {
    /// The fewest slices that hold `bytes`; `None` if that count does not fit.
    pub(crate) fn holding(bytes: usize) -> Option<Self> {
        u32::try_from(bytes.div_ceil(SLICE_BYTES)).ok().map(Slices)
    }

    /// These slices in bytes.
    pub(crate) const fn in_bytes(self) -> usize {
        (self.0 as usize) << SLICE_SHIFT
    }
}

/// A number of chunks (2 MiB each).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Chunks(pub(crate) u32);

impl Chunks {
    /// The fewest chunks that hold `bytes`; `None` if that count does not fit.
    pub(crate) fn holding(bytes: usize) -> Option<Self> {
        u32::try_from(bytes.div_ceil(CHUNK_BYTES)).ok().map(Chunks)
    }

    /// These chunks in bytes.
    pub(crate) const fn in_bytes(self) -> usize {
        (self.0 as usize) << CHUNK_SHIFT
    }
}

/// Which slice of a block space, counted from its base.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SliceIndex(pub(crate) u32);

impl SliceIndex {
    /// The slice that holds the byte at `offset` from the base of its block space.
    pub(crate) const fn of_offset(offset: usize) -> Self {
        SliceIndex((offset >> SLICE_SHIFT) as u32)
    }

    /// Bytes from the base of the block space to this slice.
    pub(crate) const fn offset_bytes(self) -> usize {
        (self.0 as usize) << SLICE_SHIFT
    }

    /// The chunk that holds this slice.
    pub(crate) const fn chunk(self) -> ChunkIndex {
        ChunkIndex(self.0 / SLICES_PER_CHUNK)
    }

    /// The place of this slice in its chunk, 0 to 31.
    pub(crate) const fn in_chunk(self) -> u32 {
        self.0 % SLICES_PER_CHUNK
    }

    /// The slice `count` further up.
    pub(crate) const fn plus(self, count: Slices) -> Self {
        SliceIndex(self.0 + count.0)
    }
}

/// Which chunk of a block space, counted from its base.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ChunkIndex(pub(crate) u32);

impl ChunkIndex {
    /// Slice `place` (0 to 31) of this chunk.
    pub(crate) const fn slice(self, place: u32) -> SliceIndex {
        SliceIndex(self.0 * SLICES_PER_CHUNK + place)
    }

    /// Bytes from the base of the block space to this chunk.
    pub(crate) const fn offset_bytes(self) -> usize {
        (self.0 as usize) << CHUNK_SHIFT
    }
}
