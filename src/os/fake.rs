//! A kernel for tests: real address space, scripted failures, a log of what was asked, a clock that is turned by hand.

mod files;

extern crate std;

use core::ffi::{CStr, c_void};
use core::ptr::NonNull;
use std::sync::Mutex;
use std::vec::Vec;

use files::FakeFiles;

use super::{Advice, Facts, Limit, Linux, Os, OsError, RELEASE_BYTES, Range};
use crate::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::limits::CHUNK_BYTES;
use crate::units::Nanos;

/// One purge that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Purged {
    pub(crate) base: usize,
    pub(crate) bytes: usize,
}

/// One call that purged one range, or several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PurgeCall {
    pub(crate) start: Nanos,
    pub(crate) time: Nanos,
    pub(crate) bytes: usize,
}

/// What purges and page faults work on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Memory {
    /// Memory of this process.
    Real,
    /// None: addresses are numbers. Chunks that are made warm get one hugepage, or small pages.
    Pretended { hugepages: bool },
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
    /// Whether a thread gets a table of descriptors of its own.
    pub(crate) own_descriptors: bool,
    /// The call of this number, counted from 0 over all calls that can fail, is refused; so are the following ones up
    /// to `fail_count` in all.
    pub(crate) fail_from: AtomicUsize,
    pub(crate) fail_count: AtomicUsize,
    /// Whether scattered ranges can be purged in one call, and how many of them one call does.
    pub(crate) scatters: bool,
    pub(crate) scatter_ranges_max: AtomicUsize,
    /// Whether calls on memory touch any.
    pub(crate) memory: Memory,
    /// By how much a purge turns the clock on, for each MiB, and a page fault of the governor.
    pub(crate) purge_ns_per_mib: u64,
    pub(crate) fault_ns: u64,
    /// In place of `purge_ns_per_mib`: asked for each range that is purged how many nanoseconds that takes.
    pub(crate) purge_cost: Option<PurgeCost>,
    /// Told of each range that is made warm.
    pub(crate) on_fault_in: Option<FaultHook>,
    /// Bytes in the pool of explicit hugepages.
    pub(crate) pool_bytes: usize,
    /// Bytes of free memory, as the machine tells.
    pub(crate) free_bytes: u64,
    /// Whether memory is locked when it is committed, as after `mlockall`, and `lock_on_fault` was not asked for.
    pub(crate) populates: AtomicBool,
    /// Whether `lock_on_fault` works.
    pub(crate) locks_on_fault: bool,
    calls: AtomicUsize,
    now: AtomicU64,
    /// The number of the process; a test may make it another one.
    pub(crate) process: AtomicU32,
    purges: Mutex<Vec<Purged>>,
    purge_calls: Mutex<Vec<PurgeCall>>,
    threads: AtomicUsize,
    on_yield: Mutex<Option<Hook>>,
}

/// Something to do in the middle of a call.
type Hook = std::boxed::Box<dyn FnOnce() + Send>;

/// Nanoseconds that it takes to purge a range.
type PurgeCost = std::boxed::Box<dyn Fn(Range) -> u64 + Send + Sync>;

/// Something to do when a range is made warm.
type FaultHook = std::boxed::Box<dyn Fn(Range) + Send + Sync>;

