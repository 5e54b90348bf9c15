//! The real kernel. The only file that makes memory system calls.

use core::ffi::{CStr, c_void};
use core::num::NonZeroI32;
use core::ptr::{NonNull, null, null_mut};

use super::{Advice, Facts, Limit, Os, OsError, RELEASE_BYTES, Range, files};
use crate::atomic::AtomicU32;
use crate::limits::CHUNK_BYTES;
use crate::units::Nanos;

/// `MADV_DONTNEED_LOCKED` (Linux 5.18, include/uapi/asm-generic/mman-common.h): purges locked memory as well.
const MADV_DONTNEED_LOCKED: i32 = 24;
/// `PIDFD_SELF_THREAD`, the calling process in place of a descriptor (Linux 6.14, include/uapi/linux/pidfd.h).
const PIDFD_SELF: libc::c_int = -10_000;
/// `CAP_IPC_LOCK` (include/uapi/linux/capability.h).
const CAP_IPC_LOCK: u32 = 14;
/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Linux by way of libc.
pub(crate) struct Linux;

/// The error that libc has just reported.
pub(super) fn last_error() -> OsError {
    // SAFETY: `__errno_location` gives the address of this thread's errno, always valid.
    from_number(unsafe { *libc::__errno_location() })
}

pub(super) fn from_number(number: i32) -> OsError {
    OsError(NonZeroI32::new(number).unwrap_or(NonZeroI32::MIN))
}

fn check(result: i32) -> Result<(), OsError> {
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Whether the process has `CAP_IPC_LOCK` in effect.
fn may_lock_everything() -> bool {
    let mut header = [CAPABILITY_VERSION, 0];
    // Two sets of effective, permitted, inheritable, 32 capabilities each (capget(2)).
    let mut sets = [[0_u32; 3]; 2];
    // SAFETY: capget(2) with version 3 reads `header` (version, pid 0 = this process) and fills two sets.
    let result = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) };
    result == 0 && sets.iter().take(1).any(|set| set.iter().take(1).any(|effective| effective >> CAP_IPC_LOCK & 1 == 1))
}

fn clock(clock: libc::clockid_t) -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is live. The monotonic clocks cannot fail on Linux; if they did, time would stand at zero.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Nanos((time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64))
}

/// Gives the calling thread the processors of the program's first thread, and no preference for memory: it was started
/// by whatever thread freed something first, which may be bound to one processor that must not be disturbed. Changes
/// only what differs: filters of system calls that kill the process let one ask more often than change.
fn run_anywhere() {
    let mut processors = [[0_u64; 128]; 2];
    let bytes = core::mem::size_of_val(&processors) / 2;
    let [first, own] = &mut processors;
    let mut policy = libc::MPOL_DEFAULT;
    // SAFETY: 1. sched_getaffinity(2) fills at most the live words that it is given, and says how many bytes.
    //         2. sched_setaffinity(2) reads them. 3. get_mempolicy(2) fills one live number.
    //         4. set_mempolicy(2) with the default takes no nodes.
    unsafe {
        let filled = libc::syscall(libc::SYS_sched_getaffinity, libc::getpid(), bytes, first.as_mut_ptr());
        libc::syscall(libc::SYS_sched_getaffinity, 0, bytes, own.as_mut_ptr());
        if filled > 0 && first != own {
            libc::syscall(libc::SYS_sched_setaffinity, 0, filled, first.as_ptr());
        }
        libc::syscall(libc::SYS_get_mempolicy, &raw mut policy, null::<u64>(), 0, null::<u64>(), 0);
        if policy != libc::MPOL_DEFAULT {
            libc::syscall(libc::SYS_set_mempolicy, libc::MPOL_DEFAULT, null::<u64>(), 0);
        }
    }
}

/// How much memory the machine has, and how much is free. One system call that takes no lock.
fn system_info() -> libc::sysinfo {
    let mut info = core::mem::MaybeUninit::<libc::sysinfo>::zeroed();
    // SAFETY: sysinfo(2) fills the live struct; a zeroed one is valid as well.
    unsafe {
        libc::sysinfo(info.as_mut_ptr());
        info.assume_init()
    }
}

fn timespec(time: Nanos) -> libc::timespec {
    let second = 1_000_000_000;
    libc::timespec { tv_sec: (time.0 / second) as libc::time_t, tv_nsec: (time.0 % second) as libc::c_long }
}

