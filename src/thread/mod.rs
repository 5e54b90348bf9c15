//! Layer 5: what each thread has. Its heap and the fast path, how the heap is found, what happens when the thread ends
//! and when the process forks.
//!
//! Invariant: the fast path makes no system call, takes no lock and performs no atomic read-modify-write.

pub(crate) mod engine;
pub(crate) mod exit;
pub(crate) mod fork;
pub(crate) mod heap;
mod lists;
mod released;
pub(crate) mod tls;
