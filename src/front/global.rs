//! The global allocator: one engine for the process, started at the first allocation, and a heap for each thread.

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};
use core::time::Duration;

use super::allocate;
use crate::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::limits::BLOCK_ALIGN_BYTES;
use crate::lockfree::once::Once;
use crate::options::table::{Key, Value};
use crate::options::{Commit, Governor, Options};
use crate::os::{Linux, Os};
use crate::span::size_class::Class;
use crate::thread::engine::Engine;
use crate::thread::exit::ExitHook;
use crate::thread::heap::Heap;
use crate::thread::{fork, tls};
use crate::units::Nanos;

pub(super) static ENGINE: Engine<Linux> = Engine::new(Linux);
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
/// out again in the meantime, which no allocator can tell, or its second word has been written to. Writing past the end
/// of a block is not caught.
///
/// # Options
///
/// Each option has a method here and a variable of the environment, which overrides the method. A variable that is not
/// understood gets one line on standard error and changes nothing; a program that runs set-user-ID reads none.
///
/// ```
/// use std::time::Duration;
///
/// static GLOBAL: antifreeze::Antifreeze =
///     antifreeze::Antifreeze::new().linger(Duration::from_secs(1)).decay(Some(Duration::from_secs(30)));
/// ```
///
/// A value out of the range that a method gives is an error of the compiler in a `static`, as here, and a panic where
/// the method runs:
///
/// ```compile_fail
/// static GLOBAL: antifreeze::Antifreeze =
///     antifreeze::Antifreeze::new().linger(std::time::Duration::from_secs(3601));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Antifreeze {
    options: Options,
}

impl Antifreeze {
    /// The allocator with default options.
    pub const fn new() -> Self {
        Antifreeze { options: Options::new() }
    }

    /// Chooses when reserved memory is made usable: all at start, or in growing steps. Default: `auto`. Variable:
    /// `ANTIFREEZE_COMMIT` (`auto`, `ready` or `stepped`).
    #[must_use]
    #[track_caller]
    pub const fn commit(self, commit: Commit) -> Self {
        Antifreeze { options: self.options.choose(Key::Commit, Some(commit as u64)) }
    }

    /// Chooses who gives memory back and warms it: a thread of the allocator, or the program when it calls `tick()`.
    /// Default: `thread`. Variable: `ANTIFREEZE_GOVERNOR` (`thread` or `tick`).
    #[must_use]
    #[track_caller]
    pub const fn governor(self, governor: Governor) -> Self {
        Antifreeze { options: self.options.choose(Key::Governor, Some(governor as u64)) }
    }

    /// The longest that one kernel call on memory should take. Range: 10us to 100ms. Default: 250us. Variable:
    /// `ANTIFREEZE_HOLD_BUDGET`.
    #[must_use]
    #[track_caller]
    pub const fn hold_budget(self, hold_budget: Duration) -> Self {
        Antifreeze { options: self.options.choose(Key::HoldBudget, nanos(Some(hold_budget))) }
    }

    /// The pause between two kernel calls that give memory back or warm it. Range: 50us to 1s. Default: 50us.
    /// Variable: `ANTIFREEZE_PAUSE`.
    #[must_use]
    #[track_caller]
    pub const fn pause(self, pause: Duration) -> Self {
        Antifreeze { options: self.options.choose(Key::Pause, nanos(Some(pause))) }
    }

    /// How long freed memory stays untouched. Range: 0 to 1h. Default: 500ms. Variable: `ANTIFREEZE_LINGER`.
    #[must_use]
    #[track_caller]
    pub const fn linger(self, linger: Duration) -> Self {
        Antifreeze { options: self.options.choose(Key::Linger, nanos(Some(linger))) }
    }

