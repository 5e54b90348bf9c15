//! Where the regions of a reservation lie: pure arithmetic on its size. Called by `arena::reservation`.
//!
//! From low to high addresses, with a gap of [`GUARD_BYTES`] without access around each, so that the kernel can neither
//! merge a foreign mapping into one of them nor two of them into one:
//!
//! ```text
//! | metadata: tables, heaps, headers | first blocks | blocks | rooms |
//! ```
//!
//! *Tables* hold the reservation's own record, chunk and room records and search hints; *heaps* is memory for the heaps
//! of threads; *headers* has one header of 128 bytes for each slice of the block space, which is first blocks, a gap
//! and blocks.

use super::rooms::ROOM_RECORD_BYTES;
use super::space::{CHUNK_RECORD_BYTES, HEADER_BYTES};
use super::tiers::{TIERS, Tier};
use crate::limits::{
    CHUNK_BYTES, FIRST_BLOCKS_BYTES, GUARD_BYTES, HUGE_BYTES_MIN, ROOMY_BYTES_MIN, SLICE_BYTES, SLICES_PER_CHUNK,
};
use crate::lockfree::hint_set;

/// Search buckets of a block space: chunks by how many slices are free.
pub(crate) const BUCKETS: usize = 7;

/// Bytes kept for the record of a reservation at the start of its tables.
pub(crate) const RESERVATION_RECORD_BYTES: usize = 4096;

/// Fewest bytes for heaps: the governor's stack and 64 threads. Further ones come from further reservations.
const HEAPS_BYTES_MIN: usize = 512 << 10;
/// Most bytes for heaps: 16384 threads at a time. Further ones take a further reservation. No more, so that metadata
/// and first blocks lie within one GiB, and a small program needs few page tables.
const HEAPS_BYTES_MAX: usize = 64 << 20;

/// A range of bytes, counted from the aligned base of the reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Region {
    pub(crate) start: usize,
    pub(crate) bytes: usize,
}

impl Region {
    pub(crate) const fn end(self) -> usize {
        self.start + self.bytes
    }
}

/// The plan of one reservation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Committed whole at the start: records and hints.
    pub(crate) tables: Region,
    /// Memory for heaps, right after the tables, committed in steps.
    pub(crate) heaps: Region,
    /// Headers of all slices, right after the heaps, committed in steps.
    pub(crate) headers: Region,
    /// Small blocks in small pages.
    pub(crate) first: Region,
    /// Blocks in hugepages.
    pub(crate) blocks: Region,
    /// Slots of huge blocks; empty in a narrow reservation.
    pub(crate) rooms: Region,
    /// The kinds of room, largest first; each starts where the one before ends.
    pub(crate) tiers: [Tier; TIERS],
    /// Chunks of the block space: first blocks, the gap, blocks.
    pub(crate) chunk_count: u32,
    /// All bytes from the aligned base on.
    pub(crate) bytes: usize,
}

const fn round_up(bytes: usize, unit: usize) -> usize {
    bytes.div_ceil(unit) * unit
}

impl Layout {
    /// Bytes of tables for a block space of `chunk_count` chunks and `room_count` rooms, without the heaps.
    pub(crate) fn table_bytes(chunk_count: usize, room_count: usize) -> usize {
        let hint_words: usize = hint_set::words(chunk_count).iter().sum();
        RESERVATION_RECORD_BYTES
            + chunk_count * CHUNK_RECORD_BYTES
            + room_count * ROOM_RECORD_BYTES
            + BUCKETS * hint_words * size_of::<u64>()
    }

    /// The plan for `bytes` of address space, a power of two of at least 32 MiB; the first reservation of a process has
    /// first blocks (`with_first`). A wide one gets rooms, a narrow one spends everything on blocks.
    pub(crate) fn new(bytes: usize, with_first: bool) -> Option<Layout> {
        let wide = bytes >= ROOMY_BYTES_MIN;
        let unit = bytes / 32;
        let tiers = if wide { Tier::all(unit) } else { [Tier::NONE; TIERS] };
        let room_count = tiers.iter().map(|tier| tier.count as usize).sum();
        let rooms_bytes = tiers.iter().map(|tier| tier.bytes()).sum::<usize>();
        let first_bytes = match (with_first, wide) {
            (false, _) => 0,
            (true, true) => FIRST_BLOCKS_BYTES,
            (true, false) => round_up((bytes / 8).min(FIRST_BLOCKS_BYTES), CHUNK_BYTES),
        };
        let heap_bytes = round_up((bytes / 1024).clamp(HEAPS_BYTES_MIN, HEAPS_BYTES_MAX), SLICE_BYTES);
        // Wide: four times the machine's memory. Narrow: what the rest leaves; headers take 1/512 of it.
        let blocks_bytes = if wide {
            4 * unit
        } else {
            let overhead = 6 * GUARD_BYTES + bytes / 64 + heap_bytes + first_bytes;
            bytes.checked_sub(overhead)? / CHUNK_BYTES * CHUNK_BYTES
        };
        let first_span = if first_bytes == 0 { 0 } else { first_bytes + GUARD_BYTES };
        let chunk_count = (first_span + blocks_bytes) / CHUNK_BYTES;
        let table_bytes = round_up(Self::table_bytes(chunk_count, room_count), SLICE_BYTES);
        let header_bytes = Self::header_bytes(chunk_count);

        let after = |region: Region| round_up(region.end(), CHUNK_BYTES) + GUARD_BYTES;
        let tables = Region { start: GUARD_BYTES, bytes: table_bytes };
        let heaps = Region { start: tables.end(), bytes: heap_bytes };
        let headers = Region { start: heaps.end(), bytes: header_bytes };
        let first = Region { start: after(headers), bytes: first_bytes };
        let blocks = Region { start: first.start + first_span, bytes: blocks_bytes };
        // Rooms start at a multiple of the largest room or 1 GiB, so that each is as aligned as it is large, up to
        // that.
        let rooms_align = if wide { 1 << 30 } else { CHUNK_BYTES };
        let rooms = Region { start: round_up(after(blocks), rooms_align), bytes: rooms_bytes };
        let end = round_up(if wide { rooms.end() } else { blocks.end() }, CHUNK_BYTES) + GUARD_BYTES;
        let layout = Layout {
            tables,
            heaps,
            headers,
            first,
            blocks,
            rooms,
            tiers,
            chunk_count: u32::try_from(chunk_count).ok()?,
            bytes: end,
        };
        (end <= bytes && blocks_bytes >= CHUNK_BYTES).then_some(layout)
    }

