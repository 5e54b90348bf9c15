//! What a sleep is for, by the state of the thread and the functions on its stack. Pure; called by `case`.

use super::doing::has;
use super::program::library_part;
use crate::event::{Call, Sleep};
use crate::freeze::Frame;

/// What a sleep is for, as far as one sleep alone can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// It wanted to run.
    Runnable,
    /// mmap_lock, by the functions; the waits that a source tells are better.
    MmapLock,
    /// futex(2).
    Futex(Futex),
    /// A disk or a network file system.
    Disk,
    /// Another lock or resource of the kernel.
    Kernel,
    /// It was stopped by a signal, a debugger or the freezer of its cgroup.
    Stopped,
    /// Until something happens outside: sockets, timers, children.
    Event,
    /// Nothing is known of it.
    Unclear,
    /// The thread had ended.
    Ended,
}

/// What a sleep in futex(2) is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Futex {
    /// Another thread has the lock.
    Lock,
    /// Another thread is to say something: condition variables, channels, parked threads.
    Wait,
    /// Another thread is to end.
    Join,
    /// The functions are not known.
    Unknown,
}

/// Beginnings of kernel functions, and what they tell. The first frame from the leaf that one of them fits decides, and
/// of two that fit one frame the first.
const BY_FUNCTION: [(Class, &[&str]); 6] = [
    (Class::Futex(Futex::Unknown), &["futex_", "__futex_", "do_futex"]),
    (Class::Stopped, &["do_signal_stop", "ptrace_stop", "do_freezer_trap", "__refrigerator", "do_jobctl_trap"]),
    (Class::Ended, &["do_task_dead", "do_exit"]),
    (
        Class::Event,
        &[
            "ep_poll",
            "do_epoll_",
            "do_poll",
            "do_sys_poll",
            "do_select",
            "poll_schedule",
            "hrtimer_nanosleep",
            "do_nanosleep",
            "common_nsleep",
            "inet_csk_accept",
            "inet_csk_wait_for_connect",
            "inet_wait_for_connect",
            "__skb_wait_for_more_packets",
            "sk_wait_data",
            "tcp_recvmsg",
            "unix_stream_read",
            "unix_stream_data_wait",
            "unix_accept",
            "vsock_",
            "netlink_recvmsg",
            "pipe_read",
            "anon_pipe_read",
            "eventfd_read",
            "signalfd_",
            "timerfd_read",
            "inotify_read",
            "fanotify_read",
            "io_cqring_wait",
            "io_wq_worker",
            "read_events",
            "do_wait",
            "kernel_wait4",
            "sigsuspend",
            "do_sigtimedwait",
            "do_pause",
            "n_tty_read",
            "do_msgrcv",
            "mq_timedreceive",
            "wq_sleep",
        ],
    ),
    (
        Class::Disk,
        &[
            "io_schedule",
            "folio_wait",
            "__folio_lock",
            "wait_on_page",
            "filemap_",
            "blk_",
            "blkdev_",
            "bio_",
            "submit_bio",
            "rq_qos_wait",
            "wbt_wait",
            "balance_dirty_pages",
            "__wait_on_buffer",
            "wait_on_buffer",
            "swap_read",
            "swapin_",
            "jbd2_",
            "ext4_",
            "xfs_",
            "btrfs_",
            "f2fs_",
            "zfs_",
            "ovl_",
            "fuse_",
            "request_wait_answer",
            "nfs",
            "rpc_wait",
            "ceph_",
            "cifs_",
            "smb2_",
            "p9_client",
            "v9fs_",
            "vfs_fsync",
            "file_write_and_wait",
            "sync_inodes",
            "loop_",
            "md_",
            "raid",
            "dm_",
        ],
    ),
    (
        Class::Kernel,
        &[
            "rwsem_down_",
            "down_read",
            "down_write",
            "__mutex_lock",
            "mutex_lock",
            "__down",
            "percpu_",
            "synchronize_",
            "wait_for_completion",
            "wait_for_common",
            "pipe_write",
            "anon_pipe_write",
            "sk_stream_wait",
            "sock_alloc_send",
            "sock_wait_for_wmem",
            "locks_lock_inode",
            "posix_lock_inode",
            "flock_lock",
            "fcntl_setlk",
            "throttle_direct_reclaim",
            "reclaim_throttle",
            "mem_cgroup_handle_over_high",
            "wait_for_vfork",
            "do_semtimedop",
            "userfaultfd",
            "handle_userfault",
        ],
    ),
];

