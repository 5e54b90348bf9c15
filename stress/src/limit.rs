//! The limit: an allocator that does nothing but count upwards in memory that was faulted in beforehand. What a replay
//! takes under it is the program's own work; no allocator can be faster.
//!
//! `replay-limit` has it as the global allocator and calls [`Limit::fault_in`] before its replay. Until then, blocks
//! come from a small early region; out of room is null.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::canary;
use crate::memory::{HUGEPAGE_BYTES, Mapping};

/// Room before [`Limit::fault_in`]; untouched, it costs nothing.
const EARLY_BYTES: usize = 64 << 20;
/// The one size of block that is kept.
const SPARE_BYTES: usize = canary::LARGE_BYTES;
/// Every block takes a multiple of this, so that the next one is aligned for nearly all.
const UNIT_BYTES: usize = 16;

/// A region that is filled from its start.
#[derive(Debug)]
struct Region {
    top: AtomicUsize,
    end: AtomicUsize,
}

impl Region {
    const fn new() -> Self {
        Self { top: AtomicUsize::new(0), end: AtomicUsize::new(0) }
    }

    /// The address of a new block.
    fn bump(&self, layout: Layout) -> Option<usize> {
        let end = self.end.load(Ordering::Relaxed);
        let bytes = layout.size().checked_next_multiple_of(UNIT_BYTES)?;
        // A block of hugepages begins with one: a processor may know two blocks apart by few address bits, and a
        // doubling at the incident's size took 0.61 s so, and 0.71 s where they followed each other without a gap.
        let align_bytes = if bytes < HUGEPAGE_BYTES { layout.align() } else { layout.align().max(HUGEPAGE_BYTES) };
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            let start = top.checked_next_multiple_of(align_bytes)?;
            let next = start.checked_add(bytes).filter(|next| *next <= end)?;
            // Acquire: what the last owner of a block that was taken back did to it comes before; pairs with `unbump`.
            match self.top.compare_exchange_weak(top, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(start),
                Err(other) => top = other,
            }
        }
    }

    /// Takes a block back if it is the last one, and says whether it was; else nothing happens.
    fn unbump(&self, start: usize, bytes: usize) -> bool {
        let next = bytes.checked_next_multiple_of(UNIT_BYTES).and_then(|bytes| start.checked_add(bytes));
        // Release: pairs with `bump`.
        next.is_some_and(|next| self.top.compare_exchange(next, start, Ordering::Release, Ordering::Relaxed).is_ok())
    }
}

#[repr(C, align(4096))]
struct Early(UnsafeCell<MaybeUninit<[u8; EARLY_BYTES]>>);

/// The allocator. Freeing the block that was given out last takes it back, so that a thread that allocates and frees in
/// a loop does not use the room up. When another thread's block got in between, the large block of the canary is kept
/// for its next turn, as minutes of that would use the room up too. Nothing else is ever used again.
pub struct Limit {
    early_memory: Early,
    early: Region,
    faulted: Region,
    /// The address of a block of [`SPARE_BYTES`] that is free; 0 if there is none.
    spare: AtomicUsize,
}

// SAFETY: the early memory is reached only through blocks, and no two blocks overlap: each is a range that one thread
// has claimed by its exchange on `top`.
unsafe impl Sync for Limit {}

impl Limit {
    /// The allocator with its early region.
    pub const fn new() -> Self {
        Self {
            early_memory: Early(UnsafeCell::new(MaybeUninit::uninit())),
            early: Region::new(),
            faulted: Region::new(),
            spare: AtomicUsize::new(0),
        }
    }

    /// Maps `bytes` of hugepages, touches them all, and gives blocks from there from now on. To be called once.
    pub fn fault_in(&self, bytes: u64) -> Result<(), String> {
        let bytes = usize::try_from(bytes).map_err(|_| format!("{bytes} bytes exceed the address space"))?;
        let mut mapping = Mapping::hugepages(bytes).map_err(|error| format!("mapping {bytes} bytes: {error}"))?;
        let range = mapping.hugepage_range();
        for start in range.clone().step_by(HUGEPAGE_BYTES) {
            mapping.touch_hugepage(start);
        }
        // Exposed, so that blocks can be made of numbers; and kept for ever.
        let _ = mapping.start().as_ptr().expose_provenance();
        std::mem::forget(mapping);
        self.faulted.top.store(range.start, Ordering::Relaxed);
        // Release: a thread that sees `end` sees `top`.
        self.faulted.end.store(range.end, Ordering::Release);
        Ok(())
    }

    /// The spare block, if it fits.
    fn take_spare(&self, layout: Layout) -> Option<usize> {
        let fits = layout.size() == SPARE_BYTES && layout.align() <= UNIT_BYTES;
        // Acquire: what its last owner did to it comes before; pairs with the store in `dealloc`.
        fits.then(|| self.spare.swap(0, Ordering::Acquire)).filter(|start| *start != 0)
    }

