//! Layer 1: the kernel, as one trait. What each call needs, does, costs and locks is said here and nowhere else.
//!
//! Invariant: no policy, and no state beyond what was read at start; every error of the kernel is returned, never
//! swallowed. Only `linux.rs` makes memory calls.

pub(crate) mod cgroup;
pub(crate) mod environ;
#[cfg(any(test, feature = "bench-internals"))]
#[cfg_attr(not(test), expect(dead_code, reason = "benchmarks use a part of what tests do"))]
#[cfg_attr(not(test), allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
pub(crate) mod fake;
mod files;
pub(crate) mod hugetlb;
mod kernel;
mod lines;
mod linux;
pub(crate) mod locked;
pub(crate) mod machine;
pub(crate) mod path;
pub(crate) mod stall;
mod text_scan;
pub(crate) mod vmstat;

pub(crate) use kernel::Kernel;
pub(crate) use linux::Linux;

use core::ffi::CStr;
use core::num::NonZeroI32;
use core::ptr::NonNull;

use crate::atomic::AtomicU32;
use crate::units::Nanos;

/// An error number of the kernel, such as `ENOMEM`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OsError(pub(crate) NonZeroI32);

/// How a mapping wants to be treated. A type, because advice values are numbers, not flags, and must not be combined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Advice {
    /// Back it with hugepages from the first touch (`MADV_HUGEPAGE`).
    Hugepages,
    /// Never back it with hugepages, so that khugepaged leaves it alone (`MADV_NOHUGEPAGE`).
    NoHugepages,
}

/// What the machine and the process are like, read once at start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Bytes in a page.
    pub(crate) page_bytes: usize,
    /// Bytes of memory in the machine.
    pub(crate) memory_bytes: usize,
    /// Bytes of address space that this process may lock into memory: all (`usize::MAX`) with `CAP_IPC_LOCK`, otherwise
    /// `RLIMIT_MEMLOCK`.
    pub(crate) lockable_bytes: usize,
}

/// A limit of the process that `getrlimit` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    /// Bytes of address space (`RLIMIT_AS`).
    AddressSpace,
    /// Bytes of private writable memory (`RLIMIT_DATA`).
    Data,
    /// Bytes that may be locked into memory (`RLIMIT_MEMLOCK`).
    Locked,
    /// Bytes of a core dump (`RLIMIT_CORE`).
    Core,
}

/// Bytes of the buffer that [`Os::kernel_release`] fills: a field of `utsname` without its NUL.
pub(crate) const RELEASE_BYTES: usize = 64;

/// A range of memory, laid out as the kernel's `iovec`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Range {
    pub(crate) base: NonNull<u8>,
    pub(crate) bytes: usize,
}

impl Range {
    /// Nothing.
    pub(crate) const NONE: Range = Range { base: NonNull::dangling(), bytes: 0 };
}

/// What the allocator asks of the kernel. `linux.rs` asks the real one; `fake.rs` fails on demand.
pub(crate) trait Os: Sync {
    /// Page size, memory, limits. Two to three system calls, none of which takes mmap_lock.
    fn facts(&self) -> Facts;

    /// Two random words that differ from process to process, neither of which tells the other. No system call.
    fn secrets(&self) -> [usize; 2];

    /// Takes `bytes` of address space without access. Linux: `mmap(PROT_NONE, MAP_NORESERVE)`; takes mmap_lock for
    /// writing, some µs whatever the size.
    /// # Errors
    /// `ENOMEM` no such range or a limit on address space; `EAGAIN` too much would be locked.
    fn reserve(&self, bytes: usize) -> Result<NonNull<u8>, OsError>;

