//! Slabs that no thread owns, by class: left by threads that ended, or given up by threads that had too many. Called by
//! `thread::heap`, which takes from it before it asks for fresh memory, and by the governor's thread, which releases
//! slabs in it that became empty.
//!
//! Invariant: a slab in state `POOLED` is on exactly one stack, or in the hands of the thread that just pushes or
//! popped it.

use crate::arena::Arena;
use crate::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::fatal::fatal;
use crate::lockfree::orphan_stack::OrphanStack;
use crate::os::Os;
use crate::span::size_class::{CLASS_COUNT, Class};
use crate::span::slab::Slab;
use crate::units::{SliceIndex, Slices};

/// The owner that slabs have while the governor's thread looks at them: no heap has this address.
const SWEEPER: usize = 1;

/// The stacks of all classes.
pub(crate) struct Pool {
    stacks: [OrphanStack; CLASS_COUNT],
    /// Whether some slab on the stack may be empty. Any thread sets it, the governor's clears it.
    sweep: [AtomicBool; CLASS_COUNT],
    /// Slabs that the governor's thread has looked at in this sweep, linked; 0 for none. That thread.
    kept: AtomicU64,
}

impl Pool {
    /// Empty.
    pub(crate) const fn new() -> Self {
        Pool {
            stacks: [const { OrphanStack::from_head(AtomicU64::new(0)) }; CLASS_COUNT],
            sweep: [const { AtomicBool::new(false) }; CLASS_COUNT],
            kept: AtomicU64::new(0),
        }
    }

    /// Owner: gives up a slab that has free blocks. Says whether it is empty already, so that the governor has to look.
    #[must_use]
    pub(crate) fn put(&self, slab: &Slab, class: Class) -> bool {
        slab.set_owner(0);
        slab.note_pooled_used();
        slab.remote().pool();
        self.push(slab, class);
        // Frees that came before the state changed were not told to ask for a sweep. Once the slab is on the stack it
        // may be anyone's; a wrong answer costs a look.
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

    /// Whether a sweep was asked for.
    pub(crate) fn wants_sweep(&self) -> bool {
        // Relaxed: a hint; `sweep` synchronises.
        self.sweep.iter().any(|asked| asked.load(Ordering::Relaxed))
    }

    /// Governor's thread: releases empty slabs of the classes for which that was asked.
    pub(crate) fn sweep<O: Os>(&self, arena: &Arena<O>) {
        for class in Class::all() {
            let asked = self.sweep.get(class.index());
            // Relaxed load first: 72 exchanges for nothing would be a waste. Acquire: pairs with the Release in
            // `ask_sweep`.
            if asked.is_some_and(|asked| asked.load(Ordering::Relaxed) && asked.swap(false, Ordering::Acquire)) {
                self.sweep_class(arena, class);
            }
        }
    }

    fn sweep_class<O: Os>(&self, arena: &Arena<O>, class: Class) {
        // Kept slabs wait on a list of their own, so that each is looked at once. A forked child finds it.
        while let Some(slab) = self.take(class, SWEEPER) {
            if slab.is_empty_with_remote() {
                release(arena, slab);
            } else {
                // Relaxed: the worker's own.
                slab.link().store(self.kept.load(Ordering::Relaxed), Ordering::Relaxed);
                self.kept.store(slab.record(), Ordering::Relaxed);
            }
        }
        self.put_kept_back();
    }

    fn put_kept_back(&self) {
        loop {
            // Relaxed: the worker's own.
            let record = self.kept.load(Ordering::Relaxed);
            if record == 0 {
                return;
            }
            let slab = Slab::from_record(record);
            self.kept.store(slab.link().load(Ordering::Relaxed), Ordering::Relaxed);
            if let Some(class) = slab.class() {
                // The governor's thread looks at the flags again before it sleeps.
                let _ = self.put(slab, class);
            }
        }
    }

    /// Forked child: puts back what the parent's worker had in hand.
    pub(crate) fn start_anew_after_fork(&self) {
        self.put_kept_back();
    }
}

/// Owner of a slab with all blocks free: gives its slices back, and says which they were.
pub(crate) fn release<O: Os>(arena: &Arena<O>, slab: &Slab) -> Option<(SliceIndex, Slices)> {
    let reservation = arena.reservation(slab.reservation_number())?;
    let base = slab.base();
    let (start, count) = slab.dissolve(reservation);
    if !arena.free_run(reservation, start, count) {
        fatal("free: slices of a slab are not in use", base);
    }
    Some((start, count))
}
