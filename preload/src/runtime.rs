//! What C++'s operators need of others: the operators as the whole process sees them, any of which a program may have
//! replaced by its own, and the C++ runtime, which hands out new-handlers and throws.
//!
//! None of these can be named in Rust: a name that is defined here would be bound to what is here, and weak references
//! there are not. So words of data hold their addresses, as the loader finds them; 0 for what there is not.

use core::ffi::{CStr, c_void};
use core::ptr::null_mut;

/// `operator new(size_t)` and `operator new[](size_t)`.
pub(crate) type New = unsafe extern "C-unwind" fn(usize) -> *mut c_void;
/// The same for an alignment.
pub(crate) type AlignedNew = unsafe extern "C-unwind" fn(usize, usize) -> *mut c_void;
/// `operator delete(void *)` and `operator delete[](void *)`.
pub(crate) type Delete = unsafe extern "C-unwind" fn(*mut c_void);
/// The same for an alignment.
pub(crate) type AlignedDelete = unsafe extern "C-unwind" fn(*mut c_void, usize);
/// `std::new_handler`.
pub(crate) type Handler = unsafe extern "C-unwind" fn();
type GetHandler = unsafe extern "C" fn() -> Option<Handler>;
type Throw = unsafe extern "C-unwind" fn() -> !;

/// Defines a word for each name: the directive that declares the name, its label, the name.
macro_rules! words {
    ($($directive:literal $label:literal $name:literal;)*) => {
        core::arch::global_asm!(
            ".pushsection .data.rel.ro.antifreeze_runtime,\"aw\",@progbits",
            ".p2align 3",
            $(
                concat!($directive, " ", $name),
                concat!(".globl ", $label),
                concat!(".hidden ", $label),
                concat!($label, ":"),
                concat!(".quad ", $name),
            )*
            ".popsection",
        );
    };
}

words! {
    ".weak" "antifreeze_word_get_new_handler" "_ZSt15get_new_handlerv";
    ".weak" "antifreeze_word_throw_bad_alloc" "_ZSt17__throw_bad_allocv";
    ".globl" "antifreeze_word_new" "_Znwm";
    ".globl" "antifreeze_word_new_array" "_Znam";
    ".globl" "antifreeze_word_aligned_new" "_ZnwmSt11align_val_t";
    ".globl" "antifreeze_word_aligned_new_array" "_ZnamSt11align_val_t";
    ".globl" "antifreeze_word_delete" "_ZdlPv";
    ".globl" "antifreeze_word_delete_array" "_ZdaPv";
    ".globl" "antifreeze_word_aligned_delete" "_ZdlPvSt11align_val_t";
    ".globl" "antifreeze_word_aligned_delete_array" "_ZdaPvSt11align_val_t";
}

unsafe extern "C" {
    #[link_name = "antifreeze_word_get_new_handler"]
    static GET_NEW_HANDLER: Option<GetHandler>;
    #[link_name = "antifreeze_word_throw_bad_alloc"]
    static THROW_BAD_ALLOC: Option<Throw>;
    #[link_name = "antifreeze_word_new"]
    pub(crate) static NEW: New;
    #[link_name = "antifreeze_word_new_array"]
    pub(crate) static NEW_ARRAY: New;
    #[link_name = "antifreeze_word_aligned_new"]
    pub(crate) static ALIGNED_NEW: AlignedNew;
    #[link_name = "antifreeze_word_aligned_new_array"]
    pub(crate) static ALIGNED_NEW_ARRAY: AlignedNew;
    #[link_name = "antifreeze_word_delete"]
    pub(crate) static DELETE: Delete;
    #[link_name = "antifreeze_word_delete_array"]
    pub(crate) static DELETE_ARRAY: Delete;
    #[link_name = "antifreeze_word_aligned_delete"]
    pub(crate) static ALIGNED_DELETE: AlignedDelete;
    #[link_name = "antifreeze_word_aligned_delete_array"]
    pub(crate) static ALIGNED_DELETE_ARRAY: AlignedDelete;

    /// The first byte of this library or program, and the first one after it: the linker defines them.
    static __ehdr_start: u8;
    static _end: u8;
}

/// Whether a function is of this library, and not one by which the program replaced it.
#[inline(always)]
pub(crate) fn is_own(function: *const c_void) -> bool {
    let (start, end) = (&raw const __ehdr_start, &raw const _end);
    (start.addr()..end.addr()).contains(&function.addr())
}

/// The libraries that are, or contain, a C++ runtime.
const LIBRARIES: [&CStr; 3] = [c"libstdc++.so.6", c"libc++.so.1", c"libc++abi.so.1"];

/// Something of a C++ runtime that the program loaded later and keeps to itself, as a plug-in in C++ of a program in C.
#[cold]
fn loaded(name: &CStr) -> *mut c_void {
    for library in LIBRARIES {
        // SAFETY: C strings. What is not loaded yet is not loaded for this; what is stays loaded.
        let found = unsafe {
            let handle = libc::dlopen(library.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if handle.is_null() { null_mut() } else { libc::dlsym(handle, name.as_ptr()) }
        };
        if !found.is_null() {
            return found;
        }
    }
    null_mut()
}

/// The program's new-handler.
pub(crate) fn handler() -> Option<Handler> {
    // SAFETY: null or this function, by the C++ standard and ABI.
    let get = unsafe {
        let word = GET_NEW_HANDLER;
        word.or_else(|| core::mem::transmute::<*mut c_void, Option<GetHandler>>(loaded(c"_ZSt15get_new_handlerv")))
    };
    // SAFETY: it takes nothing and gives the handler.
    get.and_then(|get| unsafe { get() })
}

/// Throws `std::bad_alloc`; comes back if there is no C++ runtime.
pub(crate) fn throw_bad_alloc() {
    // SAFETY: null or this function, of libstdc++ and libc++.
    let throw = unsafe {
        let word = THROW_BAD_ALLOC;
        word.or_else(|| core::mem::transmute::<*mut c_void, Option<Throw>>(loaded(c"_ZSt17__throw_bad_allocv")))
    };
    if let Some(throw) = throw {
        // SAFETY: it throws, through frames of ours that have nothing to clean up.
        unsafe { throw() }
    }
}

/// The operator of this name in the C++ runtime; null if there is none.
pub(crate) fn operator(name: &CStr) -> *mut c_void {
    // SAFETY: a C string.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if next.is_null() { loaded(name) } else { next }
}