    /// How long after it was freed memory is all given back, along a smooth curve that begins after `linger`; at
    /// least as long as `linger`. `None`: only on request or under pressure. Range: 0 to 24h. Default: 5s. Variable:
    /// `ANTIFREEZE_DECAY`.
    #[must_use]
    #[track_caller]
    pub const fn decay(self, decay: Option<Duration>) -> Self {
        Antifreeze { options: self.options.choose(Key::Decay, nanos(decay)) }
    }

    /// The most bytes per second that are given back. `None`: no limit. Range: 1MiB/s to 1TiB/s. Default: 1GiB/s.
    /// Variable: `ANTIFREEZE_PURGE_RATE`.
    #[must_use]
    #[track_caller]
    pub const fn purge_rate(self, purge_rate: Option<u64>) -> Self {
        Antifreeze { options: self.options.choose(Key::PurgeRate, purge_rate) }
    }

    /// The most calls per second that give memory back. `None`: no limit. Range: 1/s to 100000/s. Default: 2000/s.
    /// Variable: `ANTIFREEZE_PURGE_CALLS`.
    #[must_use]
    #[track_caller]
    pub const fn purge_calls(self, purge_calls: Option<u64>) -> Self {
        Antifreeze { options: self.options.choose(Key::PurgeCalls, purge_calls) }
    }

    /// The most bytes that are kept faulted ahead of need. `None`: nothing is. Range: 2MiB to 1TiB. Default: 16MiB.
    /// Variable: `ANTIFREEZE_WARM_RESERVE`.
    #[must_use]
    #[track_caller]
    pub const fn warm_reserve(self, warm_reserve: Option<usize>) -> Self {
        Antifreeze { options: self.options.choose(Key::WarmReserve, bytes(warm_reserve)) }
    }

    /// How long prewarmed memory waits to be used. `None`: for ever. Range: 1s to 24h. Default: 10min. Variable:
    /// `ANTIFREEZE_PREWARM_HOLD`.
    #[must_use]
    #[track_caller]
    pub const fn prewarm_hold(self, prewarm_hold: Option<Duration>) -> Self {
        Antifreeze { options: self.options.choose(Key::PrewarmHold, nanos(prewarm_hold)) }
    }

    /// The most bytes that are warmed because a block has doubled and may double again. `None`: no forecast. Range:
    /// 64MiB to 16TiB. Default: off. Variable: `ANTIFREEZE_FORECAST`.
    #[must_use]
    #[track_caller]
    pub const fn forecast(self, forecast: Option<usize>) -> Self {
        Antifreeze { options: self.options.choose(Key::Forecast, bytes(forecast)) }
    }

    /// Whether memory is given back faster when the cgroup or the machine runs short of it. Default: `on`. Variable:
    /// `ANTIFREEZE_PRESSURE` (`off` or `on`).
    #[must_use]
    #[track_caller]
    pub const fn pressure(self, pressure: bool) -> Self {
        Antifreeze { options: self.options.choose(Key::Pressure, Some(pressure as u64)) }
    }

    /// Bytes taken from the explicit hugepage pool at start, for blocks of 32 MiB and more, or as many as it has.
    /// `None`: nothing is. They are never given back. A forked child shares them, and may be killed where it writes to
    /// one while the pool is empty: not for programs that fork without `exec`. Range: 2MiB to 16TiB. Default: off.
    /// Variable: `ANTIFREEZE_HUGETLB`.
    #[must_use]
    #[track_caller]
    pub const fn hugetlb(self, hugetlb: Option<usize>) -> Self {
        Antifreeze { options: self.options.choose(Key::Hugetlb, bytes(hugetlb)) }
    }

    /// Bytes of address space taken at start, rounded up to a power of two. `None`: as much as suits the machine's
    /// memory. Range: 32MiB to 32TiB. Default: auto. Variable: `ANTIFREEZE_RESERVATION`.
    #[must_use]
    #[track_caller]
    pub const fn reservation(self, reservation: Option<usize>) -> Self {
        Antifreeze { options: self.options.choose(Key::Reservation, bytes(reservation)) }
    }

