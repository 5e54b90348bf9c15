//! The first violation of a soak. Any thread tells it here, and so does a forked child: the memory is shared with it.

use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::violation::Violation;

const NONE: u32 = 0;
const BEING_WRITTEN: u32 = 1;
const WRITTEN: u32 = 2;

struct Slot {
    state: AtomicU32,
    violation: MaybeUninit<Violation>,
}

/// Room for one violation, in memory that forked children share.
#[derive(Debug)]
pub struct Verdict(NonNull<Slot>);

// SAFETY: the state says who may write and who may read the violation.
unsafe impl Send for Verdict {}
// SAFETY: as above.
unsafe impl Sync for Verdict {}

const SLOT_BYTES: NonZeroUsize = NonZeroUsize::new(size_of::<Slot>()).expect("a slot has a state");

impl Verdict {
    /// No violation yet.
    pub fn new() -> io::Result<Self> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe { mmap_anonymous(None, SLOT_BYTES, access, MapFlags::MAP_SHARED) }?;
        // The kernel's zeroes are a slot in state `NONE`.
        Ok(Self(start.cast()))
    }

    /// Tells a violation. Only the first is kept.
    pub fn tell(&self, violation: Violation) {
        // Relaxed: whoever wins writes, and nobody reads before the store below.
        if self.state().compare_exchange(NONE, BEING_WRITTEN, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            // SAFETY: the state keeps all others away.
            unsafe { (&raw mut (*self.0.as_ptr()).violation).write(MaybeUninit::new(violation)) };
            // Release pairs with the load in `violation`.
            self.state().store(WRITTEN, Ordering::Release);
        }
    }

    /// Whether anything was told, or is being told.
    pub fn is_told(&self) -> bool {
        self.state().load(Ordering::Relaxed) != NONE
    }

    /// The violation.
    pub fn violation(&self) -> Option<Violation> {
        // Acquire pairs with the store in `tell`.
        let written = self.state().load(Ordering::Acquire) == WRITTEN;
        // SAFETY: in this state the violation is written, and never again.
        written.then(|| unsafe { (&raw const (*self.0.as_ptr()).violation).read().assume_init() })
    }

    fn state(&self) -> &AtomicU32 {
        // SAFETY: the mapping lives as long as this value, and the state is only ever used as an atomic.
        unsafe { &(*self.0.as_ptr()).state }
    }
}

impl Drop for Verdict {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and not used after this.
        let unmapped = unsafe { munmap(self.0.cast(), SLOT_BYTES.get()) };
        debug_assert!(unmapped.is_ok(), "munmap of a whole mapping: {unmapped:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::violation::{Defect, DefectKind};
    use super::*;

    #[test]
    fn the_first_violation_stays() {
        let verdict = Verdict::new().unwrap();
        assert!(!verdict.is_told() && verdict.violation().is_none());
        let defect = Defect { address: 1, bytes: 2, align: 4, kind: DefectKind::Misaligned };
        let first = Violation { seed: 1, thread: 2, step: 3, in_child: false, defect };
        verdict.tell(first);
        verdict.tell(Violation { step: 4, ..first });
        assert!(verdict.is_told());
        assert_eq!(verdict.violation(), Some(first));
    }
}
