//! What a thread was doing, in a few words: the system call with its size, a page fault, the file of `/proc` that an
//! outsider read.

use lock_trace::Activity;
use syscalls::Sysno;

use crate::event::{Call, Interval};
use crate::freeze::Frame;
use crate::quantity;

/// Functions of the kernel that make the files of `/proc/PID` which take the lock.
const PROC_FILES: [(&str, &str); 13] = [
    ("show_smaps_rollup", "smaps_rollup"),
    ("show_smap", "smaps"),
    ("smaps_", "smaps"),
    ("show_numa_map", "numa_maps"),
    ("pagemap_", "pagemap"),
    ("clear_refs_write", "clear_refs"),
    ("proc_pid_cmdline_read", "cmdline"),
    ("environ_read", "environ"),
    ("auxv_read", "auxv"),
    ("map_files_", "map_files"),
    ("proc_map_files_", "map_files"),
    ("show_map", "maps"),
    ("m_start", "maps"),
];

/// How the kernel's functions for system calls begin, by architecture.
const CALL_FUNCTIONS: [&str; 6] =
    ["__x64_sys_", "__arm64_sys_", "__riscv_sys_", "__se_sys_", "__do_sys_", "__ia32_sys_"];

/// Words for the kernel's own threads.
const KERNEL_WORK: &str = "work of the kernel";
/// Words for page faults.
const FAULT: &str = "page fault";

/// The name of a system call.
fn call_name(call: &Call) -> String {
    let known = usize::try_from(call.number).ok().and_then(Sysno::new);
    known.map_or_else(|| format!("call {}", call.number), |known| known.name().to_owned())
}

/// A system call with its size, if it has one: `munmap of 1.7 GB`.
fn call(call: &Call) -> String {
    let activity = i64::try_from(call.number).map(|number| Activity::of_call(number, &call.arguments));
    let name = call_name(call);
    match activity {
        Ok(Activity::Call { bytes: Some(bytes), .. }) => format!("{name} of {}", quantity::size(bytes)),
        _ => name,
    }
}

/// Whether some frame begins so.
pub(super) fn has(frames: &[Frame], start: &str) -> bool {
    frames.iter().any(|frame| frame.function.starts_with(start))
}

fn proc_file(kernel: &[Frame]) -> Option<&'static str> {
    PROC_FILES.iter().find(|(function, _)| has(kernel, function)).map(|(_, file)| *file)
}

/// The system call by the kernel's functions, for sources that do not tell its number.
fn call_of(kernel: &[Frame]) -> Option<&str> {
    kernel.iter().find_map(|frame| CALL_FUNCTIONS.iter().find_map(|start| frame.function.strip_prefix(start)))
}

/// What the thread of an interval was doing; `kernel` is that part of its stack.
pub(super) fn doing(interval: &Interval, kernel: &[Frame]) -> String {
    if has(kernel, "ret_from_fork") && has(kernel, "kthread") {
        return KERNEL_WORK.to_owned();
    }
    if interval.is_outsider()
        && let Some(file) = proc_file(kernel)
    {
        return format!("read of /proc/{}/{file}", interval.owner_pid);
    }
    match (&interval.call, call_of(kernel)) {
        (Some(known), _) => call(known),
        (None, Some(name)) => name.to_owned(),
        (None, None) if has(kernel, "do_exit") || has(kernel, "exit_mmap") => "exit".to_owned(),
        (None, None) => FAULT.to_owned(),
    }
}

/// The same with an article where it needs one.
pub(super) fn with_article(doing: &str) -> String {
    let is_noun = doing == FAULT || doing.starts_with("read of /proc");
    if is_noun { format!("a {doing}") } else { doing.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, call, frames};
    use super::*;

    #[test]
    fn calls_faults_and_files_are_told() {
        let own = samples::interval(7, 0, 1);
        let of = |interval: Interval, kernel: &str| doing(&interval, &frames(kernel));
        let munmap = call(libc::SYS_munmap, &[0, 1_700_000_000]);
        assert_eq!(of(Interval { call: munmap, ..own.clone() }, "__vm_munmap"), "munmap of 1.7 GB");
        assert_eq!(of(Interval { call: call(libc::SYS_fdatasync, &[3]), ..own.clone() }, ""), "fdatasync");
        assert_eq!(of(Interval { call: call(99_999, &[]), ..own.clone() }, ""), "call 99999");
        assert_eq!(of(own.clone(), "handle_mm_fault; exc_page_fault"), "page fault");
        assert_eq!(of(own.clone(), "io_schedule; __x64_sys_fsync; do_syscall_64"), "fsync");
        assert_eq!(of(own.clone(), "exit_mmap; do_exit"), "exit");
        let mut outsider = Interval { call: call(libc::SYS_read, &[3, 0, 4096]), ..own };
        assert_eq!(of(outsider.clone(), "collapse_huge_page; kthread; ret_from_fork"), "work of the kernel");
        outsider.owner_pid = 17;
        assert_eq!(
            of(outsider.clone(), "walk_page_range; smap_gather_stats; show_smap; seq_read"),
            "read of /proc/17/smaps"
        );
        assert_eq!(of(outsider.clone(), "m_start; seq_read"), "read of /proc/17/maps");
        assert_eq!(of(outsider, "vfs_read"), "read");
    }

    #[test]
    fn nouns_get_an_article() {
        let cases = ["page fault", "munmap of 1.7 GB", "read", "read of /proc/17/maps", "work of the kernel"];
        let words = ["a page fault", "munmap of 1.7 GB", "read", "a read of /proc/17/maps", "work of the kernel"];
        assert_eq!(cases.map(with_article), words);
    }
}
