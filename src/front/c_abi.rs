//! What a C library needs that `GlobalAlloc` does not give: blocks without layouts, and pointers of others as an answer
//! instead of an end. For the crate `preload`, behind the feature `c-abi`.
//!
//! The governor's thread is started by requests for memory only, never by [`deallocate`]: a C library frees memory with
//! locks held that starting a thread needs. So that what is freed comes back also in a program that never asks for
//! memory again, the first hugepage that a program takes starts it as well. In a child of `vfork` nobody starts one.
//!
//! Nothing here sets `errno` but what is said to.

use core::alloc::Layout;
use core::ptr::{NonNull, null_mut};

use super::allocate;
use super::global::{self, Antifreeze, ENGINE};
use super::introspect;
use crate::limits::BLOCK_ALIGN_BYTES;
use crate::span::size_class::Class;
use crate::stats::Stats;
use crate::thread::heap::Heap;
use crate::thread::tls;

static ALLOCATOR: Antifreeze = Antifreeze::new();

/// The answer about a pointer that is not into memory of this allocator. Null is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Foreign;

/// A block of `bytes`, also of none, at a multiple of 16; what `failed` makes of `bytes` if there is no memory.
/// Functions instead of answers, here and in [`deallocate`], as a call at the very end keeps the usual path without a
/// stack frame.
#[inline(always)]
pub fn allocate(bytes: usize, failed: fn(usize) -> *mut u8) -> *mut u8 {
    if let Some(class) = Class::common(bytes, BLOCK_ALIGN_BYTES)
        && let Some(block) = tls::heap().pop(class)
    {
        return crate::arena::pointer_at(block);
    }
    allocate_uncommon(bytes, failed)
}

#[inline(never)]
fn allocate_uncommon(bytes: usize, failed: fn(usize) -> *mut u8) -> *mut u8 {
    let block = allocate_aligned(bytes, BLOCK_ALIGN_BYTES);
    if block.is_null() { failed(bytes) } else { block }
}

/// A block of `bytes` at a multiple of `align_bytes`. Null if there is no memory, or if that is not a power of two; the
/// caller sets `errno`.
pub fn allocate_aligned(bytes: usize, align_bytes: usize) -> *mut u8 {
    with_layout(bytes, align_bytes, |heap, layout| allocate::allocate(&ENGINE, heap, layout))
}

/// A block of `bytes`, all zero, at a multiple of 16. Null if there is no memory; the caller sets `errno`.
pub fn allocate_zeroed(bytes: usize) -> *mut u8 {
    with_layout(bytes, BLOCK_ALIGN_BYTES, |heap, layout| allocate::allocate_zeroed(&ENGINE, heap, layout))
}

#[inline(always)]
fn with_layout(bytes: usize, align_bytes: usize, act: impl FnOnce(&Heap, Layout) -> *mut u8) -> *mut u8 {
    let Ok(layout) = Layout::from_size_align(bytes, align_bytes) else { return null_mut() };
    with_heap(|heap| act(heap, layout))
}

/// A block, taken by `act` from the calling thread's heap. Null if there is no memory.
#[inline(always)]
fn with_heap(act: impl FnOnce(&Heap) -> *mut u8) -> *mut u8 {
    if tls::heap().is_stand_in() {
        // Before the engine starts; later it changes nothing.
        ENGINE.arena().start_governor_late();
        global::leave_forks_to_others();
    }
    let block = ALLOCATOR.with_heap(act);
    ENGINE.arena().start_governor_if_due();
    block
}

/// Frees a block. A pointer into memory of this allocator that is not the start of a live block ends the process with a
/// line on standard error; of any other, null for one, `foreign` is told, and nothing else happens. Keeps `errno`: the
/// one system call, to wake the governor, cannot fail.
/// # Safety
/// The program gives the block up.
#[inline(always)]
pub unsafe fn deallocate(block: *mut u8, foreign: fn(*mut u8)) {
    // SAFETY: the caller's promise.
    unsafe {
        if !allocate::deallocate_local(&ENGINE, tls::heap(), block.addr()) {
            deallocate_elsewhere(block, foreign);
        }
    }
}

/// Frees a block that is not of a slab of this thread.
/// # Safety
/// As [`deallocate`].
#[inline(never)]
unsafe fn deallocate_elsewhere(block: *mut u8, foreign: fn(*mut u8)) {
    // SAFETY: the caller's promise.
    if !unsafe { allocate::deallocate_slow(&ENGINE, tls::heap(), block.addr()) } {
        foreign(block);
    }
}

/// Makes a block hold `bytes`, in place or elsewhere. Null if there is no memory: the block is as before; the caller
/// sets `errno`. Pointers that are not the start of a live block are treated as in [`deallocate`].
///
/// # Errors
/// The pointer is not of this allocator; nothing happened.
/// # Safety
/// The block is live, and given up if the result is not null.
pub unsafe fn reallocate(block: NonNull<u8>, bytes: usize) -> Result<*mut u8, Foreign> {
    let owner = allocate::owner_of_start(&ENGINE, block.addr().get(), "realloc").ok_or(Foreign)?;
    let Ok(layout) = Layout::from_size_align(owner.usable_bytes(), BLOCK_ALIGN_BYTES) else { return Ok(null_mut()) };
    if Layout::from_size_align(bytes, BLOCK_ALIGN_BYTES).is_err() {
        return Ok(null_mut());
    }
    // SAFETY: the block is live and this large, and any block is aligned to 16.
    Ok(with_heap(|heap| unsafe { allocate::reallocate_of(&ENGINE, heap, &owner, block, layout, bytes) }))
}

/// Bytes that the program may use at `block`. Pointers that are not the start of a live block are treated as in
/// [`deallocate`].
///
/// # Errors
/// The pointer is not of this allocator.
/// # Safety
/// The block is live, if it is of this allocator.
pub unsafe fn usable_bytes(block: NonNull<u8>) -> Result<usize, Foreign> {
    let owner = allocate::owner_of_start(&ENGINE, block.addr().get(), "malloc_usable_size").ok_or(Foreign)?;
    Ok(owner.usable_bytes())
}

/// Has forks noted from now on, so that a forked child gives memory back as well. To be called once, when the library
/// is loaded: a request for memory does not do it, as the C library may make one with the lock held that this takes.
pub fn note_forks() {
    global::note_forks();
}

/// Puts in `stats` what [`stats`](crate::stats()) gives: a `Stats` takes 4 KiB, which a thread that handles a signal
/// may not have on its stack.
pub fn read_stats(stats: &mut Stats) {
    introspect::read_stats(stats);
}

/// Starts the governor's thread if there is something for it to do: after [`purge`](crate::purge) or
/// [`prewarm`](crate::prewarm()), which do not.
pub fn start_governor_if_due() {
    ENGINE.arena().start_governor_if_due();
}
