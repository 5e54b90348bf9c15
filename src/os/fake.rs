//! A kernel for tests: real address space, scripted failures, a log of what was asked, a clock that is turned by hand.

extern crate std;

use core::ffi::{CStr, c_void};
use core::ptr::NonNull;
use std::sync::Mutex;
use std::vec::Vec;

use super::fake_files::FakeFiles;
use super::{Advice, Facts, Identity, Limit, Linux, Os, OsError, RELEASE_BYTES};
use crate::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::units::Nanos;

/// One purge that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Purged {
    pub(crate) base: usize,
    pub(crate) bytes: usize,
}

/// The fake kernel.
pub(crate) struct FakeOs {
    /// Reservations larger than this are refused.
    pub(crate) reserve_bytes_max: usize,
    /// What `facts` says.
    pub(crate) facts: Facts,
    /// What `kernel_release` says.
    pub(crate) release: &'static str,
    /// The limits that there are.
    pub(crate) limits: Vec<(Limit, u64)>,
    /// The files that there are, none at first.
    pub(crate) files: FakeFiles,
    /// The call of this number, counted from 0 over all calls that can fail, is refused; so are the following ones up
    /// to `fail_count` in all.
    pub(crate) fail_from: AtomicUsize,
    pub(crate) fail_count: AtomicUsize,
    calls: AtomicUsize,
    now: AtomicU64,
    purges: Mutex<Vec<Purged>>,
    threads: AtomicUsize,
    on_yield: Mutex<Option<Hook>>,
}

/// Something to do in the middle of a call.
type Hook = std::boxed::Box<dyn FnOnce() + Send>;

impl FakeOs {
    /// A machine with 1 GiB of memory on which no call fails.
    pub(crate) fn new() -> Self {
        FakeOs {
            reserve_bytes_max: usize::MAX,
            facts: Facts { page_bytes: 4096, memory_bytes: 1 << 30, lockable_bytes: 8 << 20 },
            release: "6.18.0",
            limits: Vec::new(),
            files: FakeFiles::new(),
            fail_from: AtomicUsize::new(usize::MAX),
            fail_count: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            now: AtomicU64::new(1_000_000_000_000),
            purges: Mutex::new(Vec::new()),
            threads: AtomicUsize::new(0),
            on_yield: Mutex::new(None),
        }
    }

    /// Refuses `count` calls, from call number `from` on.
    pub(crate) fn failing(self, from: usize, count: usize) -> Self {
        self.fail_from.store(from, Ordering::SeqCst);
        self.fail_count.store(count, Ordering::SeqCst);
        self
    }

    /// Refuses `count` calls from the next one on.
    pub(crate) fn fail_next(&self, count: usize) {
        self.fail_count.store(count, Ordering::SeqCst);
        self.fail_from.store(self.calls(), Ordering::SeqCst);
    }

    /// Refuses reservations over `bytes`.
    pub(crate) fn narrow(mut self, bytes: usize) -> Self {
        self.reserve_bytes_max = bytes;
        self
    }

    /// Calls made so far that can fail.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Turns the clock on.
    pub(crate) fn advance(&self, time: Nanos) {
        self.now.fetch_add(time.0, Ordering::SeqCst);
    }

    /// The purges that worked, in order.
    pub(crate) fn purges(&self) -> Vec<Purged> {
        self.purges.lock().unwrap().clone()
    }

    /// Has `hook` run the next time that a thread gives way.
    pub(crate) fn on_next_yield(&self, hook: impl FnOnce() + Send + 'static) {
        *self.on_yield.lock().unwrap() = Some(std::boxed::Box::new(hook));
    }

    /// Threads that were asked for.
    pub(crate) fn threads(&self) -> usize {
        self.threads.load(Ordering::SeqCst)
    }

    fn may_fail(&self, number: i32) -> Result<(), OsError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let from = self.fail_from.load(Ordering::SeqCst);
        let fails = call >= from && call - from < self.fail_count.load(Ordering::SeqCst);
        if fails { Err(OsError(core::num::NonZeroI32::new(number).unwrap())) } else { Ok(()) }
    }
}