    /// The region that new blocks come from.
    fn current(&self) -> &Region {
        if self.faulted.end.load(Ordering::Acquire) != 0 {
            return &self.faulted;
        }
        if self.early.end.load(Ordering::Acquire) == 0 {
            let start = self.early_memory.0.get().expose_provenance();
            // Whoever comes first sets `top`; both write the same `end`.
            let _ = self.early.top.compare_exchange(0, start, Ordering::Relaxed, Ordering::Relaxed);
            self.early.end.store(start + EARLY_BYTES, Ordering::Release);
        }
        &self.early
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limit").field("early", &self.early).field("faulted", &self.faulted).finish_non_exhaustive()
    }
}

// SAFETY: a block is a range of memory that is mapped for ever, claimed by one exchange and thus nobody else's until it
// is freed; the spare one is taken by one exchange too, and has the size that is asked for. Its start is aligned by
// `bump`, and no call unwinds.
unsafe impl GlobalAlloc for Limit {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.take_spare(layout).or_else(|| self.current().bump(layout)) {
            Some(start) => ptr::with_exposed_provenance_mut(start),
            None => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            let start = block.addr().get();
            if !self.current().unbump(start, layout.size()) && layout.size() == SPARE_BYTES {
                self.spare.store(start, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(bytes: usize, align: usize) -> Layout {
        Layout::from_size_align(bytes, align).unwrap()
    }

    #[test]
    fn blocks_are_aligned_and_do_not_overlap() {
        static LIMIT: Limit = Limit::new();
        let mut end = 0;
        for (bytes, align) in [(1, 1), (40, 8), (100, 4096), (3, 64), (70_000, 16)] {
            // SAFETY: the layout has a size.
            let block = unsafe { LIMIT.alloc(layout(bytes, align)) };
            assert!(block.addr() >= end && block.addr().is_multiple_of(align), "{bytes} {align}");
            // SAFETY: the block has this many bytes.
            unsafe { block.write_bytes(1, bytes) };
            end = block.addr() + bytes;
        }
    }

    #[test]
    fn only_the_last_block_is_taken_back() {
        static LIMIT: Limit = Limit::new();
        let layout = layout(100, 8);
        // SAFETY: the layout has a size, and what is freed is live.
        unsafe {
            let [first, second] = [(); 2].map(|()| LIMIT.alloc(layout));
            LIMIT.dealloc(first, layout);
            assert_ne!(LIMIT.alloc(layout), first);
            let last = LIMIT.alloc(layout);
            LIMIT.dealloc(last, layout);
            assert_eq!(LIMIT.alloc(layout), last);
            assert_ne!(first, second);
        }
    }

    #[test]
    fn the_canarys_large_block_is_used_again_when_another_got_in_between() {
        static LIMIT: Limit = Limit::new();
        let (large, small) = (layout(SPARE_BYTES, 1), layout(16, 1));
        // SAFETY: the layouts have sizes, and what is freed is live.
        unsafe {
            let first = LIMIT.alloc(large);
            assert!(!LIMIT.alloc(small).is_null());
            LIMIT.dealloc(first, large);
            assert_ne!(LIMIT.alloc(layout(SPARE_BYTES, 4096)), first, "it need not be aligned");
            assert_eq!(LIMIT.alloc(large), first);
            assert_ne!(LIMIT.alloc(large), first);
        }
    }

    #[test]
    fn faulted_memory_is_used_from_then_on_and_out_of_room_is_null() {
        static LIMIT: Limit = Limit::new();
        // SAFETY: the layouts have sizes, and what is freed is live.
        unsafe {
            assert!(LIMIT.alloc(layout(EARLY_BYTES + 1, 1)).is_null());
            let early = LIMIT.alloc(layout(64, 8));
            LIMIT.fault_in(3 << 20).unwrap();
            let block = LIMIT.alloc(layout(4 << 20, 16));
            assert!(!block.is_null() && block.addr().is_multiple_of(HUGEPAGE_BYTES), "4 MiB are two hugepages");
            assert!(LIMIT.alloc(layout(1, 1)).is_null());
            LIMIT.dealloc(early, layout(64, 8));
            LIMIT.dealloc(block, layout(4 << 20, 16));
            assert_eq!(LIMIT.alloc(layout(1, 1)), block);
        }
    }

    #[test]
    fn threads_never_share_a_block() {
        static LIMIT: Limit = Limit::new();
        let mut blocks: Vec<usize> = std::thread::scope(|scope| {
            // SAFETY: the layout has a size.
            let work = move || (0..1000).map(|_| unsafe { LIMIT.alloc(layout(24, 8)) }.addr()).collect::<Vec<_>>();
            let threads = [(); 4].map(|()| scope.spawn(work));
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        blocks.sort_unstable();
        assert!(blocks.windows(2).all(|pair| pair[1] - pair[0] >= 32));
    }
}
