//! C++'s operators `new` and `delete`, by their names in the Itanium ABI.
//!
//! As the standard has it, all forms come down to `new(size)`, `delete(pointer)` and those with an alignment, any of
//! which a program may replace: so forms call each other as the whole process sees them, never directly.
//!
//! Without memory, `new` calls the program's new-handler again and again and throws `bad_alloc` when there is none. A
//! form that must not throw is left to the C++ runtime's own, which calls `new` and catches, where something else than
//! ours would be called that may throw: a handler or an operator of the program.

use core::ffi::c_void;
use core::ptr::null_mut;

use allocator::c_abi;

use crate::family;
use crate::report::Line;
use crate::runtime::{
    ALIGNED_DELETE, ALIGNED_DELETE_ARRAY, ALIGNED_NEW, ALIGNED_NEW_ARRAY, DELETE, DELETE_ARRAY, NEW, NEW_ARRAY,
    handler, is_own, operator, throw_bad_alloc,
};

/// `operator new(size_t)`.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn _Znwm(bytes: usize) -> *mut c_void {
    c_abi::allocate(bytes, |bytes| without_memory(bytes, 1).cast()).cast()
}

/// `operator new(size_t, std::align_val_t)`.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn _ZnwmSt11align_val_t(bytes: usize, align_bytes: usize) -> *mut c_void {
    let block = c_abi::allocate_aligned(bytes, align_bytes);
    if block.is_null() { without_memory(bytes, align_bytes) } else { block.cast() }
}

/// A block, or what the standard says where there is no memory.
#[cold]
#[inline(never)]
fn without_memory(bytes: usize, align_bytes: usize) -> *mut c_void {
    // No handler can make an alignment that is no power of two possible.
    while align_bytes.is_power_of_two()
        && let Some(handler) = handler()
    {
        // SAFETY: the program's function, to be called in just this case. What it throws goes on to who called `new`.
        unsafe { handler() };
        let block = c_abi::allocate_aligned(bytes, align_bytes);
        if !block.is_null() {
            return block.cast();
        }
    }
    throw_bad_alloc();
    let mut line = Line::new();
    line.put(b"operator new: no memory, and no C++ runtime to throw bad_alloc, for bytes: ");
    line.put_address(bytes);
    line.show();
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}

/// `operator new[](size_t)`.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn _Znam(bytes: usize) -> *mut c_void {
    // SAFETY: the operator takes any size.
    unsafe { NEW(bytes) }
}

/// `operator new[](size_t, std::align_val_t)`.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn _ZnamSt11align_val_t(bytes: usize, align_bytes: usize) -> *mut c_void {
    // SAFETY: the operator takes any size; the alignment is the caller's.
    unsafe { ALIGNED_NEW(bytes, align_bytes) }
}

/// Defines a form that must not throw. `$throwing` are the operators that it comes down to, `$last` the one of these
/// that it calls, `$own` what that does if all of them are ours: null where there is no memory.
macro_rules! nothrow_new {
    ($(#[$doc:meta])* $name:ident, $text:literal, ($($argument:ident),*), [$($throwing:ident),*], $own:expr) => {
        $(#[$doc])*
        /// # Safety
        /// The last argument is not looked at.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($($argument: usize,)* nothrow: *const c_void) -> *mut c_void {
            // SAFETY: words that the loader has filled in.
            if unsafe { $(is_own($throwing as *const c_void))&&* } {
                let block: *mut u8 = $own;
                if !block.is_null() || handler().is_none() {
                    return block.cast();
                }
            }
            let runtimes = operator($text);
            if runtimes.is_null() {
                // Nobody is there to catch what is thrown.
                // SAFETY: the operator takes what we were given.
                return unsafe { nothrow_new!(@first $($throwing),*)($($argument),*) };
            }
            // SAFETY: the runtime's operator of this very name has this type, and takes what we were given.
            unsafe {
                core::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C-unwind" fn($(nothrow_new!(@size $argument),)* *const c_void) -> *mut c_void,
                >(runtimes)($($argument,)* nothrow)
            }
        }
    };
    (@first $first:ident $(, $rest:ident)*) => { $first };
    (@size $argument:ident) => { usize };
}

nothrow_new! {
    /// `operator new(size_t, const std::nothrow_t &)`.
    _ZnwmRKSt9nothrow_t, c"_ZnwmRKSt9nothrow_t", (bytes), [NEW], c_abi::allocate(bytes, |_| null_mut())
}
nothrow_new! {
    /// `operator new[](size_t, const std::nothrow_t &)`.
    _ZnamRKSt9nothrow_t, c"_ZnamRKSt9nothrow_t", (bytes), [NEW_ARRAY, NEW], c_abi::allocate(bytes, |_| null_mut())
}
nothrow_new! {
    /// `operator new(size_t, std::align_val_t, const std::nothrow_t &)`.
    _ZnwmSt11align_val_tRKSt9nothrow_t, c"_ZnwmSt11align_val_tRKSt9nothrow_t", (bytes, align_bytes), [ALIGNED_NEW],
    c_abi::allocate_aligned(bytes, align_bytes)
}
nothrow_new! {
    /// `operator new[](size_t, std::align_val_t, const std::nothrow_t &)`.
    _ZnamSt11align_val_tRKSt9nothrow_t, c"_ZnamSt11align_val_tRKSt9nothrow_t", (bytes, align_bytes),
    [ALIGNED_NEW_ARRAY, ALIGNED_NEW], c_abi::allocate_aligned(bytes, align_bytes)
}

/// `operator delete(void *)`.
/// # Safety
/// The block is null, or live and given up.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn _ZdlPv(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { family::give_up(block) };
}

/// `operator delete(void *, std::align_val_t)`.
/// # Safety
/// The block is null, or live and given up.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn _ZdlPvSt11align_val_t(block: *mut c_void, _align_bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { family::give_up(block) };
}

/// Defines forms of `delete` by the operators that they come down to.
macro_rules! delete_operators {
    ($($name:ident($($argument:ident: $type:ty),*) = $to:ident($($passed:ident),*);)*) => {$(
        /// A form of `operator delete`.
        /// # Safety
        /// The block is null, or live and given up.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(block: *mut c_void $(, $argument: $type)*) {
            // SAFETY: the caller's promise.
            unsafe { $to(block $(, $passed)*) };
        }
    )*};
}

delete_operators! {
    _ZdaPv() = DELETE();
    _ZdlPvm(_bytes: usize) = DELETE();
    _ZdaPvm(_bytes: usize) = DELETE_ARRAY();
    _ZdlPvRKSt9nothrow_t(_nothrow: *const c_void) = DELETE();
    _ZdaPvRKSt9nothrow_t(_nothrow: *const c_void) = DELETE_ARRAY();
    _ZdaPvSt11align_val_t(align_bytes: usize) = ALIGNED_DELETE(align_bytes);
    _ZdlPvmSt11align_val_t(_bytes: usize, align_bytes: usize) = ALIGNED_DELETE(align_bytes);
    _ZdaPvmSt11align_val_t(_bytes: usize, align_bytes: usize) = ALIGNED_DELETE_ARRAY(align_bytes);
    _ZdlPvSt11align_val_tRKSt9nothrow_t(align_bytes: usize, _nothrow: *const c_void) = ALIGNED_DELETE(align_bytes);
    _ZdaPvSt11align_val_tRKSt9nothrow_t(align_bytes: usize, _nothrow: *const c_void)
        = ALIGNED_DELETE_ARRAY(align_bytes);
}
