//! Slabs that no thread owns, by class: left by threads that ended, or given up by threads that had too many. Called by
//! `thread::heap`, which takes from it before it asks for fresh memory, and by the governor's thread, which releases
//! slabs in it that became empty.
//!
//! Invariant: a slab in state `POOLED` is on exactly one stack, or in the hands of the thread that just pushes or popped
//! it.

use crate::arena::Arena;
use crate::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::fatal::fatal;
use crate::lockfree::orphan_stack::OrphanStack;
use crate::os::Os;
use crate::span::size_class::{CLASS_COUNT, Class};
use crate::span::slab::Slab;

/// The owner that slabs have while the governor's thread looks at them: no heap has this address.
const SWEEPER: usize = 1;

/// The stacks of all classes.
pub(crate) struct Pool {
    stacks: [OrphanStack; CLASS_COUNT],
    /// Whether some slab on the stack may be empty. Any thread sets it, the governor's clears it.
    sweep: [AtomicBool; CLASS_COUNT],
}

impl Pool {
    /// Empty.
    pub(crate) const fn new() -> Self {
        Pool {
            stacks: [const { OrphanStack::from_head(AtomicU64::new(0)) }; CLASS_COUNT],
            sweep: [const { AtomicBool::new(false) }; CLASS_COUNT],
        }
    }

    /// Owner: gives up a slab that has free blocks. Says whether it is empty already, so that the governor has to look.
    #[must_use]
    pub(crate) fn put(&self, slab: &Slab, class: Class) -> bool {
        slab.set_owner(0);
        slab.note_pooled_used();
        slab.remote().pool();
        self.push(slab, class);
        // Frees that came before the state changed were not told to ask for a sweep. Once the slab is on the stack it may
        // be anyone's; a wrong answer costs a look.
        let empty = slab.remote().count() >= slab.pooled_used();
        if empty {
            self.ask_sweep(class);
        }
        empty
    }

    fn push(&self, slab: &Slab, class: Class) {
        if let Some(stack) = self.stacks.get(class.index()) {
            // Relaxed: published by the push itself.
            stack.push(slab.record(), |next| slab.link().store(next, Ordering::Relaxed));
        }
    }

    /// Takes a slab of `class` for the heap at `owner`.
    pub(crate) fn take(&self, class: Class, owner: usize) -> Option<&'static Slab> {
        let stack = self.stacks.get(class.index())?;
        if stack.is_empty() {
            return None;
        }
        // Relaxed: may be stale, and is thrown away then.
        let record = stack.pop(|record| Slab::from_record(record).link().load(Ordering::Relaxed))?;
        let slab = Slab::from_record(record);
        slab.remote().adopt();
        slab.set_owner(owner);
        Some(slab)
    }

    /// Says that a slab of `class` in the pool may have become empty.
    pub(crate) fn ask_sweep(&self, class: Class) {
        if let Some(sweep) = self.sweep.get(class.index()) {
            // Release: pairs with the Acquire in `sweep`; the sweeper finds the slab on the stack.
            sweep.store(true, Ordering::Release);
        }
    }

    /// Governor's thread: releases empty slabs of the classes for which that was asked.
    pub(crate) fn sweep<O: Os>(&self, arena: &Arena<O>) {
        for class in Class::all() {
            let asked = self.sweep.get(class.index());
            // Relaxed load first: 72 exchanges for nothing would be a waste.
            if asked.is_some_and(|asked| asked.load(Ordering::Relaxed) && asked.swap(false, Ordering::Acquire)) {
                self.sweep_class(arena, class);
            }
        }
    }

    fn sweep_class<O: Os>(&self, arena: &Arena<O>, class: Class) {
        // Kept slabs wait on a private list, so that each is looked at once.
        let mut kept: Option<&'static Slab> = None;
        while let Some(slab) = self.take(class, SWEEPER) {
            if slab.is_empty_with_remote() {
                release(arena, slab);
            } else {
                slab.neighbours().1.set(kept.map_or(core::ptr::null(), core::ptr::from_ref));
                kept = Some(slab);
            }
        }
        while let Some(slab) = kept {
            let next = slab.neighbours().1.replace(core::ptr::null());
            // SAFETY: the list was made above of headers, which live for ever.
            kept = unsafe { next.as_ref() };
            // The governor's thread looks at the flags again before it sleeps.
            let _ = self.put(slab, class);
        }
    }
}

/// Owner of a slab with all blocks free: gives its slices back.
pub(crate) fn release<O: Os>(arena: &Arena<O>, slab: &Slab) {
    let Some(reservation) = arena.reservation(slab.reservation_number()) else { return };
    let base = slab.base();
    let (start, count) = slab.dissolve(reservation);
    if !arena.free_run(reservation, start, count) {
        fatal("free: slices of a slab are not in use", base);
    }
}
