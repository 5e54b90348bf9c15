//! A number that threads share and that orders nothing: sums for people, hints, and what one thread alone writes.
//! Called by every layer above.

use crate::atomic::{AtomicU64, Ordering};

/// A shared number. Every access is Relaxed: who reads it learns nothing of other memory.
#[derive(Debug)]
pub(crate) struct Number(AtomicU64);

impl Number {
    /// This number.
    pub(crate) const fn new(number: u64) -> Self {
        Number(AtomicU64::new(number))
    }

    /// The number now.
    pub(crate) fn get(&self) -> u64 {
        // Relaxed: see the type.
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces it.
    pub(crate) fn set(&self, number: u64) {
        // Relaxed: see the type.
        self.0.store(number, Ordering::Relaxed);
    }

    /// Adds to it.
    pub(crate) fn add(&self, number: u64) {
        // Relaxed: see the type.
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// Takes it away and leaves zero.
    pub(crate) fn take(&self) -> u64 {
        // Relaxed: see the type.
        self.0.swap(0, Ordering::Relaxed)
    }
}
