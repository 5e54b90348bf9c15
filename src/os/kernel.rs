//! The kernel with its calls counted: the face of the os layer that the layers above use.

use core::ptr::NonNull;

use super::{Advice, Os, OsError};
use crate::stats::counters::{Call, Counters};

/// An [`Os`] and the counters of what was asked of it. Memory calls go through here; the rest through [`Kernel::os`].
pub(crate) struct Kernel<O> {
    os: O,
    counters: Counters,
}

impl<O: Os> Kernel<O> {
    /// `os` with all counters at zero.
    pub(crate) const fn new(os: O) -> Self {
        Kernel { os, counters: Counters::new() }
    }

    /// The calls that are not counted: clock, sleeping, threads.
    pub(crate) fn os(&self) -> &O {
        &self.os
    }

    /// The counters.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    fn counted<T>(&self, call: Call, bytes: usize, result: Result<T, OsError>) -> Result<T, OsError> {
        self.counters.count(call, bytes, result.is_ok());
        result
    }

    /// [`Os::reserve`], counted.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<NonNull<u8>, OsError> {
        self.counted(Call::Reserve, bytes, self.os.reserve(bytes))
    }

    /// [`Os::unreserve`], counted.
    /// # Safety
    /// As [`Os::unreserve`].
    pub(crate) unsafe fn unreserve(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller's promise is the same.
        self.counted(Call::Unreserve, bytes, unsafe { self.os.unreserve(base, bytes) })
    }

    /// [`Os::commit`], counted.
    /// # Safety
    /// As [`Os::commit`].
    pub(crate) unsafe fn commit(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller's promise is the same.
        self.counted(Call::Commit, bytes, unsafe { self.os.commit(base, bytes) })
    }

    /// [`Os::advise`], counted.
    /// # Safety
    /// As [`Os::advise`].
    pub(crate) unsafe fn advise(&self, base: NonNull<u8>, bytes: usize, advice: Advice) -> Result<(), OsError> {
        // SAFETY: the caller's promise is the same.
        self.counted(Call::Advise, bytes, unsafe { self.os.advise(base, bytes, advice) })
    }

    /// [`Os::purge`], counted.
    /// # Safety
    /// As [`Os::purge`].
    pub(crate) unsafe fn purge(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller's promise is the same.
        self.counted(Call::Purge, bytes, unsafe { self.os.purge(base, bytes) })
    }
}
