//! Every constant of the allocator, with its unit, its reason and the relations that other code relies on.

use static_assertions::const_assert;

/// log2 of [`CHUNK_BYTES`].
pub(crate) const CHUNK_SHIFT: u32 = 21;
/// Bytes in a chunk: one PMD-mapped hugepage on x86-64, and on aarch64 with a 4 KiB granule (kernel documentation,
/// `admin-guide/mm/transhuge`). The unit that is purged.
pub(crate) const CHUNK_BYTES: usize = 1 << CHUNK_SHIFT;

/// log2 of [`SLICE_BYTES`].
pub(crate) const SLICE_SHIFT: u32 = 16;
/// Bytes in a slice, the unit of spans: the largest page size Linux has on common machines (64 KiB on aarch64), so a
/// slice is whole pages everywhere; mimalloc's and snmalloc's small pages are as large.
pub(crate) const SLICE_BYTES: usize = 1 << SLICE_SHIFT;
/// Slices in a chunk: the width of one half of a chunk word.
pub(crate) const SLICES_PER_CHUNK: u32 = 32;
const_assert!(SLICE_BYTES * SLICES_PER_CHUNK as usize == CHUNK_BYTES);

/// Bytes of spans served from 4 KiB pages before hugepages are used, so that a small program stays small. More makes
/// page faults and misses of the TLB the larger part of what a program of some ten MiB pays for its memory: at 64 MiB,
/// parsing JSON of 90 MiB took a sixth longer; at 16 MiB, trees and caches of 14 to 40 MiB a twelfth. Less saves no
/// more time, and a program of 6 MiB took 11 with 4 MiB.
pub(crate) const FIRST_BLOCKS_BYTES: usize = 8 << 20;
const_assert!(FIRST_BLOCKS_BYTES.is_multiple_of(CHUNK_BYTES));

/// Requests of at least this many bytes get a slot (a room of the huge region). Rounding to a whole chunk wastes at
/// most 2 MiB / 32 MiB = 6 % there.
pub(crate) const HUGE_BYTES_MIN: usize = 32 << 20;
const_assert!(HUGE_BYTES_MIN.is_multiple_of(CHUNK_BYTES));

/// A block that grows by `realloc` to at least this many bytes moves into a slot, if that wastes less than
/// 1/[`WASTE_DIVISOR`]: it has shown that it grows, and in a slot it never needs to be copied again.
pub(crate) const GROWING_BYTES_MIN: usize = CHUNK_BYTES;
/// The waste allowed to a large request is its size divided by this.
pub(crate) const WASTE_DIVISOR: usize = 8;

/// Largest block that comes from a slab; larger requests are spans of whole slices. At this size rounding up to slices
/// wastes less than 64 KiB / 512 KiB = 12.5 %.
pub(crate) const SLAB_BLOCK_BYTES_MAX: usize = 512 << 10;
const_assert!(SLICE_BYTES * WASTE_DIVISOR <= SLAB_BLOCK_BYTES_MAX);

/// Alignment that every block has without asking.
pub(crate) const BLOCK_ALIGN_BYTES: usize = 16;

/// Bytes of an address range that a slab carves into blocks at a time: one 4 KiB page, so that a slab touches memory as
/// its blocks are asked for. Not the run-time page size: on larger pages it is only a smaller step.
pub(crate) const CARVE_BYTES: usize = 4096;

/// Blocks that a thread has freed and that stay on its list of that class, to be handed out first: at most so many.
/// Random replacement seldom wanders further: with 16, a workload of tiny blocks was a fifth slower than with 64.
pub(crate) const LISTED_BLOCKS_MAX: usize = 64;
/// The same in bytes of one class. What lies on a list keeps its slab in use: with 128 KiB, a workload of blocks up to
/// 64 KiB took twice the memory.
pub(crate) const LISTED_BYTES_MAX: usize = 64 << 10;
/// Larger blocks do not stay.
pub(crate) const LISTED_BLOCK_BYTES_MAX: usize = 32 << 10;
/// A slab of which this part of the blocks is used, or less, is about to become empty: when it happens to a second slab
/// of a class since the list was filled, the list is given up, lest a few blocks on it keep slabs in use for nothing.
pub(crate) const FEW_DIVISOR: u32 = 4;