/// Functions of the kernel that wait for a read-write semaphore, of whatever kind, begin so.
const SEMAPHORE: [&str; 5] = ["rwsem_", "down_read", "down_write", "__down_read", "__down_write"];
/// Functions that take mmap_lock and nothing else begin so.
const MMAP_LOCK: [&str; 6] = [
    "mmap_read_lock",
    "mmap_write_lock",
    "__mmap_lock",
    "lock_mm_and_find_vma",
    "get_mmap_lock_carefully",
    "upgrade_mmap_lock",
];
/// Functions that call for a semaphore by themselves only to take mmap_lock begin so. With another function in between,
/// it is the lock of a file or of its mappings, and whoever waits for that may well have mmap_lock.
const MMAP_LOCK_CALLERS: [&str; 21] = [
    "vm_mmap",
    "__vm_munmap",
    "__x64_sys_",
    "__arm64_sys_",
    "__do_sys_",
    "__se_sys_",
    "do_mprotect",
    "do_madvise",
    "madvise_",
    "do_mlock",
    "do_mremap",
    "__mm_populate",
    "do_user_addr_fault",
    "do_page_fault",
    "exit_mm",
    "dup_mm",
    "ksys_shmdt",
    "do_shmat",
    "do_mbind",
    "m_start",
    "process_vm_rw",
];

/// System calls that wait for something outside, for kernels that show no names.
const EVENT_CALLS: [i64; 14] = [
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_io_getevents,
];

/// What a sleep is for.
pub(super) fn class(sleep: Sleep, kernel: &[Frame], user: &[Frame], call: Option<Call>) -> Class {
    if sleep == Sleep::Runnable {
        return Class::Runnable;
    }
    let number = call.and_then(|call| i64::try_from(call.number).ok());
    match by_functions(kernel) {
        Some(Class::Futex(_)) => Class::Futex(futex(user)),
        Some(class) => class,
        None if sleep == Sleep::Other => Class::Ended,
        None if number == Some(libc::SYS_futex) => Class::Futex(futex(user)),
        None if sleep == Sleep::Uninterruptible && is_named(kernel) => Class::Kernel,
        None if sleep == Sleep::Uninterruptible => Class::Disk,
        None if number.is_some_and(is_event_call) => Class::Event,
        None => Class::Unclear,
    }
}

fn is_event_call(number: i64) -> bool {
    #[cfg(target_arch = "x86_64")]
    let is_old = [libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_select, libc::SYS_pause].contains(&number);
    #[cfg(not(target_arch = "x86_64"))]
    let is_old = false;
    is_old || EVENT_CALLS.contains(&number)
}

fn is_named(kernel: &[Frame]) -> bool {
    kernel.iter().any(|frame| !crate::symbols::is_unknown(frame))
}

fn by_functions(kernel: &[Frame]) -> Option<Class> {
    let fits = |frame: &Frame| {
        let begins = |starts: &[&str]| starts.iter().any(|start| frame.function.starts_with(start));
        BY_FUNCTION.iter().find(|(_, starts)| begins(starts)).map(|(class, _)| *class)
    };
    let class = kernel.iter().find_map(fits)?;
    if class != Class::Kernel {
        return Some(class);
    }
    if is_for_mmap_lock(kernel) {
        return Some(Class::MmapLock);
    }
    // A lock of a file system is held by whoever waits for the disk.
    let disk = BY_FUNCTION.iter().filter(|(class, _)| *class == Class::Disk).flat_map(|(_, starts)| starts.iter());
    Some(if disk.clone().any(|start| has(kernel, start)) { Class::Disk } else { Class::Kernel })
}

fn is_for_mmap_lock(kernel: &[Frame]) -> bool {
    let begins = |frame: &Frame, starts: &[&str]| starts.iter().any(|start| frame.function.starts_with(start));
    let Some(at) = kernel.iter().position(|frame| begins(frame, &SEMAPHORE)) else { return false };
    let caller = kernel[at..].iter().find(|frame| !begins(frame, &SEMAPHORE));
    caller.is_some_and(|caller| begins(caller, &MMAP_LOCK) || begins(caller, &MMAP_LOCK_CALLERS))
}

/// Words in functions of libraries, and what a sleep in futex(2) below them is for.
const FUTEX_WORDS: [(Futex, &[&str]); 2] = [
    (Futex::Wait, &["condvar", "Condvar", "cond_wait", "cond_timedwait", "cond_clockwait", "sem_wait"]),
    (Futex::Lock, &["mutex", "Mutex", "rwlock", "RwLock", "lll_lock", "lock_slow", "lock_contended"]),
];
const JOIN_WORDS: [&str; 5] = ["pthread_join", "clockjoin", "Thread::join", "JoinHandle", "JoinInner"];
const WAIT_WORDS: [&str; 6] = ["park", "recv", "Parker", "channel", "barrier", "Barrier"];

