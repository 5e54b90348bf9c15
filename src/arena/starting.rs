//! How the governor's thread comes to be started, and when. Called by `arena::registry` and the engine.
//!
//! Invariant: one thread at a time starts it, the one whom the doorbell told to. It runs in the process that it was
//! started for. With a late start no call that frees memory starts it.

use core::ffi::c_void;
use core::num::NonZeroI32;
use core::ptr::{NonNull, null_mut};

use super::refusal::Refusal;
use super::registry::Arena;
use crate::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use crate::governor::ThreadMain;
use crate::os::{Os, OsError};
use crate::units::Slices;

/// Bytes of the governor's stack: its few frames and the program's static thread-local storage.
const WORKER_STACK_BYTES: usize = 256 << 10;
/// Bytes of that which static thread-local storage cannot take: its frames need some 20 KiB, more without optimisation.
const WORKER_STACK_RESERVE_BYTES: usize = 128 << 10;
/// Bytes of its stack where the usual one is refused.
const WORKER_LARGE_STACK_BYTES: usize = 16 << 20;

/// What the arena knows of the governor's thread.
pub(super) struct Starting {
    /// Threads that the kernel has lately refused.
    refusal: Refusal,
    /// What it runs. Set once.
    main: AtomicPtr<c_void>,
    argument: AtomicPtr<c_void>,
    /// Its stack, once there is one.
    stack: AtomicPtr<u8>,
    /// Whether the program lends the governor its threads. Set once.
    lent: AtomicBool,
    /// Whether it is started in [`Arena::start_governor_if_due`] only, and whether it is due. The first is set before
    /// the start; the second by any thread.
    is_late: AtomicBool,
    is_due: AtomicBool,
    /// The process whose governor this is: a child of vfork(2) has the same memory, and must not start one. Set at the
    /// start, and in a forked child.
    process: AtomicU32,
}

impl Starting {
    pub(super) const fn new() -> Self {
        Starting {
            refusal: Refusal::new(),
            main: AtomicPtr::new(null_mut()),
            argument: AtomicPtr::new(null_mut()),
            stack: AtomicPtr::new(null_mut()),
            lent: AtomicBool::new(false),
            is_late: AtomicBool::new(false),
            is_due: AtomicBool::new(false),
            process: AtomicU32::new(0),
        }
    }

    /// At the start: whether the program lends the governor its threads.
    pub(super) fn set_lent(&self, lent: bool) {
        // Relaxed: no other thread is there yet.
        self.lent.store(lent, Ordering::Relaxed);
    }

    /// Whether the kernel has lately refused the thread.
    pub(super) fn is_refused(&self) -> bool {
        self.refusal.stands()
    }

    /// Whether only [`Arena::start_governor_if_due`] starts it.
    pub(super) fn is_late(&self) -> bool {
        // Relaxed: set once, before the start.
        self.is_late.load(Ordering::Relaxed)
    }
}

impl<O: Os> Arena<O> {
    /// Rings for the governor, so that it looks at all there is; at once if it is `urgent`. Starts its thread if there
    /// is none, unless the program lends its own.
    pub(crate) fn notify_governor(&self, urgent: bool) {
        // Relaxed: set once, at start.
        if !self.starting.lent.load(Ordering::Relaxed) {
            self.governor().notify(self.kernel(), urgent, || {
                if self.starting.is_late() {
                    // Relaxed: the doorbell orders what there is to do; this only says that it rang.
                    self.starting.is_due.store(true, Ordering::Relaxed);
                    return true;
                }
                self.start_governor()
            });
        }
    }

    /// Before the start: from now on, the governor's thread is started in
    /// [`start_governor_if_due`](Self::start_governor_if_due) only.
    #[cfg_attr(not(any(test, feature = "c-abi")), expect(dead_code, reason = "for the C library"))]
    pub(crate) fn start_governor_late(&self) {
        // Relaxed: other threads come after the start.
        self.starting.is_late.store(true, Ordering::Relaxed);
    }

