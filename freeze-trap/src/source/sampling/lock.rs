//! Whether a thread that sleeps uninterruptibly waits for mmap_lock, as told by the kernel's functions on its stack.
//! The kernel leaves the functions of the scheduler and of its locks out, so that the innermost one is the one that
//! wants the lock; older kernels show them.

use lock_trace::Mode;

/// Functions that wait for any lock of the kind of mmap_lock.
const LOCKS: [&str; 5] = ["rwsem_down_", "__down_", "down_read", "down_write", "__schedule"];

/// Functions that ask for mmap_lock, from the kernel's `mm`, `fs/proc` and `arch`, for writing.
const WRITERS: [&str; 18] = [
    "__do_sys_brk",
    "__do_sys_mremap",
    "__do_sys_munmap",
    "__vm_munmap",
    "__x64_sys_brk",
    "__x64_sys_mremap",
    "__x64_sys_munmap",
    "do_mlock",
    "do_mprotect_pkey",
    "do_shmat",
    "dup_mm",
    "dup_mmap",
    "exit_mmap",
    "expand_stack",
    "ksys_shmdt",
    "mmap_write_lock",
    "userfaultfd_register",
    "vm_mmap_pgoff",
];

/// The same for reading.
const READERS: [&str; 22] = [
    "__access_remote_vm",
    "__get_user_pages_locked",
    "__gup_longterm_locked",
    "__mm_populate",
    "__vmf_anon_prepare",
    "acct_collect",
    "do_madvise",
    "do_mincore",
    "do_user_addr_fault",
    "exc_page_fault",
    "exit_mm",
    "faultin_page_range",
    "fixup_user_fault",
    "get_user_pages_unlocked",
    "lock_mm_and_find_vma",
    "lock_next_vma",
    "m_start",
    "madvise_lock",
    "mmap_read_lock",
    "pagemap_read",
    "show_smaps_rollup",
    "task_numa_work",
];

/// How mmap_lock is wanted; `None` if the thread waits for something else.
pub(super) fn wanted(kernel: &[String]) -> Option<Mode> {
    let is_lock = |name: &String| LOCKS.iter().any(|lock| name.starts_with(lock)) || name == "schedule";
    let asks = kernel.iter().find(|name| !is_lock(name))?;
    // What the compiler made several of has the number of the piece behind a dot, or says how the lock is waited for.
    let is_rest = |rest: &str| rest.is_empty() || rest.starts_with('.') || rest == "_killable";
    let is_one_of = |names: &[&str]| names.iter().any(|name| asks.strip_prefix(name).is_some_and(is_rest));
    if is_one_of(&WRITERS) {
        Some(Mode::Write)
    } else if is_one_of(&READERS) {
        Some(Mode::Read)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(stack: &str) -> Option<Mode> {
        wanted(&stack.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn who_asks_for_the_lock_is_known_with_and_without_the_functions_of_locks() {
        assert_eq!(of("vm_mmap_pgoff ksys_mmap_pgoff do_syscall_64"), Some(Mode::Write));
        assert_eq!(of("__vm_munmap __x64_sys_munmap do_syscall_64"), Some(Mode::Write));
        let old = "__schedule schedule rwsem_down_read_slowpath down_read do_user_addr_fault exc_page_fault";
        assert_eq!(of(old), Some(Mode::Read));
        assert_eq!(of("lock_mm_and_find_vma.part.0 exc_page_fault"), Some(Mode::Read));
        assert_eq!(of("mmap_write_lock_killable vm_mmap_pgoff"), Some(Mode::Write));
    }

    #[test]
    fn other_sleeps_are_not_taken_for_it() {
        for other in
            ["", "folio_wait_bit_common filemap_fault exc_page_fault", "unlink_file_vma __vm_munmap", "exit_mm_x"]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