/// Page faults of the calling thread so far that needed no device. One system call that takes no lock.
fn thread_faults() -> u64 {
    let mut usage = core::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage(2) fills the live struct; a zeroed one is valid as well.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init()
    };
    usage.ru_minflt as u64
}

/// Purges the ranges by process_madvise(2); what it returns.
/// # Safety
/// As [`Os::purge_scattered`].
unsafe fn process_madvise(ranges: &[Range]) -> libc::c_long {
    // SAFETY: a `Range` is laid out as an `iovec`; the caller owns what the ranges cover.
    unsafe {
        libc::syscall(libc::SYS_process_madvise, PIDFD_SELF, ranges.as_ptr(), ranges.len(), libc::MADV_DONTNEED, 0)
    }
}

impl Os for Linux {
    fn facts(&self) -> Facts {
        let info = system_info();
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: getrlimit(2) fills the live struct it is given; a zeroed one is valid as well.
        unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
        Facts {
            page_bytes: self.page_bytes(),
            memory_bytes: (info.totalram as usize).saturating_mul(info.mem_unit as usize),
            lockable_bytes: if may_lock_everything() { usize::MAX } else { limit.rlim_cur as usize },
        }
    }

    fn secrets(&self) -> [usize; 2] {
        // SAFETY: getauxval(3) reads a table; AT_RANDOM names 16 random bytes that the kernel put on the stack.
        let bytes = unsafe {
            let address = libc::getauxval(libc::AT_RANDOM) as usize;
            core::ptr::with_exposed_provenance::<[u8; 16]>(address).as_ref()
        };
        let (low, high) = bytes.map_or((0x5bd1_e995_9d2c_5681, 0), |bytes| {
            let word = u128::from_le_bytes(*bytes);
            (word as u64, (word >> 64) as u64)
        });
        // The C library makes its own secrets of the same bytes: folding both halves into each word lets nobody compute
        // back, nor from one word to the other.
        let fold = |low: u64, high: u64| {
            let mixed =
                low.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ high.rotate_left(23).wrapping_mul(0xd6e8_feb8_6659_fd93);
            (mixed ^ mixed >> 29) as usize | 1
        };
        [fold(low, high), fold(high, low.rotate_left(37))]
    }

