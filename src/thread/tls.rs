//! Finds the heap of the calling thread. Called by `front`.
//!
//! On x86-64 Linux the pointer to the heap is a thread-local symbol of our own, read through the initial-exec model: an
//! immediate offset from `fs` in an executable, one load of that offset and one `fs` load in a shared library, also
//! when that is `dlopen`ed (the eight bytes fit the loader's reserve for such libraries). Rust's own thread-locals
//! would call `__tls_get_addr` there. Elsewhere a constant-initialised `thread_local!` without destructor serves, which
//! neither allocates nor registers anything.

use super::heap::{Heap, STAND_INS};

#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
mod place {
    use super::{Heap, STAND_INS};

    core::arch::global_asm!(
        ".pushsection .tdata.antifreeze_heap_0_1,\"awT\",@progbits",
        ".p2align 3",
        ".globl antifreeze_heap_0_1",
        ".hidden antifreeze_heap_0_1",
        ".type antifreeze_heap_0_1, @object",
        ".size antifreeze_heap_0_1, 8",
        "antifreeze_heap_0_1:",
        ".quad {first_stand_in}",
        ".popsection",
        first_stand_in = sym STAND_INS,
    );

    #[inline(always)]
    pub(super) fn get() -> *const Heap {
        let heap: *const Heap;
        // SAFETY: reads this thread's copy of the symbol defined above, which always holds a pointer to a heap.
        unsafe {
            core::arch::asm!(
                "mov {heap}, qword ptr [rip + antifreeze_heap_0_1@GOTTPOFF]",
                "mov {heap}, qword ptr fs:[{heap}]",
                heap = out(reg) heap,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        heap
    }

    pub(super) fn set(heap: *const Heap) {
        // SAFETY: writes this thread's copy of the symbol; the scratch register is declared.
        unsafe {
            core::arch::asm!(
                "mov {offset}, qword ptr [rip + antifreeze_heap_0_1@GOTTPOFF]",
                "mov qword ptr fs:[{offset}], {heap}",
                offset = out(reg) _,
                heap = in(reg) heap,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64")))]
mod place {
    extern crate std;

    use super::{Heap, STAND_INS};
    use core::cell::Cell;

    std::thread_local! {
        static HEAP: Cell<*const Heap> = const { Cell::new(&raw const STAND_INS[0]) };
    }

    pub(super) fn get() -> *const Heap {
        HEAP.with(Cell::get)
    }

    pub(super) fn set(heap: *const Heap) {
        HEAP.with(|place| place.set(heap));
    }
}

/// The calling thread's heap, or what stands in for one. Cost: two loads.
#[inline(always)]
pub(crate) fn heap() -> &'static Heap {
    // SAFETY: the place holds a stand-in or what `set_heap` stored: heaps, which live for ever.
    unsafe { &*place::get() }
}

/// Makes `heap` the calling thread's.
pub(crate) fn set_heap(heap: &'static Heap) {
    place::set(heap);
}

/// Takes the calling thread's heap away, for good.
pub(crate) fn give_heap_up() {
    place::set(&raw const STAND_INS[1]);
}