    /// A block, taken by `act` from the calling thread's heap. Null if it has none and there is no memory for one.
    #[inline(always)]
    pub(super) fn with_heap(&self, act: impl FnOnce(&Heap) -> *mut u8) -> *mut u8 {
        let heap = tls::heap();
        if heap.is_stand_in() { self.without_heap(act) } else { act(heap) }
    }

    /// The same on a thread that has none yet, or has given it up: destructors that ask for memory after that may do so
    /// when nobody will tell of the thread's end any more, so that each request gets a heap of its own for the moment.
    #[cold]
    #[inline(never)]
    fn without_heap(&self, act: impl FnOnce(&Heap) -> *mut u8) -> *mut u8 {
        if !tls::heap().is_given_up() {
            return self.enter_first().map_or(null_mut(), act);
        }
        let Some(heap) = ENGINE.acquire_heap() else { return null_mut() };
        let block = act(heap);
        ENGINE.release_heap(heap);
        block
    }

    /// Gives the calling thread a heap, starting the engine if need be.
    fn enter_first(&self) -> Option<&'static Heap> {
        let start = || {
            let started = ENGINE.start(&self.options.with_environment());
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
            note_forks();
        }
        Some(heap)
    }

    /// A block at a multiple of more than every block is.
    #[cold]
    #[inline(never)]
    fn allocate_aligned(&self, layout: Layout) -> *mut u8 {
        self.allocate_uncommon(layout)
    }

    /// All of allocation but the commonest path: a thread without heap, an empty list, a larger or aligned request.
    #[inline(never)]
    fn allocate_uncommon(&self, layout: Layout) -> *mut u8 {
        self.with_heap(|heap| allocate::allocate(&ENGINE, heap, layout))
    }

    /// The same for blocks that read as zeroes.
    #[inline(never)]
    fn allocate_zeroed_uncommon(&self, layout: Layout) -> *mut u8 {
        self.with_heap(|heap| allocate::allocate_zeroed(&ENGINE, heap, layout))
    }
}

