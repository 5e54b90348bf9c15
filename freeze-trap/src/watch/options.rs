//! What `freeze-trap watch` is told on the command line. Read by `main`, used by the rest of `watch`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bytesize::ByteSize;
use nix::unistd::geteuid;

use crate::probe::{self, duration};
use crate::source::choose::Wanted;
use crate::target;

/// The probes that there are without `--probe`: they need to know nothing of the service.
pub const USUAL_PROBES: [&str; 3] = ["stalled-threads", "lock-hold,over=250ms", "lock-wait,over=250ms"];

/// What is watched: exactly one of these.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Watched {
    /// Watch the process of this number, until it ends
    #[arg(long, value_name = "PID", allow_negative_numbers = true)]
    pub pid: Option<i32>,
    /// Start a command, and watch it and what it starts, until it ends; all that follows belongs to the command
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    pub exec: Option<Vec<OsString>>,
    /// Watch a unit of systemd, through restarts
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<String>,
    /// Watch a cgroup and those below it, through restarts: its directory, or its path as in /proc/PID/cgroup
    #[arg(long, value_name = "CGROUP")]
    pub cgroup: Option<PathBuf>,
}

impl Watched {
    /// The same for [`target::Target::open`]. `None` if nothing is given, which the command line does not let happen.
    #[must_use]
    pub fn spec(&self) -> Option<target::Spec> {
        let pid = self.pid.map(target::Spec::Pid);
        let exec = || self.exec.clone().map(target::Spec::Exec);
        let unit = || self.unit.clone().map(target::Spec::Unit);
        let cgroup = || self.cgroup.clone().map(target::Spec::Cgroup);
        pid.or_else(exec).or_else(unit).or_else(cgroup)
    }
}

/// The options of `watch`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// What is watched.
    #[command(flatten)]
    pub watched: Watched,
    /// Ask this, again and again, to know whether the service is well; any number, see the list below. Without it:
    /// stalled-threads, lock-hold and lock-wait over 250ms
    #[arg(long = "probe", value_name = "SPEC")]
    pub probes: Vec<probe::Spec>,
    /// Start the command of --exec again whenever it ends, a second after the last start at the earliest
    #[arg(long, conflicts_with_all = ["pid", "unit", "cgroup"])]
    pub restart: bool,
    /// How often probes are asked
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    pub every: Duration,
    /// How many failures in a row are a freeze
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub failures: u32,
    /// How long a service that was started may take until a probe has its first success; its failures count after that
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    pub grace: Duration,
    /// How long a capture goes on after the trap went off
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration::parse)]
    pub window: Duration,
    /// How much of the time before the freeze a capture holds
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub history: Duration,
    /// How long nothing is captured after a capture
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    pub cooldown: Duration,
    /// How many captures may begin within an hour, restarts of the trap included
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub captures_per_hour: u32,
    /// Where intervals come from
    #[arg(long, value_name = "SOURCE", value_enum, default_value_t = Wanted::Auto)]
    pub source: Wanted,
    /// Time off the processor below this is counted and not kept
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = duration::parse)]
    pub off_cpu_bound: Duration,
    /// Holds of mmap_lock and waits for it below this are counted and not kept
    #[arg(long, value_name = "TIME", default_value = "100us", value_parser = duration::parse)]
    pub lock_bound: Duration,
    /// How many threads are watched at most; for each, BPF takes about 7 KiB of the kernel's memory, and the flight
    /// recorder up to 5 KiB of the trap's
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub threads_max: u32,
    /// Where captures go [default: /var/lib/freeze-trap for root, else freeze-trap in $XDG_STATE_HOME]
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// How much all captures may take on the disk; the oldest have to leave for a new one
    #[arg(long, value_name = "BYTES", default_value = "1GiB")]
    pub disk_bound: ByteSize,
    /// Answer GET /metrics there, for Prometheus; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// End after the first capture
    #[arg(long)]
    pub once: bool,
    /// End after this time
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    pub lasting: Option<Duration>,
}

/// Where captures go unless `--directory` says otherwise.
/// # Errors
/// A user that is not root has no directory for such things.
pub fn usual_directory() -> Result<PathBuf> {
    usual(geteuid().is_root(), |name| std::env::var_os(name))
}

fn usual(is_root: bool, variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    if is_root {
        return Ok(PathBuf::from("/var/lib/freeze-trap"));
    }
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let state = state.context("neither $XDG_STATE_HOME nor $HOME names a place for captures; give --directory")?;
    Ok(state.join("freeze-trap"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_have_a_place_of_the_user_or_none() {
        let usual = |is_root, variables: &[(&str, &str)]| {
            let of = |name: &str| variables.iter().find(|one| one.0 == name).map(|one| OsString::from(one.1));
            usual(is_root, of).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(usual(true, &[("HOME", "/root")]), Ok("/var/lib/freeze-trap".into()));
        assert_eq!(usual(false, &[("HOME", "/home/a")]), Ok("/home/a/.local/state/freeze-trap".into()));
        assert_eq!(usual(false, &[("XDG_STATE_HOME", "/s"), ("HOME", "/h")]), Ok("/s/freeze-trap".into()));
        for none in [&[][..], &[("HOME", "here")]] {
            assert!(usual(false, none).unwrap_err().contains("--directory"), "no place that all may write to");
        }
    }
}