impl Os for FakeOs {
    fn facts(&self) -> Facts {
        self.facts
    }

    fn secret(&self) -> usize {
        0x1234_5678_9abc_def1
    }

    fn reserve(&self, bytes: usize) -> Result<NonNull<u8>, OsError> {
        self.may_fail(libc::ENOMEM)?;
        if bytes > self.reserve_bytes_max {
            return Err(OsError(core::num::NonZeroI32::new(libc::ENOMEM).unwrap()));
        }
        Linux.reserve(bytes)
    }

    unsafe fn unreserve(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        self.may_fail(libc::ENOMEM)?;
        // SAFETY: the caller's promise is the same.
        unsafe { Linux.unreserve(base, bytes) }
    }

    unsafe fn commit(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        self.may_fail(libc::ENOMEM)?;
        // SAFETY: the caller's promise is the same.
        unsafe { Linux.commit(base, bytes) }
    }

    unsafe fn advise(&self, base: NonNull<u8>, bytes: usize, advice: Advice) -> Result<(), OsError> {
        self.may_fail(libc::EINVAL)?;
        // SAFETY: the caller's promise is the same.
        unsafe { Linux.advise(base, bytes, advice) }
    }

    unsafe fn purge(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        self.may_fail(libc::EAGAIN)?;
        // SAFETY: the caller's promise is the same.
        unsafe { Linux.purge(base, bytes) }?;
        self.purges.lock().unwrap().push(Purged { base: base.addr().get(), bytes });
        Ok(())
    }

    unsafe fn touch(&self, place: NonNull<u8>) {
        // SAFETY: the caller's promise is the same.
        unsafe { Linux.touch(place) };
    }

    fn coarse_now(&self) -> Nanos {
        self.now()
    }

    fn now(&self) -> Nanos {
        Nanos(self.now.load(Ordering::SeqCst))
    }

    fn yield_now(&self) {
        let hook = self.on_yield.lock().unwrap().take();
        match hook {
            Some(hook) => hook(),
            None => std::thread::yield_now(),
        }
    }

    fn sleep(&self, time: Nanos) {
        self.advance(time);
    }

    fn wait(&self, _word: &AtomicU32, _expected: u32) {}

    fn wake(&self, _word: &AtomicU32) {}

    fn name_thread(&self) {}

    unsafe fn start_thread(
        &self,
        _stack: NonNull<u8>,
        _stack_bytes: usize,
        _main: extern "C" fn(*mut c_void) -> *mut c_void,
        _argument: *mut c_void,
    ) -> Result<(), OsError> {
        self.may_fail(libc::EAGAIN)?;
        self.threads.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn kernel_release<'a>(&self, buffer: &'a mut [u8; RELEASE_BYTES]) -> &'a [u8] {
        let text = self.release.as_bytes();
        buffer[..text.len()].copy_from_slice(text);
        &buffer[..text.len()]
    }

    fn limit(&self, limit: Limit) -> Option<u64> {
        self.limits.iter().find(|(which, _)| *which == limit).map(|(_, bytes)| *bytes)
    }

    fn open(&self, path: &CStr) -> Result<i32, OsError> {
        self.files.open(path)
    }

    fn read(&self, fd: i32, buffer: &mut [u8]) -> Result<usize, OsError> {
        self.files.read(fd, buffer)
    }

    fn close(&self, fd: i32) {
        self.files.close(fd);
    }

    fn open_trigger(&self, path: &CStr, text: &[u8]) -> Result<i32, OsError> {
        self.files.open_trigger(path, text)
    }

    fn trigger_fired(&self, fd: i32) -> Result<bool, OsError> {
        self.files.trigger_fired(fd)
    }

    fn identity(&self, fd: i32) -> Result<Identity, OsError> {
        self.files.identity(fd)
    }
}
