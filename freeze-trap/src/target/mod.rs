//! What is watched: a process, a command, a systemd unit, or a cgroup, and which processes that is now.
//!
//! Invariant: nothing in here takes mmap_lock of a watched process, stops it, or signals it unless the trap was told to
//! pass a signal on. A number that another process has got since is never taken for the watched one.

mod cgroup;
mod exec;
pub mod namespace;
mod place;
pub mod process;
mod unit;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::freeze::MemoryPoint;
use exec::Command;
use place::Place;
use unit::Unit;

/// As on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// A process that runs.
    Pid(i32),
    /// A command with its arguments, which the trap starts.
    Exec(Vec<OsString>),
    /// A unit of systemd; without a suffix it is a service.
    Unit(String),
    /// A cgroup: its directory, or its path as in `/proc/PID/cgroup`.
    Cgroup(PathBuf),
}

impl fmt::Display for Spec {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Spec::Pid(pid) => write!(formatter, "pid {pid}"),
            Spec::Exec(words) => {
                let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
                write!(formatter, "command {}", words.join(" "))
            }
            Spec::Unit(name) => write!(formatter, "unit {}", unit::full_name(name)),
            Spec::Cgroup(path) => write!(formatter, "cgroup {}", path.display()),
        }
    }
}

/// That it is over and no process of it will come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The command ended.
    Command(ExitStatus),
    /// The process is gone; how it ended is not known.
    Process,
}

#[derive(Debug)]
enum How {
    Pid { pid: i32, started_ticks: u64 },
    Exec(Command),
    Unit(Unit),
    Cgroup(Place),
}

/// What is watched.
#[derive(Debug)]
pub struct Target {
    name: String,
    how: How,
}

impl Target {
    /// Finds it; a command is started.
    ///
    /// A unit or cgroup may have no process yet, and the cgroup need not be there.
    /// # Errors
    /// There is no such process, no cgroups are mounted, systemd knows no such unit, or the command cannot be started.
    pub fn open(spec: &Spec) -> Result<Target> {
        let how = match spec {
            Spec::Pid(pid) => {
                if *pid <= 0 {
                    bail!("{pid} is no process: a number from 1 on is needed");
                }
                let stat = process::stat(*pid).with_context(|| format!("there is no process {pid} to be seen"))?;
                How::Pid { pid: *pid, started_ticks: stat.started_ticks }
            }
            Spec::Exec(words) => How::Exec(Command::start(words)?),
            Spec::Unit(name) => How::Unit(Unit::open(name)?),
            Spec::Cgroup(path) => How::Cgroup(Place::open(path)?),
        };
        Ok(Target { name: spec.to_string(), how })
    }

    /// As on the command line: `pid 17`, `unit nginx.service`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What to tell of a cgroup that is not there yet, or of a unit that does not run yet.
    #[must_use]
    pub fn awaited(&self) -> Option<String> {
        match &self.how {
            How::Cgroup(place) => place.awaited(),
            How::Unit(unit) => unit.awaited(),
            How::Pid { .. } | How::Exec(_) => None,
        }
    }

    /// Whether the trap has started it.
    #[must_use]
    pub fn is_command(&self) -> bool {
        matches!(self.how, How::Exec(_))
    }

    /// Its processes now, in the order of their numbers, each once; without the trap itself. Empty while there are
    /// none.
    ///
    /// Costs a file of `/proc` for a process, one for each thread of a command, one for each cgroup.
    /// # Errors
    /// A cgroup has processes of another pid namespace, which cannot be named.
    pub fn processes(&mut self) -> Result<Vec<i32>> {
        let mut pids: BTreeSet<i32> = match &mut self.how {
            How::Pid { pid, started_ticks } => runs(*pid, *started_ticks).then_some(*pid).into_iter().collect(),
            How::Exec(command) => command.processes(),
            How::Unit(unit) => unit.processes()?,
            How::Cgroup(place) => place.processes()?,
        };
        pids.remove(&std::process::id().cast_signed());
        Ok(pids.into_iter().collect())
    }

    /// Whether it is over for good. Units and cgroups never are: they may be started again.
    pub fn ended(&mut self) -> Option<Ended> {
        match &mut self.how {
            How::Pid { pid, started_ticks } => (!runs(*pid, *started_ticks)).then_some(Ended::Process),
            How::Exec(command) => command.ended().map(Ended::Command),
            How::Unit(_) | How::Cgroup(_) => None,
        }
    }

    /// Passes a signal on to a command that the trap has started; others get their signals from elsewhere.
    ///
    /// The command is in the trap's process group, so that it can use the terminal. What the keyboard sends, it gets by
    /// itself: pass on only what a process has sent (`ssi_code` or `si_code` is not `SI_KERNEL`).
    /// # Errors
    /// The kernel refuses: the command has changed its user.
    pub fn pass_on(&mut self, signal: Signal) -> Result<()> {
        match &mut self.how {
            How::Exec(command) => command.signal(signal),
            _ => Ok(()),
        }
    }

    /// Processor time that its cgroups were refused because of their quotas, so far, in nanoseconds. `None` without a
    /// quota.
    ///
    /// Costs some files for each of its processes.
    pub fn throttled_ns(&mut self) -> Option<u64> {
        let own = match &self.how {
            How::Unit(unit) => unit.directories(),
            How::Cgroup(place) => place.directories(),
            How::Pid { .. } | How::Exec(_) => Vec::new(),
        };
        let pids = self.processes().unwrap_or_default();
        cgroup::throttled_ns(&own, &pids)
    }
}

/// Whether the process of that start still runs; what has ended and was not waited for does not.
fn runs(pid: i32, started_ticks: u64) -> bool {
    process::stat(pid).is_ok_and(|stat| stat.started_ticks == started_ticks && !stat.has_ended())
}

/// Memory of processes together. Those that have ended count nothing.
///
/// Costs two files for each process, which take no mmap_lock.
#[must_use]
pub fn memory(pids: &[i32], at_ns: u64) -> MemoryPoint {
    let mut point = MemoryPoint { at_ns, resident_bytes: 0, virtual_bytes: 0, faults: [0; 2], threads: 0 };
    for &pid in pids {
        let (Ok([virtual_bytes, resident_bytes]), Ok(stat)) = (process::memory_bytes(pid), process::stat(pid)) else {
            continue;
        };
        point.virtual_bytes += virtual_bytes;
        point.resident_bytes += resident_bytes;
        point.faults[0] += stat.faults[0];
        point.faults[1] += stat.faults[1];
        point.threads += stat.threads;
    }
    point
}

/// Processes with their names, without those that have ended.
#[must_use]
pub fn names(pids: &[i32]) -> Vec<(i32, String)> {
    let stats = pids.iter().filter_map(|&pid| Some((pid, process::stat(pid).ok()?)));
    stats.filter(|(_, stat)| !stat.has_ended()).map(|(pid, stat)| (pid, stat.name)).collect()
}