/// Bytes of slabs of one class with free blocks that a heap keeps to itself, besides the one it allocates from; more go
/// to the shared pool, where every thread can take them and the background thread can release those that became empty.
/// What an idle thread keeps, nobody can take from it.
pub(crate) const PARTIAL_CLASS_BYTES_MAX: usize = 512 << 10;
/// The same for all classes together.
pub(crate) const PARTIAL_HEAP_BYTES_MAX: usize = 4 << 20;
/// The same for a heap that has itself allocated from as many slabs lately: it will want them again. At 64 MiB, 32
/// threads that pass blocks around kept 1.9 GiB for 150 MiB of blocks, and were slower for it; at 8 MiB, two threads
/// with 20 MiB of blocks each passed their slabs through the pool all the time.
pub(crate) const PARTIAL_OWN_BYTES_MAX: usize = 16 << 20;
/// A heap that allocates from a slab of blocks up to this size keeps it when the last block is freed; of slabs of
/// larger blocks, the last two. There are 32 sizes of those: a slab of each would be 18 MiB for each thread that has
/// once used them all, in hugepages or not.
pub(crate) const EMPTY_SLAB_BLOCK_BYTES_MAX: usize = 32 << 10;
/// A heap keeps a slab of large blocks of a size that it allocates, though none is used, while it has no more than so
/// many bytes in slabs that it does not allocate from, empty or not. Where a queue of 64 messages of 16 KiB fills and
/// drains, 16 slabs were made and unmade each time, which took a fifth of the program's time. Like the 4 MiB above, it
/// is what an idle thread may hold.
pub(crate) const EMPTY_KEPT_BYTES_MAX: usize = 1 << 20;
/// The smallest blocks that are large in this: a slab of smaller ones has so many that making it is no matter.
pub(crate) const EMPTY_KEPT_BLOCK_BYTES_MIN: usize = 8 << 10;
/// Least time between two looks of the background thread through the pool, in nanoseconds: each look takes every slab
/// of a class in hand for a moment.
pub(crate) const SWEEP_PAUSE_NS: u64 = 200_000_000;

/// Alignment of a reservation: 1 GiB, so that alignments up to that need no search and 1 GiB hugepages stay possible.
pub(crate) const RESERVATION_ALIGN_BYTES: usize = 1 << 30;
/// A reservation is this many times the machine's memory rounded up to a power of two.
pub(crate) const RESERVATION_PER_MEMORY: usize = 32;
/// Smallest first try for the reservation: 256 GiB of address space cost nothing.
pub(crate) const RESERVATION_BYTES_MIN: usize = 256 << 30;
/// Largest reservation: 32 TiB of the 128 TiB that x86-64 gives a process.
pub(crate) const RESERVATION_BYTES_MAX: usize = 32 << 40;
/// Halving ends here: less address space than this is not worth a reservation.
pub(crate) const RESERVATION_BYTES_FLOOR: usize = 16 << 20;
/// Below this size a reservation has no rooms: head-room is a luxury of wide address spaces.
pub(crate) const ROOMY_BYTES_MIN: usize = 64 << 30;
/// Rooms begin their blocks at so many different offsets, in chunks. Rooms are powers of two apart; blocks at their
/// very starts would have most low address bits in common, and a processor that looks up its first cache by a hash of
/// some of them (AMD's Zen: bits 12 to 27) would take the same entry of two large blocks for one another all the time.
/// Doubling a table of 1.7 GB took 1.16 to 1.33 s so, 0.58 to 0.60 s with a chunk of difference.
pub(crate) const ROOM_LEADS: usize = 16;
/// Reservations that one process can have: the first, and growth.
pub(crate) const RESERVATION_COUNT_MAX: usize = 64;