    /// Gives address space back that was never used. Linux: `munmap`; takes mmap_lock for writing, some µs.
    /// Only at start-up and for reservations that could not be set up.
    /// # Safety
    /// `[base, base + bytes)` came from [`Os::reserve`], whole pages, and nothing refers to it.
    /// # Errors
    /// `ENOMEM` too many mappings.
    unsafe fn unreserve(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError>;

    /// Makes untouched reserved pages readable and writable; they read as zeroes. Linux: `mprotect`; takes mmap_lock
    /// for writing, 1 to 9 µs on untouched memory. Calling it again on the same range does no harm.
    /// # Safety
    /// The range is whole pages of a reservation of ours, and untouched or committed before.
    /// # Errors
    /// `ENOMEM` strict overcommit, `RLIMIT_DATA` or too many mappings.
    unsafe fn commit(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError>;

    /// Sets a flag on a whole mapping. Linux: `madvise`; takes mmap_lock for writing, 1 to 8 µs.
    /// # Safety
    /// The range is one whole untouched mapping of ours.
    /// # Errors
    /// `EINVAL` the kernel was built without hugepages.
    unsafe fn advise(&self, base: NonNull<u8>, bytes: usize, advice: Advice) -> Result<(), OsError>;

    /// Gives the contents of the range back; later reads see zeroes. Linux: `madvise(MADV_DONTNEED)`, or
    /// `MADV_DONTNEED_LOCKED` where memory is locked. Takes the lock of the one mapping since Linux 6.17, before that
    /// mmap_lock for reading; 3 µs per MiB of hugepages, 70 to 80 µs per MiB of 4 KiB pages.
    /// # Safety
    /// The caller owns the range: whole pages inside one mapping of ours, with no live block.
    /// # Errors
    /// `EAGAIN` a kernel resource was short; `EINVAL` the range is locked on a kernel before 5.18.
    unsafe fn purge(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError>;

    /// Whether [`Os::purge_scattered`] is to be had: asks for nothing to be purged that way. One system call.
    fn can_purge_scattered(&self) -> bool;

    /// Like [`Os::purge`], for several ranges in one call, in order; gives how many bytes of them were purged before
    /// the kernel stopped. Linux: `process_madvise` on the own process (6.13 and later by `PIDFD_SELF`); takes the
    /// locks range by range, and flushes address translations once for all.
    /// # Safety
    /// As [`Os::purge`], for each range.
    /// # Errors
    /// As [`Os::purge`], for the first range.
    unsafe fn purge_scattered(&self, ranges: &[Range]) -> Result<usize, OsError>;

    /// Writes zero to the first byte, to every `stride_bytes`-th one after it, and gives how many page faults that took
    /// this thread. Each fault takes the lock of the one mapping (mmap_lock for reading before Linux 6.4) and clears a
    /// page: 1.3 µs for a small one, 86 µs for a hugepage, ten times as much where a hypervisor has to find it first.
    /// # Safety
    /// The range is committed memory of ours that holds no data and that no other thread uses.
    unsafe fn fault_in(&self, base: NonNull<u8>, bytes: usize, stride_bytes: usize) -> u64;

    /// Whether the page at `place` is in memory. Linux: a word of `/proc/self/pagemap`; `mincore` where there is none,
    /// for which systemd kills a service with `SystemCallFilter=@system-service`. 10 µs, or 1; mmap_lock for reading.
    /// `false` if the kernel does not tell.
    fn is_resident(&self, place: NonNull<u8>) -> bool;

    /// Whether the page at `place` is in a mapping that is locked, because the process has had all future memory
    /// locked. Linux: `madvise(MADV_DONTNEED)` of one page, which is refused there; 1 µs; the lock of the one mapping
    /// (mmap_lock for reading before Linux 6.17).
    /// # Safety
    /// The page lies in a reservation of ours, and nobody has touched it.
    unsafe fn is_mapping_locked(&self, place: NonNull<u8>) -> bool;

    /// Has pages of the range locked into memory when they are touched, rather than all at once when the range is
    /// committed. Linux: `mlock2(MLOCK_ONFAULT)`, 4.4 and later; takes mmap_lock for writing, some µs on a range that
    /// is locked already or untouched.
    /// # Safety
    /// The range is a reservation of ours, whole.
    /// # Errors
    /// `ENOMEM`, `EPERM` more than may be locked.
    unsafe fn lock_on_fault(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError>;

    /// Takes `bytes`, whole chunks, of the pool of explicit hugepages: readable and writable memory of zeroes, aligned
    /// to a chunk, that is part of no reservation. The kernel sets as many pages aside, so that touching them never
    /// fails; a child that is forked later has no such right. Linux: `mmap(MAP_HUGETLB)` of 2 MiB pages; takes
    /// mmap_lock for writing, some µs, then for reading while the first page is cleared, 0.1 ms (all pages where future
    /// memory is locked). At start-up only; given back by [`Os::unreserve`].
    /// # Errors
    /// `ENOMEM` the pool has not as many free pages; `EINVAL` the kernel has no such pool; `EFAULT` a cgroup allows
    /// none.
    fn take_pool(&self, bytes: usize) -> Result<NonNull<u8>, OsError>;

    /// Bytes of memory that the machine has free, without what it could free. One system call that takes no lock.
    fn free_memory_bytes(&self) -> u64;

    /// Bytes in a page.
    fn page_bytes(&self) -> usize;

    /// Writes zero to the byte at `place`, which makes the kernel back its page: later faults in the mapping then need
    /// no mmap_lock. Takes mmap_lock for reading if it is the first fault of its mapping.
    /// # Safety
    /// `place` is committed memory of ours that holds no data yet.
    unsafe fn touch(&self, place: NonNull<u8>);

    /// The number of the process. One system call that takes no lock.
    fn process(&self) -> u32;

    /// The monotonic clock, to the kernel's tick (1 to 4 ms). No system call.
    fn coarse_now(&self) -> Nanos;

    /// The monotonic clock. No system call.
    fn now(&self) -> Nanos;

    /// Gives the processor to another thread.
    fn yield_now(&self);

    /// Sleeps for `time`.
    fn sleep(&self, time: Nanos);

    /// Sleeps while `word` holds `expected`, until [`Os::wake`] or for no good reason.
    fn wait(&self, word: &AtomicU32, expected: u32);

    /// Like [`Os::wait`], for at most `time`.
    fn wait_for(&self, word: &AtomicU32, expected: u32, time: Nanos);

    /// Wakes all threads that sleep on `word`. One system call that takes no lock of the address space.
    fn wake_all(&self, word: &AtomicU32);

    /// Wakes a thread that sleeps in [`Os::wait`] on `word`. One system call that takes no lock of the address space.
    fn wake(&self, word: &AtomicU32);

    /// Names the calling thread `antifreeze-gov`, for people who look at threads, lets its sleeps be short (the kernel
    /// may otherwise make each 50 µs longer), and gives it an empty table of descriptors of its own: what it opens then
    /// takes no number from the program, and what the program closes is not ours. Says whether it has such a table. Of
    /// what it inherited from the thread that started it, processors and preferred memory are replaced by those of the
    /// program's first thread. Linux: `close_range(CLOSE_RANGE_UNSHARE)`, 5.9 and later; releases no lock on a file.
    /// For a thread that shares its table with others and will never need their descriptors.
    fn prepare_thread(&self) -> bool;

    /// Starts a detached thread with all signals blocked that runs `main(argument)` on the given
    /// stack, so that starting it maps nothing.
    /// # Safety
    /// `stack` is `stack_bytes` of committed memory for the thread alone, for ever; `argument` may be used there.
    /// # Errors
    /// `EAGAIN` no more threads allowed.
    unsafe fn start_thread(
        &self,
        stack: NonNull<u8>,
        stack_bytes: usize,
        main: extern "C" fn(*mut core::ffi::c_void) -> *mut core::ffi::c_void,
        argument: *mut core::ffi::c_void,
    ) -> Result<(), OsError>;

    /// The release of the kernel, such as `6.18.44-generic`; empty if the kernel does not tell. One system call that
    /// takes no lock of the address space.
    fn kernel_release<'a>(&self, buffer: &'a mut [u8; RELEASE_BYTES]) -> &'a [u8];

    /// A limit of the process; `None` if there is none. One system call that takes no lock of the address space.
    fn limit(&self, limit: Limit) -> Option<u64>;

    /// Opens a file for reading. One system call. This and the other calls on files take no mmap_lock (but some µs, and
    /// locks of the file system), unless the buffer they write to was never touched.
    /// # Errors
    /// `ENOENT` there is none; `EACCES`, `EMFILE` and the like.
    fn open(&self, path: &CStr) -> Result<i32, OsError>;

    /// Reads on from where the last read ended; gives the count of bytes, 0 at the end. May read less than fits.
    /// # Errors
    /// `EIO`, or what the driver of the file says.
    fn read(&self, fd: i32, buffer: &mut [u8]) -> Result<usize, OsError>;

    /// Closes a descriptor of ours. One system call.
    fn close(&self, fd: i32);

    /// Reads a file from its start, as much as fits: four system calls for a small one.
    /// # Errors
    /// As [`Os::open`] and [`Os::read`].
    fn read_file<'a>(&self, path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], OsError> {
        let fd = self.open(path)?;
        let filled = files::fill(self, fd, buffer);
        self.close(fd);
        filled.map(|filled| buffer.get(..filled).unwrap_or_default())
    }

    /// Opens a pressure file and asks to be told of stalls: `text` says which, and ends with NUL
    /// (Documentation/accounting/psi). Two system calls. The descriptor stays open: for a thread with a table of its
    /// own.
    /// # Errors
    /// `ENOENT`, `EOPNOTSUPP` the kernel does not measure pressure; `EPERM`, `EACCES`, `EINVAL` not permitted.
    fn open_trigger(&self, path: &CStr, text: &[u8]) -> Result<i32, OsError>;

    /// Whether what the trigger waits for has happened since the last call. One system call that does not wait.
    /// # Errors
    /// `EBADF` the descriptor is not open; `ENODEV` the pressure file is gone, or the descriptor is no trigger.
    fn trigger_fired(&self, fd: i32) -> Result<bool, OsError>;
}
