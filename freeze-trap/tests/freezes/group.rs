//! A control group with a limit, of version 1 or 2; removed again when the test is over.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// So long the kernel may take to let go of a group whose processes have ended.
const REMOVAL: Duration = Duration::from_secs(10);

/// Where hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// What its members are short of.
pub enum Limit {
    /// Processor time: so much in each period.
    Cpu { quota_us: u64, period_us: u64 },
    /// Bytes written to the disk that a directory is on.
    Disk { of: PathBuf, bytes_per_s: u64 },
}

/// Such a group.
pub struct Group {
    directory: PathBuf,
    /// Dropped after the directory has been removed.
    _enabled: Option<Enabled>,
}

impl Group {
    /// Makes one, of the version that has the controller here. `Err` says why that cannot be.
    pub fn new(limit: &Limit) -> Result<Group, String> {
        // In version 2, what is written to files is counted for a group only if it has its own memory as well
        // (Documentation/admin-guide/cgroup-v2.rst, Writeback).
        let (first, second) = match limit {
            Limit::Cpu { quota_us, period_us } => (
                ("cpu", vec![("cpu.cfs_period_us", period_us.to_string()), ("cpu.cfs_quota_us", quota_us.to_string())]),
                (&["cpu"][..], vec![("cpu.max", format!("{quota_us} {period_us}"))]),
            ),
            Limit::Disk { of, bytes_per_s } => {
                let disk = disk(of)?;
                (
                    ("blkio", vec![("blkio.throttle.write_bps_device", format!("{disk} {bytes_per_s}"))]),
                    (&["io", "memory"][..], vec![("io.max", format!("{disk} wbps={bytes_per_s}"))]),
                )
            }
        };
        let of_first = Path::new(ROOT).join(first.0);
        let (parent, settings, enabled) = if of_first.join("cgroup.procs").exists() {
            (of_first, first.1, None)
        } else {
            let (parent, enabled) = second_version(second.0)?;
            (parent, second.1, Some(enabled))
        };
        let directory = parent.join(format!("freeze-trap-test-{}", std::process::id()));
        fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let group = Group { directory, _enabled: enabled };
        for (name, value) in settings {
            let path = group.directory.join(name);
            // A file that is missing cannot be made here.
            fs::write(&path, value).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(group)
    }

    /// The file that a process writes its number to in order to be in it.
    pub fn members(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let end = Instant::now() + REMOVAL;
        while fs::remove_dir(&self.directory).is_err() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Where version 2 is mounted with controllers, which groups there have as long as the second value lives.
fn second_version(controllers: &[&'static str]) -> Result<(PathBuf, Enabled), String> {
    let has_all = |root: &PathBuf| {
        let text = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        controllers.iter().all(|name| text.split_whitespace().any(|one| one == *name))
    };
    let root = [PathBuf::from(ROOT), Path::new(ROOT).join("unified")].into_iter().find(has_all);
    let root = root.ok_or_else(|| format!("no cgroups with {} are mounted at {ROOT}", controllers.join(" and ")))?;
    let mut enabled = Enabled { file: root.join("cgroup.subtree_control"), controllers: Vec::new() };
    let before = fs::read_to_string(&enabled.file).map_err(|error| format!("{}: {error}", enabled.file.display()))?;
    for name in controllers.iter().filter(|name| !before.split_whitespace().any(|one| one == **name)) {
        let written = fs::write(&enabled.file, format!("+{name}"));
        written.map_err(|error| format!("+{name} to {}: {error}", enabled.file.display()))?;
        enabled.controllers.push(name);
    }
    Ok((root, enabled))
}

/// Controllers that groups have for the time of a test; longer, where there are other groups.
struct Enabled {
    file: PathBuf,
    controllers: Vec<&'static str>,
}

impl Drop for Enabled {
    fn drop(&mut self) {
        let directory = self.file.parent().expect("it is in a directory");
        let mut entries = fs::read_dir(directory).into_iter().flatten().flatten();
        if entries.any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            // Another group may have got limits meanwhile, which would go with the controllers.
            return;
        }
        for name in &self.controllers {
            let _ = fs::write(&self.file, format!("-{name}"));
        }
    }
}

/// The disk of a directory, as `major:minor`.
fn disk(of: &Path) -> Result<String, String> {
    let device = fs::metadata(of).map_err(|error| format!("{}: {error}", of.display()))?.dev();
    let number = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let place = fs::canonicalize(format!("/sys/dev/block/{number}"));
    let place = place.map_err(|_| format!("{} is not on a disk of its own", of.display()))?;
    let whole = if place.join("partition").exists() { place.parent().unwrap_or(&place) } else { &place };
    let number = fs::read_to_string(whole.join("dev")).map_err(|error| format!("{}: {error}", whole.display()))?;
    Ok(number.trim().to_owned())
}
