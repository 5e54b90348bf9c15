//! The header of a slice, and slabs: spans cut into blocks of one class. Called by `thread::heap`, `span::pool` and
//! `span::large`.
//!
//! Invariant: of a slab that is owned, only the owner touches `used`, `carved`, `free` and the queue links; everybody
//! may push on `remote`. A block is in exactly one place: with the program, on the list of a heap (of the owner, or of
//! one that was the owner), on `free`, or on `remote`. `used` counts all carved blocks that are not on `free`.
//!
//! Lists are linked through the first word of the free blocks; the last one's leads to an address with the low bit set.
//! The second word of a free block is a mark, made of a secret of the process and the block's address: by it
//! [`looks_free`] tells that a block that is freed is free already. A program's data is not taken for one, nor a stale
//! mark that a program has copied elsewhere with memory that it never wrote.

use core::cell::Cell;
use core::ptr::null;

use super::size_class::{CLASS_COUNT, Class};
use crate::arena::{HEADER_BYTES, Reservation, Run, pointer_at};
use crate::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::limits::{BLOCK_ALIGN_BYTES, CARVE_BYTES, FEW_DIVISOR};
use crate::lockfree::orphan_stack::Record;
use crate::lockfree::remote_free::{Chain, Place, RemoteFree};
use crate::units::{SliceIndex, Slices};

/// What a slice is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Nothing: free, or never used.
    Free,
    /// The first slice of a slab.
    Slab,
    /// A later slice of a slab.
    SlabRest,
    /// The first slice of a large span.
    Large,
}

impl Kind {
    const fn to_word(self) -> u32 {
        match self {
            Kind::Free => 0,
            Kind::Slab => 1,
            Kind::SlabRest => 2,
            Kind::Large => 3,
        }
    }

    const fn from_word(word: u32) -> Self {
        match word {
            1 => Kind::Slab,
            2 => Kind::SlabRest,
            3 => Kind::Large,
            _ => Kind::Free,
        }
    }
}

/// The header of one slice. Zeroed memory is a free slice.
#[repr(C, align(128))]
pub(crate) struct Slab {
    // First cache line: what a free by the owner needs.
    /// Address of the heap that owns the slab, 0 for none. Written by the owner, compared by any thread.
    owner: AtomicUsize,
    /// First byte of the span. Set once per use.
    base: Cell<usize>,
    /// [`ClassShape::inverse`](super::size_class::ClassShape); an offset times it is a block's number, and a rest. Set
    /// once per use.
    inverse: Cell<u64>,
    /// First free block, or the end mark. Owner.
    free: Cell<usize>,
    /// Bytes of blocks that have been cut, from the base on. Written by the owner, read by any thread that frees.
    carved_bytes: AtomicU32,
    /// The same in blocks. Written by the owner, read by the census.
    carved: AtomicU32,
    /// Carved blocks that are not on `free`. Written by the owner, read by the census.
    used: AtomicU32,
    /// With as many used blocks, or fewer, the owner wants to hear of a free. Owner.
    few: Cell<u32>,
    /// Number of the list that takes the slab's blocks: of the class, or [`NO_LIST`]. Owner.
    list: Cell<u8>,
    /// Number of the size class. Set once per use.
    class: Cell<u8>,
    /// Whether blocks not carved yet read as zeroes. Set once per use.
    zeroed: Cell<bool>,
    /// [`Kind`]. Any thread: whoever turns a large span to free has freed it.
    kind: AtomicU32,