// SAFETY: 1. Blocks are distinct, live until freed, at least as large and as aligned as the layout asks.
//         2. No method unwinds.
//         3. Layouts of size zero are served as well.
unsafe impl GlobalAlloc for Antifreeze {
    // Into each place that allocates, but not into each that frees: that is twice as long, and made loops spill.
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > BLOCK_ALIGN_BYTES {
            // Not with the next condition: one branch for both takes two more instructions than two.
            return self.allocate_aligned(layout);
        }
        if let Some(class) = Class::common(layout.size(), BLOCK_ALIGN_BYTES)
            && let Some(block) = tls::heap().pop(class)
        {
            return crate::arena::pointer_at(block);
        }
        self.allocate_uncommon(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() > BLOCK_ALIGN_BYTES {
            // As in `alloc`.
            return self.allocate_zeroed_uncommon(layout);
        }
        let heap = tls::heap();
        if let Some(class) = Class::common(layout.size(), BLOCK_ALIGN_BYTES)
            && let Some(block) = heap.pop(class)
        {
            return allocate::zeroed(heap, class, block, layout.size());
        }
        self.allocate_zeroed_uncommon(layout)
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the program gives the block up, by the contract of `GlobalAlloc`.
        unsafe { allocate::deallocate(&ENGINE, tls::heap(), block.addr()) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let Some(block) = NonNull::new(block) else { return null_mut() };
        // A thread that only ever reallocates has no heap yet.
        // SAFETY: the block is live with this layout, by the contract of `GlobalAlloc`.
        self.with_heap(|heap| unsafe { allocate::reallocate(&ENGINE, heap, block, layout, bytes) })
    }
}

/// A duration as the value of an option.
const fn nanos(time: Option<Duration>) -> Value {
    match time {
        Some(time) => Some(Nanos::from_duration(time).0),
        None => None,
    }
}

/// Bytes as the value of an option.
const fn bytes(bytes: Option<usize>) -> Value {
    match bytes {
        Some(bytes) => Some(bytes as u64),
        None => None,
    }
}

/// Thread key destructor: gives up the heap of a thread that ends.
/// # Safety
/// `heap` is what `enter_first` registered for the calling thread.
unsafe extern "C" fn at_thread_exit(heap: *mut c_void) {
    tls::give_heap_up();
    // SAFETY: the value was registered by `enter_first`: a heap, which lives for ever and is this thread's.
    if let Some(heap) = unsafe { heap.cast::<Heap>().as_ref() } {
        ENGINE.release_heap(heap);
    }
}

/// Registers the handler for forked children.
pub(super) fn note_forks() {
    fork::register(in_forked_child);
}

/// Keeps requests for memory from calling [`note_forks`].
#[cfg(feature = "c-abi")]
pub(super) fn leave_forks_to_others() {
    // Relaxed: a flag of its own.
    FORK_NOTED.store(true, Ordering::Relaxed);
}

/// Handler in forked children.
/// # Safety
/// Called by `fork`, in the child, before any other of its code.
unsafe extern "C" fn in_forked_child() {
    ENGINE.after_fork_in_child();
}

/// Whether the engine has started: something was allocated.
pub(super) fn is_started() -> bool {
    STARTED.is_done()
}

/// Bytes that the program may use at `block`: what it asked for, rounded up to the size of the block.
///
/// A pointer that this allocator does not know ends the process, as freeing it would.
/// # Safety
/// `block` is a live block of this allocator.
pub unsafe fn usable_size(block: NonNull<u8>) -> usize {
    allocate::usable_bytes(&ENGINE, block.addr().get(), "usable_size")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::table::TABLE;
    use crate::text::Text;
    use std::vec::Vec;

    #[test]
    fn each_setter_sets_its_own_option_and_no_other() {
        const ALLOCATOR: Antifreeze = Antifreeze::new();
        const MIB: usize = 1 << 20;
        let second = Duration::from_secs(1);
        let cases = [
            (ALLOCATOR.commit(Commit::Stepped), "commit = stepped (code)"),
            (ALLOCATOR.governor(Governor::Tick), "governor = tick (code)"),
            (ALLOCATOR.hold_budget(Duration::from_micros(10)), "hold_budget = 10us (code)"),
            (ALLOCATOR.pause(second), "pause = 1s (code)"),
            (ALLOCATOR.linger(Duration::ZERO), "linger = 0 (code)"),
            (ALLOCATOR.decay(None), "decay = off (code)"),
            (ALLOCATOR.purge_rate(Some(MIB as u64)), "purge_rate = 1MiB/s (code)"),
            (ALLOCATOR.purge_calls(None), "purge_calls = off (code)"),
            (ALLOCATOR.warm_reserve(Some(2 * MIB)), "warm_reserve = 2MiB (code)"),
            (ALLOCATOR.prewarm_hold(Some(second)), "prewarm_hold = 1s (code)"),
            (ALLOCATOR.forecast(Some(64 * MIB)), "forecast = 64MiB (code)"),
            (ALLOCATOR.pressure(false), "pressure = off (code)"),
            (ALLOCATOR.hugetlb(Some(3 * MIB)), "hugetlb = 3MiB (code)"),
            (ALLOCATOR.reservation(Some(32 * MIB)), "reservation = 32MiB (code)"),
        ];
        assert_eq!(cases.len(), TABLE.len());
        for (allocator, line) in cases {
            let mut buffer = [0; 1024];
            let mut text = Text::new(&mut buffer);
            allocator.options.print(&mut text);
            let text = text.finish().unwrap();
            assert_eq!(text.lines().filter(|line| line.ends_with("(code)")).collect::<Vec<_>>(), [line]);
        }
    }
}
