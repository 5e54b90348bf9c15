//! Captures on disk: a directory with one directory for each. Used by the writer, and by `freeze-trap report`.
//!
//! Invariant: a capture is there as a whole or not at all: it is written under another name, which begins with a dot,
//! and renamed. At most one trap writes to a directory, as a lock on a file in it sees to. Nobody but the trap's user
//! and root can read captures, which tell names and paths, or put links where the trap writes.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use crate::freeze::Freeze;
use crate::report::{self, Kind};
use crate::trigger::Shelf;

/// The file that says all; the others are made from it.
pub const FREEZE: &str = "freeze.json";
/// The lock, with the number of the trap that has it.
const LOCK: &str = "lock";
/// What the names of unfinished directories begin with.
const UNFINISHED: &str = ".unfinished-";
/// A file takes whole blocks.
const BLOCK_BYTES: u64 = 4096;
/// Columns of `report.txt`.
const WIDTH: usize = 120;

/// Where captures go.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    bound_bytes: u64,
    // Held as long as the trap runs.
    _lock: File,
}

/// A capture that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its directory.
    pub path: PathBuf,
    /// What it takes.
    pub bytes: u64,
    /// The captures that had to leave for it.
    pub removed: Vec<PathBuf>,
}

/// The files of a capture, by name.
fn files(freeze: &Freeze) -> [(&'static str, Vec<u8>); 7] {
    [
        (FREEZE, report::json(freeze).into_bytes()),
        ("report.txt", report::text(freeze, WIDTH, false).into_bytes()),
        ("page.html", report::page(freeze).into_bytes()),
        ("off-cpu.folded", report::folded(freeze).into_bytes()),
        ("profile.pb.gz", report::pprof(freeze)),
        ("off-cpu.svg", report::flame(freeze, Kind::OffCpu).into_bytes()),
        ("wait.svg", report::flame(freeze, Kind::LockWait).into_bytes()),
    ]
}

/// The captures in a directory, the oldest first.
/// # Errors
/// The directory cannot be read.
pub fn captures(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with('.') && path.join(FREEZE).is_file() {
            found.push(path);
        }
    }
    // Names begin with the time, and end with a number that has no leading zeroes.
    found.sort_by_cached_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (time, number) = name.rsplit_once('-').unwrap_or((&name, ""));
        (time.to_owned(), number.parse::<u64>().unwrap_or(0), name)
    });
    Ok(found)
}

/// What the files of a directory take.
fn bytes_of(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len().next_multiple_of(BLOCK_BYTES)).sum()
}

