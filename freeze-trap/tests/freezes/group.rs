//! A control group with a limit, of version 1 or 2; removed again when the test is over.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// So long the kernel may take to let go of a group whose processes have ended.
const REMOVAL: Duration = Duration::from_secs(10);

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
}

impl Group {
    /// Makes one. `Err` says why that cannot be.
    pub fn new(limit: &Limit) -> Result<Group, String> {
        let (first, second) = match limit {
            Limit::Cpu { quota_us, period_us } => (
                ("cpu", vec![("cpu.cfs_period_us", period_us.to_string()), ("cpu.cfs_quota_us", quota_us.to_string())]),
                ("cpu.max", format!("{quota_us} {period_us}")),
            ),
            Limit::Disk { of, bytes_per_s } => {
                let disk = disk(of)?;
                (
                    ("blkio", vec![("blkio.throttle.write_bps_device", format!("{disk} {bytes_per_s}"))]),
                    ("io.max", format!("{disk} wbps={bytes_per_s}")),
                )
            }
        };
        let root = Path::new("/sys/fs/cgroup");
        let (parent, settings) = match root.join(first.0).join("cgroup.procs").exists() {
            true => (root.join(first.0), first.1),
            false => (root.to_owned(), vec![second]),
        };
        let directory = parent.join(format!("freeze-trap-test-{}", std::process::id()));
        fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let group = Group { directory };
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
