//! All shared state of one allocator: the arena, the pool of slabs without owner, heaps without thread, the secret.
//! Called by `front`; tests make engines of their own on the fake kernel.
//!
//! Invariant: started once; everything in it lives for ever.

use core::cell::UnsafeCell;
use core::ffi::c_void;

use super::heap::{HEAP_BYTES, Heap};
use crate::arena::{Arena, start_anew_after_fork};
use crate::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::governor::{After, Batch, KeptRoom, Piece, Retired, RoomName, Source};
use crate::limits::SWEEP_PAUSE_NS;
use crate::lockfree::orphan_stack::{OrphanStack, Record};
use crate::options::Options;
use crate::os::Os;
use crate::span::pool::Pool;
use crate::span::size_class::Class;
use crate::span::slab::{Secret, Slab};
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
    /// Set once, at start.
    options: UnsafeCell<Option<Options>>,
    /// When the worker looked through the pool last. Worker.
    swept_ns: AtomicU64,
}

// SAFETY: `options` is written once, at start, before anybody reads it; everything else is atomic.
unsafe impl<O: Os> Sync for Engine<O> {}

impl<O: Os> Engine<O> {
    /// Not started.
    pub(crate) const fn new(os: O) -> Self {
        Engine {
            arena: Arena::new(os),
            pool: Pool::new(),
            heaps: OrphanStack::from_head(AtomicU64::new(0)),
            secret: AtomicUsize::new(0),
            options: UnsafeCell::new(None),
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
            self.arena.notify_governor(false);
        }
    }

    /// The options in force. For callers that know the engine to have started, or to be starting on their own thread.
    pub(crate) fn options(&self) -> Option<&Options> {
        // SAFETY: the caller came after the start, which is the only writer.
        unsafe { (*self.options.get()).as_ref() }
    }

    /// Slabs without owner.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The process's secret that marks are mixed with.
    pub(crate) fn secret(&self) -> Secret {
        // Relaxed: set before the first block was given out.
        Secret::new(self.secret.load(Ordering::Relaxed))
    }

    /// Takes the address space. `false` if the kernel gives none; may be tried again. Called once at a time.
    pub(crate) fn start(&'static self, options: &Options) -> bool {
        let [_, secret] = self.arena.kernel().os().secrets();
        self.secret.store(secret, Ordering::Relaxed);
        if !self.arena.start(options) {
            return false;
        }
        // SAFETY: called once at a time, and nobody reads the options before this has returned `true`.
        unsafe { *self.options.get() = Some(*options) };
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
        self.arena.note_process();
        self.arena.governor().start_anew_after_fork(self.arena.kernel());
        start_anew_after_fork(&self.arena);
        self.pool.start_anew_after_fork();
    }
}

impl<O: Os> Engine<O> {
    /// One round of the governor on the calling thread; what comes after it. `None` if another thread is at it.
    pub(crate) fn governor_round(&self) -> Option<After> {
        self.arena.governor().round(self.arena.kernel(), self)
    }
}

impl<O: Os> Source for Engine<O> {
    fn chores(&self, now: Nanos) -> Option<Nanos> {
        if !self.pool.wants_sweep() {
            return None;
        }
        // Relaxed: the governor's own.
        let since = now.since(Nanos(self.swept_ns.load(Ordering::Relaxed)));
        if since < Nanos(SWEEP_PAUSE_NS) {
            return Some(Nanos(SWEEP_PAUSE_NS - since.0));
        }
        self.swept_ns.store(now.0, Ordering::Relaxed);
        self.pool.sweep(&self.arena);
        // A sweep may have been asked for again, be it by the sweep itself.
        self.pool.wants_sweep().then_some(Nanos(SWEEP_PAUSE_NS))
    }

    fn retired(&self) -> Retired {
        self.arena.count_retired()
    }

    fn take(&self, now: Nanos, linger: Nanos, bytes_max: usize, blocks_max: u64, batch: &mut Batch) -> Option<Nanos> {
        self.arena.take_retired(now, linger, bytes_max, blocks_max, batch)
    }

    fn finish(&self, slot: usize, resident: bool) {
        self.arena.finish_piece(slot, resident);
    }

    fn cold_claimed_bytes(&self) -> u64 {
        self.arena.cold_claimed_bytes()
    }

    fn commit_ahead(&self) -> bool {
        self.arena.commit_ahead()
    }

    fn take_cold_chunk(&self) -> Option<Piece> {
        self.arena.take_cold_chunk()
    }

    fn keep_room(&self, bytes: u64) -> Option<RoomName> {
        self.arena.keep_room(bytes)
    }

    fn drop_room(&self, room: RoomName) {
        self.arena.drop_room(room);
    }

    fn kept_room(&self, room: RoomName) -> KeptRoom {
        self.arena.kept_room(room)
    }

    fn take_cold_in_room(&self, room: RoomName, bytes_max: usize) -> Option<Piece> {
        self.arena.take_cold_in_room(room, bytes_max)
    }

    fn take_warm_in_room(&self, room: RoomName, bytes_max: usize) -> Option<Piece> {
        self.arena.take_warm_in_room(room, bytes_max)
    }

    fn forecast_bytes(&self) -> Option<u64> {
        self.arena.doublings.take()
    }
}

fn heap_of(record: Record) -> &'static Heap {
    // SAFETY: records on the stack name heaps, which live for ever.
    unsafe { &*crate::arena::pointer_at(record as usize * RECORD_ALIGN).cast::<Heap>() }
}