impl FakeOs {
    /// A machine with 1 GiB of memory on which no call fails.
    pub(crate) fn new() -> Self {
        FakeOs {
            reserve_bytes_max: usize::MAX,
            facts: Facts { page_bytes: 4096, memory_bytes: 1 << 30, lockable_bytes: 8 << 20 },
            release: "6.18.0",
            limits: Vec::new(),
            files: FakeFiles::new(),
            own_descriptors: true,
            fail_from: AtomicUsize::new(usize::MAX),
            fail_count: AtomicUsize::new(0),
            scatters: true,
            scatter_ranges_max: AtomicUsize::new(usize::MAX),
            memory: Memory::Real,
            purge_ns_per_mib: 0,
            fault_ns: 0,
            purge_cost: None,
            on_fault_in: None,
            pool_bytes: 0,
            free_bytes: u64::MAX / 2,
            populates: AtomicBool::new(false),
            locks_on_fault: true,
            calls: AtomicUsize::new(0),
            now: AtomicU64::new(1_000_000_000_000),
            process: AtomicU32::new(1),
            purges: Mutex::new(Vec::new()),
            purge_calls: Mutex::new(Vec::new()),
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

    /// The calls that purged something, in order, since this was asked last.
    pub(crate) fn take_purge_calls(&self) -> Vec<PurgeCall> {
        core::mem::take(&mut *self.purge_calls.lock().unwrap())
    }

    fn log_call(&self, start: Nanos, bytes: usize) {
        let call = PurgeCall { start, time: self.now().since(start), bytes };
        self.purge_calls.lock().unwrap().push(call);
    }

    /// Has `hook` run the next time that a thread gives way.
    pub(crate) fn on_next_yield(&self, hook: impl FnOnce() + Send + 'static) {
        *self.on_yield.lock().unwrap() = Some(std::boxed::Box::new(hook));
    }

    /// Threads that were asked for.
    pub(crate) fn threads(&self) -> usize {
        self.threads.load(Ordering::SeqCst)
    }

    /// Purges a range, at the cost that was set.
    /// # Safety
    /// As [`Os::purge`].
    unsafe fn drop_contents(&self, range: Range) -> Result<(), OsError> {
        if matches!(self.memory, Memory::Real) {
            // SAFETY: the caller's promise is the same.
            unsafe { Linux.purge(range.base, range.bytes) }?;
        }
        let even = ((range.bytes as u64 >> 10) * self.purge_ns_per_mib) >> 10;
        self.advance(Nanos(self.purge_cost.as_ref().map_or(even, |cost| cost(range))));
        self.purges.lock().unwrap().push(Purged { base: range.base.addr().get(), bytes: range.bytes });
        Ok(())
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

    fn secrets(&self) -> [usize; 2] {
        [0x1234_5678_9abc_def1, 0xfedc_ba98_7654_3211]
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
        let start = self.now();
        // SAFETY: the caller's promise is the same.
        unsafe { self.drop_contents(Range { base, bytes }) }?;
        self.log_call(start, bytes);
        Ok(())
    }

    fn can_purge_scattered(&self) -> bool {
        self.scatters
    }

    unsafe fn purge_scattered(&self, ranges: &[Range]) -> Result<usize, OsError> {
        self.may_fail(libc::EAGAIN)?;
        let start = self.now();
        let mut purged_bytes = 0;
        for range in ranges.iter().take(self.scatter_ranges_max.load(Ordering::SeqCst)) {
            // SAFETY: the caller's promise is the same.
            unsafe { self.drop_contents(*range) }?;
            purged_bytes += range.bytes;
        }
        self.log_call(start, purged_bytes);
        Ok(purged_bytes)
    }

    unsafe fn fault_in(&self, base: NonNull<u8>, bytes: usize, stride_bytes: usize) -> u64 {
        if let Some(hook) = &self.on_fault_in {
            hook(Range { base, bytes });
        }
        let faults = match self.memory {
            // SAFETY: the caller's promise is the same.
            Memory::Real => unsafe { Linux.fault_in(base, bytes, stride_bytes) },
            Memory::Pretended { hugepages: true } => 1,
            Memory::Pretended { hugepages: false } => (bytes / stride_bytes) as u64 + 1,
        };
        self.advance(Nanos(faults * self.fault_ns));
        faults
    }

    fn is_resident(&self, place: NonNull<u8>) -> bool {
        self.populates.load(Ordering::SeqCst) || Linux.is_resident(place)
    }

    unsafe fn is_mapping_locked(&self, _place: NonNull<u8>) -> bool {
        self.populates.load(Ordering::SeqCst)
    }

    unsafe fn lock_on_fault(&self, _base: NonNull<u8>, _bytes: usize) -> Result<(), OsError> {
        self.may_fail(libc::ENOMEM)?;
        if !self.locks_on_fault {
            return Err(OsError(core::num::NonZeroI32::new(libc::EPERM).unwrap()));
        }
        self.populates.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn take_pool(&self, bytes: usize) -> Result<NonNull<u8>, OsError> {
        self.may_fail(libc::ENOMEM)?;
        if bytes > self.pool_bytes {
            return Err(OsError(core::num::NonZeroI32::new(libc::ENOMEM).unwrap()));
        }
        let raw = Linux.reserve(bytes + CHUNK_BYTES)?;
        let slack = raw.addr().get().next_multiple_of(CHUNK_BYTES) - raw.addr().get();
        // SAFETY: the aligned part lies in the fresh reservation; what is left of that is lost.
        unsafe {
            let base = raw.byte_add(slack);
            Linux.commit(base, bytes)?;
            Ok(base)
        }
    }

    fn free_memory_bytes(&self) -> u64 {
        self.free_bytes
    }

    fn page_bytes(&self) -> usize {
        self.facts.page_bytes
    }

    unsafe fn touch(&self, place: NonNull<u8>) {
        // SAFETY: the caller's promise is the same.
        unsafe { Linux.touch(place) };
    }

    fn process(&self) -> u32 {
        self.process.load(Ordering::SeqCst)
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

    fn wait_for(&self, _word: &AtomicU32, _expected: u32, time: Nanos) {
        self.advance(time);
    }

    fn wake_all(&self, _word: &AtomicU32) {}

    fn wake(&self, _word: &AtomicU32) {}

    fn prepare_thread(&self) -> bool {
        self.own_descriptors
    }

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
}
