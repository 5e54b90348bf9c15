//! The traced process as /proc shows it. Only files that do not take mmap_lock of the process are read here: `stat`,
//! `comm` and the list of threads.

use std::fs;

/// A process.
#[derive(Clone, Copy)]
pub(crate) struct Process {
    pub(crate) pid: u32,
}

impl Process {
    pub(crate) fn exists(self) -> bool {
        fs::exists(format!("/proc/{}/stat", self.pid)).unwrap_or(false)
    }

    /// An address inside of the program's code.
    pub(crate) fn code_address(self) -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // The name, in parentheses, may contain anything. The 26th field is the start of the code.
        let (_, after_name) = stat.rsplit_once(')')?;
        after_name.split_whitespace().nth(23)?.parse().ok()
    }

    pub(crate) fn threads(self) -> Vec<i32> {
        threads(self.pid)
    }
}

/// The threads of a process; none if it is gone.
#[must_use]
pub fn threads(pid: u32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// The name of a thread; empty if it is gone.
#[must_use]
pub fn thread_name(tid: i32) -> String {
    // Threads are found there by number although they are not listed.
    let name = fs::read_to_string(format!("/proc/{tid}/comm")).unwrap_or_default();
    name.trim_end_matches('\n').to_owned()
}

/// A setting of the kernel, for messages.
pub(crate) fn setting(name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/sys/kernel/{name}"));
    text.map_or_else(|_| String::from("unknown"), |text| text.trim().to_owned())
}

/// How many descriptors this process has open.
pub(crate) fn open_descriptors() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count())
}
