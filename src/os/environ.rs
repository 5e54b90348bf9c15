//! Reads the process's environment without locks or allocation, also before `main`. Called by `options`.

use core::ffi::{CStr, c_char};

unsafe extern "C" {
    /// The process's environment (environ(7)): a list of `NAME=value` strings, ended by null.
    static environ: *const *const c_char;
}

/// The strings of an environment, one after the other.
pub(crate) struct Entries {
    /// The next string of the list, or null: there is none.
    next: *const *const c_char,
}

impl Iterator for Entries {
    type Item = &'static [u8];

    fn next(&mut self) -> Option<&'static [u8]> {
        if self.next.is_null() {
            return None;
        }
        // SAFETY: 1. `next` points into a list of C strings that a null ends, by the contract of `Entries::of`, and
        //            never moves past that null.
        //         2. The strings stay as they are, by the same contract.
        unsafe {
            let text = *self.next;
            if text.is_null() {
                return None;
            }
            self.next = self.next.add(1);
            Some(CStr::from_ptr(text).to_bytes())
        }
    }
}

impl Entries {
    /// The strings of `list`.
    /// # Safety
    /// `list` is null or points to C strings that a null ends, and neither it nor they change for as long as what
    /// comes from here is used.
    unsafe fn of(list: *const *const c_char) -> Self {
        Entries { next: list }
    }
}

/// The `NAME=value` strings of the process. None at all in a program that runs with rights that whoever started it may
/// not have (a set-user-ID program): it must not listen to them.
///
/// Reads the list as it is: a program that changes its environment from another thread at the same time races, as with
/// `getenv`; the allocator reads it once, at the first allocation.
pub(crate) fn entries() -> Entries {
    // SAFETY: `environ` is null or such a list (environ(7)), and the caller runs before anything changes it.
    unsafe { Entries::of(if is_ignored() { core::ptr::null() } else { environ }) }
}

/// Whether the environment is not listened to, because the program runs with rights that whoever started it may not
/// have.
pub(crate) fn is_ignored() -> bool {
    // SAFETY: getauxval(3) reads a table.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::vec::Vec;

    #[test]
    fn a_list_ends_at_its_null() {
        let list = [c"A=1".as_ptr(), c"".as_ptr(), c"B".as_ptr(), core::ptr::null(), c"C=2".as_ptr()];
        // SAFETY: C strings, a null, and nobody changes them.
        let mut entries = unsafe { Entries::of(list.as_ptr()) };
        assert_eq!(entries.by_ref().collect::<Vec<_>>(), [&b"A=1"[..], b"", b"B"]);
        assert_eq!(entries.next(), None, "it stays at the end");
    }

    #[test]
    fn no_list_is_an_empty_one() {
        // SAFETY: null is allowed.
        assert_eq!(unsafe { Entries::of(core::ptr::null()) }.next(), None);
    }

    #[test]
    fn the_variables_of_the_process_are_those_that_std_sees() {
        let ours: Vec<&[u8]> = entries().collect();
        assert!(!ours.is_empty());
        for (name, value) in std::env::vars_os() {
            let entry = [name.as_bytes(), value.as_bytes()].join(&b'=');
            assert!(ours.contains(&entry.as_slice()), "{name:?}");
        }
    }
}
