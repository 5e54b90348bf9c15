//! The `malloc` family, with the answers of glibc 2.41 and POSIX.1-2024 where these leave a choice.
//!
//! - A size of 0 gives a block of its own, which must be freed; `realloc(block, 0)` frees the block and gives null.
//! - No block is larger than `PTRDIFF_MAX`.
//! - `errno` is `ENOMEM` when there is no memory, `EINVAL` for an alignment that cannot be had, and kept by `free`.
//! - A pointer that is not of this allocator is reported and left alone; one that is, and is not the start of a live
//!   block, ends the process with a line on standard error.
//!
//! `malloc` and `free` never unwind. They are of the ABI `C-unwind` because a function of the ABI `C` would have to
//! catch what they call, for which it needs a stack frame.

use core::ffi::{c_int, c_void};
use core::ptr::{NonNull, null_mut};

use allocator::c_abi;

use crate::report::{foreign, set_errno};

/// Sees to it that who links `malloc` statically has the constructor too: both are in one object.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = crate::start::start;

/// The block as C's answer, with `errno` if there is none.
#[inline(always)]
fn answer(block: *mut u8) -> *mut c_void {
    if block.is_null() {
        return out_of_memory();
    }
    block.cast()
}

#[cold]
fn out_of_memory() -> *mut c_void {
    set_errno(libc::ENOMEM);
    null_mut()
}

/// What a request that met no memory gets.
fn none(_bytes: usize) -> *mut u8 {
    out_of_memory().cast()
}

/// What `malloc` does. All of this library calls this and its like, never the exported names: another library or the
/// program may have put its own functions in their place, and in a library that `dlopen` loads they are glibc's.
#[inline(always)]
pub(crate) fn block_of(bytes: usize) -> *mut c_void {
    c_abi::allocate(bytes, none).cast()
}

/// What `free` does.
/// # Safety
/// The program gives the block up.
#[inline(always)]
pub(crate) unsafe fn give_up(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { c_abi::deallocate(block.cast(), not_ours) }
}

/// A block of `bytes`.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn malloc(bytes: usize) -> *mut c_void {
    block_of(bytes)
}

/// A zeroed block for `count` elements of `bytes` each.
#[unsafe(no_mangle)]
pub extern "C" fn calloc(count: usize, bytes: usize) -> *mut c_void {
    match count.checked_mul(bytes) {
        Some(bytes) => answer(c_abi::allocate_zeroed(bytes)),
        None => out_of_memory(),
    }
}

/// Frees a block, or does nothing with null.
/// # Safety
/// The program gives the block up.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn free(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { give_up(block) };
}

/// What `free` does with null, and with pointers of others.
fn not_ours(block: *mut u8) {
    if !block.is_null() {
        foreign(c"free", block.cast());
    }
}

/// Makes a block hold `bytes`.
/// # Safety
/// The block is null or live; it is given up if the result is not null, or `bytes` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(block: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { resized(block, bytes) }
}

/// What `realloc` does.
/// # Safety
/// As [`realloc`].
unsafe fn resized(block: *mut c_void, bytes: usize) -> *mut c_void {
    let Some(live) = NonNull::new(block.cast::<u8>()) else { return block_of(bytes) };
    if bytes == 0 {
        // SAFETY: the caller's promise.
        unsafe { give_up(block) };
        return null_mut();
    }
    // SAFETY: the caller's promise.
    match unsafe { c_abi::reallocate(live, bytes) } {
        Ok(block) => answer(block),
        Err(_) => {
            // How much there is to copy nobody knows but its own allocator.
            foreign(c"realloc", block);
            out_of_memory()
        }
    }
}

/// Makes a block hold `count` elements of `bytes` each.
/// # Safety
/// As [`realloc`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(block: *mut c_void, count: usize, bytes: usize) -> *mut c_void {
    match count.checked_mul(bytes) {
        // SAFETY: the caller's promise.
        Some(bytes) => unsafe { resized(block, bytes) },
        None => out_of_memory(),
    }
}

/// `free`, of old.
/// # Safety
/// As [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cfree(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { give_up(block) };
}

/// C23: frees a block that was asked for with `bytes`, which are not needed.
/// # Safety
/// As [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_sized(block: *mut c_void, _bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { give_up(block) };
}

/// C23: frees a block that was asked for with this alignment and size, which are not needed.
/// # Safety
/// As [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_aligned_sized(block: *mut c_void, _align_bytes: usize, _bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { give_up(block) };
}

fn invalid() -> *mut c_void {
    set_errno(libc::EINVAL);
    null_mut()
}

/// A block at a multiple of `align_bytes`, which must be a power of two; the size need not be a multiple of it.
#[unsafe(no_mangle)]
pub extern "C" fn aligned_alloc(align_bytes: usize, bytes: usize) -> *mut c_void {
    if !align_bytes.is_power_of_two() {
        return invalid();
    }
    answer(c_abi::allocate_aligned(bytes, align_bytes))
}

/// A block at a multiple of `align_bytes`, which is rounded up to a power of two.
#[unsafe(no_mangle)]
pub extern "C" fn memalign(align_bytes: usize, bytes: usize) -> *mut c_void {
    aligned_up(align_bytes, bytes)
}

/// What `memalign` does.
fn aligned_up(align_bytes: usize, bytes: usize) -> *mut c_void {
    match align_bytes.checked_next_power_of_two() {
        Some(align_bytes) => answer(c_abi::allocate_aligned(bytes, align_bytes)),
        None => invalid(),
    }
}

/// Puts a block at a multiple of `align_bytes` in `place`; gives 0, `EINVAL` or `ENOMEM`, and keeps `errno`.
/// # Safety
/// `place` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(place: *mut *mut c_void, align_bytes: usize, bytes: usize) -> c_int {
    if !align_bytes.is_power_of_two() || !align_bytes.is_multiple_of(size_of::<*mut c_void>()) {
        return libc::EINVAL;
    }
    let errno = crate::report::errno();
    let block = c_abi::allocate_aligned(bytes, align_bytes);
    set_errno(errno);
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's promise.
    unsafe { place.write(block.cast()) };
    0
}

fn page_bytes() -> usize {
    // SAFETY: getauxval(3) reads a table.
    unsafe { libc::getauxval(libc::AT_PAGESZ) as usize }
}

/// A block at a multiple of the page size.
#[unsafe(no_mangle)]
pub extern "C" fn valloc(bytes: usize) -> *mut c_void {
    aligned_up(page_bytes(), bytes)
}

/// A block of whole pages.
#[unsafe(no_mangle)]
pub extern "C" fn pvalloc(bytes: usize) -> *mut c_void {
    let page_bytes = page_bytes();
    match bytes.checked_next_multiple_of(page_bytes) {
        Some(bytes) => aligned_up(page_bytes, bytes),
        None => out_of_memory(),
    }
}

/// Bytes that the program may use at a block; 0 for null.
/// # Safety
/// The block is null or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    let Some(live) = NonNull::new(block.cast::<u8>()) else { return 0 };
    // SAFETY: the caller's promise.
    unsafe { c_abi::usable_bytes(live) }.unwrap_or_else(|_| {
        foreign(c"malloc_usable_size", block);
        0
    })
}
