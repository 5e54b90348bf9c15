//! Looks up environment variables without locks or allocation, also before `main`. Called by `options`.

unsafe extern "C" {
    /// The process's environment (environ(7)): a list of `NAME=value` strings, ended by null.
    static environ: *const *const core::ffi::c_char;
}

/// The value of the variable `name`. Reads the list as it is: a program that changes its environment from another
/// thread at the same time races, as with `getenv`; the allocator reads it once, at the first allocation.
pub(crate) fn lookup(name: &str) -> Option<&'static [u8]> {
    // SAFETY: 1. `environ` is null or points to a list of C strings that a null ends (environ(7)).
    //         2. Strings in it stay as they are while we look, as the caller runs before anything changes them.
    unsafe {
        let mut entry = environ;
        if entry.is_null() {
            return None;
        }
        while !(*entry).is_null() {
            let text = core::ffi::CStr::from_ptr(*entry).to_bytes();
            if let Some(value) = text.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
                return Some(value);
            }
            entry = entry.add(1);
        }
    }
    None
}