    /// The plan for the metadata of `chunk_count` chunks that lie elsewhere.
    pub(crate) fn apart(chunk_count: u32) -> Layout {
        let count = chunk_count as usize;
        let tables = Region { start: GUARD_BYTES, bytes: round_up(Self::table_bytes(count, 0), SLICE_BYTES) };
        let heaps = Region { start: tables.end(), bytes: HEAPS_BYTES_MIN };
        let headers = Region { start: heaps.end(), bytes: Self::header_bytes(count) };
        let none = Region { start: round_up(headers.end(), CHUNK_BYTES), bytes: 0 };
        let tiers = [Tier::NONE; TIERS];
        let bytes = none.end() + GUARD_BYTES;
        Layout { tables, heaps, headers, first: none, blocks: none, rooms: none, tiers, chunk_count, bytes }
    }

    fn header_bytes(chunk_count: usize) -> usize {
        round_up(chunk_count * SLICES_PER_CHUNK as usize * HEADER_BYTES, SLICE_BYTES)
    }

    /// Tables, heaps and headers together: one mapping.
    pub(crate) fn metadata(&self) -> Region {
        Region { start: self.tables.start, bytes: self.headers.end() - self.tables.start }
    }

    /// The largest request that a reservation of this plan could serve when empty.
    pub(crate) fn largest_block_bytes(&self) -> usize {
        self.tiers.iter().map(|tier| tier.room_bytes()).fold(self.blocks.bytes, usize::max)
    }
}

const _: () = assert!(HUGE_BYTES_MIN >= CHUNK_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    /// Aim: for every size that a reservation may have, regions do not overlap, keep their gaps and fit.
    #[test]
    fn regions_keep_their_gaps_at_every_size() {
        for shift in 25..=45 {
            for with_first in [false, true] {
                let Some(layout) = Layout::new(1 << shift, with_first) else { panic!("no layout at 2^{shift}") };
                let regions = [layout.metadata(), layout.first, layout.blocks, layout.rooms];
                assert_eq!(layout.heaps.start, layout.tables.end());
                assert_eq!(layout.headers.start, layout.heaps.end());
                let mut end = 0;
                for region in regions.into_iter().filter(|region| region.bytes > 0) {
                    assert!(region.start >= end + GUARD_BYTES, "2^{shift}: {regions:?}");
                    assert_eq!(region.start % CHUNK_BYTES, 0);
                    end = region.end();
                }
                assert!(end + GUARD_BYTES <= layout.bytes && layout.bytes <= 1 << shift);
                assert_eq!((layout.blocks.start - layout.first.start) % CHUNK_BYTES, 0);
                let space_chunks = (layout.blocks.end() - layout.first.start) / CHUNK_BYTES;
                assert_eq!(space_chunks, layout.chunk_count as usize);
                assert!(layout.headers.bytes >= space_chunks * 32 * HEADER_BYTES);
            }
        }
    }

    #[test]
    fn metadata_apart_keeps_its_gaps() {
        for chunk_count in [1, 2, 1000, 1 << 23] {
            let layout = Layout::apart(chunk_count);
            assert_eq!(layout.metadata().start, GUARD_BYTES);
            assert!(layout.metadata().end() + GUARD_BYTES <= layout.bytes);
            assert!(layout.headers.bytes >= chunk_count as usize * 32 * HEADER_BYTES);
            assert_eq!((layout.first.bytes, layout.blocks.bytes, layout.rooms.bytes), (0, 0, 0));
        }
    }

    #[test]
    fn rooms_of_a_wide_reservation_hold_the_memory_several_times() {
        let layout = Layout::new(1 << 40, true).unwrap();
        assert_eq!(layout.largest_block_bytes(), 4 << 35);
        assert_eq!(layout.tiers[0].room_bytes(), 1 << 35);
        assert!(layout.rooms.start.is_multiple_of(1 << 30));
        assert!(layout.tiers.iter().all(|tier| tier.count == 0 || tier.room_bytes() >= HUGE_BYTES_MIN));
    }
}
