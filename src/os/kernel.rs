//! The kernel with its calls counted and timed: the face of the os layer that the layers above use.

use core::ptr::NonNull;

use super::{Advice, Os, OsError, Range};
use crate::stats::counters::{By, Call, Counters};
use crate::units::Nanos;

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

    /// Makes a call over `bytes` and counts it. Cost beside the call: two readings of the clock.
    fn counted<T>(
        &self,
        call: Call,
        by: By,
        bytes: usize,
        ask: impl FnOnce(&O) -> Result<T, OsError>,
    ) -> Result<T, OsError> {
        let (result, time) = self.timed(ask);
        self.counters.count(call, by, bytes, time, result.is_ok());
        result
    }

    fn timed<T>(&self, ask: impl FnOnce(&O) -> T) -> (T, Nanos) {
        let start = self.os.now();
        let result = ask(&self.os);
        (result, self.os.now().since(start))
    }

    /// [`Os::reserve`], counted.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<NonNull<u8>, OsError> {
        self.counted(Call::Reserve, By::Application, bytes, |os| os.reserve(bytes))
    }

    /// [`Os::take_pool`], counted as address space taken.
    pub(crate) fn take_pool(&self, bytes: usize) -> Result<NonNull<u8>, OsError> {
        self.counted(Call::Reserve, By::Application, bytes, |os| os.take_pool(bytes))
    }

    /// [`Os::unreserve`], counted.
    /// # Safety
    /// As [`Os::unreserve`].
    pub(crate) unsafe fn unreserve(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller's promise is the same.
        self.counted(Call::Unreserve, By::Application, bytes, |os| unsafe { os.unreserve(base, bytes) })
    }

    /// [`Os::commit`], counted for the kind of thread that calls it.
    /// # Safety
    /// As [`Os::commit`].
    pub(crate) unsafe fn commit(&self, base: NonNull<u8>, bytes: usize, by: By) -> Result<(), OsError> {
        // SAFETY: the caller's promise is the same.
        self.counted(Call::Commit, by, bytes, |os| unsafe { os.commit(base, bytes) })
    }

    /// [`Os::advise`], counted.
    /// # Safety
    /// As [`Os::advise`].
    pub(crate) unsafe fn advise(&self, base: NonNull<u8>, bytes: usize, advice: Advice) -> Result<(), OsError> {
        // SAFETY: the caller's promise is the same.
        self.counted(Call::Advise, By::Application, bytes, |os| unsafe { os.advise(base, bytes, advice) })
    }

    /// [`Os::lock_on_fault`], counted as advice, for the kind of thread that calls it.
    /// # Safety
    /// As [`Os::lock_on_fault`].
    pub(crate) unsafe fn lock_on_fault(&self, base: NonNull<u8>, bytes: usize, by: By) -> Result<(), OsError> {
        // SAFETY: the caller's promise is the same.
        self.counted(Call::Advise, by, bytes, |os| unsafe { os.lock_on_fault(base, bytes) })
    }

    /// [`Os::purge_scattered`], counted as one call over what was purged; gives also the time that it took.
    /// # Safety
    /// As [`Os::purge_scattered`].
    pub(crate) unsafe fn purge_scattered(&self, ranges: &[Range]) -> (Result<usize, OsError>, Nanos) {
        // SAFETY: the caller's promise is the same.
        let (result, time) = self.timed(|os| unsafe { os.purge_scattered(ranges) });
        self.counters.count(Call::Purge, By::Governor, result.unwrap_or(0), time, result.is_ok());
        (result, time)
    }

    /// [`Os::fault_in`], counted over `bytes` if one page fault was enough, and over the pages that were faulted in
    /// otherwise; gives the page faults and the time that they took.
    /// # Safety
    /// As [`Os::fault_in`].
    pub(crate) unsafe fn warm(&self, base: NonNull<u8>, bytes: usize, stride_bytes: usize) -> (u64, Nanos) {
        // SAFETY: the caller's promise is the same.
        let (faults, time) = self.timed(|os| unsafe { os.fault_in(base, bytes, stride_bytes) });
        let page_bytes = usize::try_from(faults).unwrap_or(usize::MAX).saturating_mul(self.os.page_bytes());
        let warm_bytes = if faults <= 1 { bytes } else { bytes.min(page_bytes) };
        self.counters.count(Call::Warm, By::Governor, warm_bytes, time, true);
        (faults, time)
    }

    /// [`Os::purge`], counted; gives the time that it took.
    /// # Safety
    /// As [`Os::purge`].
    pub(crate) unsafe fn purge(&self, base: NonNull<u8>, bytes: usize) -> Result<Nanos, OsError> {
        // SAFETY: the caller's promise is the same.
        let (result, time) = self.timed(|os| unsafe { os.purge(base, bytes) });
        self.counters.count(Call::Purge, By::Governor, bytes, time, result.is_ok());
        result.map(|()| time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHUNK_BYTES;
    use crate::os::fake::FakeOs;
    use crate::units::Nanos;

    #[test]
    fn a_call_is_counted_with_its_time_and_its_outcome() {
        let kernel = Kernel::new(FakeOs::new());
        for (time, number) in [(Nanos(3_000), None), (Nanos(5_000), core::num::NonZeroI32::new(libc::EAGAIN))] {
            let _ = kernel.counted(Call::Purge, By::Governor, 4096, |os| {
                os.advance(time);
                number.map_or(Ok(()), |number| Err(OsError(number)))
            });
        }
        let purge = kernel.counters().snapshot().purge;
        assert_eq!((purge.calls(), purge.errors(), purge.bytes()), (2, 1, 4096));
        assert_eq!((purge.governor.time.sum_ns, purge.governor.time.max_ns), (8_000, 5_000));
        assert_eq!(purge.application.calls, 0);
    }

    #[test]
    fn each_call_is_counted_as_its_own_kind() {
        let kernel = Kernel::new(FakeOs::new());
        let base = kernel.reserve(CHUNK_BYTES).unwrap();
        // SAFETY: the range is ours, untouched until committed, holds no block, and is given back last.
        unsafe {
            kernel.advise(base, CHUNK_BYTES, Advice::NoHugepages).unwrap();
            kernel.commit(base, CHUNK_BYTES, By::Application).unwrap();
            kernel.commit(base, 4096, By::Governor).unwrap();
            kernel.purge(base, CHUNK_BYTES).unwrap();
            kernel.unreserve(base, CHUNK_BYTES).unwrap();
        }
        let stats = kernel.counters().snapshot();
        let bytes = CHUNK_BYTES as u64;
        let found = stats.by_call().map(|(_, call)| (call.application.bytes, call.governor.bytes));
        assert_eq!(found, [(bytes, 0), (bytes, 0), (bytes, 4096), (bytes, 0), (0, bytes), (0, 0)]);
    }
}
