//! The one place that names the atomics. `loom-tests` supplies its own module of this name, so that the shipping files
//! of `lockfree/` run under loom's scheduler without a `cfg` in them.

#[cfg(target_has_atomic = "64")]
pub(crate) use core::sync::atomic::AtomicU64;
pub(crate) use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// Tells the processor (or the model checker) that this thread waits for another one.
#[inline]
pub(crate) fn spin_loop() {
    core::hint::spin_loop();
}
