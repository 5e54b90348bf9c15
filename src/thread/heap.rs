//! A thread's heap: for each size class a list of blocks to hand out, and the slabs they come from. Called by `front`.
//!
//! Invariant: one thread at a time uses a heap. A slab with no free block is given up when the list that was filled
//! from it has run out: it belongs to nobody until one of its blocks is freed, and then to the thread that frees it.
//!
//! Keeping the list in the heap, apart from the slab's own free list, is what makes an allocation touch no header
//! (snmalloc does so), and gives each slab a natural point, when the list runs out, at which rarer work is done
//! (mimalloc).

use core::cell::Cell;
use core::ptr::{NonNull, from_ref, null};

use super::engine::Engine;
use super::lists::Lists;
use super::released::{Released, ReleasedRun};
use crate::arena::{BlockSpace, Found, Reservation, Run};
use crate::atomic::AtomicU64;
use crate::fatal::fatal;
use crate::limits::{
    EMPTY_KEPT_BLOCK_BYTES_MIN, EMPTY_KEPT_BYTES_MAX, EMPTY_SLAB_BLOCK_BYTES_MAX, PARTIAL_CLASS_BYTES_MAX,
    PARTIAL_HEAP_BYTES_MAX, PARTIAL_OWN_BYTES_MAX,
};
use crate::lockfree::remote_free::Push;
use crate::os::Os;
use crate::span::pool;
use crate::span::queue::SlabQueue;
use crate::span::size_class::{CLASS_COUNT, Class};
use crate::span::slab::{Kind, Secret, Slab, clear_mark, is_end, looks_free, read_link, write_link};
use crate::units::Slices;

/// Empty slabs of large blocks that a heap keeps: a thread that takes and frees one buffer, or two in turn, does so
/// without a visit to the arena.
const EMPTY_SLABS_KEPT: usize = 2;
/// Slabs that a heap has kept and looks at, at most, before it takes another one.
const LOOKS_AT_PARTIAL_MAX: u32 = 4;
/// What part of a kept slab's blocks has to be free for the heap to allocate from it while there is memory.
const WORTHWHILE_DIVISOR: u32 = 8;

/// Slabs that few blocks are used of, after which a list is given up.
const SPARSE_SLABS_MAX: u8 = 2;

/// What a heap has of one class, besides the list of blocks.
struct Bin {
    /// The slab that the list comes from; null for none.
    slab: Cell<*const Slab>,
    /// Other slabs of the heap with free blocks.
    partial: SlabQueue,
    /// Slabs that the heap has begun to allocate from, less those that it has kept on that account.
    credit: Cell<u32>,
    /// Slabs that have become sparse since the list was filled.
    sparse: Cell<u8>,
}

impl Bin {
    const fn new() -> Self {
        Bin { slab: Cell::new(null()), partial: SlabQueue::new(), credit: Cell::new(0), sparse: Cell::new(0) }
    }
}

/// The heap of one thread.
#[repr(C, align(128))]
pub(crate) struct Heap {
    lists: Lists,
    // With the fields after it in one cache line: all that a free by the owner needs of the heap besides its list.
    secret: Cell<Secret>,
    /// As the heap knows it: as long as it was when the heap last took a slab, or longer.
    block_space: Cell<BlockSpace>,
    /// Bytes of all slabs in the queues of the bins.
    partial_bytes: Cell<usize>,
    /// Classes of blocks over [`EMPTY_SLAB_BLOCK_BYTES_MAX`] whose slabs became empty last, the latest first; one more
    /// than their numbers, 0 for none.
    emptied: [Cell<u8>; EMPTY_SLABS_KEPT],
    /// Where slabs have been that the heap has given back.
    released: Released,
    bins: [Bin; CLASS_COUNT],
    /// Link in the stack of heaps without thread.
    link: AtomicU64,
}

// SAFETY: cells are used by one thread at a time; heaps change threads through the stack's Release and Acquire. Other
// threads only compare a heap's address. The stand-ins are never written: every write is behind a non-empty list
// or a slab, of which they have none.
unsafe impl Sync for Heap {}

/// Bytes that a heap's record takes.
pub(crate) const HEAP_BYTES: usize = 4096;
static_assertions::const_assert!(size_of::<Heap>() <= HEAP_BYTES);

