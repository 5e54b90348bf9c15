//! Puts the caller of a system call's stub back into a user stack. Stubs of the C library push no frame, so that the
//! kernel, which follows frame pointers, goes from the stub to its caller's caller; the missing one is the function
//! that asked for the call: the culprit, in most reports. Called by `symbols` with what it knows of the addresses.

use super::maps::{Maps, Origin, is_c_library};

/// Functions of a C library that do nothing but one system call, as a program that is linked with it has them, without
/// leading underscores and a `64` at the end.
const STUBS: [&str; 30] = [
    "mmap",
    "munmap",
    "mprotect",
    "mremap",
    "madvise",
    "mlock",
    "munlock",
    "msync",
    "brk",
    "syscall",
    "syscall_cp_c",
    "syscall_cp_asm",
    "read",
    "write",
    "pread",
    "pwrite",
    "readv",
    "writev",
    "open",
    "openat",
    "close",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "nanosleep",
    "clock_nanosleep",
    "poll",
    "epoll_wait",
    "ioctl",
];

/// The longest call instruction of x86-64 that compilers make, in bytes.
pub(super) const CALL_BYTES_MAX: usize = 7;

/// Whether a function is a system call's stub, by its name.
pub(crate) fn is_stub(function: &str) -> bool {
    let name = function.trim_start_matches('_');
    let name = name.strip_prefix("libc_").unwrap_or(name);
    STUBS.contains(&name.strip_suffix("64").unwrap_or(name))
}

/// Whether the bytes end in a call, so that what follows them is where a function returns to. Other architectures than
/// x86-64 keep that address in a register, and have nothing to be repaired.
pub(super) fn ends_in_call(bytes: &[u8]) -> bool {
    let from_end = |count: usize| bytes.len().checked_sub(count).map(|at| &bytes[at..]);
    // The address in the instruction itself; or a byte whose middle bits tell a call through a register or memory.
    let is_near = from_end(5).is_some_and(|code| code[0] == 0xe8);
    let is_through =
        [2, 3, 4, 6, 7].into_iter().filter_map(from_end).any(|code| code[0] == 0xff && code[1] >> 3 & 7 == 2);
    is_near || is_through
}

/// What the decision needs to know of the stack.
pub(super) struct Leaf<'a> {
    pub(super) maps: &'a Maps,
    /// The addresses, the leaf first.
    pub(super) addresses: &'a [u64],
    /// The word on top of the stack.
    pub(super) top_word: u64,
    /// The leaf's function, if it is known.
    pub(super) function: Option<&'a str>,
}

impl Leaf<'_> {
    /// Whether the word is the address of the missing caller. It may still be a pointer to code that just lay there;
    /// the bytes before it tell.
    pub(super) fn lacks_caller(&self) -> bool {
        let Some(&leaf) = self.addresses.first() else { return false };
        if self.addresses.get(1) == Some(&self.top_word) {
            return false;
        }
        let Some((leaf, caller)) = self.maps.place(leaf).zip(self.maps.place(self.top_word)) else { return false };
        if caller.origin == Origin::Vdso {
            return false;
        }
        if is_c_library(self.maps.module(leaf.origin)) {
            return caller.origin != leaf.origin;
        }
        let in_file = matches!(leaf.origin, Origin::File(_));
        in_file && self.maps.is_static() && self.function.is_some_and(is_stub)
    }
}

#[cfg(test)]
mod tests {
    use super::super::maps::MapsCache;
    use super::*;

    const DYNAMIC: &str = "\
1000-2000 r-xp 00000000 00:01 1 /opt/app
8000-9000 r-xp 00000000 00:01 2 /lib/libc.so.6
a000-b000 r-xp 00000000 00:00 0 [vdso]
";
    const STATIC: &str = "1000-2000 r-xp 00000000 00:01 1 /opt/app\n";

    fn lacks(text: &str, addresses: &[u64], top_word: u64, function: Option<&str>) -> bool {
        let mut cache = MapsCache::new();
        cache.insert(1, text);
        Leaf { maps: cache.get(1).unwrap(), addresses, top_word, function }.lacks_caller()
    }

    #[test]
    fn the_caller_of_a_stub_in_the_library_is_missing() {
        assert!(lacks(DYNAMIC, &[0x8010, 0x1020], 0x1010, None));
        assert!(lacks(DYNAMIC, &[0x8010], 0x1010, None), "a program without frame pointers");
    }

    #[test]
    fn nothing_is_missing_where_the_word_is_something_else() {
        assert!(!lacks(DYNAMIC, &[0x8010, 0x1010], 0x1010, None), "it is there already");
        assert!(!lacks(DYNAMIC, &[0x8010, 0x1020], 0x8020, None), "the library itself");
        assert!(!lacks(DYNAMIC, &[0x8010, 0x1020], 0x3000, None), "no code");
        assert!(!lacks(DYNAMIC, &[0x8010, 0x1020], 0, None), "not known");
        assert!(!lacks(DYNAMIC, &[0x8010, 0x1020], 0xa010, None), "the kernel's code calls no stub");
        assert!(!lacks(DYNAMIC, &[0x1010, 0x1020], 0x1040, None), "the leaf is the program's, which has frames");
        assert!(!lacks(DYNAMIC, &[], 0x1010, None));
    }

    #[test]
    fn a_static_program_is_told_by_the_name_of_its_leaf() {
        assert!(lacks(STATIC, &[0x1010, 0x1020], 0x1040, Some("__munmap")));
        assert!(!lacks(STATIC, &[0x1010, 0x1020], 0x1040, Some("app::grow")));
        assert!(!lacks(STATIC, &[0x1010, 0x1020], 0x1040, None));
        assert!(["munmap", "__mmap64", "__libc_read", "fdatasync", "syscall"].map(is_stub).iter().all(|is| *is));
        assert!(!["app::mmap", "munmap_all", "", "64"].map(is_stub).iter().any(|is| *is));
    }

    #[test]
    fn calls_are_told_from_other_code() {
        let calls: [&[u8]; 6] = [
            &[0x90, 0x90, 0xe8, 1, 2, 3, 4],
            &[0xff, 0xd0],
            &[0x41, 0xff, 0xd3],
            &[0xff, 0x15, 1, 2, 3, 4],
            &[0x41, 0xff, 0x94, 0x24, 1, 2, 3, 4],
            &[0xff, 0x50, 0x18],
        ];
        assert!(calls.iter().all(|code| ends_in_call(code)));
        let others: [&[u8]; 5] =
            [&[], &[0xe8], &[0x90; CALL_BYTES_MAX], &[0x48, 0x8b, 5, 1, 2, 3, 4], &[0, 0, 0, 0, 0, 0xff, 0xe0]];
        assert!(!others.iter().any(|code| ends_in_call(code)));
    }
}
