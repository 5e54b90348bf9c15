//! A heap's queue of slabs of one class that have free blocks. Called by `thread::heap`; one thread only.
//!
//! Invariant: a slab in the queue is owned by the queue's heap and is not the one that the heap allocates from. Linked
//! through the headers, so that a slab that became empty leaves from the middle. First in, first out: a slab that has
//! just become free of one block gets time to become free of more.

use core::cell::Cell;
use core::ptr::{from_ref, null};

use super::slab::Slab;

/// The queue.
pub(crate) struct SlabQueue {
    first: Cell<*const Slab>,
    last: Cell<*const Slab>,
    count: Cell<u32>,
}

/// The slab behind a link.
fn follow(link: *const Slab) -> Option<&'static Slab> {
    // SAFETY: links are null or point to headers, which live for ever.
    unsafe { link.as_ref() }
}

impl SlabQueue {
    /// Empty.
    pub(crate) const fn new() -> Self {
        SlabQueue { first: Cell::new(null()), last: Cell::new(null()), count: Cell::new(0) }
    }

    /// Slabs in the queue.
    pub(crate) fn count(&self) -> u32 {
        self.count.get()
    }

    /// Puts `slab` at the end.
    pub(crate) fn push(&self, slab: &'static Slab) {
        let (previous, next) = slab.neighbours();
        previous.set(self.last.get());
        next.set(null());
        match follow(self.last.get()) {
            Some(last) => last.neighbours().1.set(from_ref(slab)),
            None => self.first.set(from_ref(slab)),
        }
        self.last.set(from_ref(slab));
        self.count.set(self.count.get() + 1);
    }

    /// The first slab.
    pub(crate) fn first(&self) -> Option<&'static Slab> {
        follow(self.first.get())
    }

    /// Takes `slab` out; it must be in this queue.
    pub(crate) fn remove(&self, slab: &Slab) {
        let (previous, next) = slab.neighbours();
        match follow(previous.get()) {
            Some(before) => before.neighbours().1.set(next.get()),
            None => self.first.set(next.get()),
        }
        match follow(next.get()) {
            Some(after) => after.neighbours().0.set(previous.get()),
            None => self.last.set(previous.get()),
        }
        previous.set(null());
        next.set(null());
        self.count.set(self.count.get() - 1);
    }
}
