//! The global allocator: one engine for the process, started at the first allocation, and a heap for each thread.

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use super::allocate;
use crate::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::lockfree::once::Once;
use crate::options::{Commit, Options};
use crate::os::{Linux, Os};
use crate::span::size_class::Class;
use crate::stats::Stats;
use crate::thread::engine::Engine;
use crate::thread::exit::ExitHook;
use crate::thread::heap::Heap;
use crate::thread::{fork, tls};

static ENGINE: Engine<Linux> = Engine::new(Linux);
static STARTED: Once = Once::from_state(AtomicU32::new(0));
static EXIT: ExitHook = ExitHook::new();
/// Whether the handler for forked children is registered, or about to be.
static FORK_NOTED: AtomicBool = AtomicBool::new(false);

/// The allocator. All values of this type are the same allocator; the options of the one that allocates first count.
///
/// ```
/// #[global_allocator]
/// static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();
///
/// fn main() {
///     let words: Vec<String> = (0..100).map(|n| n.to_string()).collect();
///     assert_eq!(words.len(), 100);
/// }
/// ```
///
/// Allocation returns null when there is no memory, and nothing is lost then. A free of a pointer that is not from
/// here, that is not the start of a block, or whose block is free already ends the process with a line on standard
/// error that names the pointer: always for blocks over 512 KiB, and for smaller ones unless the block has been handed
/// out again in the meantime, which no allocator can tell. Writing past the end of a block is not caught.
#[derive(Clone, Copy, Debug, Default)]
pub struct Antifreeze {
    options: Options,
}

impl Antifreeze {
    /// The allocator with default options.
    pub const fn new() -> Self {
        Antifreeze { options: Options::new() }
    }

    /// Chooses when reserved memory is made usable. The variable `ANTIFREEZE_COMMIT` (`auto`, `ready` or `stepped`)
    /// overrides it.
    #[must_use]
    pub const fn commit(mut self, commit: Commit) -> Self {
        self.options.commit = commit;
        self
    }

    /// The calling thread's heap. `None` if it has none and there is no memory for one.
    #[inline(always)]
    fn enter(&self) -> Option<&'static Heap> {
        let heap = tls::heap();
        if heap.is_stand_in() { self.enter_first() } else { Some(heap) }
    }

    /// Gives the calling thread a heap, starting the engine if need be.
    #[cold]
    #[inline(never)]
    fn enter_first(&self) -> Option<&'static Heap> {
        let start = || {
            let started = ENGINE.start(self.options.with_environment().commit);
            if started {
                EXIT.create(at_thread_exit);
            }
            started
        };
        if !STARTED.is_done() && !STARTED.run(start, || Linux.yield_now()) {
            return None;
        }
        let heap = ENGINE.acquire_heap()?;
        // Set first: the calls below may allocate.
        tls::set_heap(heap);
        EXIT.register(core::ptr::from_ref(heap).cast());
        // Relaxed: one thread, whichever, registers the handler.
        if !FORK_NOTED.swap(true, Ordering::Relaxed) {
            fork::register(in_forked_child);
        }
        Some(heap)
    }

    /// All of allocation but the commonest path: a thread without heap, an empty list, a larger or aligned request.
    #[inline(never)]
    fn allocate_uncommon(&self, layout: Layout) -> *mut u8 {
        match self.enter() {
            Some(heap) => allocate::allocate(&ENGINE, heap, layout),
            None => null_mut(),
        }
    }
}

// SAFETY: 1. Blocks are distinct, live until freed, at least as large and as aligned as the layout asks.
//         2. No method unwinds.
//         3. Layouts of size zero are served as well.
unsafe impl GlobalAlloc for Antifreeze {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(class) = Class::common(layout.size(), layout.align())
            && let Some(block) = tls::heap().pop(class)
        {
            return crate::arena::pointer_at(block);
        }
        self.allocate_uncommon(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.enter() {
            Some(heap) => allocate::allocate_zeroed(&ENGINE, heap, layout),
            None => null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the program gives the block up, by the contract of `GlobalAlloc`.
        unsafe { allocate::deallocate(&ENGINE, tls::heap(), block.addr()) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let Some(block) = NonNull::new(block) else { return null_mut() };
        // A thread that only ever reallocates has no heap yet.
        let Some(heap) = self.enter() else { return null_mut() };
        // SAFETY: the block is live with this layout, by the contract of `GlobalAlloc`.
        unsafe { allocate::reallocate(&ENGINE, heap, block, layout, bytes) }
    }
}

/// Thread key destructor: gives up the heap of a thread that ends.
/// # Safety
/// `heap` is what `enter_first` registered for the calling thread.
unsafe extern "C" fn at_thread_exit(heap: *mut c_void) {
    tls::clear_heap();
    // SAFETY: the value was registered by `enter`: a heap, which lives for ever and is this thread's.
    if let Some(heap) = unsafe { heap.cast::<Heap>().as_ref() } {
        ENGINE.release_heap(heap);
    }
}

/// Handler in forked children.
/// # Safety
/// Called by `fork`, in the child, before any other of its code.
unsafe extern "C" fn in_forked_child() {
    ENGINE.after_fork_in_child();
}

/// What the allocator has done so far. Cost: some loads; safe to call from anywhere, allocates nothing.
pub fn stats() -> Stats {
    ENGINE.arena().kernel().counters().snapshot()
}

/// Bytes that the program may use at `block`: what it asked for, rounded up to the size of the block.
///
/// A pointer that this allocator does not know ends the process, as freeing it would.
/// # Safety
/// `block` is a live block of this allocator.
pub unsafe fn usable_size(block: NonNull<u8>) -> usize {
    allocate::usable_bytes(&ENGINE, block.addr().get())
}
