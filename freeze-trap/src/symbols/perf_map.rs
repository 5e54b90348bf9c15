//! Names of code that a program makes while it runs, which compilers of that kind write to `/tmp/perf-PID.map`: a line
//! for each function, with its address and size in hexadecimal digits.
//!
//! Invariant: anybody may put something at that path; only a regular file of the program's own user, or of root, is
//! read, and no more of it than memory is meant for.

use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files::{self, Links};

/// No more of such a file is read.
const BYTES_MAX: u64 = 8 << 20;

/// Where the names of a process may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PerfMapFile {
    pub(super) path: PathBuf,
    /// Whose process it is.
    pub(super) uid: u32,
}

/// The functions of one process.
#[derive(Debug, Default)]
pub(super) struct PerfMap {
    text: String,
    /// Start, end, and where in the text the name is, by rising start.
    functions: Vec<(u64, u64, Range<u32>)>,
}

impl PerfMap {
    /// From a file; empty if there is none that can be trusted. Memory: some 50 MB at most, of a file with the shortest
    /// lines that there can be.
    pub(super) fn read(from: &PerfMapFile) -> PerfMap {
        PerfMap::parse(trusted(&from.path, from.uid).unwrap_or_default())
    }

    fn parse(text: String) -> PerfMap {
        let mut functions: Vec<_> = text.lines().filter_map(|line| parse_line(&text, line)).collect();
        // Stable, so that the later one of two at the same address wins below.
        functions.sort_by_key(|function| function.0);
        PerfMap { text, functions }
    }

    /// The function at an address.
    pub(super) fn find(&self, address: u64) -> Option<&str> {
        let after = self.functions.partition_point(|function| function.0 <= address);
        let (_, end, name) = self.functions.get(after.checked_sub(1)?)?;
        (address < *end).then(|| &self.text[name.start as usize..name.end as usize])
    }
}

/// The start of a file, if it is that user's or root's.
fn trusted(path: &Path, uid: u32) -> Option<String> {
    let handle = files::find(path, Links::Refused).ok()?;
    let owner = handle.metadata().ok()?.uid();
    if owner != uid && owner != 0 {
        return None;
    }
    let mut bytes = Vec::new();
    files::open(&handle).ok()?.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// A line of the text.
fn parse_line(text: &str, line: &str) -> Option<(u64, u64, Range<u32>)> {
    let (start, rest) = line.split_once(' ')?;
    let (size, name) = rest.split_once(' ')?;
    let number = |digits: &str| u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok();
    let start = number(start)?;
    let name_start = u32::try_from(name.as_ptr().addr() - text.as_ptr().addr()).ok()?;
    let name_end = name_start.checked_add(u32::try_from(name.len()).ok()?)?;
    Some((start, start.checked_add(number(size)?)?, name_start..name_end))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use nix::sys::stat::Mode;
    use nix::unistd::{geteuid, mkfifo};
    use test_support::skip;

    use super::*;

    #[test]
    fn a_function_is_found_by_any_of_its_addresses() {
        let text = "2000 10 second one\n1000 0x20 first\nnonsense\nffffffffffffffff 2 too long\n2000 8 replaced\n";
        let map = PerfMap::parse(text.to_owned());
        assert_eq!(map.find(0x1000), Some("first"));
        assert_eq!(map.find(0x101f), Some("first"));
        assert_eq!(map.find(0x2000), Some("replaced"));
        for outside in [0, 0xfff, 0x1020, 0x2008, u64::MAX] {
            assert_eq!(map.find(outside), None, "{outside:x}");
        }
    }

    /// What is found of a file.
    fn found(path: &Path, uid: u32) -> Option<String> {
        PerfMap::read(&PerfMapFile { path: path.to_owned(), uid }).find(0x1000).map(str::to_owned)
    }

    #[test]
    fn only_a_regular_file_of_the_same_user_or_root_is_read() {
        let (dir, own) = (tempfile::tempdir().unwrap(), geteuid().as_raw());
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), b"1000 10 na\xffme\n").unwrap();
        symlink(path("file"), path("link")).unwrap();
        mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        assert_eq!(found(&path("file"), own).as_deref(), Some("na\u{fffd}me"));
        for other in ["link", "pipe", "none"] {
            assert_eq!(found(&path(other), own), None, "{other}");
        }
        if !geteuid().is_root() {
            skip("only root can give files away");
            return;
        }
        assert!(found(&path("file"), 1).is_some(), "root is trusted");
        chown(path("file"), Some(2), None).unwrap();
        assert_eq!((found(&path("file"), 1), found(&path("file"), 2).is_some()), (None, true));
    }

    #[test]
    fn what_is_beyond_the_bound_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut text = "1 1 a\n".repeat(BYTES_MAX as usize / 6 + 1);
        text.push_str("1000 10 beyond\n");
        fs::write(&path, text).unwrap();
        let map = PerfMap::read(&PerfMapFile { path, uid: geteuid().as_raw() });
        assert_eq!((map.find(1), map.find(0x1000)), (Some("a"), None));
        assert_eq!((map.text.len(), size_of::<(u64, u64, Range<u32>)>()), (BYTES_MAX as usize, 24));
    }
}
