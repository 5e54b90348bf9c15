//! The scenarios: what a child does under its allocator, how much memory that takes, and what must come out.
//!
//! `main.rs` makes a [`Plan`] of the command line, the [`harness`](crate::harness) hands it to each child, and
//! [`child`](crate::child) plays it on a [`Stage`].

pub mod burst;
pub mod cgroup;
pub mod drop;
pub mod fork;
pub mod fragment;
pub mod grow;
pub mod replay;
pub mod service;
pub mod soak;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::canary::Kind;
use crate::phase::Phase;
use crate::record::{Figure, Record, Span};
use crate::service::load::LoadPlan;
use crate::service::load_report::LoadReport;
use crate::setting::Setting;
use crate::stage::Stage;
use crate::summary::Summary;
use crate::targets::Target;

/// The quiet phase with which the others are compared, in every scenario that has one.
pub const CONTROL: &str = "control";
/// The quiet phase in which an allocator is asked to make memory warm.
pub const PREWARM: &str = "prewarm";
/// The quiet phase after all work, in which memory comes back.
pub const IDLE: &str = "idle after";

/// The phases in which freezes count: those after the control, as what is before it prepares; all of a scenario without
/// control.
pub fn after_control(phases: &[Phase]) -> &[Phase] {
    let control = phases.iter().position(|phase| phase.name == CONTROL);
    &phases[control.map_or(0, |index| index + 1)..]
}

/// One thing to do under every allocator.
pub trait Scenario {
    /// The subcommand that runs it.
    fn name(&self) -> &'static str;

    /// What is about to be done, in one sentence with the sizes.
    fn headline(&self) -> String;

    /// Every phase, in the order in which they come first.
    fn phases(&self) -> &'static [Phase];

    /// The canaries that watch.
    fn canaries(&self) -> &'static [Kind] {
        Kind::ALL
    }

    /// The most memory that a child uses at a time, in bytes.
    fn peak_bytes(&self) -> u64;

    /// What an allocator that never takes memory back needs for all of it, in bytes; `None` if that is out of the
    /// question, so that the limit does not take part.
    fn limit_bytes(&self) -> Option<u64>;

    /// Whether nobody but the allocator and the canaries calls the kernel for memory in the phases. Only then can the
    /// kernel's tracepoints judge the promises.
    fn keeps_still(&self) -> bool {
        true
    }

    /// Whether this allocator takes part; the one that is asked for memory beforehand does where there is something to
    /// ask for.
    fn takes(&self, allocator: &str) -> bool {
        let _ = allocator;
        true
    }

    /// What is made around each child.
    fn setting(&self) -> Setting {
        Setting::Usual
    }

    /// What can be said of a child that the kernel killed at the limit of its control group, by the phases it went
    /// through.
    fn figures_of_killed(&self, spans: &[Span]) -> Vec<Figure> {
        let _ = spans;
        Vec::new()
    }

    /// When a child is taken to hang.
    fn time_limit(&self) -> Duration {
        patience(Duration::ZERO, self.peak_bytes())
    }

    /// Harness: what the clients do of a child that serves requests at `address`; `None` if it does not.
    fn load_plan(&self, address: SocketAddr) -> Option<LoadPlan> {
        let _ = address;
        None
    }

    /// Harness: adds what the clients found to the child's record, or says what was wrong with it.
    fn add_load(&self, record: &mut Record, load: &LoadReport) -> Result<(), String> {
        let _ = (record, load);
        Ok(())
    }

    /// Child: does it. Sets up what it needs, calls [`Stage::begin`], then goes through the phases.
    fn run(&self, stage: &mut Stage<'_>) -> Result<(), String>;

    /// What is to be reached beside the promises that hold in every scenario, and who did.
    fn targets(&self, summaries: &[Summary]) -> Vec<Target>;
}

/// When a child is taken to hang that does nothing for `rest` and touches so many bytes in all. A GiB takes a second,
/// and on memory that the host has not backed a quarter of a minute; a busy machine or a slow allocator may take
/// longer.
pub fn patience(rest: Duration, bytes: u64) -> Duration {
    Duration::from_secs((bytes >> 30).saturating_mul(60).saturating_add(600)).saturating_add(rest)
}

/// A scenario with its sizes, as the harness tells it to a child and writes it into a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// The incident.
    Replay(replay::Replay),
    /// The incident as its clients felt it.
    Service(service::Service),
    /// Random work against a shadow model.
    Soak(soak::Soak),
    /// Large blocks are freed.
    Drop(drop::Dropping),
    /// A vector grows.
    Grow(grow::Growing),
    /// Work comes in bursts.
    Burst(burst::Bursts),
    /// The process forks.
    Fork(fork::Forking),
    /// A replay where hugepages are scarce.
    Fragment(fragment::Fragmented),
    /// A memory limit is approached.
    Cgroup(cgroup::Waves),
}

impl Plan {
    /// What it does.
    pub fn scenario(&self) -> &dyn Scenario {
        match self {
            Self::Replay(replay) => replay,
            Self::Service(service) => service,
            Self::Soak(soak) => soak,
            Self::Drop(dropping) => dropping,
            Self::Grow(growing) => growing,
            Self::Burst(bursts) => bursts,
            Self::Fork(forking) => forking,
            Self::Fragment(fragmented) => fragmented,
            Self::Cgroup(waves) => waves,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Size;

    #[test]
    fn what_is_asked_for_is_never_taken_to_hang() {
        const HOUR_MS: u64 = 3_600_000;
        const GIB: u64 = 1 << 30;
        let replay = replay::Replay { settle_ms: HOUR_MS, ..replay::Replay::new(Size::INCIDENT) };
        let dropping = drop::Dropping { bytes: vec![GIB; 2], control_ms: 0, idle_ms: HOUR_MS / 2 };
        let growing = grow::Growing { bytes: GIB, control_ms: 0, quiet_ms: 0, idle_ms: HOUR_MS };
        let bursts = burst::Bursts { bytes: GIB, bursts: 60, threads: 1, control_ms: 0, idle_ms: HOUR_MS / 60 };
        let forking = fork::Forking { bytes: 32 * GIB, forks: 100, control_ms: 0, idle_ms: 0 };
        let waves = cgroup::Waves { limit_bytes: GIB, waves: 10_000, top_percent: 90, control_ms: 0, idle_ms: 0 };
        let plans = [
            Plan::Replay(replay),
            Plan::Fragment(fragment::Fragmented { hold_bytes: GIB, replay }),
            Plan::Drop(dropping),
            Plan::Grow(growing),
            Plan::Burst(bursts),
            Plan::Fork(forking),
            Plan::Cgroup(waves),
        ];
        for plan in plans {
            assert!(plan.scenario().time_limit() > Duration::from_millis(HOUR_MS), "{plan:?}");
        }
        let forever = replay::Replay { settle_ms: u64::MAX, ..replay };
        assert!(forever.time_limit() > Duration::from_millis(u64::MAX));
    }
}
