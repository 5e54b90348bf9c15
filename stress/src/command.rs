//! The subcommands: which scenario is run, and how large.

use clap::Subcommand;

use crate::scenario::{Plan, burst, cgroup, drop, fork, fragment, grow, replay, service, soak};

/// The scenario that is run.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// The incident: a hash map doubles and is dropped (what is run without a subcommand)
    Replay(replay::Options),
    /// A service whose index doubles while clients in another process go on asking
    Service(service::Options),
    /// Large blocks are freed, one after the other
    Drop(drop::Options),
    /// A vector grows by push from empty to gigabytes
    Grow(grow::Options),
    /// Bursts of work on several threads, and nothing in between
    Burst(burst::Options),
    /// The process forks while it has a large heap
    Fork(fork::Options),
    /// The incident where hugepages are scarce
    Fragment(fragment::Options),
    /// Waves of work that come near the memory limit of a control group
    Cgroup(cgroup::Options),
    /// Random work against a shadow model of every block, with faults injected
    Soak(soak::Options),
}

impl Command {
    /// The scenario with sizes for a machine on which so much memory is available; or what is wrong, and what would
    /// fit.
    pub fn choose(&self, available_bytes: u64) -> Result<Plan, String> {
        Ok(match self {
            Self::Replay(options) => Plan::Replay(options.choose(available_bytes).map_err(said)?),
            Self::Service(options) => Plan::Service(options.choose(available_bytes).map_err(said)?),
            Self::Drop(options) => Plan::Drop(options.choose(available_bytes).map_err(said)?),
            Self::Grow(options) => Plan::Grow(options.choose(available_bytes).map_err(said)?),
            Self::Burst(options) => Plan::Burst(options.choose(available_bytes).map_err(said)?),
            Self::Fork(options) => Plan::Fork(options.choose(available_bytes).map_err(said)?),
            Self::Fragment(options) => Plan::Fragment(options.choose(available_bytes)?),
            Self::Cgroup(options) => Plan::Cgroup(options.choose(available_bytes).map_err(said)?),
            Self::Soak(options) => Plan::Soak(options.choose(available_bytes)?),
        })
    }
}

fn said(error: impl std::error::Error) -> String {
    error.to_string()
}
