//! One reservation: takes the address range from the kernel, lays it out and makes its regions usable. Called by
//! `arena::registry`, at start and when the process outgrows what it has.
//!
//! Invariant: all flags are set once, on untouched memory, and one page of each mapping is touched, so that no later
//! fault or purge needs mmap_lock. In mappings of hugepages that page lies in front of the first chunk, where no
//! hugepage fits, and costs 4 KiB; the mappings of metadata and of first blocks are touched by setting up and by the
//! first block.

use core::ptr::{NonNull, with_exposed_provenance_mut};

use super::frontier::Frontier;
use super::layout::{BUCKETS, Layout, RESERVATION_RECORD_BYTES, Region};
use super::locking::Locking;
use super::prefix::Prefix;
use super::rooms::{Room, Rooms};
use super::space::{Chunk, Space, SpaceParts};
use crate::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::limits::{
    CHUNK_BYTES, RESERVATION_ALIGN_BYTES, ROOMY_BYTES_MIN, SLICE_BYTES, STEP_BYTES_MIN, STEP_FIRST_BYTES, STEP_GROWTH,
    STEP_HEADER_BYTES, STEP_HEAP_BYTES, STEP_METADATA_GROWTH,
};
use crate::lockfree::hint_set::{self, HintSet};
use crate::os::{Advice, Kernel, Os};
use crate::stats::counters::By;

/// A reservation in use. Lives at the start of its own tables, for ever.
pub(crate) struct Reservation {
    pub(crate) space: Space,
    pub(crate) rooms: Rooms,
    /// Which entry of the arena's table it is. Set once.
    pub(crate) number: AtomicUsize,
    heaps: Prefix,
    heap_bytes_used: AtomicUsize,
    heap_region: NonNull<u8>,
    heap_bytes: usize,
    /// Bytes of address space, without what the kernel gave for alignment.
    bytes: usize,
    table_bytes: usize,
    stepped: bool,
}

/// What a reservation could not be had for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Missing {
    /// So many addresses: fewer may be had.
    Addresses,
    /// Memory that may be written to.
    Memory,
}

/// What is set up in a fresh reservation.
struct Plan {
    layout: Layout,
    ready: bool,
    /// Where the block space lies, if it lies apart.
    pool: Option<NonNull<u8>>,
}

/// Where in the record's place the [`Locking`] lies, which is made before all else.
const LOCKING_OFFSET: usize = RESERVATION_RECORD_BYTES / 2;

// SAFETY: the pointers name memory of the reservation, which is never given back; all that changes is atomic.
unsafe impl Sync for Reservation {}

static_assertions::const_assert!(size_of::<Reservation>() <= LOCKING_OFFSET);
static_assertions::const_assert!(LOCKING_OFFSET + size_of::<Locking>() <= RESERVATION_RECORD_BYTES);

/// Hands out the parts of the tables, front to back, as slices of zeroed records.
struct Tables {
    next: NonNull<u8>,
}

impl Tables {
    /// The next `count` records.
    /// # Safety
    /// All-zero bytes are a valid `T`, `T` has only atomic fields, and the tables were planned for these records in
    /// this order.
    unsafe fn take<T>(&mut self, count: usize) -> &'static [T] {
        // SAFETY: by the plan in `Layout::table_bytes` the records fit in committed, zeroed memory that lives for ever;
        // all record types are 8-byte aligned and of sizes that keep it so.
        unsafe {
            let records = core::slice::from_raw_parts(self.next.as_ptr().cast(), count);
            self.next = self.next.byte_add(size_of_val(records));
            records
        }
    }
}

