//! C++'s operators `new` and `delete`, by their names in the Itanium ABI.
//!
//! Without memory, `new` calls the program's new-handler again and again, as the standard wants, and throws `bad_alloc`
//! when there is none. Throwing is the C++ runtime's business: it is reached through weak references, so that programs
//! in C need none. A `new` that must not throw, in a program with a handler, which may, is left to the runtime's own
//! operator, which calls ours and catches.

use core::ffi::{CStr, c_void};
use core::ptr::null_mut;

use crate::family::free;
use crate::report::Line;
use allocator::c_abi;

/// `std::new_handler`.
type Handler = unsafe extern "C-unwind" fn();

// Weak references cannot be written in Rust itself. The words are relocated when the library is loaded; 0 if there is
// no C++ runtime then.
core::arch::global_asm!(
    ".weak _ZSt15get_new_handlerv",
    ".weak _ZSt17__throw_bad_allocv",
    ".pushsection .data.rel.ro.antifreeze_runtime,\"aw\",@progbits",
    ".p2align 3",
    ".globl antifreeze_runtime_get_new_handler",
    ".hidden antifreeze_runtime_get_new_handler",
    "antifreeze_runtime_get_new_handler:",
    ".quad _ZSt15get_new_handlerv",
    ".globl antifreeze_runtime_throw_bad_alloc",
    ".hidden antifreeze_runtime_throw_bad_alloc",
    "antifreeze_runtime_throw_bad_alloc:",
    ".quad _ZSt17__throw_bad_allocv",
    ".popsection",
);

unsafe extern "C" {
    /// `std::get_new_handler`.
    #[link_name = "antifreeze_runtime_get_new_handler"]
    static GET_NEW_HANDLER: Option<unsafe extern "C" fn() -> Option<Handler>>;
    /// `std::__throw_bad_alloc`, of libstdc++ and libc++.
    #[link_name = "antifreeze_runtime_throw_bad_alloc"]
    static THROW_BAD_ALLOC: Option<unsafe extern "C-unwind" fn() -> !>;
}

/// The program's handler.
fn handler() -> Option<Handler> {
    // SAFETY: both words are null or functions of these types, by the C++ standard and ABI.
    unsafe { GET_NEW_HANDLER.and_then(|get| get()) }
}

/// Alignments up to this one every block has.
const ALIGN_BYTES: usize = 16;

/// A block where the plain operator found no memory.
fn new_plain_without_memory(bytes: usize) -> *mut u8 {
    new_without_memory(bytes, ALIGN_BYTES).cast()
}

/// A block, or what the standard says where there is no memory.
#[cold]
#[inline(never)]
fn new_without_memory(bytes: usize, align_bytes: usize) -> *mut c_void {
    loop {
        match handler() {
            // SAFETY: the program's function, to be called in just this case. What it throws goes on to who called
            // `new`.
            Some(handler) => unsafe { handler() },
            None => throw_bad_alloc(bytes),
        }
        let block = c_abi::allocate_aligned(bytes, align_bytes);
        if !block.is_null() {
            return block.cast();
        }
    }
}

fn throw_bad_alloc(bytes: usize) -> ! {
    // SAFETY: the word is null or this function.
    match unsafe { THROW_BAD_ALLOC } {
        // SAFETY: it throws, through frames of ours that have nothing to clean up.
        Some(throw) => unsafe { throw() },
        None => {
            let mut line = Line::new();
            line.put(b"operator new: no memory, and no C++ runtime to throw bad_alloc, for bytes: ");
            line.put_address(bytes);
            line.show();
            // SAFETY: ends the process.
            unsafe { libc::abort() }
        }
    }
}

/// Where the plain operator found no memory: null, unless the program has a handler. `name` is the operator's own.
/// # Safety
/// `call` calls the function that it is given as the operator of that name.
#[cold]
#[inline(never)]
unsafe fn new_nothrow_without_memory(
    name: &CStr,
    retry: impl Fn() -> *mut u8,
    call: impl FnOnce(*mut c_void) -> *mut c_void,
) -> *mut c_void {
    while let Some(handler) = handler() {
        // SAFETY: the name is a C string.
        let next = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        if !next.is_null() {
            return call(next);
        }
        // A program that is linked statically has no other one.
        // SAFETY: as in `new_without_memory`.
        unsafe { handler() };
        let block = retry();
        if !block.is_null() {
            return block.cast();
        }
    }
    null_mut()
}