    // Second cache line: what others need, and what is needed rarely.
    /// Bytes in a block. Set once per use, read by the census.
    block_bytes: AtomicU32,
    /// Frees by other threads, and who may own the slab. Any thread.
    remote: RemoteFree,
    /// `used` when the slab was put in the pool: with as many blocks on `remote` it is empty. Any thread.
    pooled_used: AtomicU32,
    /// Slices in the span. Written by the owner, read by the census.
    slices: AtomicU32,
    /// Kind `SlabRest`: slices back to the first one. Set once per use.
    back: Cell<u32>,
    /// Number of the reservation. Set once per use.
    reservation: Cell<u32>,
    /// Link in the stack of slabs without owner. Any thread.
    link: AtomicU64,
    /// Neighbours in the owner's queue of slabs with free blocks. Owner.
    next: Cell<*const Slab>,
    previous: Cell<*const Slab>,
}

static_assertions::const_assert_eq!(size_of::<Slab>(), HEADER_BYTES);

// SAFETY: the atomics are for all threads; `used`, `carved`, `block_bytes` and `slices` are atomics for the census
// alone, read and written Relaxed as if they were cells. The cells are written by the owner only; ownership changes
// hands through the Release and Acquire exchanges of `remote` and of the pool's stack. Cells that other threads read
// (`base`, `inverse`, `class`, `back`, `reservation`) do not change while the slab has blocks, and whoever frees a
// block got it, directly or not, from the thread that set them.
unsafe impl Sync for Slab {}

/// What the marks of free blocks are mixed with.
#[derive(Clone, Copy)]
pub(crate) struct Secret(usize);

impl Secret {
    /// From a random word; from zero, for heaps that have no blocks.
    pub(crate) const fn new(mark: usize) -> Self {
        Secret(mark)
    }
}

/// The end mark of a list that never had a slab.
pub(crate) const NO_BLOCKS: usize = 1;

/// The number of the list that takes no blocks.
const NO_LIST: u8 = CLASS_COUNT as u8;
/// Lists that a heap has: one for each class, and one that takes no blocks.
pub(crate) const LIST_COUNT: usize = CLASS_COUNT + 1;

/// Names a list of a heap: always below [`LIST_COUNT`].
#[derive(Clone, Copy)]
pub(crate) struct ListIndex(u8);

impl ListIndex {
    /// The list of a class.
    #[inline(always)]
    pub(crate) const fn of(class: Class) -> Self {
        ListIndex(class.index() as u8)
    }

    /// The number, below [`LIST_COUNT`].
    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A list of free blocks of a slab, cut off from it: the blocks count as used there.
#[derive(Clone, Copy)]
pub(crate) struct FreeBlocks {
    /// The first block, or the end mark.
    pub(crate) head: usize,
    /// How many there are.
    pub(crate) count: u32,
    /// Whether they read as zeroes but for link and mark.
    pub(crate) zeroed: bool,
}

/// Where the first two words of a block lie.
#[inline(always)]
fn words_at(block: usize) -> *mut [usize; 2] {
    pointer_at(block).cast()
}

/// Has the processor fetch the line at an address into its caches; any address will do.
#[inline(always)]
pub(crate) fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which never faults.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(pointer_at(address).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// What the link in a free block leads to.
/// # Safety
/// `block` is a block of ours that the caller may touch.
#[inline(always)]
pub(crate) unsafe fn read_link(block: usize) -> usize {
    // SAFETY: blocks are at least 16 bytes, 16-byte aligned and committed; the caller has the right to it.
    unsafe { (*words_at(block))[0] }
}

/// Makes the link in a free block lead to `next`, and marks the block as free.
/// # Safety
/// As [`read_link`].
#[inline(always)]
pub(crate) unsafe fn write_link(block: usize, next: usize, secret: Secret) {
    // SAFETY: as in `read_link`.
    unsafe { *words_at(block) = [next, block ^ secret.0] }
}

/// Whether a block bears the mark of a free one.
/// # Safety
/// As [`read_link`].
#[inline(always)]
pub(crate) unsafe fn looks_free(block: usize, secret: Secret) -> bool {
    // SAFETY: as in `read_link`.
    unsafe { (*words_at(block))[1] == block ^ secret.0 }
}

/// Takes the mark from a block that is handed out.
/// # Safety
/// As [`read_link`].
#[inline(always)]
pub(crate) unsafe fn clear_mark(block: usize) {
    // SAFETY: as in `read_link`.
    unsafe { (*words_at(block))[1] = 0 }
}

/// Whether a list position is the end mark rather than a block.
#[inline(always)]
pub(crate) const fn is_end(block: usize) -> bool {
    block & 1 != 0
}

/// Sets what lies in the line of a header that all threads read; a value that is there already is not written, which
/// would take the line away from them.
fn set_changed<T: Copy + PartialEq>(cell: &Cell<T>, value: T) {
    if cell.get() != value {
        cell.set(value);
    }
}

impl Slab {
    /// The header at an address that `BlockSpace::header_of` of the arena or [`Slab::of_slice`] computed.
    /// # Safety
    /// `address` is that of a committed header of a reservation.
    #[inline(always)]
    pub(crate) unsafe fn at(address: usize) -> &'static Slab {
        // SAFETY: headers live for ever, zeroed ones are valid, and all that changes is in cells or atomics.
        unsafe { &*pointer_at(address).cast::<Slab>() }
    }

    /// The header of a slice.
    pub(crate) fn of_slice(reservation: &Reservation, slice: SliceIndex) -> &'static Slab {
        let headers = reservation.space.headers().addr().get();
        // SAFETY: headers up to the frontier are committed, and slices that callers name lie below it.
        unsafe { Self::at(headers + slice.0 as usize * HEADER_BYTES) }
    }

