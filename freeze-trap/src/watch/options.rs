//! What `freeze-trap watch` is told on the command line. Read by `main`, used by the rest of `watch`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// How many threads are watched at most; BPF takes 3.5 KiB for each
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
#[must_use]
pub fn usual_directory() -> PathBuf {
    if geteuid().is_root() {
        return PathBuf::from("/var/lib/freeze-trap");
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    state.unwrap_or_else(|| Path::new("/tmp").to_owned()).join("freeze-trap")
}
