//! Questions about the heap, and knobs of other allocators, as glibc has them.

use core::ffi::{c_char, c_int};

use allocator::{c_abi, stats};

use crate::report::{set_errno, show};

/// `struct mallinfo` of glibc: all in bytes, but for the counts `ordblks`, `smblks` and `hblks`.
#[repr(C)]
pub struct Mallinfo<T> {
    arena: T,
    ordblks: T,
    smblks: T,
    hblks: T,
    hblkhd: T,
    usmblks: T,
    fsmblks: T,
    uordblks: T,
    fordblks: T,
    keepcost: T,
}

fn mallinfo_of<T: From<u8>>(number: impl Fn(u64) -> T) -> Mallinfo<T> {
    let memory = stats().memory;
    let none = || T::from(0);
    Mallinfo {
        arena: number(memory.resident),
        ordblks: none(),
        smblks: none(),
        hblks: none(),
        hblkhd: none(),
        usmblks: none(),
        fsmblks: none(),
        uordblks: number(memory.allocated),
        fordblks: number(memory.resident.saturating_sub(memory.allocated)),
        keepcost: number(memory.warm),
    }
}

/// What is in use (`uordblks`), free but resident (`fordblks`), both together (`arena`), and could be given back
/// (`keepcost`), in bytes. Cost: as [`stats`].
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo2() -> Mallinfo<usize> {
    mallinfo_of(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

/// Like [`mallinfo2`]; what an `int` cannot hold is the largest one.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo() -> Mallinfo<c_int> {
    mallinfo_of(|number| c_int::try_from(number).unwrap_or(c_int::MAX))
}

/// Asks for all freed memory to be given back soon, by the background thread. Gives 1 if there is any. `pad` is not
/// needed: what is given back costs no call to get again.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_trim(_pad: usize) -> c_int {
    let has_any = stats().memory.warm > 0;
    allocator::purge(usize::MAX);
    c_abi::start_governor_if_due();
    c_int::from(has_any)
}

/// Accepts everything, as glibc does, and changes nothing: the options of this allocator are `ANTIFREEZE_*`. Gives 1.
#[unsafe(no_mangle)]
pub extern "C" fn mallopt(_option: c_int, _value: c_int) -> c_int {
    1
}

/// Prints statistics to standard error.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_stats() {
    let mut buffer = [0; 8192];
    if let Ok(text) = stats().text(&mut buffer) {
        show(text.as_bytes());
    }
}

/// Writes the same as [`mallinfo2`] to a stream, as XML in the manner of glibc. Gives 0; or -1 with `errno`: `EINVAL`
/// if `options` is not 0, else that of the stream.
/// # Safety
/// `stream` is an open stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_info(options: c_int, stream: *mut libc::FILE) -> c_int {
    if options != 0 {
        set_errno(libc::EINVAL);
        return -1;
    }
    let memory = stats().memory;
    let of = |number: u64| number as libc::c_ulonglong;
    // SAFETY: 1. The stream is open, by the caller's promise.
    //         2. The format takes five numbers of this type.
    let written = unsafe {
        libc::fprintf(
            stream,
            c"<malloc version=\"1\">\n<total type=\"allocated\" size=\"%llu\"/>\n<total type=\"active\" size=\"%llu\"/>\n\
              <system type=\"current\" size=\"%llu\"/>\n<system type=\"warm\" size=\"%llu\"/>\n\
              <aspace type=\"total\" size=\"%llu\"/>\n</malloc>\n"
                .as_ptr()
                .cast::<c_char>(),
            of(memory.allocated),
            of(memory.active),
            of(memory.resident),
            of(memory.warm),
            of(memory.reserved),
        )
    };
    if written < 0 { -1 } else { 0 }
}