/// Defines a plain operator `new` and the one that must not throw.
macro_rules! new_operators {
    ($(#[$doc:meta] $name:ident, $nothrow:ident, $nothrow_name:literal);* $(;)?) => {$(
        #[$doc]
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $name(bytes: usize) -> *mut c_void {
            c_abi::allocate(bytes, new_plain_without_memory).cast()
        }

        #[$doc]
        ///
        /// Null instead of an exception.
        /// # Safety
        /// The second argument is not looked at.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $nothrow(bytes: usize, nothrow: *const c_void) -> *mut c_void {
            let block = c_abi::allocate(bytes, |_| null_mut());
            if !block.is_null() {
                return block.cast();
            }
            let call = |next| {
                type Operator = unsafe extern "C-unwind" fn(usize, *const c_void) -> *mut c_void;
                // SAFETY: the next operator of this very name has this type, and takes what we were given.
                unsafe { core::mem::transmute::<*mut c_void, Operator>(next)(bytes, nothrow) }
            };
            // SAFETY: `call` does so.
            unsafe { new_nothrow_without_memory($nothrow_name, || c_abi::allocate_aligned(bytes, ALIGN_BYTES), call) }
        }
    )*};
}

/// Defines an aligned operator `new` and the one that must not throw.
macro_rules! aligned_new_operators {
    ($(#[$doc:meta] $name:ident, $nothrow:ident, $nothrow_name:literal);* $(;)?) => {$(
        #[$doc]
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $name(bytes: usize, align_bytes: usize) -> *mut c_void {
            let block = c_abi::allocate_aligned(bytes, align_bytes);
            if block.is_null() { new_without_memory(bytes, align_bytes) } else { block.cast() }
        }

        #[$doc]
        ///
        /// Null instead of an exception.
        /// # Safety
        /// The third argument is not looked at.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $nothrow(
            bytes: usize,
            align_bytes: usize,
            nothrow: *const c_void,
        ) -> *mut c_void {
            let block = c_abi::allocate_aligned(bytes, align_bytes);
            if !block.is_null() {
                return block.cast();
            }
            let call = |next| {
                type Operator = unsafe extern "C-unwind" fn(usize, usize, *const c_void) -> *mut c_void;
                // SAFETY: the next operator of this very name has this type, and takes what we were given.
                unsafe { core::mem::transmute::<*mut c_void, Operator>(next)(bytes, align_bytes, nothrow) }
            };
            // SAFETY: `call` does so.
            unsafe { new_nothrow_without_memory($nothrow_name, || c_abi::allocate_aligned(bytes, align_bytes), call) }
        }
    )*};
}

/// Defines operators `delete`: all of them free the block, and need none of their further arguments.
macro_rules! delete_operators {
    ($($name:ident($($argument:ident: $type:ty),*));* $(;)?) => {$(
        /// `operator delete`.
        /// # Safety
        /// The block is null, or live and given up.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(block: *mut c_void $(, $argument: $type)*) {
            // SAFETY: the caller's promise.
            unsafe { free(block) };
        }
    )*};
}

new_operators! {
    /// `operator new`.
    _Znwm, _ZnwmRKSt9nothrow_t, c"_ZnwmRKSt9nothrow_t";
    /// `operator new[]`.
    _Znam, _ZnamRKSt9nothrow_t, c"_ZnamRKSt9nothrow_t";
}

aligned_new_operators! {
    /// Aligned `operator new`.
    _ZnwmSt11align_val_t, _ZnwmSt11align_val_tRKSt9nothrow_t, c"_ZnwmSt11align_val_tRKSt9nothrow_t";
    /// Aligned `operator new[]`.
    _ZnamSt11align_val_t, _ZnamSt11align_val_tRKSt9nothrow_t, c"_ZnamSt11align_val_tRKSt9nothrow_t";
}

delete_operators! {
    _ZdlPv();
    _ZdaPv();
    _ZdlPvRKSt9nothrow_t(_nothrow: *const c_void);
    _ZdaPvRKSt9nothrow_t(_nothrow: *const c_void);
    _ZdlPvm(_bytes: usize);
    _ZdaPvm(_bytes: usize);
    _ZdlPvSt11align_val_t(_align_bytes: usize);
    _ZdaPvSt11align_val_t(_align_bytes: usize);
    _ZdlPvmSt11align_val_t(_bytes: usize, _align_bytes: usize);
    _ZdaPvmSt11align_val_t(_bytes: usize, _align_bytes: usize);
    _ZdlPvSt11align_val_tRKSt9nothrow_t(_align_bytes: usize, _nothrow: *const c_void);
    _ZdaPvSt11align_val_tRKSt9nothrow_t(_align_bytes: usize, _nothrow: *const c_void);
}