fn futex(user: &[Frame]) -> Futex {
    let library = library_part(user);
    let says = |frame: &Frame, words: &[&str]| words.iter().any(|word| frame.function.contains(word));
    // Locks park their threads, and condition variables lock again: the innermost of these two tells.
    let innermost = |frame: &Frame| FUTEX_WORDS.iter().find(|(_, words)| says(frame, words)).map(|(futex, _)| *futex);
    if library.iter().any(|frame| says(frame, &JOIN_WORDS)) {
        return Futex::Join;
    }
    library.iter().find_map(innermost).unwrap_or_else(|| {
        let waits = library.iter().any(|frame| says(frame, &WAIT_WORDS));
        if waits { Futex::Wait } else { Futex::Unknown }
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{call, frames};
    use super::*;

    #[test]
    fn sleeps_are_told_by_their_functions() {
        use Sleep::{Interruptible, Other, Runnable, Uninterruptible};
        let cases = [
            (Runnable, "__schedule; schedule; irqentry_exit", Class::Runnable),
            (Interruptible, "schedule; futex_wait_queue; futex_wait; do_futex", Class::Futex(Futex::Unknown)),
            (Uninterruptible, "schedule; rwsem_down_write_slowpath; down_write; vm_mmap_pgoff", Class::MmapLock),
            (
                Uninterruptible,
                "rwsem_down_read_slowpath; down_read; lock_mm_and_find_vma; exc_page_fault",
                Class::MmapLock,
            ),
            (
                Uninterruptible,
                "rwsem_down_write_slowpath; down_write; ext4_buffered_write_iter; vfs_write",
                Class::Disk,
            ),
            (Uninterruptible, "rwsem_down_write_slowpath; down_write; path_openat", Class::Kernel),
            (Uninterruptible, "rwsem_down_read_slowpath; __down_read; mmap_read_lock; do_pages_move", Class::MmapLock),
            // The lock of a file's mappings, by one that has mmap_lock.
            (
                Uninterruptible,
                "rwsem_down_write_slowpath; down_write; vma_link_file; mmap_region; do_mmap; vm_mmap_pgoff",
                Class::Kernel,
            ),
            (
                Uninterruptible,
                "rwsem_down_read_slowpath; down_read; filemap_invalidate_lock; filemap_fault; do_user_addr_fault",
                Class::Disk,
            ),
            (Uninterruptible, "schedule; io_schedule; folio_wait_bit_common; filemap_fault", Class::Disk),
            (Uninterruptible, "schedule; jbd2_log_wait_commit; ext4_sync_file; do_fsync", Class::Disk),
            (Uninterruptible, "schedule; schedule_timeout; wait_for_completion; synchronize_rcu", Class::Kernel),
            (Uninterruptible, "schedule; something_new", Class::Kernel),
            (Uninterruptible, "0xffffffff81000000", Class::Disk),
            (Interruptible, "schedule; ep_poll; do_epoll_wait", Class::Event),
            (Interruptible, "schedule; do_nanosleep; hrtimer_nanosleep", Class::Event),
            (Interruptible, "schedule; anon_pipe_read; vfs_read", Class::Event),
            (Interruptible, "schedule; something_new", Class::Unclear),
            (Other, "schedule; do_signal_stop; get_signal", Class::Stopped),
            (Other, "do_task_dead; do_exit", Class::Ended),
            (Other, "", Class::Ended),
        ];
        for (sleep, kernel, expected) in cases {
            assert_eq!(class(sleep, &frames(kernel), &[], None), expected, "{sleep:?} {kernel}");
        }
    }

    #[test]
    fn calls_tell_where_the_kernel_shows_no_names() {
        let of = |sleep, number| class(sleep, &frames("0xffffffff81000000"), &[], call(number, &[]));
        assert_eq!(of(Sleep::Interruptible, libc::SYS_futex), Class::Futex(Futex::Unknown));
        assert_eq!(of(Sleep::Interruptible, libc::SYS_epoll_pwait), Class::Event);
        assert_eq!(of(Sleep::Interruptible, libc::SYS_ioctl), Class::Unclear);
        assert_eq!(of(Sleep::Uninterruptible, libc::SYS_fdatasync), Class::Disk);
    }

    #[test]
    fn futexes_are_told_by_the_library_that_uses_them() {
        let cases = [
            (
                "syscall@libc.so.6; std::sys::sync::mutex::futex::Mutex::lock_contended@app; app::look_up@app",
                Futex::Lock,
            ),
            ("0x1@libc.so.6; pthread_mutex_lock@libc.so.6; app_work@app", Futex::Lock),
            (
                "syscall@libc.so.6; parking_lot_core::park@app; parking_lot::RawMutex::lock_slow@app; app::a@app",
                Futex::Lock,
            ),
            ("syscall@libc.so.6; std::sys::sync::condvar::futex::Condvar::wait@app; app::pool::run@app", Futex::Wait),
            (
                "syscall@libc.so.6; std::thread::park@app; crossbeam_channel::flavors::list::recv@app; app::a@app",
                Futex::Wait,
            ),
            ("pthread_join@libc.so.6; std::thread::JoinHandle<T>::join@app; app::main@app", Futex::Join),
            ("syscall@libc.so.6; app::mutex::lock@app", Futex::Unknown),
            ("", Futex::Unknown),
        ];
        for (user, expected) in cases {
            assert_eq!(futex(&frames(user)), expected, "{user}");
        }
    }
}
