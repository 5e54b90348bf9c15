//! A control group with a memory limit, version 2 or 1, that is removed when it is dropped.
//!
//! [`setting`](crate::setting) makes one for each child of a scenario that asks for it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::memory::{self, stat_value};
use crate::record::{Figure, Unit};

/// The figure that tells how often the kernel killed a process at the limit.
pub const KILLED: &str = "killed";
/// The figure that tells how often the limit was hit.
pub const HITS: &str = "limit hits";

/// The start of the names of all groups made here; the number of the process that made it follows.
const PREFIX: &str = "stress-";
/// A group can be removed when the kernel has done with its last process, which may be a moment after that was reaped.
const REMOVE_ATTEMPTS: u32 = 50;
const REMOVE_PERIOD: Duration = Duration::from_millis(20);

/// The group.
#[derive(Debug)]
pub struct MemoryGroup {
    folder: PathBuf,
    is_v1: bool,
}

impl MemoryGroup {
    /// Makes a group with the limit near the own one; or says what is missing.
    pub fn make(limit_bytes: u64) -> Result<Self, String> {
        Self::make_near(&own_folder()?, limit_bytes)
    }

    fn make_near(own: &Path, limit_bytes: u64) -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (parent, is_v1) = (parent_folder(own), is_v1(own));
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| missing(&folder, &error))?;
        // From here on it is removed, whatever happens.
        let group = Self { folder, is_v1 };
        let file = group.file("memory.limit_in_bytes", "memory.max");
        fs::write(&file, limit_bytes.to_string()).map_err(|error| missing(&file, &error))?;
        // What is swapped out would not count. A kernel without swap has no such file, or ignores it.
        let _ = fs::write(group.file("memory.swappiness", "memory.swap.max"), "0");
        Ok(group)
    }

    fn file(&self, v1: &str, v2: &str) -> PathBuf {
        self.folder.join(if self.is_v1 { v1 } else { v2 })
    }

    /// Has the command's process begin its life in this group: an allocator looks for its limit when it starts.
    pub fn hold(&self, command: &mut Command) -> Result<(), String> {
        let path = self.folder.join("cgroup.procs");
        let processes = File::options().write(true).open(&path).map_err(|error| missing(&path, &error))?;
        // SAFETY: between fork and exec one byte is written to a file that is open; that takes no lock of another
        // thread and no memory.
        unsafe { command.pre_exec(move || (&processes).write_all(b"0")) };
        Ok(())
    }

    /// How many processes the kernel killed at the limit.
    pub fn killed(&self) -> u64 {
        self.event("memory.oom_control", "oom_kill").unwrap_or(0)
    }

    /// What became of the limit.
    pub fn figures(&self) -> Vec<Figure> {
        let number = |v1, v2| fs::read_to_string(self.file(v1, v2)).ok()?.trim().parse::<u64>().ok();
        let hits = if self.is_v1 { number("memory.failcnt", "") } else { self.event("", "max") };
        let peak_kib = number("memory.max_usage_in_bytes", "memory.peak").map(|bytes| bytes >> 10);
        let figure = |name: &str, value, unit| Figure { name: name.to_owned(), value, unit };
        let mut figures = vec![figure(HITS, hits, Unit::Count), figure(KILLED, Some(self.killed()), Unit::Count)];
        // Version 2 tells the most that was used since Linux 5.19.
        figures.extend(peak_kib.map(|kib| figure("max usage", Some(kib), Unit::Kib)));
        figures
    }

    /// A number of `memory.events`, or of the file that has it in version 1.
    fn event(&self, v1: &str, name: &str) -> Option<u64> {
        stat_value(&fs::read_to_string(self.file(v1, "memory.events")).ok()?, name)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        for _ in 0..REMOVE_ATTEMPTS {
            match fs::remove_dir(&self.folder) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(REMOVE_PERIOD),
                // What is left for any other reason is removed at the next start.
                _ => return,
            }
        }
    }
}

/// The folder of the group that this process is in.
fn own_folder() -> Result<PathBuf, String> {
    let groups = fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("/proc/self/cgroup: {error}"))?;
    let own = memory::group_folders(&groups).into_iter().next();
    own.ok_or_else(|| "this process is in no control group that has a memory controller".to_owned())
}

fn is_v1(own: &Path) -> bool {
    own.join("memory.limit_in_bytes").exists()
}

/// Where groups are made: below the own one in version 1; beside it in version 2, where a group that has processes has
/// none below it that share out memory.
fn parent_folder(own: &Path) -> &Path {
    let is_root = own.join("").as_os_str() == "/sys/fs/cgroup/";
    if is_v1(own) || is_root { own } else { own.parent().unwrap_or(own) }
}

/// Removes the groups near the own one whose makers were killed, or ended by a third signal. To be called when the
/// harness starts.
pub fn remove_stale() {
    if let Ok(own) = own_folder() {
        remove_stale_in(parent_folder(&own));
    }
}

/// One that still has processes cannot be removed, and is not.
fn remove_stale_in(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if maker.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn missing(path: &Path, error: &io::Error) -> String {
    format!(
        "a control group with a memory limit cannot be made: {}: {error}; this needs a memory controller (version 2 or \
         1) and the right to make groups: root, or a group that was delegated",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use test_support::skip;

    use super::*;

    /// A group, or a word that none can be made here.
    fn group(limit_bytes: u64) -> Option<MemoryGroup> {
        let made = MemoryGroup::make(limit_bytes);
        made.map_err(skip).ok()
    }

    #[test]
    fn a_process_begins_in_the_group_and_the_group_is_removed() {
        let Some(group) = group(64 << 20) else { return };
        let mut command = Command::new("/bin/cat");
        group.hold(command.arg("/proc/self/cgroup")).unwrap();
        let output = command.output().unwrap();
        let name = group.folder.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(String::from_utf8_lossy(&output.stdout).contains(&name), "{output:?}");
        let figures = group.figures();
        assert_eq!((figures[0].name.as_str(), figures[1].value, group.killed()), (HITS, Some(0), 0));
        let folder = group.folder.clone();
        drop(group);
        assert!(!folder.exists());
    }

    #[test]
    fn what_a_killed_maker_left_is_removed() {
        let Some(group) = group(64 << 20) else { return };
        let parent = group.folder.parent().unwrap();
        let stale = parent.join(format!("{PREFIX}{}-0", u32::MAX));
        fs::create_dir(&stale).unwrap();
        remove_stale();
        assert!(!stale.exists() && group.folder.exists());
    }

    #[test]
    fn a_group_that_cannot_be_made_is_told_with_what_it_needs() {
        let error = MemoryGroup::make_near(Path::new("/nowhere/group"), 1 << 20).unwrap_err();
        assert!(error.contains("/nowhere/stress-") && error.contains("memory controller"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("memory.limit_in_bytes"), "").unwrap();
        assert!(MemoryGroup::make_near(folder.path(), 1 << 20).is_ok());
    }
}
