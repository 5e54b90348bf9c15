//! Whether tasks wait for memory, disks or processors for more than a share of the time: pressure stall information
//! (Documentation/accounting/psi.rst). The share is of the time since the last request, from the kernel's totals.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::duration::show;
use super::spec::Resource;
use super::step::Step;
use super::{Ask, Failure, Probe};
use crate::clock::now_ns;

/// Where cgroups of version 2 may be mounted.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Such a probe.
#[derive(Debug)]
pub(super) struct Pressure {
    file: PathBuf,
    resource: Resource,
    full: bool,
    over: f64,
    /// When the total was read last, and what it was, in microseconds.
    last: Option<(u64, u64)>,
}

/// The total of a line like `some avg10=0.00 avg60=0.00 avg300=0.00 total=12`, in microseconds.
fn total_us(text: &str, full: bool) -> Option<u64> {
    let start = if full { "full " } else { "some " };
    let line = text.lines().find(|line| line.starts_with(start))?;
    line.split_whitespace().find_map(|field| field.strip_prefix("total="))?.parse().ok()
}

fn file_of(resource: Resource, cgroup: Option<&Path>) -> Result<PathBuf> {
    let Some(cgroup) = cgroup else { return Ok(Path::new("/proc/pressure").join(resource.name())) };
    let name = format!("{}.pressure", resource.name());
    let below = cgroup.strip_prefix("/").unwrap_or(cgroup);
    let places = [PathBuf::from(cgroup)].into_iter().chain(MOUNTS.iter().map(|mount| Path::new(mount).join(below)));
    let found = places.map(|place| place.join(&name)).find(|file| file.exists());
    found.with_context(|| format!("no cgroup of version 2 with a file {name} is called {}", cgroup.display()))
}

impl Pressure {
    /// Finds the file.
    /// # Errors
    /// There is none: an old kernel, one started without `psi=1`, or no such cgroup.
    pub(super) fn open(resource: Resource, full: bool, over: f64, cgroup: Option<&Path>) -> Result<Self> {
        let file = file_of(resource, cgroup)?;
        let text = fs::read_to_string(&file)
            .with_context(|| format!("{}: the kernel may need `psi=1` on its command line", file.display()))?;
        if total_us(&text, full).is_none() {
            bail!("{} has no line `{}`", file.display(), if full { "full" } else { "some" });
        }
        Ok(Pressure { file, resource, full, over, last: None })
    }

    /// Judges a new total.
    fn judge(&mut self, now_ns: u64, total_us: u64) -> Result<(), Failure> {
        let Some((last_ns, last_us)) = self.last.replace((now_ns, total_us)) else { return Ok(()) };
        let time_ns = now_ns.saturating_sub(last_ns);
        let waited_ns = total_us.saturating_sub(last_us).saturating_mul(1000);
        let share = waited_ns as f64 / time_ns.max(1) as f64;
        if share <= self.over {
            return Ok(());
        }
        let who = if self.full { "all tasks" } else { "some tasks" };
        let what = format!(
            "{who} waited for {} in {:.0} % of the last {}",
            self.resource.name(),
            share.min(1.0) * 100.0,
            show(time_ns)
        );
        Err(Failure { what, since_ns: Some(last_ns) })
    }
}

impl Probe for Pressure {
    fn ask(&mut self, ask: &Ask) -> Result<(), Failure> {
        ask.progress.set(Step::Files);
        let text = fs::read_to_string(&self.file).map_err(|error| format!("{}: {error}", self.file.display()))?;
        let now_ns = now_ns();
        match total_us(&text, self.full) {
            Some(total_us) => self.judge(now_ns, total_us),
            None => Err(format!("{} cannot be understood", self.file.display()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "some avg10=1.53 avg60=0.87 avg300=0.73 total=1220\nfull avg10=0.00 avg60=0.00 total=7\n";

    #[test]
    fn totals_are_read() {
        assert_eq!(total_us(TEXT, false), Some(1220));
        assert_eq!(total_us(TEXT, true), Some(7));
        assert_eq!(total_us("some avg10=1.53", false), None);
    }

    #[test]
    fn the_share_is_of_the_time_since_the_last_request() {
        let mut probe =
            Pressure { file: PathBuf::new(), resource: Resource::Memory, full: false, over: 0.2, last: None };
        let second = 1_000_000_000;
        assert_eq!(probe.judge(10 * second, 5_000_000), Ok(()), "the past does not count");
        assert_eq!(probe.judge(11 * second, 5_200_000), Ok(()), "just the bound");
        let failure = probe.judge(12 * second, 5_500_000).unwrap_err();
        assert_eq!(failure.what, "some tasks waited for memory in 30 % of the last 1 s");
        assert_eq!(failure.since_ns, Some(11 * second));
        assert_eq!(probe.judge(14 * second, 5_800_000), Ok(()), "15 % of two seconds");
    }
}