/// What stands in for the heap of a thread that has none, so that an allocation there takes the slow path: every list
/// is empty. The first for a thread that has none yet, the second for one that has given its heap up.
pub(super) static STAND_INS: [Heap; 2] = [const {
    Heap {
        lists: Lists::new(),
        secret: Cell::new(Secret::new(0)),
        block_space: Cell::new(BlockSpace::NONE),
        partial_bytes: Cell::new(0),
        emptied: [const { Cell::new(0) }; EMPTY_SLABS_KEPT],
        released: Released::new(),
        bins: [const { Bin::new() }; CLASS_COUNT],
        link: AtomicU64::new(0),
    }
}; 2];

impl Heap {
    /// Makes zeroed memory a heap without slabs.
    /// # Safety
    /// `memory` is a zeroed record of [`HEAP_BYTES`] for this heap alone, for ever.
    pub(crate) unsafe fn create(memory: NonNull<u8>, secret: Secret) -> &'static Heap {
        // SAFETY: zero is valid for every field (null slabs, empty queues), and the record is aligned and large enough.
        let heap = unsafe { memory.cast::<Heap>().as_ref() };
        heap.lists.set_up();
        heap.secret.set(secret);
        heap
    }

    /// Whether this stands in for the heap of a thread that has none.
    pub(crate) fn is_stand_in(&self) -> bool {
        self.address().wrapping_sub((&raw const STAND_INS).addr()) < size_of_val(&STAND_INS)
    }

    /// Whether it does so because the thread has given its heap up.
    pub(crate) fn is_given_up(&self) -> bool {
        core::ptr::eq(self, &STAND_INS[1])
    }

    /// The heap's address, by which slabs know their owner.
    #[inline(always)]
    pub(crate) fn address(&self) -> usize {
        from_ref(self).addr()
    }

    /// The link in the stack of heaps without thread.
    pub(crate) fn link(&self) -> &AtomicU64 {
        &self.link
    }

    /// The process's secret that marks are mixed with.
    #[inline(always)]
    pub(crate) fn secret(&self) -> Secret {
        self.secret.get()
    }

    /// The first reservation's block space; one that is too short, or none, costs a detour and nothing else.
    #[inline(always)]
    pub(crate) fn block_space(&self) -> BlockSpace {
        self.block_space.get()
    }

    /// Before the heap takes a slab that may lie further than any before.
    fn look_at_block_space<O: Os>(&self, engine: &Engine<O>) {
        self.block_space.set(engine.arena().block_space());
    }

    #[inline(always)]
    fn bin(&self, class: Class) -> &Bin {
        // SAFETY: a class is always below CLASS_COUNT, the length of the array.
        unsafe { self.bins.get_unchecked(class.index()) }
    }

    /// The next block of `class`; `None` if the list is empty. The fast path: a few loads and stores. The block's
    /// second word is zero, and the first is of no use.
    #[inline(always)]
    pub(crate) fn pop(&self, class: Class) -> Option<usize> {
        self.lists.pop(class)
    }

    /// A block of `class`, from the list or wherever there is one. `None` if there is no memory.
    #[inline(always)]
    pub(crate) fn take<O: Os>(&self, engine: &Engine<O>, class: Class) -> Option<usize> {
        self.pop(class).or_else(|| self.pop_slow(engine, class))
    }

    /// Whether the block that [`pop`](Self::pop) gave last reads as zeroes after its first word.
    #[inline(always)]
    pub(crate) fn pops_zeroed(&self, class: Class) -> bool {
        self.lists.pops_zeroed(class)
    }

    /// Fills the list of `class` and takes a block. `None` if there is no memory.
    #[cold]
    #[inline(never)]
    fn pop_slow<O: Os>(&self, engine: &Engine<O>, class: Class) -> Option<usize> {
        let bin = self.bin(class);
        loop {
            // A nested call, by the C library while the governor's thread is started, may have filled the list.
            if let Some(block) = self.pop(class) {
                return Some(block);
            }
            // SAFETY: a bin's slab is null or a header, which lives for ever.
            if let Some(slab) = unsafe { bin.slab.get().as_ref() } {
                if self.refill(bin, slab, class) {
                    return self.pop(class);
                }
                slab.set_owner(0);
                if !slab.remote().detach() {
                    // Blocks came back at the last moment.
                    slab.set_owner(self.address());
                    continue;
                }
                bin.slab.set(null());
            }
            let next = self.pop_worthwhile(bin).or_else(|| engine.pool().take(class, self.address()));
            // Where memory is short, what the heap has comes before what it would have to wait for.
            let next = next.or_else(|| if engine.arena().is_short() { self.pop_partial(bin) } else { None });
            let next = next.or_else(|| self.fresh(engine, class)).or_else(|| self.pop_partial(bin));
            let Some(slab) = next else {
                // What the heap keeps of other classes is memory as well.
                if self.release_emptied(engine) {
                    continue;
                }
                return None;
            };
            self.look_at_block_space(engine);
            // What the slab before left: a nested call may have put one there.
            if bin.slab.get().is_null() {
                bin.slab.set(from_ref(slab));
                bin.credit.set(bin.credit.get().saturating_add(1));
            } else {
                self.keep_or_pool(engine, slab, class);
            }
        }
    }

    fn fresh<O: Os>(&self, engine: &Engine<O>, class: Class) -> Option<&'static Slab> {
        let slices = Slices(class.shape().slices);
        let (reservation, run) =
            self.take_released(engine, slices).or_else(|| engine.arena().allocate_run(slices, 1, false))?;
        Some(Slab::create(reservation, run, class, self.address()))
    }

    /// Takes a run again that this heap has given back lately, if nobody else has taken it.
    fn take_released<O: Os>(&self, engine: &Engine<O>, count: Slices) -> Option<(&'static Reservation, Run)> {
        core::iter::from_fn(|| self.released.take(count)).find_map(|run| {
            let reservation = engine.arena().reservation(run.reservation as usize)?;
            Some((reservation, engine.arena().claim_run_again(reservation, run.start, count)?))
        })
    }

    /// Gives back a slab of which no block is used, and remembers where it was.
    fn release<O: Os>(&self, engine: &Engine<O>, slab: &'static Slab) {
        // Read before the slices are anyone's.
        let reservation = slab.reservation_number() as u32;
        if let Some((start, count)) = pool::release(engine.arena(), slab) {
            self.released.note(ReleasedRun { reservation, start, count });
        }
    }

    /// Puts free blocks of `slab` on the list, if it has any: those this thread freed, those others freed, new ones.
    fn refill(&self, bin: &Bin, slab: &Slab, class: Class) -> bool {
        let free = slab.has_free().then(|| slab.take_free());
        let Some(blocks) = free.or_else(|| slab.take_remote()).or_else(|| slab.carve(self.secret())) else {
            return false;
        };
        self.lists.fill(class, blocks);
        slab.tell_of_few(true);
        slab.let_list(true);
        bin.sparse.set(0);
        true
    }

    /// Frees a block of a slab of this heap: the fast path.
    /// # Safety
    /// This heap owns `slab`, `block` lies in it, and the program gives the block up.
    #[inline(always)]
    pub(crate) unsafe fn free_local<O: Os>(&self, engine: &Engine<O>, slab: &'static Slab, block: usize) {
        // SAFETY: a block of a slab that this thread owns is committed memory.
        if slab.is_block(block) && !unsafe { looks_free(block, self.secret()) } {
            // SAFETY: the slab is this thread's, and the program has given the block up.
            unsafe {
                if !self.lists.push(slab.list(), block, self.secret()) && slab.push_free(block, self.secret()) {
                    self.slab_sparse(engine, slab);
                }
            }
            return;
        }
        Self::refuse(slab, block);
    }

    /// After a free by this thread that left few blocks of `slab` used, or none: gives it back in that case, and gives
    /// up the list if the class is shrinking.
    #[cold]
    #[inline(never)]
    fn slab_sparse<O: Os>(&self, engine: &Engine<O>, slab: &'static Slab) {
        let Some(class) = slab.class() else { return };
        if slab.is_unused() {
            return self.slab_emptied(engine, slab, class);
        }
        slab.tell_of_few(false);
        let Bin { slab: active, sparse, .. } = self.bin(class);
        // Its last blocks would keep it in use; the one that the heap allocates from is kept anyway.
        slab.let_list(core::ptr::eq(active.get(), slab));
        sparse.set(sparse.get().saturating_add(1));
        if sparse.get() >= SPARSE_SLABS_MAX && self.lists.is_mixed(class) {
            self.give_up_list(engine, class);
        }
    }

    /// Gives back a slab of which no block is used, unless the heap allocates from it and it is of small blocks.
    fn slab_emptied<O: Os>(&self, engine: &Engine<O>, slab: &'static Slab, class: Class) {
        let bin = self.bin(class);
        if core::ptr::eq(bin.slab.get(), slab) {
            if class.shape().block_bytes as usize > EMPTY_SLAB_BLOCK_BYTES_MAX {
                self.keep_empty(engine, class);
            }
            return;
        }
        if self.keeps_empty(engine, bin, slab) {
            return;
        }
        self.remove_partial(bin, slab);
        self.release(engine, slab);
    }

    /// Whether a slab in a queue may stay there though no block of it is used: the heap allocates from its class, so
    /// that it will want the slab again if the program's need goes up and down, and keeps little.
    fn keeps_empty<O: Os>(&self, engine: &Engine<O>, bin: &Bin, slab: &Slab) -> bool {
        slab.block_bytes() >= EMPTY_KEPT_BLOCK_BYTES_MIN
            && !bin.slab.get().is_null()
            && self.partial_bytes.get() <= EMPTY_KEPT_BYTES_MAX
            && !engine.arena().is_short()
    }

    /// Gives back all slabs in the queues of which no block is used. `false` if there are none.
    pub(crate) fn release_emptied<O: Os>(&self, engine: &Engine<O>) -> bool {
        let mut any = false;
        for class in Class::all() {
            let bin = self.bin(class);
            for _ in 0..bin.partial.count() {
                let Some(slab) = self.pop_partial(bin) else { break };
                if slab.is_empty_with_remote() {
                    self.release(engine, slab);
                    any = true;
                } else {
                    self.push_partial(bin, slab);
                }
            }
        }
        any
    }

    /// Gives the blocks on the list back to their slabs, and those slabs back that are empty then.
    fn give_up_list<O: Os>(&self, engine: &Engine<O>, class: Class) {
        let (is_mixed, blocks) = (self.lists.is_mixed(class), self.lists.close(class));
        // SAFETY: a bin's slab is null or a header, which lives for ever.
        if let (false, Some(slab)) = (is_mixed, unsafe { self.bin(class).slab.get().as_ref() }) {
            // SAFETY: the list is as it was filled from this slab, and this thread's alone.
            return unsafe { slab.return_blocks(blocks, self.secret()) };
        }
        let mut block = blocks.head;
        while !is_end(block) {
            let Some(slab) = slab_of(engine, block).filter(|slab| slab.is_block(block)) else {
                fatal("a list of free blocks is damaged", block)
            };
            // SAFETY: blocks on the list are free and this thread's alone. For its slab the block is in use, so it must
            // not look free.
            let next = unsafe {
                let next = read_link(block);
                clear_mark(block);
                next
            };
            if !slab.is_owned_by(self.address()) {
                self.free_remote(engine, slab, block);
            // SAFETY: the slab is this thread's, and so is the block.
            } else if unsafe { slab.push_free(block, self.secret()) } && slab.is_unused() {
                self.slab_emptied(engine, slab, class);
            }
            block = next;
        }
    }

    /// Keeps the empty slab that the heap allocates from in `class`, and gives back the one that became empty longest
    /// ago, unless it is in use again.
    fn keep_empty<O: Os>(&self, engine: &Engine<O>, class: Class) {
        let entry = class.index() as u8 + 1;
        let mut moved = entry;
        for place in &self.emptied {
            moved = place.replace(moved);
            if moved == entry {
                return;
            }
        }
        let Some(oldest) = moved.checked_sub(1).and_then(Class::from_index) else { return };
        let bin = self.bin(oldest);
        // SAFETY: a bin's slab is null or a header, which lives for ever.
        if let Some(slab) = unsafe { bin.slab.get().as_ref() }
            && slab.is_unused()
        {
            // Blocks on the list count as used: there are none.
            bin.slab.set(null());
            bin.credit.set(bin.credit.get().saturating_sub(1));
            self.release(engine, slab);
        }
    }

    /// Keeps a slab with free blocks, or gives it to all if this heap has many: more than a little, and more than it
    /// has itself used up. A thread that frees what others allocate keeps nearly nothing; one that allocates keeps
    /// about what it frees. The one that has waited longest goes back if others have emptied it meanwhile: where the
    /// threads' shares of frees wander, a heap would keep empty slabs up to the limit.
    fn keep_or_pool<O: Os>(&self, engine: &Engine<O>, slab: &'static Slab, class: Class) {
        let bin = self.bin(class);
        let is_emptied = |longest: &&Slab| !self.keeps_empty(engine, bin, longest) && longest.is_empty_with_remote();
        let emptied = bin.partial.first().filter(is_emptied);
        if let Some(longest) = emptied {
            self.remove_partial(bin, longest);
        }
        self.queue_or_pool(engine, bin, slab, class);
        // Last: it may start the governor's thread, which may ask for memory here.
        if let Some(longest) = emptied {
            self.release(engine, longest);
        }
    }

    fn queue_or_pool<O: Os>(&self, engine: &Engine<O>, bin: &Bin, slab: &'static Slab, class: Class) {
        let bytes = slab.slices().in_bytes();
        let (class_bytes, heap_bytes) = (bin.partial.count() as usize * bytes, self.partial_bytes.get());
        let has_little = class_bytes < PARTIAL_CLASS_BYTES_MAX && heap_bytes < PARTIAL_HEAP_BYTES_MAX;
        let has_credit = bin.credit.get() > 0 && heap_bytes < PARTIAL_OWN_BYTES_MAX;
        if !has_little && !has_credit {
            // The one that has waited longest has most blocks free: it is worth most to whoever takes it.
            let Some(longest) = self.pop_partial(bin) else { return engine.put_in_pool(slab, class) };
            self.push_partial(bin, slab);
            if longest.is_empty_with_remote() {
                return self.release(engine, longest);
            }
            return engine.put_in_pool(longest, class);
        }
        bin.credit.set(bin.credit.get().saturating_sub(1));
        self.push_partial(bin, slab);
    }

    /// Takes the next slab that this heap has kept and that has an eighth of its blocks free, of the first few.
    ///
    /// Where blocks are freed at random, slabs with a block or two would be taken for those, be full, and belong to
    /// nobody, so that each free and each request took the long way. An eighth of what a heap keeps is the price.
    fn pop_worthwhile(&self, bin: &Bin) -> Option<&'static Slab> {
        for _ in 0..bin.partial.count().min(LOOKS_AT_PARTIAL_MAX) {
            let slab = self.pop_partial(bin)?;
            if slab.free_blocks() * WORTHWHILE_DIVISOR >= slab.capacity() {
                return Some(slab);
            }
            self.push_partial(bin, slab);
        }
        None
    }

    /// Keeps a slab with free blocks.
    fn push_partial(&self, bin: &Bin, slab: &'static Slab) {
        bin.partial.push(slab);
        self.partial_bytes.set(self.partial_bytes.get() + slab.slices().in_bytes());
    }

    /// Takes the next slab with free blocks that this heap has kept.
    fn pop_partial(&self, bin: &Bin) -> Option<&'static Slab> {
        let slab = bin.partial.first()?;
        self.remove_partial(bin, slab);
        Some(slab)
    }

    /// Takes out a slab that this heap has kept.
    fn remove_partial(&self, bin: &Bin, slab: &Slab) {
        bin.partial.remove(slab);
        self.partial_bytes.set(self.partial_bytes.get() - slab.slices().in_bytes());
    }

    /// Frees a block of a slab that this heap does not own. Checks what the fast path checks.
    pub(crate) fn free_remote<O: Os>(&self, engine: &Engine<O>, slab: &'static Slab, block: usize) {
        if !slab.is_block(block) {
            fatal("free: pointer is not the start of a block", block);
        }
        let secret = engine.secret();
        // SAFETY: the block is committed memory of the slab, and the program gives it to us.
        if unsafe { looks_free(block, secret) } {
            fatal("free: block is free already", block);
        }
        // SAFETY: nobody else uses the block from now on.
        let link = |next| unsafe { write_link(block, slab.next_at(next), secret) };
        // Read before the push: after it the slab may be anyone's, and even be dissolved. Looked at where it is needed.
        let class = slab.class();
        match slab.remote().push(slab.chain_of(block), link) {
            Push::Listed => {}
            Push::Pooled(count) => Self::note_pooled(engine, slab, class, block, count),
            Push::Adopted => self.adopt(engine, slab, class, block),
        }
    }

    /// After a free of a block of a slab in the pool, whose list has `count` blocks since.
    #[cold]
    #[inline(never)]
    fn note_pooled<O: Os>(engine: &Engine<O>, slab: &Slab, class: Option<Class>, block: usize, count: u32) {
        let Some(class) = class else { damaged(block) };
        // Read after the push, which sees what was noted before the slab was pooled. If the slab has gone on since
        // then, the answer costs a look.
        if count >= slab.pooled_used() {
            engine.pool().ask_sweep(class);
            engine.arena().notify_governor(false);
        }
    }

    /// After a free of a block of a full slab, which has made the slab this thread's. The block is not on any list.
    #[cold]
    #[inline(never)]
    fn adopt<O: Os>(&self, engine: &Engine<O>, slab: &'static Slab, class: Option<Class>, block: usize) {
        let Some(class) = class else { damaged(block) };
        // SAFETY: the exchange made the slab ours, and nobody uses the block. A slab has two blocks or more, so it is
        // not empty yet.
        unsafe { slab.push_free(block, engine.secret()) };
        if self.is_stand_in() {
            return engine.put_in_pool(slab, class);
        }
        slab.set_owner(self.address());
        self.look_at_block_space(engine);
        self.keep_or_pool(engine, slab, class);
    }

    /// Ends the process because of a block of a slab of this heap that did not pass the fast path's checks.
    #[cold]
    #[inline(never)]
    fn refuse(slab: &Slab, block: usize) -> ! {
        if slab.is_block(block) {
            fatal("free: block is free already", block);
        }
        fatal("free: pointer is not the start of a block", block);
    }

    /// Gives up everything, because the thread ends: empty slabs go back, the others to the pool, full ones to nobody.
    pub(crate) fn abandon<O: Os>(&self, engine: &Engine<O>) {
        for class in Class::all() {
            let bin = self.bin(class);
            // What this thread used up says nothing of the next one with this heap.
            bin.credit.set(0);
            self.give_up_list(engine, class);
            // SAFETY: a bin's slab is null or a header, which lives for ever.
            if let Some(slab) = unsafe { bin.slab.replace(null()).as_ref() } {
                self.give_up(engine, slab, class);
            }
            while let Some(slab) = self.pop_partial(bin) {
                self.give_up(engine, slab, class);
            }
        }
        // The next thread may run on another processor.
        self.released.clear();
    }

    fn give_up<O: Os>(&self, engine: &Engine<O>, slab: &'static Slab, class: Class) {
        loop {
            if slab.is_empty_with_remote() {
                // Nobody is to take it again from here.
                pool::release(engine.arena(), slab);
                return;
            }
            if !slab.is_exhausted() {
                return engine.put_in_pool(slab, class);
            }
            slab.set_owner(0);
            if slab.remote().detach() {
                return;
            }
        }
    }
}

/// Ends the process because of the header of the slab that `block` is of.
#[cold]
fn damaged(block: usize) -> ! {
    fatal("free: header of a slab is damaged", block)
}

/// The slab that `block` lies in; `None` if it lies in none.
fn slab_of<O: Os>(engine: &Engine<O>, block: usize) -> Option<&'static Slab> {
    let Some(Found::Slice(reservation, slice)) = engine.arena().find(block) else { return None };
    let slab = Slab::of_slice(reservation, slice);
    match slab.kind() {
        Kind::Slab => Some(slab),
        Kind::SlabRest => Some(slab.first_of_rest()),
        Kind::Large | Kind::Free => None,
    }
}
