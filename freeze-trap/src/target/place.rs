//! A cgroup by its directory or path, which may not be there yet, or be removed and made again.
//!
//! Invariant: one that is not there has no processes and is looked for again, though not at every call.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::cgroup::{Group, mounts};

/// How often it is looked for while it is not there.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Such a cgroup.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    group: Option<Group>,
    looked: Instant,
}

/// Without cgroups there never will be one.
fn require(path: &Path, mounts: usize) -> Result<()> {
    if mounts == 0 {
        bail!(
            "there will be no cgroup {}: no cgroup file system is mounted here; mount /sys/fs/cgroup",
            path.display()
        );
    }
    Ok(())
}

impl Place {
    /// Looks for it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let group = Group::find(path);
        if group.is_none() {
            require(path, mounts().len())?;
        }
        Ok(Place { path: path.to_owned(), group, looked: Instant::now() })
    }

    /// What to tell the user while it is not there.
    pub(super) fn awaited(&self) -> Option<String> {
        if self.group.is_some() {
            return None;
        }
        let mounts = mounts();
        let places: Vec<_> = mounts.iter().map(|mount| mount.directory().display().to_string()).collect();
        Some(format!(
            "no cgroup is called {} yet, and it is waited for; it may be a directory, or a path as in /proc/PID/cgroup \
             (cgroups are mounted at: {})",
            self.path.display(),
            places.join(", ")
        ))
    }

    pub(super) fn processes(&mut self) -> Result<BTreeSet<i32>> {
        if self.group.as_ref().is_some_and(|group| !group.is_there()) {
            self.group = None;
        }
        if self.group.is_none() && self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            self.group = Group::find(&self.path);
        }
        self.group.as_ref().map_or_else(|| Ok(BTreeSet::new()), Group::processes)
    }

    /// Directories of it, and of those below that have processes, if it is there.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        self.group.as_ref().map_or_else(Vec::new, Group::directories)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_there_are_no_cgroups_at_all_is_it_refused() {
        let path = Path::new("/no/such/group");
        assert!(require(path, 0).unwrap_err().to_string().contains("/no/such/group"));
        require(path, 1).unwrap();
    }
}
