//! Memory of the machine and of this process: what is available, what is resident, and mappings of one's own.
//!
//! The harness asks [`available_bytes`] before it chooses a size; [`child`](crate::child) reads [`rss_kib`] and
//! [`peak_rss_kib`]. Nothing read here takes `mmap_lock`: the files used are made from counters, unlike
//! `/proc/self/smaps`.

use std::fmt::Display;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use nix::unistd::{SysconfVar, sysconf};

/// The size of a hugepage in bytes, and its alignment.
pub const HUGEPAGE_BYTES: usize = 2 << 20;

/// The size of a page in bytes.
pub fn page_bytes() -> usize {
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(4096)
}

/// Bytes this process can still use: the machine's `MemAvailable`, or less if a control group's limit is nearer.
pub fn available_bytes() -> io::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let machine = field_kib(&meminfo, "MemAvailable")
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo has no MemAvailable"))?
        * 1024;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Ok(group_folders(&groups).iter().filter_map(|folder| group_available_bytes(folder)).fold(machine, u64::min))
}

/// The value of a `Name:   123 kB` line as in `/proc/meminfo` and `/proc/self/status`.
pub fn field_kib(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|value| value.trim().strip_suffix("kB")?.trim_end().parse().ok())
}

/// The folders that may hold a memory limit for the groups in the text of `/proc/self/cgroup`, innermost first.
///
/// A limit may be set on any ancestor. Inside a container the path can name folders that are not visible; those are
/// skipped when they are read.
pub fn group_folders(groups: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let root = if id == "0" && controllers.is_empty() {
            "/sys/fs/cgroup"
        } else if controllers.split(',').any(|controller| controller == "memory") {
            "/sys/fs/cgroup/memory"
        } else {
            continue;
        };
        folders
            .extend(Path::new(path.trim_start_matches('/')).ancestors().map(|ancestor| Path::new(root).join(ancestor)));
    }
    folders
}

/// What one group leaves: its limit less its use, where file cache that can be dropped does not count as used.
fn group_available_bytes(folder: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let (limit, used, cache_name) = match (read("memory.max"), read("memory.current")) {
        (Some(limit), Some(used)) => (limit, used, "inactive_file"),
        _ => (read("memory.limit_in_bytes")?, read("memory.usage_in_bytes")?, "total_inactive_file"),
    };
    let cache = read("memory.stat").and_then(|stat| stat_value(&stat, cache_name)).unwrap_or(0);
    left_bytes(&limit, &used, cache)
}

/// The value of a `name 123` line as in a group's `memory.stat` and in `/proc/vmstat`.
pub fn stat_value(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Limit less use; `None` where there is no limit (`max`).
fn left_bytes(limit: &str, used: &str, cache_bytes: u64) -> Option<u64> {
    let limit: u64 = limit.trim().parse().ok()?;
    let used: u64 = used.trim().parse().ok()?;
    Some(limit.saturating_sub(used.saturating_sub(cache_bytes)))
}

/// Resident memory of this process now, in KiB.
pub fn rss_kib() -> io::Result<u64> {
    rss_kib_of("self")
}

/// Resident memory of a process now, in KiB; it is named by its number, or `self`. Takes none of its locks: `statm` is
/// made from counters.
pub fn rss_kib_of(process: impl Display) -> io::Result<u64> {
    let file = format!("/proc/{process}/statm");
    let statm = fs::read_to_string(&file)?;
    let pages = resident_pages(&statm)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{file} is {statm:?}")))?;
    Ok(pages * page_bytes() as u64 / 1024)
}

/// The second number of a `statm`.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The most memory that was ever resident in this process, in KiB.
///
/// `statm` has no such number and a thread that samples it would miss the moment before the old table is freed, so this
/// is the kernel's own high-water mark.
pub fn peak_rss_kib() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = field_kib(&status, "VmHWM")
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/status has no VmHWM"))?;
    Ok(peak.max(rss_kib()?))
}

