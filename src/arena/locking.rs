//! Locked memory: sees to it that the kernel locks pages of a reservation when they are touched, not all at once when
//! they are committed, which for 64 MiB took 180 ms with mmap_lock held for writing. Called by whoever commits.
//!
//! Invariant: every commit of a reservation but those at its start, right after `begin` has looked, goes through here,
//! and whoever commits more than is needed has asked before whether that brings pages into memory. What could not be
//! known beforehand (a second `mlockall`, a `/proc` that is not there) is learned from the last page of a step, so that
//! it happens once.
//!
//! | state | meaning | goes to |
//! |---|---|---|
//! | `UNLOCKED` | no locked memory was found so far | any of the others |
//! | `ON_FAULT` | it was locked, and is locked page by page now; a further `mlockall` undoes that | `REFUSED` |
//! | `REFUSED` | it is locked all at once, so steps are small | `UNLOCKED`, once a commit brought nothing in |

use core::ptr::NonNull;

use super::refusal::Refusal;
use crate::atomic::{AtomicU32, Ordering};
use crate::os::locked::locked_bytes;
use crate::os::{Kernel, Os, OsError};
use crate::stats::counters::By;

/// Steps of so many bytes are not taken without a look: at 3 ms for each MiB.
const LOOK_BYTES_MIN: usize = 16 << 20;

const UNLOCKED: u32 = 0;
const ON_FAULT: u32 = 1;
const REFUSED: u32 = 2;

/// Whether the memory of one reservation is locked, and how.
pub(crate) struct Locking {
    base: NonNull<u8>,
    bytes: usize,
    /// Any thread, the last one wins.
    state: AtomicU32,
}

impl Locking {
    /// Of memory that nobody locks.
    #[cfg(test)]
    pub(crate) const fn none() -> Self {
        Locking { base: NonNull::dangling(), bytes: 0, state: AtomicU32::new(UNLOCKED) }
    }

    /// For the reservation of `bytes` at `base`, nothing of which is committed or touched: looks whether the process
    /// has had all future memory locked, and sees to that. One system call if it has not.
    /// # Safety
    /// It is a reservation of ours, whole.
    pub(crate) unsafe fn begin<O: Os>(kernel: &Kernel<O>, base: NonNull<u8>, bytes: usize) -> Self {
        let locking = Locking { base, bytes, state: AtomicU32::new(UNLOCKED) };
        // SAFETY: the caller's promise.
        if unsafe { kernel.os().is_mapping_locked(base) } {
            locking.lock_on_fault(kernel, By::Application);
        }
        locking
    }

    /// Before a step of `bytes`: whether it may be taken where less is needed. One that was refused lately is not going
    /// to be taken, and not worth a look. Cost: some loads; five system calls, 30 µs, for a step that would bring in
    /// much.
    pub(crate) fn allows_step<O: Os>(&self, kernel: &Kernel<O>, refusal: &Refusal, bytes: usize, by: By) -> bool {
        let os = kernel.os();
        let worth_a_look = bytes >= LOOK_BYTES_MIN && self.state() == UNLOCKED;
        if worth_a_look && !refusal.covers(os.coarse_now(), bytes) && self.is_locked(os).unwrap_or(false) {
            self.lock_on_fault(kernel, by);
        }
        !self.is_refused()
    }

    /// Commits a range of the reservation, and looks whether that brought it into memory.
    /// # Safety
    /// As [`Kernel::commit`]; the range lies in the reservation.
    /// # Errors
    /// As [`Os::commit`].
    pub(crate) unsafe fn commit<O: Os>(
        &self,
        kernel: &Kernel<O>,
        start: NonNull<u8>,
        bytes: usize,
        by: By,
    ) -> Result<(), OsError> {
        // SAFETY: the caller's promise.
        unsafe { kernel.commit(start, bytes, by) }?;
        // SAFETY: the range is not empty.
        let last = unsafe { start.byte_add(bytes - 1) };
        let is_resident = kernel.os().is_resident(last);
        if self.is_refused() {
            if !is_resident {
                // It is not locked any more.
                self.set_state(UNLOCKED);
            }
        } else if is_resident && self.is_locked(kernel.os()).unwrap_or(true) {
            // And not because another thread, which took the same step, has used it up already.
            self.lock_on_fault(kernel, by);
        }
        Ok(())
    }

    /// Whether memory is locked all at once when it is committed, as far as is known.
    pub(crate) fn is_refused(&self) -> bool {
        self.state() == REFUSED
    }

    fn lock_on_fault<O: Os>(&self, kernel: &Kernel<O>, by: By) {
        // SAFETY: the whole reservation, and ours.
        let listened = unsafe { kernel.lock_on_fault(self.base, self.bytes, by) }.is_ok();
        self.set_state(if listened { ON_FAULT } else { REFUSED });
    }

    /// Whether the reservation is locked: a program that locks some memory of its own locks less than so many
    /// addresses.
    fn is_locked(&self, os: &impl Os) -> Option<bool> {
        locked_bytes(os).map(|locked| locked >= self.bytes as u64)
    }

    fn state(&self) -> u32 {
        // Relaxed: what another thread has just learned is learned again.
        self.state.load(Ordering::Relaxed)
    }

    fn set_state(&self, state: u32) {
        // Relaxed: as above.
        self.state.store(state, Ordering::Relaxed);
    }
}