/// Bytes of the gap without access on each side of a region. Keeps the kernel from merging a foreign mapping into ours
/// and catches runs off the end. One chunk, so that chunk arithmetic goes on across it.
pub(crate) const GUARD_BYTES: usize = CHUNK_BYTES;

/// Stepped mode: bytes committed at first in the first-blocks region.
pub(crate) const STEP_FIRST_BYTES: usize = 8 << 20;
/// Stepped mode: smallest step of the blocks region and of a room.
pub(crate) const STEP_BYTES_MIN: usize = 64 << 20;
/// Stepped mode: by how much the next step multiplies what is committed, while that is little.
pub(crate) const STEP_GROWTH: usize = 4;
/// Stepped mode: how often a thread lets others run that finds another one at the step that it needs. Some hundred
/// microseconds at most: a call takes ten, and more only while others hold mmap_lock, for which this one would wait
/// too.
pub(crate) const STEP_YIELDS_MAX: u32 = 200;
/// Stepped mode: the same growth for metadata.
pub(crate) const STEP_METADATA_GROWTH: usize = 8;
/// Stepped mode: bytes of headers committed at first: enough for 2 GiB of blocks.
pub(crate) const STEP_HEADER_BYTES: usize = 4 << 20;
/// Stepped mode: bytes for heaps committed at first.
pub(crate) const STEP_HEAP_BYTES: usize = 512 << 10;
/// Stepped mode: rooms that are ever used, as each is committed on its own; further huge blocks come from the blocks
/// region, whose committed prefix grows in few steps.
pub(crate) const STEPPED_ROOMS_MAX: u32 = 4;

/// Entries of the queue of retired ranges. When it is full the background thread looks at every chunk instead.
pub(crate) const RETIRED_ENTRIES: usize = 4096;
const_assert!(RETIRED_ENTRIES.is_power_of_two());

/// Most bytes that one purge call covers where pages are 4 KiB: 0.07 to 0.14 ms per MiB were measured on several
/// machines, so that 2 MiB take about the default hold budget at worst.
pub(crate) const PURGE_PIECE_SMALL_BYTES: usize = CHUNK_BYTES;
/// Most bytes that one purge call covers where hugepages back the range: 3 µs per MiB were measured.
pub(crate) const PURGE_PIECE_HUGE_BYTES: usize = 64 << 20;
/// Most bytes that one purge call covers in a room whose block is in use: its owner may want to grow and then waits for
/// the one piece.
pub(crate) const PURGE_PIECE_IN_USE_BYTES: usize = 8 << 20;
/// Chunks and pieces of rooms that are purged together at most: 64 MiB of scattered chunks.
pub(crate) const BATCH_PIECES_MAX: usize = 32;
const_assert!(BATCH_PIECES_MAX * CHUNK_BYTES >= PURGE_PIECE_HUGE_BYTES);
/// Most bytes that are made warm between two pauses: 43 µs per MiB of hugepages were measured on memory that the
/// machine really has, ten times as many where a hypervisor has to find it first.
pub(crate) const WARM_PIECE_BYTES_MAX: usize = 8 * CHUNK_BYTES;
/// Small pages that are touched between two readings of the clock: 1.3 µs each.
pub(crate) const SMALL_PAGES_PER_PIECE: usize = 32;
/// Chunks that hugepages back, taken while cold, from which on a program counts as growing and may get a reserve.
pub(crate) const RESERVE_AFTER_CHUNKS: u64 = 16;
/// Requests for warm memory that can be under way, or keep memory, at a time.
pub(crate) const REQUEST_COUNT_MAX: usize = 16;
/// Pauses up to this many nanoseconds are slept through; longer ones end when something urgent comes in.
pub(crate) const LONGEST_PLAIN_SLEEP_NS: u64 = 1_000_000;