/// An anonymous private mapping, unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length_bytes: NonZeroUsize,
}

impl Mapping {
    /// Maps `length_bytes` of zeroed memory that can be read and written.
    pub fn new(length_bytes: NonZeroUsize) -> nix::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses the address, so no memory in use is replaced.
        let start = unsafe { mmap_anonymous(None, length_bytes, protection, MapFlags::MAP_PRIVATE)? };
        Ok(Self { start: start.cast(), length_bytes })
    }

    /// Maps room for `bytes` of hugepages, and asks the kernel to use them.
    pub fn hugepages(bytes: usize) -> nix::Result<Self> {
        let whole_bytes = bytes.checked_next_multiple_of(HUGEPAGE_BYTES).ok_or(nix::Error::ENOMEM)?;
        // The kernel need not align what it maps.
        let length_bytes = whole_bytes.checked_add(HUGEPAGE_BYTES).and_then(NonZeroUsize::new);
        let mapping = Self::new(length_bytes.ok_or(nix::Error::ENOMEM)?)?;
        // SAFETY: the range is the whole mapping, and the advice changes nothing of its contents. Without hugepages the
        // kernel refuses; the memory is good all the same.
        let _ = unsafe { madvise(mapping.start.cast(), mapping.length_bytes.get(), MmapAdvise::MADV_HUGEPAGE) };
        Ok(mapping)
    }

    /// Maps `bytes` (rounded up to whole pages) that are never backed by hugepages.
    pub fn small_pages(bytes: usize) -> nix::Result<Self> {
        let length_bytes = bytes.checked_next_multiple_of(page_bytes()).and_then(NonZeroUsize::new);
        let mapping = Self::new(length_bytes.ok_or(nix::Error::ENOMEM)?)?;
        // SAFETY: the range is the whole mapping, and the advice changes nothing of its contents. A kernel without
        // hugepages refuses, and has none to keep off.
        let _ = unsafe { madvise(mapping.start.cast(), mapping.length_bytes.get(), MmapAdvise::MADV_NOHUGEPAGE) };
        Ok(mapping)
    }

    /// Gives whole pages back to the kernel; they read as zero when they are touched again.
    ///
    /// # Panics
    ///
    /// If they are not all inside the mapping.
    pub fn give_back(&mut self, offset_bytes: usize, bytes: usize) -> nix::Result<()> {
        let end_bytes = offset_bytes.checked_add(bytes);
        assert!(
            end_bytes.is_some_and(|end| end <= self.length_bytes.get()),
            "{offset_bytes} + {bytes} is outside the mapping"
        );
        // SAFETY: the range is inside the mapping, which is owned by `self`, and nobody counts on its contents: nothing
        // here reads them.
        unsafe { madvise(self.start.add(offset_bytes).cast(), bytes, MmapAdvise::MADV_DONTNEED) }
    }

    /// The aligned addresses inside of a mapping made by [`hugepages`](Self::hugepages), for as many bytes as were
    /// asked for.
    pub fn hugepage_range(&self) -> Range<usize> {
        let start = self.start.addr().get().next_multiple_of(HUGEPAGE_BYTES);
        start..start + self.length_bytes.get().saturating_sub(HUGEPAGE_BYTES)
    }

    /// Touches every page of the hugepage that begins at the address `start` of
    /// [`hugepage_range`](Self::hugepage_range).
    ///
    /// # Panics
    ///
    /// If that is outside the mapping.
    pub fn touch_hugepage(&mut self, start: usize) {
        let first = start.wrapping_sub(self.start.addr().get());
        (first..first.saturating_add(HUGEPAGE_BYTES)).step_by(page_bytes()).for_each(|offset| self.touch(offset));
    }

    /// The first address, for who hands the memory on.
    pub const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Writes one byte at `offset_bytes`, which makes the kernel provide the page.
    ///
    /// # Panics
    ///
    /// If the offset is outside the mapping.
    pub fn touch(&mut self, offset_bytes: usize) {
        assert!(offset_bytes < self.length_bytes.get(), "offset {offset_bytes} is outside the mapping");
        // SAFETY: the offset is inside the mapping, which is writable and owned by `self`. Volatile, because nobody
        // reads the byte and the write must still happen.
        unsafe { self.start.add(offset_bytes).write_volatile(1) };
    }

    /// Unmaps now and says whether the kernel agreed.
    pub fn unmap(self) -> nix::Result<()> {
        let (start, length_bytes) = (self.start, self.length_bytes);
        std::mem::forget(self);
        // SAFETY: this is exactly the mapping made in `new`, and with `self` forgotten nothing can use it any more.
        unsafe { munmap(start.cast(), length_bytes.get()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is exactly the mapping made in `new`, and nothing can use it after `self` is gone. The kernel
        // refuses only a range that is not mapped, which this is, so there is no error to handle.
        let _ = unsafe { munmap(self.start.cast(), self.length_bytes.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text =
            "MemTotal:       24684096 kB\nMemAvailableX: 1 kB\nMemAvailable:   24400768 kB\nHugePages_Total: 3\n";
        assert_eq!(field_kib(text, "MemAvailable"), Some(24_400_768));
        assert_eq!(field_kib(text, "MemTotal"), Some(24_684_096));
        assert_eq!(field_kib(text, "Mem"), None);
        assert_eq!(field_kib(text, "HugePages_Total"), None);
    }

    #[test]
    fn statm_gives_the_resident_pages() {
        assert_eq!(resident_pages("7890 456 300 12 0 99 0\n"), Some(456));
        assert_eq!(resident_pages("7890"), None);
    }

    #[test]
    fn every_ancestor_of_a_memory_group_is_looked_at() {
        let folders = group_folders("12:cpuset:/x\n5:cpu,memory:/a/b\n0::/c\nnonsense\n");
        let expected = [
            "/sys/fs/cgroup/memory/a/b",
            "/sys/fs/cgroup/memory/a",
            "/sys/fs/cgroup/memory/",
            "/sys/fs/cgroup/c",
            "/sys/fs/cgroup/",
        ];
        assert_eq!(folders, expected.map(PathBuf::from));
    }

    #[test]
    fn a_group_leaves_its_limit_less_what_cannot_be_dropped() {
        assert_eq!(left_bytes("1000\n", "400\n", 100), Some(700));
        assert_eq!(left_bytes("1000", "1500", 0), Some(0));
        assert_eq!(left_bytes("max\n", "400\n", 0), None);
        let stat = "anon 5\ninactive_file 70\ntotal_inactive_file 80\n";
        assert_eq!(stat_value(stat, "inactive_file"), Some(70));
        assert_eq!(stat_value(stat, "total_inactive_file"), Some(80));
    }

    #[test]
    fn this_process_has_memory() {
        let rss = rss_kib().unwrap();
        assert!(rss > 0);
        assert!(peak_rss_kib().unwrap() >= rss / 2);
        assert!(available_bytes().unwrap() > 0);
    }

    #[test]
    fn hugepages_are_whole_aligned_and_touched_throughout() {
        let mut mapping = Mapping::hugepages(3 * HUGEPAGE_BYTES - 1).unwrap();
        let before_kib = rss_kib().unwrap();
        let whole = mapping.hugepage_range();
        assert_eq!((whole.start % HUGEPAGE_BYTES, whole.len()), (0, 3 * HUGEPAGE_BYTES));
        for start in whole.step_by(HUGEPAGE_BYTES) {
            mapping.touch_hugepage(start);
        }
        // Other tests of this process give memory back meanwhile.
        assert!(rss_kib().unwrap() + 4096 > before_kib + 6144);
        assert!(Mapping::hugepages(usize::MAX).is_err());
    }
}
