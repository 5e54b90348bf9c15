//! Requests of every size, on any engine: the way through the layers, for `global` and for tests. Called by
//! `front::global`.
//!
//! | request | served by |
//! |---|---|
//! | up to 512 KiB, aligned to 64 KiB at most | a block of a slab of the thread's heap |
//! | up to 32 MiB | a large span in the blocks region |
//! | more | the explicit hugepage pool, if any; a room with head-room to grow in place; a large span at last |

use core::alloc::Layout;
use core::ptr::{NonNull, copy_nonoverlapping, null_mut, write_bytes};

use crate::arena::{Found, Reservation, RoomIndex, pointer_at};
use crate::fatal::{fatal, misused};
use crate::limits::{CARVE_BYTES, CHUNK_BYTES, GROWING_BYTES_MIN, HUGE_BYTES_MIN, WASTE_DIVISOR};
use crate::lockfree::room_word::RoomState;
use crate::os::Os;
use crate::span::large::{self, Block};
use crate::span::size_class::Class;
use crate::span::slab::{Kind, Slab};
use crate::thread::engine::Engine;
use crate::thread::heap::Heap;
use crate::units::Chunks;

/// Who holds a block, found by its address.
pub(super) enum Owner {
    Slab(&'static Slab),
    Large(&'static Reservation, &'static Slab),
    Room(&'static Reservation, RoomIndex),
}

impl Owner {
    /// Bytes that the program may use of the block.
    pub(super) fn usable_bytes(&self) -> usize {
        match self {
            Owner::Slab(slab) => slab.block_bytes(),
            Owner::Large(_, slab) => slab.slices().in_bytes(),
            Owner::Room(reservation, room) => {
                reservation.rooms.state(*room).map_or(0, |state| Chunks(state.live()).in_bytes())
            }
        }
    }
}

/// Who holds the slice of this header; ends the process, in the name of `call`, if nobody does.
#[inline]
fn owner_of_slice<O: Os>(engine: &Engine<O>, slab: &'static Slab, block: usize, call: &'static str) -> Owner {
    match slab.kind() {
        Kind::Slab => Owner::Slab(slab),
        Kind::SlabRest => Owner::Slab(slab.first_of_rest()),
        Kind::Large => match engine.arena().reservation(slab.reservation_number()) {
            Some(reservation) => Owner::Large(reservation, slab),
            None => misused(call, "header of a large block is damaged", block),
        },
        Kind::Free => misused(call, "block is not in use", block),
    }
}

/// Who holds `block`. `None` if it is not into memory of this allocator; ends the process, in the name of `call`, if it
/// is and is no block's address.
#[inline(always)]
fn owner_of<O: Os>(engine: &Engine<O>, block: usize, call: &'static str) -> Option<Owner> {
    if let Some(header) = engine.arena().block_space().header_of(block) {
        // SAFETY: headers that `header_of` gives are committed.
        return Some(owner_of_slice(engine, unsafe { Slab::at(header) }, block, call));
    }
    Some(match engine.arena().find(block)? {
        Found::Room(reservation, room, 0) => Owner::Room(reservation, room),
        Found::Room(..) => misused(call, "pointer is not the start of a block", block),
        Found::Slice(reservation, slice) => owner_of_slice(engine, Slab::of_slice(reservation, slice), block, call),
    })
}

/// What `call` makes of a pointer of others where that has no other answer: the end of the process.
#[cold]
fn not_ours(call: &'static str, block: usize) -> ! {
    misused(call, "pointer is not of this allocator", block)
}

/// Memory for a request that no slab serves; from zero memory rather than warm memory if it is to be `zeroed`.
#[cold]
fn allocate_large<O: Os>(
    engine: &Engine<O>,
    heap: &Heap,
    bytes: usize,
    align_bytes: usize,
    zeroed: bool,
) -> Option<Block> {
    let room = || allocate_room(engine, bytes, align_bytes, zeroed);
    let span = || large::allocate(engine.arena(), bytes, align_bytes, zeroed);
    if bytes < HUGE_BYTES_MIN {
        let emptied = || if heap.release_emptied(engine) { span() } else { None };
        return span().or_else(room).or_else(emptied);
    }
    allocate_in_pool(engine, bytes, align_bytes, zeroed).or_else(room).or_else(span)
}

/// Memory for a huge request in the explicit pool, unless memory is warm or being warmed for it elsewhere.
fn allocate_in_pool<O: Os>(engine: &Engine<O>, bytes: usize, align_bytes: usize, zeroed: bool) -> Option<Block> {
    let arena = engine.arena();
    if bytes < HUGE_BYTES_MIN || arena.pool_bytes() == 0 || arena.keeps_room_for(Chunks::holding(bytes)?) {
        return None;
    }
    large::allocate_in_pool(arena, bytes, align_bytes, zeroed)
}

/// A place for a block that grows to `bytes`, where it can go on growing.
fn allocate_to_grow<O: Os>(engine: &Engine<O>, bytes: usize, align_bytes: usize) -> Option<Block> {
    allocate_in_pool(engine, bytes, align_bytes, false).or_else(|| allocate_room(engine, bytes, align_bytes, false))
}

fn allocate_room<O: Os>(engine: &Engine<O>, bytes: usize, align_bytes: usize, zeroed: bool) -> Option<Block> {
    let claimed = engine.arena().allocate_room(Chunks::holding(bytes)?, align_bytes, zeroed)?;
    Some(Block { base: claimed.base, zeroed_from: claimed.dirty.in_bytes() })
}

/// Whether a growing block of `bytes` belongs in a room: large enough, and rounding to chunks wastes little.
fn suits_room(bytes: usize) -> bool {
    let waste = bytes.next_multiple_of(CHUNK_BYTES) - bytes;
    bytes >= GROWING_BYTES_MIN && waste <= bytes / WASTE_DIVISOR
}

/// Memory for `layout`, on the given thread's heap. Null if there is none.
#[inline(always)]
pub(crate) fn allocate<O: Os>(engine: &Engine<O>, heap: &Heap, layout: Layout) -> *mut u8 {
    match Class::holding_aligned(layout.size(), layout.align()) {
        Some(class) => {
            let block = heap.take(engine, class);
            block.map_or(null_mut(), pointer_at)
        }
        None => {
            allocate_large(engine, heap, layout.size(), layout.align(), false).map_or(null_mut(), |b| b.base.as_ptr())
        }
    }
}

/// Makes a block that the heap has just given for a request of `bytes` read as zeroes.
#[inline(always)]
pub(super) fn zeroed(heap: &Heap, class: Class, block: usize, bytes: usize) -> *mut u8 {
    let base = pointer_at(block);
    // SAFETY: the block holds `bytes`, and no less than a word, and is the caller's alone.
    unsafe {
        if heap.pops_zeroed(class) {
            base.cast::<usize>().write(0);
        } else {
            write_bytes(base, 0, bytes);
        }
    }
    base
}

/// Like [`allocate`], with every byte zero. Known zero memory is not written again.
#[inline(always)]
pub(crate) fn allocate_zeroed<O: Os>(engine: &Engine<O>, heap: &Heap, layout: Layout) -> *mut u8 {
    if let Some(class) = Class::holding_aligned(layout.size(), layout.align()) {
        let block = heap.take(engine, class);
        return block.map_or(null_mut(), |block| zeroed(heap, class, block, layout.size()));
    }
    let Some(block) = allocate_large(engine, heap, layout.size(), layout.align(), true) else { return null_mut() };
    let base = block.base.as_ptr();
    // SAFETY: the block holds `layout.size()` bytes and is the caller's alone.
    unsafe { write_bytes(base, 0, layout.size().min(block.zeroed_from)) };
    base
}

/// Frees a block, on the given thread's heap. The fast path: a block of a slab that the thread owns.
///
/// Caught, each with a line on standard error and an abort: a pointer that is not ours; one that is not the start of a
/// block; a block that is free already, as long as it has not been handed out again.
/// # Safety
/// The program gives the block up.
#[inline(always)]
pub(crate) unsafe fn deallocate<O: Os>(engine: &Engine<O>, heap: &Heap, block: usize) {
    // SAFETY: as for this function.
    unsafe {
        if !deallocate_local(engine, heap, block) {
            deallocate_elsewhere(engine, heap, block);
        }
    }
}

/// Frees a block that is not of a slab of this thread.
/// # Safety
/// As [`deallocate`].
#[inline(never)]
unsafe fn deallocate_elsewhere<O: Os>(engine: &Engine<O>, heap: &Heap, block: usize) {
    // SAFETY: as for this function.
    if !unsafe { deallocate_slow(engine, heap, block) } {
        not_ours("free", block);
    }
}

/// Frees a block of a slab that the thread owns. `false` for any other address: nothing happened.
/// # Safety
/// As [`deallocate`].
#[inline(always)]
pub(super) unsafe fn deallocate_local<O: Os>(engine: &Engine<O>, heap: &Heap, block: usize) -> bool {
    if let Some(header) = heap.block_space().header_of(block) {
        // SAFETY: headers that `header_of` gives are committed.
        let slab = unsafe { Slab::at(header) };
        if slab.is_owned_by(heap.address()) {
            // SAFETY: the slab is this thread's, and the program has given the block up.
            unsafe { heap.free_local(engine, slab, block) };
            return true;
        }
    }
    false
}

/// Frees a block that is not known to be of a slab of this thread. `false` for an address that is not into memory of
/// this allocator: nothing happened. The short way: a block of another thread's slab.
/// # Safety
/// As [`deallocate`].
#[inline(always)]
pub(super) unsafe fn deallocate_slow<O: Os>(engine: &Engine<O>, heap: &Heap, block: usize) -> bool {
    if let Some(header) = engine.arena().block_space().header_of(block) {
        // SAFETY: headers that `header_of` gives are committed.
        let slab = unsafe { Slab::at(header) };
        if slab.kind() == Kind::Slab && !slab.is_owned_by(heap.address()) {
            heap.free_remote(engine, slab, block);
            return true;
        }
    }
    // SAFETY: as for this function.
    unsafe { deallocate_any(engine, heap, block) }
}

/// Frees a block of any kind. `false` for an address that is not into memory of this allocator: nothing happened.
/// # Safety
/// As [`deallocate`].
#[inline(never)]
unsafe fn deallocate_any<O: Os>(engine: &Engine<O>, heap: &Heap, block: usize) -> bool {
    let Some(owner) = owner_of(engine, block, "free") else { return false };
    match owner {
        // SAFETY: the slab is this thread's, and the program has given the block up.
        Owner::Slab(slab) if slab.is_owned_by(heap.address()) => unsafe { heap.free_local(engine, slab, block) },
        Owner::Slab(slab) => heap.free_remote(engine, slab, block),
        Owner::Large(reservation, slab) => large::deallocate(engine.arena(), reservation, slab, block),
        Owner::Room(reservation, room) => {
            if !engine.arena().free_room(reservation, room) {
                fatal("free: block is free already", block);
            }
        }
    }
    true
}

/// Who holds `block`. `None` if it is not into memory of this allocator; ends the process, in the name of `call`, if it
/// is and is not the start of a block, or that of a huge one that is free.
#[inline(always)]
pub(super) fn owner_of_start<O: Os>(engine: &Engine<O>, block: usize, call: &'static str) -> Option<Owner> {
    let owner = owner_of(engine, block, call)?;
    let is_start = match owner {
        Owner::Slab(slab) => slab.is_block(block),
        Owner::Large(_, slab) => slab.base() == block,
        Owner::Room(reservation, room) => reservation.rooms.state(room).is_some_and(RoomState::is_in_use),
    };
    if !is_start {
        misused(call, "pointer is not the start of a block in use", block);
    }
    Some(owner)
}

/// Bytes that the program may use at `block`, which it has asked by `call`.
pub(crate) fn usable_bytes<O: Os>(engine: &Engine<O>, block: usize, call: &'static str) -> usize {
    owner_of_start(engine, block, call).unwrap_or_else(|| not_ours(call, block)).usable_bytes()
}

/// Makes a block hold `bytes`: in place where it can, elsewhere otherwise. Null if there is no memory: the block is as
/// before.
/// # Safety
/// `block` is live with `layout`, and given up if the result is not null.
pub(crate) unsafe fn reallocate<O: Os>(
    engine: &Engine<O>,
    heap: &Heap,
    block: NonNull<u8>,
    layout: Layout,
    bytes: usize,
) -> *mut u8 {
    let address = block.addr().get();
    let owner = owner_of_start(engine, address, "realloc").unwrap_or_else(|| not_ours("realloc", address));
    // SAFETY: as for this function.
    unsafe { reallocate_of(engine, heap, &owner, block, layout, bytes) }
}

/// The same with the block's owner at hand.
/// # Safety
/// As [`reallocate`], and the block is of this owner.
#[inline(always)]
pub(super) unsafe fn reallocate_of<O: Os>(
    engine: &Engine<O>,
    heap: &Heap,
    owner: &Owner,
    block: NonNull<u8>,
    layout: Layout,
    bytes: usize,
) -> *mut u8 {
    let align = layout.align();
    let stays = match *owner {
        Owner::Slab(slab) => {
            let have = slab.block_bytes();
            // Half a block lost is the price of not copying; below that the memory is worth more, if there is any to
            // win.
            bytes <= have && (bytes >= have / 2 || Class::holding_aligned(bytes, align) == slab.class())
        }
        Owner::Large(reservation, slab) => {
            if bytes > slab.slices().in_bytes()
                && suits_room(bytes)
                && !reservation.space.is_pool()
                && let Some(target) = allocate_to_grow(engine, bytes, align)
            {
                // It grows: this is the last time that it is copied.
                // SAFETY: as for this function.
                return unsafe { copy_and_free(engine, heap, block, layout.size(), target.base.as_ptr()) };
            }
            Class::holding_aligned(bytes, align).is_none()
                && large::resize(engine.arena(), reservation, slab, bytes).is_some()
        }
        Owner::Room(reservation, room) => {
            let chunks = Chunks::holding(bytes).filter(|_| bytes >= GROWING_BYTES_MIN / 2);
            chunks.is_some_and(|chunks| engine.arena().resize_room(reservation, room, chunks))
        }
    };
    if stays {
        return block.as_ptr();
    }
    // SAFETY: as for this function.
    unsafe { move_block(engine, heap, block, layout, bytes) }
}

/// Moves a block to a new place that suits its new size.
/// # Safety
/// As [`reallocate`].
#[cold]
unsafe fn move_block<O: Os>(
    engine: &Engine<O>,
    heap: &Heap,
    block: NonNull<u8>,
    layout: Layout,
    bytes: usize,
) -> *mut u8 {
    let align = layout.align();
    let grows = bytes > layout.size();
    // A block that grows by small steps is given more than it asks for, so that a run of steps costs few copies: a
    // quarter of what it had; half from a page on, where copies cost more, and some of what is not written to costs
    // nothing.
    let more = layout.size() / if layout.size() < CARVE_BYTES { 4 } else { 2 };
    let stepwise = if grows { bytes.max(layout.size() + more) } else { bytes };
    let class = Class::holding_aligned(stepwise, align).or_else(|| Class::holding_aligned(bytes, align));
    let class = if grows { class.map(|class| class.apart(align)) } else { class };
    let target = match class {
        Some(class) => heap.take(engine, class).map(pointer_at),
        None => {
            let growing = if grows && suits_room(bytes) { allocate_to_grow(engine, bytes, align) } else { None };
            growing.or_else(|| allocate_large(engine, heap, bytes, align, false)).map(|target| target.base.as_ptr())
        }
    };
    match target {
        // SAFETY: as for this function; the target holds `bytes`.
        Some(target) => unsafe { copy_and_free(engine, heap, block, layout.size().min(bytes), target) },
        // A smaller block still fits where it is.
        None if !grows => block.as_ptr(),
        None => null_mut(),
    }
}

/// Copies the first `bytes` of a block to `target` and frees the block. Gives `target`.
/// # Safety
/// Both hold `bytes`, do not overlap, and the program gives the block up.
unsafe fn copy_and_free<O: Os>(
    engine: &Engine<O>,
    heap: &Heap,
    block: NonNull<u8>,
    bytes: usize,
    target: *mut u8,
) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        copy_nonoverlapping(block.as_ptr(), target, bytes);
        deallocate(engine, heap, block.addr().get());
    }
    target
}
