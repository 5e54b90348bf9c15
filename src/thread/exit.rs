//! The end of a thread: its heap is given up. Called by `front`, which registers each thread that gets a heap.
//!
//! A POSIX thread key does it. Registering a thread allocates nothing for the first 32 keys of a process (glibc keeps
//! them in the thread's own record), and ours is made at the first allocation. Rust's and C++'s thread-local
//! destructors run before it; what other keys' destructors allocate after it comes from a heap that is taken for each
//! request and given back with it, as in the last of the four rounds of destructors nobody is told of the end any more.

use core::ffi::c_void;

use crate::atomic::{AtomicU32, Ordering};

/// A thread key; one more than its number, 0 for none.
pub(crate) struct ExitHook {
    key: AtomicU32,
}

impl ExitHook {
    /// No key yet.
    pub(crate) const fn new() -> Self {
        ExitHook { key: AtomicU32::new(0) }
    }

    /// Makes the key: `at_exit(value)` will run at the end of each thread that is registered. If the system has no key
    /// left, heaps of ended threads are lost and nothing else.
    pub(crate) fn create(&self, at_exit: unsafe extern "C" fn(*mut c_void)) {
        let mut key = 0;
        // SAFETY: `key` is live, and the destructor is a function.
        if unsafe { libc::pthread_key_create(&raw mut key, Some(at_exit)) } == 0 {
            // Relaxed: done before any thread is registered.
            self.key.store(key.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Registers the calling thread, with the value that its destructor gets.
    pub(crate) fn register(&self, value: *const c_void) {
        if let Some(key) = self.key.load(Ordering::Relaxed).checked_sub(1) {
            // SAFETY: the key was made by `create` and is never deleted. A failure (no memory for a second-level table)
            // loses the heap at the end of the thread and nothing else.
            unsafe { libc::pthread_setspecific(key, value) };
        }
    }
}
