//! One reservation: takes the address range from the kernel, lays it out and makes its regions usable. Called by
//! `arena::registry`, at start and when the process outgrows what it has.
//!
//! Invariant: all flags are set once, on untouched memory, and one page of each mapping is touched, so that no later
//! fault or purge needs mmap_lock. In mappings of hugepages that page lies in front of the first chunk, where no
//! hugepage fits, and costs 4 KiB; the mappings of metadata and of first blocks are touched by setting up and by the
//! first block.

use core::ptr::{NonNull, with_exposed_provenance_mut};

use super::layout::{BUCKETS, Layout, RESERVATION_RECORD_BYTES, Region};
use super::prefix::Prefix;
use super::rooms::{Room, Rooms};
use super::space::{Chunk, Space, SpaceParts};
use crate::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::limits::{
    CHUNK_BYTES, RESERVATION_ALIGN_BYTES, ROOMY_BYTES_MIN, SLICE_BYTES, STEP_BYTES_MIN, STEP_FIRST_BYTES, STEP_GROWTH,
    STEP_HEADER_BYTES, STEP_HEAP_BYTES,
};
use crate::lockfree::hint_set::{self, HintSet};
use crate::os::{Advice, Kernel, Os};

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
}

// SAFETY: the pointers name memory of the reservation, which is never given back; all that changes is atomic.
unsafe impl Sync for Reservation {}

static_assertions::const_assert!(size_of::<Reservation>() <= RESERVATION_RECORD_BYTES);

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
    /// Reserves `bytes` (a power of two) and sets it up; `ready` makes all of it usable at once. `None` if the kernel
    /// refuses any of it; nothing stays behind then.
    pub(crate) fn create<O: Os>(
        kernel: &Kernel<O>,
        bytes: usize,
        with_first: bool,
        ready: bool,
    ) -> Option<&'static Reservation> {
        let layout = Layout::new(bytes, with_first)?;
        let align = if bytes >= ROOMY_BYTES_MIN { RESERVATION_ALIGN_BYTES } else { CHUNK_BYTES };
        let total = layout.bytes.checked_add(align)?;
        let raw = kernel.reserve(total).ok()?;
        let slack = raw.addr().get().checked_next_multiple_of(align)? - raw.addr().get();
        // SAFETY: `slack < align`, and `layout.bytes` fit behind it.
        let base = unsafe { raw.byte_add(slack) };
        base.expose_provenance();
        let made = Self::prepare(kernel, base, layout, with_first, ready);
        if made.is_none() {
            // SAFETY: nobody has seen the range yet. If the kernel cannot even take it back, address space is lost and
            // nothing else; the refusal is counted.
            let _ = unsafe { kernel.unreserve(raw, total) };
        }
        made
    }

    fn prepare<O: Os>(
        kernel: &Kernel<O>,
        base: NonNull<u8>,
        layout: Layout,
        with_first: bool,
        ready: bool,
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
        let prefix = |region: Region, step| Prefix::new(at(region.start), region.bytes, step, STEP_GROWTH);
        let first = prefix(layout.first, STEP_FIRST_BYTES);
        let blocks = prefix(with_lead(layout.blocks), STEP_BYTES_MIN).with_lead();
        let headers = Prefix::new(at(layout.headers.start), layout.headers.bytes, STEP_HEADER_BYTES, 8);
        let heaps = Prefix::new(at(layout.heaps.start), layout.heaps.bytes, STEP_HEAP_BYTES, 8);
        let rooms_region = with_lead(layout.rooms);
        // One flag each for all that is in small pages and all that is in hugepages, with the gaps in between, which
        // keep the mappings apart by having no access.
        let small = Region { start: layout.metadata().start, bytes: layout.first.end() - layout.metadata().start };
        let huge_start = with_lead(layout.blocks).start;
        let huge = Region { start: huge_start, bytes: layout.rooms.end().max(layout.blocks.end()) - huge_start };
        for (region, advice) in [(small, Advice::NoHugepages), (huge, Advice::Hugepages)] {
            // SAFETY: the region is untouched and ours. A refusal is counted: without hugepages all still works.
            let _ = unsafe { kernel.advise(at(region.start), region.bytes, advice) };
        }
        // The tables are committed together with what follows them: all metadata, or the first step of the heaps.
        let metadata_bytes =
            if ready { layout.metadata().bytes } else { layout.tables.bytes + layout.heaps.bytes.min(STEP_HEAP_BYTES) };
        let metadata = prefix(layout.metadata(), 0);
        let rooms = prefix(rooms_region, 0).with_lead();
        let usable = metadata.ensure(kernel, metadata_bytes)
            && if ready {
                [&first, &blocks, &rooms].into_iter().all(|region| region.ensure_all(kernel))
            } else {
                headers.ensure(kernel, 1)
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
            let space = Space::new(SpaceParts {
                base: at(layout.first.start),
                headers: at(layout.headers.start),
                first_count: if with_first { (layout.first.bytes / CHUNK_BYTES) as u32 } else { 0 },
                chunks,
                buckets,
                first_prefix: first,
                blocks_prefix: blocks,
                headers_prefix: headers,
            });
            let record = at(layout.tables.start).cast::<Reservation>();
            record.write(Reservation {
                space,
                rooms: Rooms::new(base, layout.rooms, layout.tiers, rooms, !ready),
                number: AtomicUsize::new(0),
                heaps,
                heap_bytes_used: AtomicUsize::new(0),
                heap_region: at(layout.heaps.start),
                heap_bytes: layout.heaps.bytes,
            });
            Some(record.as_ref())
        }
    }

    /// Zeroed memory for a record of the allocator, for ever. `bytes` a multiple of 4096; so is the address.
    pub(crate) fn allocate_record<O: Os>(&self, kernel: &Kernel<O>, bytes: usize) -> Option<NonNull<u8>> {
        // Relaxed: claims bytes nobody else has seen.
        let claimed = self.heap_bytes_used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|end| *end <= self.heap_bytes)
        });
        let start = claimed.ok()?;
        if !self.heaps.ensure(kernel, start + bytes) {
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
