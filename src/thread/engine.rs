//! All shared state of one allocator: the arena, the pool of slabs without owner, heaps without thread, the secret.
//! Called by `front`; tests make engines of their own on the fake kernel.
//!
//! Invariant: started once; everything in it lives for ever.

use core::ffi::c_void;

use super::heap::{HEAP_BYTES, Heap};
use crate::arena::{Arena, start_anew_after_fork};
use crate::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::governor::{Next, Source};
use crate::limits::SWEEP_PAUSE_NS;
use crate::lockfree::orphan_stack::{OrphanStack, Record};
use crate::options::Commit;
use crate::os::Os;
use crate::span::pool::Pool;
use crate::span::size_class::Class;
use crate::span::slab::Slab;
use crate::units::Nanos;

/// Alignment of records on stacks, see [`Record`].
const RECORD_ALIGN: usize = 128;

/// The shared state.
pub(crate) struct Engine<O> {
    arena: Arena<O>,
    pool: Pool,
    heaps: OrphanStack,
    /// Set once, at start.
    secret: AtomicUsize,
    /// When the worker looked through the pool last. Worker.
    swept_ns: AtomicU64,
}

impl<O: Os> Engine<O> {
    /// Not started.
    pub(crate) const fn new(os: O) -> Self {
        Engine {
            arena: Arena::new(os),
            pool: Pool::new(),
            heaps: OrphanStack::from_head(AtomicU64::new(0)),
            secret: AtomicUsize::new(0),
            swept_ns: AtomicU64::new(0),
        }
    }

    /// The arena.
    #[inline(always)]
    pub(crate) fn arena(&self) -> &Arena<O> {
        &self.arena
    }

    /// Owner: gives up a slab with free blocks to whoever needs one.
    pub(crate) fn put_in_pool(&self, slab: &Slab, class: Class) {
        if self.pool.put(slab, class) {
            self.arena.notify_governor();
        }
    }

    /// Slabs without owner.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The process's secret that links are mixed with.
    pub(crate) fn secret(&self) -> usize {
        // Relaxed: set before the first block was given out.
        self.secret.load(Ordering::Relaxed)
    }

    /// Takes the address space. `false` if the kernel gives none; may be tried again. Called once at a time.
    pub(crate) fn start(&'static self, commit: Commit) -> bool {
        self.secret.store(self.arena.kernel().os().secret(), Ordering::Relaxed);
        if !self.arena.start(commit) {
            return false;
        }
        self.arena.set_worker(Self::governor_main, core::ptr::from_ref(self).cast_mut().cast());
        true
    }

    extern "C" fn governor_main(argument: *mut c_void) -> *mut c_void {
        // SAFETY: `start` passes an engine that lives for ever.
        let engine = unsafe { &*argument.cast::<Self>() };
        engine.arena.governor().run(engine.arena.kernel(), engine)
    }

    /// A heap for a thread that has none: one that an ended thread left, or a new one.
    pub(crate) fn acquire_heap(&self) -> Option<&'static Heap> {
        // Relaxed: may be stale, and is thrown away then.
        if let Some(record) = self.heaps.pop(|record| heap_of(record).link().load(Ordering::Relaxed)) {
            return Some(heap_of(record));
        }
        let memory = self.arena.allocate_record(HEAP_BYTES)?;
        // SAFETY: the record was just taken, for this heap alone, and is never given back.
        Some(unsafe { Heap::create(memory, self.secret()) })
    }

    /// Takes back the heap of a thread that ends.
    pub(crate) fn release_heap(&self, heap: &'static Heap) {
        heap.abandon(self);
        let record = (heap.address() / RECORD_ALIGN) as Record;
        // Relaxed: published by the push itself.
        self.heaps.push(record, |next| heap.link().store(next, Ordering::Relaxed));
    }

    /// Forked child, where only the forking thread lives: the governor's thread is gone, and what it had taken for a
    /// purge is free again. What other threads were doing at the moment of the fork stays as it was: blocks that they
    /// held are lost to the child, and nothing else is.
    pub(crate) fn after_fork_in_child(&self) {
        self.arena.governor().reset();
        start_anew_after_fork(&self.arena);
        self.pool.start_anew_after_fork();
    }
}

impl<O: Os> Source for Engine<O> {
    fn next(&self, now: Nanos, huge_bytes_max: usize) -> Next {
        // Relaxed: the worker's own.
        let since = now.since(Nanos(self.swept_ns.load(Ordering::Relaxed)));
        let sweep_due = self.pool.wants_sweep();
        if sweep_due && since >= Nanos(SWEEP_PAUSE_NS) {
            self.swept_ns.store(now.0, Ordering::Relaxed);
            self.pool.sweep(&self.arena);
        }
        match self.arena.next(now, huge_bytes_max) {
            // Not nothing as long as a sweep was asked for, be it by the sweep itself.
            Next::Nothing if sweep_due || self.pool.wants_sweep() => Next::Wait(Nanos(SWEEP_PAUSE_NS)),
            next => next,
        }
    }

    fn finish(&self, purged: bool) {
        self.arena.finish(purged);
    }
}

fn heap_of(record: Record) -> &'static Heap {
    // SAFETY: records on the stack name heaps, which live for ever.
    unsafe { &*crate::arena::pointer_at(record as usize * RECORD_ALIGN).cast::<Heap>() }
}