impl Reservation {
    /// Reserves `bytes` (a power of two) and sets it up; `ready` makes all of it usable at once. If the kernel
    /// refuses any of it, nothing stays behind.
    /// # Errors
    /// What was refused.
    pub(crate) fn create<O: Os>(
        kernel: &Kernel<O>,
        bytes: usize,
        with_first: bool,
        ready: bool,
    ) -> Result<&'static Reservation, Missing> {
        let layout = Layout::new(bytes, with_first).ok_or(Missing::Addresses)?;
        let align = if bytes >= ROOMY_BYTES_MIN { RESERVATION_ALIGN_BYTES } else { CHUNK_BYTES };
        let total = layout.bytes.checked_add(align).ok_or(Missing::Addresses)?;
        let raw = kernel.reserve(total).map_err(|_| Missing::Addresses)?;
        // User addresses end far below the last ones.
        let slack = raw.addr().get().next_multiple_of(align) - raw.addr().get();
        // SAFETY: `slack < align`, and `layout.bytes` fit behind it.
        let base = unsafe { raw.byte_add(slack) };
        base.expose_provenance();
        let made = Self::prepare(kernel, base, Plan { layout, ready, pool: None });
        if made.is_none() {
            // SAFETY: nobody has seen the range yet. If the kernel cannot even take it back, address space is lost and
            // nothing else; the refusal is counted.
            let _ = unsafe { kernel.unreserve(raw, total) };
        }
        made.ok_or(Missing::Memory)
    }

    /// Takes `bytes`, whole chunks, of the explicit hugepage pool, as a block space whose metadata is a reservation.
    /// `None` if the kernel refuses any of it; nothing stays behind then.
    pub(crate) fn create_pool<O: Os>(kernel: &Kernel<O>, bytes: usize, ready: bool) -> Option<&'static Reservation> {
        let layout = Layout::apart(u32::try_from(bytes / CHUNK_BYTES).ok()?);
        let pool = kernel.take_pool(bytes).ok()?;
        pool.expose_provenance();
        let base = kernel.reserve(layout.bytes);
        let made = base.ok().and_then(|base| {
            base.expose_provenance();
            let made = Self::prepare(kernel, base, Plan { layout, ready, pool: Some(pool) });
            if made.is_none() {
                // SAFETY: as in `create`.
                let _ = unsafe { kernel.unreserve(base, layout.bytes) };
            }
            made
        });
        if made.is_none() {
            // SAFETY: as in `create`.
            let _ = unsafe { kernel.unreserve(pool, bytes) };
        }
        made
    }

    fn prepare<O: Os>(
        kernel: &Kernel<O>,
        base: NonNull<u8>,
        Plan { layout, ready, pool }: Plan,
    ) -> Option<&'static Reservation> {
        // SAFETY: every region lies within the reservation, by its layout.
        let at = |offset: usize| unsafe { base.byte_add(offset) };
        // Regions in hugepages begin one slice early, in the gap: room for the page that is touched.
        let with_lead = |region: Region| {
            if region.bytes == 0 {
                return region;
            }
            Region { start: region.start - SLICE_BYTES, bytes: region.bytes + SLICE_BYTES }
        };
        // One flag each for all that is in small pages and all that is in hugepages, with the gaps in between, which
        // keep the mappings apart by having no access.
        let small = Region { start: layout.metadata().start, bytes: layout.first.end() - layout.metadata().start };
        let huge_start = with_lead(layout.blocks).start;
        let huge = Region { start: huge_start, bytes: layout.rooms.end().max(layout.blocks.end()) - huge_start };
        let advices = [(small, Advice::NoHugepages), (huge, Advice::Hugepages)];
        for (region, advice) in advices.into_iter().filter(|(region, _)| region.bytes > 0) {
            // SAFETY: the region is untouched and ours. A refusal is counted: without hugepages all still works.
            let _ = unsafe { kernel.advise(at(region.start), region.bytes, advice) };
        }
        // The tables are committed together with what follows them: all metadata, or the first step of the heaps.
        let metadata_bytes =
            if ready { layout.metadata().bytes } else { layout.tables.bytes + layout.heaps.bytes.min(STEP_HEAP_BYTES) };
        let locking = Self::commit_metadata(kernel, base, &layout, metadata_bytes, ready)?;
        let prefix = |region: Region, step, growth| Prefix::new(at(region.start), region.bytes, step, growth, locking);
        let first = prefix(layout.first, STEP_FIRST_BYTES, STEP_GROWTH);
        let pool_bytes = if pool.is_some() { layout.chunk_count as usize * CHUNK_BYTES } else { 0 };
        let blocks = match pool {
            Some(pool) => Prefix::whole(pool, SLICE_BYTES + pool_bytes, locking),
            None => prefix(with_lead(layout.blocks), STEP_BYTES_MIN, STEP_GROWTH).with_lead(),
        };
        let headers = prefix(layout.headers, STEP_HEADER_BYTES, STEP_METADATA_GROWTH);
        let heaps = prefix(layout.heaps, STEP_HEAP_BYTES, STEP_METADATA_GROWTH);
        let rooms = prefix(with_lead(layout.rooms), 0, STEP_GROWTH).with_lead();
        let usable = if ready {
            [&first, &blocks, &rooms].into_iter().all(|region| region.commit_first(kernel, usize::MAX))
        } else {
            // Needed at once; where the kernel refuses it, smaller steps are tried then.
            if !locking.is_refused() {
                first.commit_first(kernel, STEP_FIRST_BYTES);
            }
            headers.commit_first(kernel, STEP_HEADER_BYTES)
        };
        heaps.note_committed(metadata_bytes - layout.tables.bytes);
        headers.note_committed(if ready { layout.headers.bytes } else { 0 });
        if !usable {
            return None;
        }

        // SAFETY: the tables are committed and zeroed, planned by `Layout::table_bytes` for these records in this
        // order, and records are made of atomics for which zero is valid.
        unsafe {
            let mut tables = Tables { next: at(layout.tables.start + RESERVATION_RECORD_BYTES) };
            let chunks = tables.take::<Chunk>(layout.chunk_count as usize);
            let rooms = tables.take::<Room>(layout.tiers.iter().map(|tier| tier.count as usize).sum());
            let [leaf, middle, top] = hint_set::words(chunks.len());
            // The summaries of all buckets lie together: a small program touches few pages.
            let summaries: [_; BUCKETS] =
                core::array::from_fn(|_| [top, middle].map(|words| tables.take::<AtomicU64>(words)));
            let buckets = summaries.map(|[top, middle]| HintSet::from_words(tables.take(leaf), middle, top));
            let base_of_space = pool.unwrap_or(at(layout.first.start));
            let space = Space::new(SpaceParts {
                base: base_of_space,
                headers: at(layout.headers.start),
                chunks,
                buckets,
                is_pool: pool.is_some(),
                frontier: Frontier::new(
                    base_of_space,
                    layout.chunk_count,
                    (layout.first.bytes / CHUNK_BYTES) as u32,
                    [first, blocks, headers],
                ),
            });
            let record = at(layout.tables.start).cast::<Reservation>();
            record.write(Reservation {
                space,
                rooms: Rooms::new(base, layout.rooms, layout.tiers, rooms, !ready, locking),
                number: AtomicUsize::new(0),
                heaps,
                heap_bytes_used: AtomicUsize::new(0),
                heap_region: at(layout.heaps.start),
                heap_bytes: layout.heaps.bytes,
                bytes: layout.bytes + pool_bytes,
                table_bytes: layout.tables.bytes,
                stepped: !ready,
            });
            Some(record.as_ref())
        }
    }

    /// Looks whether memory is locked, and commits the first `metadata_bytes`. `None` if the kernel refuses, or if
    /// memory is locked all at once that is to be `ready`.
    fn commit_metadata<O: Os>(
        kernel: &Kernel<O>,
        base: NonNull<u8>,
        layout: &Layout,
        metadata_bytes: usize,
        ready: bool,
    ) -> Option<&'static Locking> {
        // SAFETY: the reservation is ours, and nobody has touched it.
        let locking = unsafe { Locking::begin(kernel, base, layout.bytes) };
        if ready && locking.is_refused() {
            return None;
        }
        // SAFETY: 1. The tables are the first of the metadata, within the reservation, which is untouched.
        //         2. `Locking` has a place in the record's, which is committed then, and stays for ever.
        unsafe {
            let tables = base.byte_add(layout.tables.start);
            kernel.commit(tables, metadata_bytes, By::Application).ok()?;
            let place = tables.byte_add(LOCKING_OFFSET).cast::<Locking>();
            place.write(locking);
            Some(place.as_ref())
        }
    }

    /// Bytes that are reserved, that are readable and writable, and that hold the allocator's own records.
    pub(crate) fn footprint_bytes(&self) -> [usize; 3] {
        let [first, blocks, headers] = self.space.frontier().committed_bytes();
        let rooms = if self.stepped { self.rooms.committed_bytes() } else { self.rooms.bytes() };
        let committed = self.table_bytes + self.heaps.committed_bytes() + headers + first + blocks + rooms;
        // Relaxed: a number for people.
        let used_heaps = self.heap_bytes_used.load(Ordering::Relaxed).min(self.heap_bytes);
        [self.bytes, committed, self.table_bytes + used_heaps + self.space.frontier().used_header_bytes()]
    }

    /// Zeroed memory for a record of the allocator, for ever. `bytes` a multiple of 4096; so is the address.
    pub(crate) fn allocate_record<O: Os>(&self, kernel: &Kernel<O>, bytes: usize) -> Option<NonNull<u8>> {
        // Relaxed: claims bytes nobody else has seen.
        let claimed = self.heap_bytes_used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|end| *end <= self.heap_bytes)
        });
        let start = claimed.ok()?;
        if !self.heaps.ensure(kernel, start + bytes, By::Application) {
            // Relaxed: as above. If another thread came after us the bytes stay lost; it was refused as well.
            let _ = self.heap_bytes_used.compare_exchange(start + bytes, start, Ordering::Relaxed, Ordering::Relaxed);
            return None;
        }
        // SAFETY: `start + bytes <= heap_bytes`, so the record lies in the region.
        Some(unsafe { self.heap_region.byte_add(start) })
    }
}

/// A pointer to an address within a reservation.
pub(crate) fn pointer_at(address: usize) -> *mut u8 {
    with_exposed_provenance_mut(address)
}