    /// Starts the governor's thread if somebody has rung for one that is not there, and this is the process that it is
    /// of. Cost: a load; else some tens of microseconds, once.
    #[cfg_attr(not(any(test, feature = "c-abi")), expect(dead_code, reason = "for the C library"))]
    pub(crate) fn start_governor_if_due(&self) {
        // Relaxed, here and below: one thread gets the flag, and the doorbell, which is reset by an exchange, orders
        // the rest.
        if self.starting.is_due.load(Ordering::Relaxed)
            && self.starting.process.load(Ordering::Relaxed) == self.kernel().os().process()
            && self.starting.is_due.swap(false, Ordering::Relaxed)
            && !self.start_governor()
        {
            self.governor().is_not_to_be_had();
        }
    }

    /// At the start, and in a forked child: the governor is this process's.
    pub(crate) fn note_process(&self) {
        // Relaxed: no other thread is there yet.
        self.starting.process.store(self.kernel().os().process(), Ordering::Relaxed);
        self.starting.is_due.store(false, Ordering::Relaxed);
    }

    /// Starts the governor's thread. One thread at a time gets here: the one whom the doorbell told to.
    fn start_governor(&self) -> bool {
        let now = self.kernel().os().coarse_now();
        let started = !self.starting.refusal.covers(now, 1) && self.try_start_governor();
        if started {
            self.starting.refusal.forget();
        } else {
            self.starting.refusal.note(now, 1);
        }
        started
    }

    fn try_start_governor(&self) -> bool {
        // Relaxed: handed from one starter to the next by the doorbell. A forked child finds its parent's stack, which
        // nobody uses there.
        let mut stack = self.starting.stack.load(Ordering::Relaxed);
        if stack.is_null() {
            let Some(record) = self.allocate_record(WORKER_STACK_BYTES) else { return false };
            stack = record.as_ptr();
            self.starting.stack.store(stack, Ordering::Relaxed);
        }
        match NonNull::new(stack).map(|stack| self.start_on(stack, WORKER_STACK_BYTES)) {
            Some(Ok(())) => true,
            Some(Err(error)) if error.0.get() == libc::EINVAL => self.start_on_large_stack(),
            _ => false,
        }
    }

    /// For programs whose static thread-local storage is too large for the usual stack.
    fn start_on_large_stack(&self) -> bool {
        let Some((reservation, run)) =
            Slices::holding(WORKER_LARGE_STACK_BYTES).and_then(|slices| self.allocate_run(slices, 1, false))
        else {
            return false;
        };
        let started = self.start_on(reservation.space.address(run.start), WORKER_LARGE_STACK_BYTES).is_ok();
        if !started {
            self.free_run(reservation, run.start, run.count);
        }
        started
    }

    fn start_on(&self, stack: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // Acquire: pairs with the Release in `set_worker`. Relaxed for the other: published by it.
        let argument = self.starting.argument.load(Ordering::Acquire);
        let main = self.starting.main.load(Ordering::Relaxed);
        if main.is_null() {
            return Err(OsError(NonZeroI32::MIN));
        }
        // SAFETY: `set_worker` stored a function of this type.
        let main = unsafe { core::mem::transmute::<*mut c_void, ThreadMain>(main) };
        // The C library puts the program's static thread-local storage at the top of the stack and is content if that
        // just fits. What it is not told of is left for the thread itself in any case.
        let told_bytes = bytes - WORKER_STACK_RESERVE_BYTES;
        // SAFETY: 1. The stack was claimed for this one thread, also the part below; the argument lives for ever.
        //         2. The reserve is less than either size of stack.
        unsafe {
            self.kernel().os().start_thread(stack.byte_add(WORKER_STACK_RESERVE_BYTES), told_bytes, main, argument)
        }
    }

    /// Says what the governor's thread runs: `main(argument)`, where `argument` lives for ever. Until then ranges are
    /// queued and kept.
    pub(crate) fn set_worker(&self, main: ThreadMain, argument: *mut c_void) {
        // Relaxed: published by the next line.
        self.starting.main.store(main as *mut c_void, Ordering::Relaxed);
        // Release: pairs with the Acquire in `start_on`.
        self.starting.argument.store(argument, Ordering::Release);
    }
}