    fn reserve(&self, bytes: usize) -> Result<NonNull<u8>, OsError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh private mapping at an address of the kernel's choice touches no memory of the program.
        let base = unsafe { libc::mmap(null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED { Err(last_error()) } else { NonNull::new(base.cast()).ok_or_else(last_error) }
    }

    unsafe fn unreserve(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller owns the range and nothing refers to it.
        check(unsafe { libc::munmap(base.as_ptr().cast(), bytes) })
    }

    unsafe fn commit(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the range is ours; giving access to it takes nothing from anyone.
        check(unsafe { libc::mprotect(base.as_ptr().cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) })
    }

    unsafe fn advise(&self, base: NonNull<u8>, bytes: usize, advice: Advice) -> Result<(), OsError> {
        let advice = match advice {
            Advice::Hugepages => libc::MADV_HUGEPAGE,
            Advice::NoHugepages => libc::MADV_NOHUGEPAGE,
        };
        // SAFETY: the range is ours, and both kinds of advice leave contents alone.
        check(unsafe { libc::madvise(base.as_ptr().cast(), bytes, advice) })
    }

    unsafe fn purge(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller owns the range and no block in it is live, so losing its contents is what is wanted.
        let result = check(unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_DONTNEED) });
        match result {
            Err(error) if error.0.get() == libc::EINVAL => {
                // SAFETY: as above.
                check(unsafe { libc::madvise(base.as_ptr().cast(), bytes, MADV_DONTNEED_LOCKED) })
            }
            other => other,
        }
    }

    fn can_purge_scattered(&self) -> bool {
        let none: [Range; 0] = [];
        // SAFETY: process_madvise(2) with an empty vector purges nothing.
        unsafe { process_madvise(&none) == 0 }
    }

    unsafe fn purge_scattered(&self, ranges: &[Range]) -> Result<usize, OsError> {
        // SAFETY: the caller owns the ranges and no block in them is live.
        usize::try_from(unsafe { process_madvise(ranges) }).map_err(|_| last_error())
    }

    unsafe fn fault_in(&self, base: NonNull<u8>, bytes: usize, stride_bytes: usize) -> u64 {
        let before = thread_faults();
        for offset in (0..bytes).step_by(stride_bytes) {
            // SAFETY: the place lies in the range, which the caller owns and which holds no data.
            unsafe { base.byte_add(offset).write_volatile(0) };
        }
        thread_faults().saturating_sub(before)
    }

    fn is_resident(&self, place: NonNull<u8>) -> bool {
        // Bit 63 of the word of a page (Documentation/admin-guide/mm/pagemap.rst).
        let index = (place.addr().get() / self.page_bytes()) as u64;
        if let Ok(fd) = files::open(c"/proc/self/pagemap", libc::O_RDONLY) {
            let word = files::read_word(fd, index);
            files::close(fd);
            if let Ok(word) = word {
                return word >> 63 == 1;
            }
        }
        let mut resident = 0;
        let page = place.as_ptr().map_addr(|address| address & !(self.page_bytes() - 1));
        // SAFETY: mincore(2) fills one byte for the one page.
        let result = unsafe { libc::mincore(page.cast(), 1, &raw mut resident) };
        result == 0 && resident & 1 == 1
    }

    unsafe fn is_mapping_locked(&self, place: NonNull<u8>) -> bool {
        // SAFETY: drops the contents of a page that has none.
        let result = unsafe { libc::madvise(place.as_ptr().cast(), self.page_bytes(), libc::MADV_DONTNEED) };
        // madvise(2): EINVAL for locked memory.
        check(result).is_err_and(|error| error.0.get() == libc::EINVAL)
    }

    unsafe fn lock_on_fault(&self, base: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: changes flags of our own mapping, and no contents.
        check(unsafe { libc::syscall(libc::SYS_mlock2, base.as_ptr(), bytes, libc::MLOCK_ONFAULT) } as i32)
    }

    fn take_pool(&self, bytes: usize) -> Result<NonNull<u8>, OsError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
        // SAFETY: a fresh private mapping at an address of the kernel's choice touches no memory of the program.
        let base = unsafe { libc::mmap(null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(last_error());
        }
        // A cgroup may allow fewer pages than are set aside, which a touch would learn by a signal.
        // SAFETY: faults the first page in, or says why not.
        let first = check(unsafe { libc::madvise(base, CHUNK_BYTES.min(bytes), libc::MADV_POPULATE_WRITE) });
        match first {
            Err(error) if error.0.get() != libc::EINVAL => {
                // SAFETY: the mapping was just made, and nobody has seen it.
                unsafe { libc::munmap(base, bytes) };
                Err(error)
            }
            // Linux before 5.14 does not know this advice.
            _ => NonNull::new(base.cast()).ok_or_else(last_error),
        }
    }

    fn free_memory_bytes(&self) -> u64 {
        let info = system_info();
        (info.freeram as usize).saturating_mul(info.mem_unit as usize) as u64
    }

    fn page_bytes(&self) -> usize {
        // SAFETY: sysconf reads a number.
        usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
    }

    unsafe fn touch(&self, place: NonNull<u8>) {
        // SAFETY: the caller says that the byte is committed and holds no data.
        unsafe { place.write_volatile(0) };
    }

    fn process(&self) -> u32 {
        // SAFETY: no arguments, no effect on memory.
        unsafe { libc::getpid() as u32 }
    }

    fn coarse_now(&self) -> Nanos {
        clock(libc::CLOCK_MONOTONIC_COARSE)
    }

    fn now(&self) -> Nanos {
        clock(libc::CLOCK_MONOTONIC)
    }

    fn yield_now(&self) {
        // SAFETY: no arguments, no effect on memory.
        unsafe { libc::sched_yield() };
    }

    fn sleep(&self, time: Nanos) {
        let time = timespec(time);
        // SAFETY: `time` is live; the time left after an interruption is not asked for.
        unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, null_mut::<libc::timespec>()) };
    }

    fn wait(&self, word: &AtomicU32, expected: u32) {
        let flags = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: futex(2) reads the live word; no time-out. Returning early for any reason is allowed.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), flags, expected, null::<libc::timespec>()) };
    }

    fn wait_for(&self, word: &AtomicU32, expected: u32, time: Nanos) {
        let flags = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        let time = timespec(time);
        // SAFETY: futex(2) reads the live word and the live time. Returning early for any reason is allowed.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), flags, expected, &raw const time) };
    }

    fn wake_all(&self, word: &AtomicU32) {
        // SAFETY: futex(2) uses the address as a key only.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, i32::MAX) };
    }

    fn wake(&self, word: &AtomicU32) {
        // SAFETY: futex(2) uses the address as a key only.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
    }

    fn prepare_thread(&self) -> bool {
        // SAFETY: 1. The name is a live C string of at most 16 bytes; the slack is a number of nanoseconds.
        //         2. The thread gets a table without descriptors; the program's own table stays as it is. A system call
        //            of its own, because not every C library has a function for it.
        unsafe {
            libc::prctl(libc::PR_SET_NAME, c"antifreeze-gov".as_ptr());
            libc::prctl(libc::PR_SET_TIMERSLACK, 1_000 as libc::c_ulong);
            run_anywhere();
            libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) == 0
        }
    }

    unsafe fn start_thread(
        &self,
        stack: NonNull<u8>,
        stack_bytes: usize,
        main: extern "C" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> Result<(), OsError> {
        let as_result = |number: i32| if number == 0 { Ok(()) } else { Err(from_number(number)) };
        let mut attributes = core::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
        let mut thread = core::mem::MaybeUninit::<libc::pthread_t>::uninit();
        let mut all = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: 1. Attributes and signal sets are initialised by the first call on each, before any other use.
        //         2. The stack is the thread's alone, by the caller's promise, and `argument` outlives the thread.
        //         3. The signal mask is put back before this returns; the new thread inherits the blocked one.
        unsafe {
            as_result(libc::pthread_attr_init(attributes.as_mut_ptr()))?;
            libc::pthread_attr_setdetachstate(attributes.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
            // Not the policy of the thread that happens to start it, which may be a real-time one: that of new
            // attributes. Where that is the same, filters of system calls may well forbid to set it.
            if libc::syscall(libc::SYS_sched_getscheduler, 0) != libc::c_long::from(libc::SCHED_OTHER) {
                libc::pthread_attr_setinheritsched(attributes.as_mut_ptr(), libc::PTHREAD_EXPLICIT_SCHED);
            }
            let placed =
                as_result(libc::pthread_attr_setstack(attributes.as_mut_ptr(), stack.as_ptr().cast(), stack_bytes));
            let started = placed.and_then(|()| {
                libc::sigfillset(all.as_mut_ptr());
                libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
                let mut started = libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), main, argument);
                if started == libc::EPERM {
                    // A program of policy SCHED_IDLE may not leave it without a privilege.
                    libc::pthread_attr_setinheritsched(attributes.as_mut_ptr(), libc::PTHREAD_INHERIT_SCHED);
                    started = libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), main, argument);
                }
                libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), null_mut());
                as_result(started)
            });
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            started
        }
    }

    fn kernel_release<'a>(&self, buffer: &'a mut [u8; RELEASE_BYTES]) -> &'a [u8] {
        let mut names = core::mem::MaybeUninit::<libc::utsname>::zeroed();
        // SAFETY: uname(2) fills the live struct that it is given; a zeroed one is valid as well.
        let release = unsafe {
            libc::uname(names.as_mut_ptr());
            names.assume_init().release
        };
        let mut bytes = 0;
        for (to, from) in buffer.iter_mut().zip(release.iter().take_while(|byte| **byte != 0)) {
            *to = *from as u8;
            bytes += 1;
        }
        buffer.get(..bytes).unwrap_or_default()
    }

    fn limit(&self, limit: Limit) -> Option<u64> {
        let resource = match limit {
            Limit::AddressSpace => libc::RLIMIT_AS,
            Limit::Data => libc::RLIMIT_DATA,
            Limit::Locked => libc::RLIMIT_MEMLOCK,
            Limit::Core => libc::RLIMIT_CORE,
        };
        let mut pair = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: getrlimit(2) fills the live struct.
        unsafe { libc::getrlimit(resource, &raw mut pair) };
        (pair.rlim_cur != libc::RLIM_INFINITY).then_some(pair.rlim_cur)
    }

    fn open(&self, path: &CStr) -> Result<i32, OsError> {
        files::open(path, libc::O_RDONLY)
    }

    fn read(&self, fd: i32, buffer: &mut [u8]) -> Result<usize, OsError> {
        files::read(fd, buffer)
    }

    fn close(&self, fd: i32) {
        files::close(fd);
    }

    fn open_trigger(&self, path: &CStr, text: &[u8]) -> Result<i32, OsError> {
        files::open_trigger(path, text)
    }

    fn trigger_fired(&self, fd: i32) -> Result<bool, OsError> {
        files::has_priority_event(fd)
    }
}