    /// Makes a run of slices a slab of `class`, owned by the heap at `owner`.
    pub(crate) fn create(reservation: &'static Reservation, run: Run, class: Class, owner: usize) -> &'static Slab {
        let slab = Self::of_slice(reservation, run.start);
        let base = reservation.space.address(run.start).addr().get();
        slab.base.set(base);
        slab.inverse.set(class.shape().inverse);
        slab.free.set(base | 1);
        // Relaxed: other threads learn of the slab through its blocks.
        slab.carved_bytes.store(0, Ordering::Relaxed);
        slab.carved.store(0, Ordering::Relaxed);
        slab.tell_of_few(false);
        slab.let_list(false);
        slab.used.store(0, Ordering::Relaxed);
        slab.block_bytes.store(class.shape().block_bytes, Ordering::Relaxed);
        slab.class.set(class.index() as u8);
        slab.zeroed.set(run.zeroed);
        slab.remote.reset();
        slab.slices.store(run.count.0, Ordering::Relaxed);
        // Relaxed: set before the reservation was published.
        slab.reservation.set(reservation.number.load(Ordering::Relaxed) as u32);
        slab.next.set(null());
        slab.previous.set(null());
        for back in 1..run.count.0 {
            let rest = Self::of_slice(reservation, run.start.plus(Slices(back)));
            rest.back.set(back);
            rest.kind.store(Kind::SlabRest.to_word(), Ordering::Relaxed);
        }
        // Relaxed: other threads learn of the slab through its blocks.
        slab.kind.store(Kind::Slab.to_word(), Ordering::Relaxed);
        slab.owner.store(owner, Ordering::Relaxed);
        slab
    }

    /// Makes the header that of a large span.
    pub(crate) fn create_large(reservation: &'static Reservation, run: Run) -> &'static Slab {
        let slab = Self::of_slice(reservation, run.start);
        slab.base.set(reservation.space.address(run.start).addr().get());
        slab.slices.store(run.count.0, Ordering::Relaxed);
        slab.reservation.set(reservation.number.load(Ordering::Relaxed) as u32);
        // Relaxed: other threads learn of the span through its one block.
        slab.kind.store(Kind::Large.to_word(), Ordering::Relaxed);
        slab
    }

    /// Owner of an empty slab: makes its slices free ones. The caller gives the run back after that.
    pub(crate) fn dissolve(&self, reservation: &'static Reservation) -> (SliceIndex, Slices) {
        let start = self.start_slice(reservation);
        let count = Slices(self.slices.load(Ordering::Relaxed));
        // Relaxed: the release of the run's bits orders this before the next use of the slices.
        self.owner.store(0, Ordering::Relaxed);
        for back in 0..count.0 {
            Self::of_slice(reservation, start.plus(Slices(back))).kind.store(Kind::Free.to_word(), Ordering::Relaxed);
        }
        (start, count)
    }

    /// Turns a large span to free; `false` if another thread did, or it never was one.
    pub(crate) fn take_large(&self) -> bool {
        // AcqRel: one of two racing frees wins, and the loser sees it; the run's release publishes the rest.
        let [large, free] = [Kind::Large.to_word(), Kind::Free.to_word()];
        self.kind.compare_exchange(large, free, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The first slice of the span.
    pub(crate) fn start_slice(&self, reservation: &Reservation) -> SliceIndex {
        SliceIndex::of_offset(self.base.get() - reservation.space.base().addr().get())
    }

    /// What the slice is part of.
    pub(crate) fn kind(&self) -> Kind {
        // Relaxed: see `create`.
        Kind::from_word(self.kind.load(Ordering::Relaxed))
    }

    /// Kind `SlabRest`: the header of the slab's first slice.
    pub(crate) fn first_of_rest(&self) -> &'static Slab {
        let address = core::ptr::from_ref(self).addr() - self.back.get() as usize * HEADER_BYTES;
        // SAFETY: the first slice's header lies `back` headers before this one.
        unsafe { Self::at(address) }
    }

    /// Whether the heap at `heap` owns the slab. Exact for that heap's own thread.
    #[inline(always)]
    pub(crate) fn is_owned_by(&self, heap: usize) -> bool {
        // Relaxed: only the thread of that heap ever sets or clears this value.
        self.owner.load(Ordering::Relaxed) == heap
    }

    /// Owner, or who becomes it: sets the owner; 0 for none.
    pub(crate) fn set_owner(&self, heap: usize) {
        // Relaxed: see `is_owned_by`.
        self.owner.store(heap, Ordering::Relaxed);
    }

    /// First byte of the span.
    pub(crate) fn base(&self) -> usize {
        self.base.get()
    }

    /// Bytes in a block of a slab.
    pub(crate) fn block_bytes(&self) -> usize {
        self.block_bytes.load(Ordering::Relaxed) as usize
    }

    /// Bytes of blocks that the program holds, or that lie on the list of a thread's heap. A hint for other threads
    /// than the owner.
    pub(crate) fn held_bytes(&self) -> usize {
        // Relaxed: a number for people.
        let used = self.used.load(Ordering::Relaxed).saturating_sub(self.remote.count());
        used as usize * self.block_bytes()
    }

    /// Slices in the span.
    pub(crate) fn slices(&self) -> Slices {
        Slices(self.slices.load(Ordering::Relaxed))
    }

    /// Owner of a large span: changes how many slices it has.
    pub(crate) fn set_slices(&self, slices: Slices) {
        self.slices.store(slices.0, Ordering::Relaxed);
    }

    /// Owner: the list that takes the slab's blocks.
    #[inline(always)]
    pub(crate) fn list(&self) -> ListIndex {
        ListIndex(self.list.get())
    }

    /// The size class.
    pub(crate) fn class(&self) -> Option<Class> {
        Class::from_index(self.class.get())
    }

    /// Number of the reservation.
    pub(crate) fn reservation_number(&self) -> usize {
        self.reservation.get() as usize
    }

    /// Frees by other threads, and who may own the slab.
    pub(crate) fn remote(&self) -> &RemoteFree {
        &self.remote
    }

    /// The slab's name on stacks.
    pub(crate) fn record(&self) -> Record {
        (core::ptr::from_ref(self).addr() / HEADER_BYTES) as Record
    }

    /// The slab that [`Slab::record`] named.
    pub(crate) fn from_record(record: Record) -> &'static Slab {
        // SAFETY: records name headers, which live for ever.
        unsafe { Self::at(record as usize * HEADER_BYTES) }
    }

    /// The link in the stack of slabs without owner.
    pub(crate) fn link(&self) -> &AtomicU64 {
        &self.link
    }

    /// Whether `block` is the address of a carved block of this slab.
    #[inline(always)]
    pub(crate) fn is_block(&self, block: usize) -> bool {
        // Below the base this is far beyond what was carved.
        let offset = block.wrapping_sub(self.base.get()) as u64;
        let inverse = self.inverse.get();
        // Relaxed: who frees a block got it from the thread that carved it.
        offset < u64::from(self.carved_bytes.load(Ordering::Relaxed)) && offset.wrapping_mul(inverse) < inverse
    }

    /// Owner: puts a block on the free list. Says whether [few](Self::tell_of_few) of the slab's blocks are used now,
    /// or none.
    /// # Safety
    /// The caller owns the slab, and `block` is one of its blocks that nobody uses.
    #[inline(always)]
    pub(crate) unsafe fn push_free(&self, block: usize, secret: Secret) -> bool {
        // SAFETY: nobody uses the block.
        unsafe { write_link(block, self.free.get(), secret) };
        self.free.set(block);
        // Relaxed: the owner's own, and read by the census.
        let used = self.used.load(Ordering::Relaxed).wrapping_sub(1);
        self.used.store(used, Ordering::Relaxed);
        used <= self.few.get()
    }

    /// Owner: whether the free list has blocks.
    pub(crate) fn has_free(&self) -> bool {
        !is_end(self.free.get())
    }

    /// Owner: asks to be told by [`push_free`](Self::push_free) when a quarter of the blocks that the slab has room for
    /// are used, or fewer; or else only when none are.
    pub(crate) fn tell_of_few(&self, tell: bool) {
        set_changed(&self.few, if tell { self.capacity() / FEW_DIVISOR } else { 0 });
    }

    /// Owner: lets lists take the slab's blocks, or not.
    pub(crate) fn let_list(&self, may: bool) {
        set_changed(&self.list, if may { self.class.get() } else { NO_LIST });
    }

    /// Owner: takes the whole free list.
    pub(crate) fn take_free(&self) -> FreeBlocks {
        // Relaxed: as in `push_free`.
        let carved = self.carved.load(Ordering::Relaxed);
        let count = carved - self.used.load(Ordering::Relaxed);
        self.used.store(carved, Ordering::Relaxed);
        FreeBlocks { head: self.free.replace(self.base.get() | 1), count, zeroed: false }
    }

    /// Owner: takes what other threads have freed.
    pub(crate) fn take_remote(&self) -> Option<FreeBlocks> {
        let chain = self.remote.take()?;
        Some(FreeBlocks { head: self.block_at(chain.head), count: chain.count, zeroed: false })
    }

    /// Owner: whether all blocks are free, counting those that other threads have freed.
    pub(crate) fn is_empty_with_remote(&self) -> bool {
        // Relaxed: the owner's own.
        self.used.load(Ordering::Relaxed) == self.remote.count()
    }

    /// Owner: whether nothing is left: no free block, none freed by others, none to carve.
    pub(crate) fn is_exhausted(&self) -> bool {
        !self.has_free() && self.remote.is_empty() && !self.can_carve()
    }

    /// Blocks that the slab has room for.
    pub(crate) fn capacity(&self) -> u32 {
        self.class().map_or(0, |class| class.shape().capacity)
    }

    /// Owner: whether the program holds no block of it, and no list of a heap.
    pub(crate) fn is_unused(&self) -> bool {
        // Relaxed: the owner's own.
        self.used.load(Ordering::Relaxed) == 0
    }

    /// Owner: blocks that are free, with those not carved yet and those that other threads have freed.
    pub(crate) fn free_blocks(&self) -> u32 {
        // Relaxed: the owner's own.
        self.capacity() + self.remote.count() - self.used.load(Ordering::Relaxed)
    }

    /// Owner: whether there are blocks to carve.
    pub(crate) fn can_carve(&self) -> bool {
        // Relaxed: the owner's own.
        self.carved.load(Ordering::Relaxed) < self.capacity()
    }

    /// Owner: cuts the next few blocks, if there is room for any.
    pub(crate) fn carve(&self, secret: Secret) -> Option<FreeBlocks> {
        let block_bytes = self.block_bytes();
        // Relaxed: the owner's own.
        let done = self.carved.load(Ordering::Relaxed);
        let count = ((CARVE_BYTES / block_bytes).max(1) as u32).min(self.capacity() - done);
        if count == 0 {
            return None;
        }
        let head = self.base.get() + done as usize * block_bytes;
        for index in 0..count as usize {
            let block = head + index * block_bytes;
            let next = if index + 1 == count as usize { self.base.get() | 1 } else { block + block_bytes };
            // SAFETY: the block lies in the slab, as `done + count <= capacity`, and nobody has seen it yet.
            unsafe { write_link(block, next, secret) };
        }
        // Relaxed: who frees one of these blocks got it from us.
        self.carved_bytes.store((done + count) * block_bytes as u32, Ordering::Relaxed);
        self.carved.store(done + count, Ordering::Relaxed);
        self.used.store(self.used.load(Ordering::Relaxed) + count, Ordering::Relaxed);
        Some(FreeBlocks { head, count, zeroed: self.zeroed.get() })
    }

    /// Owner: puts blocks that count as used back on the free list. At once if that is empty, as is usual; otherwise
    /// one by one.
    /// # Safety
    /// They are this slab's blocks, and nobody else uses them.
    pub(crate) unsafe fn return_blocks(&self, blocks: FreeBlocks, secret: Secret) {
        if is_end(self.free.get()) && !is_end(blocks.head) {
            self.free.set(blocks.head);
            // Relaxed: the owner's own.
            self.used.store(self.used.load(Ordering::Relaxed) - blocks.count, Ordering::Relaxed);
            return;
        }
        let mut block = blocks.head;
        while !is_end(block) {
            // SAFETY: the caller's promise; `next` is read before the block is linked elsewhere.
            unsafe {
                let next = read_link(block);
                self.push_free(block, secret);
                block = next;
            }
        }
    }

    /// A block's place for the shared word: its offset in units of 16 bytes.
    pub(crate) fn place_of(&self, block: usize) -> Place {
        (block - self.base.get()) / BLOCK_ALIGN_BYTES
    }

    fn block_at(&self, place: Place) -> usize {
        self.base.get() + place * BLOCK_ALIGN_BYTES
    }

    /// The block at a place, or the end mark: what a link that goes on there leads to.
    pub(crate) fn next_at(&self, next: Option<Place>) -> usize {
        next.map_or(self.base.get() | 1, |place| self.block_at(place))
    }

    /// A chain of one block.
    pub(crate) fn chain_of(&self, block: usize) -> Chain {
        Chain { head: self.place_of(block), count: 1 }
    }

    /// Owner, about to put the slab in the pool: notes how many blocks are used.
    pub(crate) fn note_pooled_used(&self) {
        // Relaxed: a hint for the freeing threads.
        self.pooled_used.store(self.used.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// `used` at the time when the slab was put in the pool. A hint.
    pub(crate) fn pooled_used(&self) -> u32 {
        self.pooled_used.load(Ordering::Relaxed)
    }

    /// The neighbours in the owner's queue. Owner.
    pub(crate) fn neighbours(&self) -> (&Cell<*const Slab>, &Cell<*const Slab>) {
        (&self.previous, &self.next)
    }
}