/// How to make a directory that is the trap's alone.
fn own_directory() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// Makes a file that is the trap's alone, where nothing is yet, and no link either.
pub(super) fn own_file(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Refuses a directory in which others could put links where the trap writes.
fn require_own(directory: &Path) -> Result<()> {
    let own = geteuid().as_raw();
    // The way there may be a link, as systemd makes one; not one of somebody else.
    for file in [fs::symlink_metadata(directory)?, fs::metadata(directory)?] {
        if file.uid() != 0 && file.uid() != own {
            bail!("it belongs to user {}, and has to belong to root or to user {own}", file.uid());
        }
        if file.is_dir() && file.mode() & 0o022 != 0 {
            bail!("others may write to it (mode {:o}); `chmod go-w` it", file.mode() & 0o7777);
        }
    }
    Ok(())
}

impl Disk {
    /// Makes the directory if there is none, and clears away what an earlier trap has left unfinished.
    /// # Errors
    /// It cannot be made or written to, belongs to somebody else or can be written to by others, or another trap writes
    /// there.
    pub fn open(directory: &Path, bound_bytes: u64) -> Result<Disk> {
        let help = "give another one by --directory";
        let in_vain = || format!("captures cannot be written to {}; {help}", directory.display());
        own_directory().recursive(true).create(directory).with_context(in_vain)?;
        require_own(directory).with_context(in_vain)?;
        let mut lock = File::options();
        lock.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut lock = lock.open(directory.join(LOCK)).with_context(in_vain)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Whoever has it may not have written its number yet.
                let _ = lock.read_to_string(&mut owner);
                bail!("{} is in use by another trap, process {}; {help}", directory.display(), owner.trim());
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(in_vain),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).with_context(in_vain)?;
        let entries = fs::read_dir(directory).with_context(in_vain)?.flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED)) {
            let _ = fs::remove_dir_all(entry.path());
        }
        Ok(Disk { directory: directory.to_owned(), bound_bytes, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a capture. The oldest have to leave if all together would take more than the bound.
    /// # Errors
    /// It is larger than the bound, or the disk is full or may not be written to. Then nothing of it is left.
    pub fn store(&self, freeze: &Freeze, name: &str) -> Result<Stored> {
        let files = files(freeze);
        let bytes = files.iter().map(|(_, content)| (content.len() as u64).next_multiple_of(BLOCK_BYTES)).sum();
        let there = captures(&self.directory).with_context(|| self.directory.display().to_string())?;
        let sized = there.into_iter().map(|path| (path.clone(), bytes_of(&path)));
        let path = self.free_name(name);
        let removed = Shelf::new(self.bound_bytes, sized).put(path.clone(), bytes)?;
        for old in &removed {
            fs::remove_dir_all(old).with_context(|| format!("{} cannot be removed", old.display()))?;
        }
        let unfinished = self.directory.join(format!("{UNFINISHED}{name}"));
        let written = write_all(&unfinished, &files).and_then(|()| fs::rename(&unfinished, &path));
        if let Err(error) = written {
            let _ = fs::remove_dir_all(&unfinished);
            return Err(error).with_context(|| format!("{} cannot be written", path.display()));
        }
        Ok(Stored { path, bytes, removed })
    }

    /// A path that there is nothing at.
    fn free_name(&self, name: &str) -> PathBuf {
        let mut names = (1_u64..).map(|number| self.directory.join(format!("{name}-{number}")));
        names.find(|path| !path.exists()).unwrap_or_else(|| self.directory.join(name))
    }
}

fn write_all(directory: &Path, files: &[(&str, Vec<u8>)]) -> io::Result<()> {
    own_directory().create(directory)?;
    files.iter().try_for_each(|(name, content)| own_file(&directory.join(name))?.write_all(content))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use test_support::skip;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn refusal(directory: &Path) -> String {
        format!("{:#}", Disk::open(directory, 1 << 20).unwrap_err())
    }

    #[test]
    fn what_is_written_is_the_traps_alone() {
        let around = tempfile::tempdir().unwrap();
        let directory = around.path().join("a/captures");
        drop(Disk::open(&directory, 1 << 20).unwrap());
        assert_eq!([mode(&directory), mode(&directory.join(LOCK))], [0o700, 0o600]);
        let capture = directory.join("one");
        write_all(&capture, &[("text", b"t".to_vec())]).unwrap();
        assert_eq!([mode(&capture), mode(&capture.join("text"))], [0o700, 0o600]);
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for others in [0o777, 0o1777, 0o770, 0o2720] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(others)).unwrap();
            let told = refusal(directory.path());
            assert!(told.contains("--directory") && told.contains(&format!("(mode {others:o})")), "{told}");
        }
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Disk::open(directory.path(), 1 << 20).unwrap();
        if let Err(error) = chown(directory.path(), Some(12_345), None) {
            skip(format_args!("only root may give a directory away: {error}"));
            return;
        }
        assert!(refusal(directory.path()).contains("belongs to user 12345"));
    }

    #[test]
    fn links_are_not_followed() {
        let (around, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let victim = around.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        symlink(&victim, directory.path().join(LOCK)).unwrap();
        assert!(refusal(directory.path()).contains("--directory"));
        symlink(&victim, directory.path().join("text")).unwrap();
        assert!(own_file(&directory.path().join("text")).is_err());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    }
}
