//! Tells the program's own functions from those of the libraries that every program has: the culprit is the first of
//! its own, not the C library's `munmap` or the standard library's `Vec::push`.

use crate::freeze::Frame;
use crate::symbols::is_unknown;

/// Files that belong to the system.
const SYSTEM_MODULES: [&str; 12] = [
    "libc.so.",
    "libc-",
    "libc.musl-",
    "ld-",
    "libpthread",
    "libm.so.",
    "libm-",
    "librt",
    "libdl",
    "libgcc_s",
    "libstdc++",
    "[vdso]",
];

/// Crates that stand between a program and the kernel, or run its threads: of them it is no news that they wait.
const LIBRARY_CRATES: [&str; 27] = [
    "std",
    "core",
    "alloc",
    "tokio",
    "async_std",
    "async_io",
    "smol",
    "futures",
    "futures_util",
    "futures_executor",
    "parking_lot",
    "parking_lot_core",
    "lock_api",
    "crossbeam_channel",
    "crossbeam_utils",
    "rayon",
    "rayon_core",
    "mio",
    "polling",
    "hashbrown",
    "nix",
    "rustix",
    "libc",
    "memmap2",
    "antifreeze",
    "compiler_builtins",
    "__rustc",
];

/// How functions without a path begin that are not the program's: what the compiler adds, allocators, and the start.
const LIBRARY_FUNCTIONS: [&str; 14] = [
    "__rust_",
    "__rdl_",
    "__rg_",
    "rust_",
    "_rjem_",
    "je_",
    "mi_",
    "_mi_",
    "__libc_",
    "__pthread_",
    "pthread_",
    "start_thread",
    "clone",
    "_start",
];

/// Types of the language itself; what can be done with them is of the standard library.
const PRIMITIVES: [&str; 17] = [
    "bool", "char", "str", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
    "f32", "f64",
];

/// The crate of a Rust function, such as `app` in `<&mut app::Index as core::fmt::Debug>::fmt`. Of a type that is the
/// language's or any, it is the crate of the trait, or the standard library.
fn crate_of(function: &str) -> Option<&str> {
    let mut path = function.trim_start_matches(['<', '&', '*', '(', '[']);
    for word in ["mut ", "const ", "dyn ", "impl "] {
        path = path.strip_prefix(word).unwrap_or(path);
    }
    let path = path.trim_start_matches(['<', '&', '[']);
    let name = path.split_once("::")?.0;
    let name = name.split_once(" as ").map_or(name, |(_, name)| name);
    // The v0 scheme can carry a disambiguator: `app[1a2b]::grow`.
    let name = name.split_once('[').map_or(name, |(name, _)| name).trim_end_matches(['>', ']', ')']);
    let is_any = name.len() == 1 && name.chars().all(|letter| letter.is_ascii_uppercase());
    Some(if is_any || PRIMITIVES.contains(&name) { "core" } else { name })
}

/// Whether a function is one of the program's own.
pub(super) fn is_own(frame: &Frame) -> bool {
    if is_unknown(frame) || SYSTEM_MODULES.iter().any(|start| frame.module.starts_with(start)) {
        return false;
    }
    match crate_of(&frame.function) {
        Some(name) => !LIBRARY_CRATES.contains(&name),
        None => {
            let is_library = LIBRARY_FUNCTIONS.iter().any(|start| frame.function.starts_with(start));
            !is_library && !crate::symbols::is_stub(&frame.function)
        }
    }
}

/// The innermost function of the program itself on a stack whose leaf is first.
pub(super) fn called_from(user: &[Frame]) -> Option<&str> {
    user.iter().find(|frame| is_own(frame)).map(|frame| frame.function.as_str())
}

/// The frames that libraries put on top of the innermost function of the program.
pub(crate) fn library_part(user: &[Frame]) -> &[Frame] {
    let end = user.iter().position(is_own).unwrap_or(user.len());
    &user[..end]
}

#[cfg(test)]
mod tests {
    use super::super::samples::frames;
    use super::*;

    #[test]
    fn the_culprit_is_the_programs_own_function() {
        let of = |text: &str| called_from(&frames(text)).map(str::to_owned);
        let cases = [
            (
                "munmap@libc.so.6; <alloc::vec::Vec<app::Row> as core::ops::Drop>::drop@app; index::grow@app; main@app",
                "index::grow",
            ),
            (
                "syscall@libc.so.6; std::sys::futex::futex_wait@app; std::sync::Mutex::lock@app; app::look_up@app",
                "app::look_up",
            ),
            (
                "munmap@libc.so.6; nix::sys::mman::munmap@app; <app::Index as core::ops::Drop>::drop@app",
                "<app::Index as core::ops::Drop>::drop",
            ),
            ("__munmap@app; app::grow@app", "app::grow"),
            (
                "mmap@libc.so.6; _rjem_je_extent@app; alloc::raw_vec::finish_grow@app; app[1f]::push@app",
                "app[1f]::push",
            ),
            ("read@libc.so.6; main@server", "main"),
            ("munmap@libc.so.6; free@libc.so.6; __rustc::__rust_dealloc@app; app::double@app", "app::double"),
            (
                "<u64>::wrapping_mul@app; <[T]>::sort@app; <T as core::convert::Into<U>>::into@app; app::sum@app",
                "app::sum",
            ),
            (
                "<&mut F as core::ops::FnMut<A>>::call_mut@app; <F as app::Handler>::call@app",
                "<F as app::Handler>::call",
            ),
            ("0x4711@app; tokio::runtime::park@app; app::serve@app", "app::serve"),
            (
                "epoll_wait@libc.so.6; <&mut core::option::Option<app::X> as Debug>::fmt@app; py_eval@libpython3.so",
                "py_eval",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(of(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(of("munmap@libc.so.6; std::thread::spawn@app; start_thread@libc.so.6"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn the_library_part_ends_where_the_program_begins() {
        let stack = frames("syscall@libc.so.6; std::sync::Mutex::lock@app; app::look_up@app; std::thread::spawn@app");
        assert_eq!(library_part(&stack).len(), 2);
        assert_eq!(library_part(&stack[3..]).len(), 1);
    }
}
