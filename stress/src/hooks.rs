//! What a child can ask of its allocator beyond allocating. Each binary in `src/bin` passes its own to
//! [`child::main`](crate::child::main).

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::crates;
use crate::record::time;

/// The longest that a scenario waits for memory to become warm.
const PREWARM_LIMIT: Duration = Duration::from_secs(60);

/// An allocator's hooks. What it has not got is `None`.
pub trait Hooks {
    /// The allocator's name.
    fn name(&self) -> &'static str;

    /// Its version; empty if it does not tell.
    fn version(&self) -> String {
        String::new()
    }

    /// Whether all memory of the scenario is faulted in beforehand.
    fn faults_in(&self) -> bool {
        false
    }

    /// Does that, for so many bytes.
    fn fault_in(&self, bytes: u64) -> Result<(), String> {
        let _ = bytes;
        Ok(())
    }

    /// Whether memory that is about to be needed is made warm before.
    fn prewarms(&self) -> bool {
        false
    }

    /// Has the allocator make one block of `bytes` warm, and waits for it.
    fn prewarm(&self, bytes: u64) -> Option<Prewarmed> {
        let _ = bytes;
        None
    }

    /// Calls of the allocator that took `mmap_lock` for writing.
    fn write_lock_calls(&self) -> Option<u64> {
        None
    }

    /// Freed bytes that should have been given back to the kernel by now and were not.
    fn backlog_bytes(&self) -> Option<u64> {
        None
    }

    /// How freed memory is to be given back.
    fn giving_back(&self) -> Option<GivingBack> {
        None
    }
}

/// What became of a wish for warm memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prewarmed {
    /// The state of the request when the wait ended.
    pub state: String,
    /// How long it was waited for.
    pub time_ns: u64,
    /// Bytes asked for.
    pub wanted_bytes: u64,
    /// Bytes that were warm at the end.
    pub warm_bytes: u64,
    /// Bytes of these that hugepages back.
    pub hugepage_bytes: u64,
}

impl fmt::Display for Prewarmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Prewarming ended as {} after {}, with {} of {} MiB warm and {} in hugepages.",
            self.state,
            time(self.time_ns),
            self.warm_bytes >> 20,
            self.wanted_bytes >> 20,
            self.hugepage_bytes >> 20
        )
    }
}

/// The hooks of an allocator that can only allocate.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The name of the candidate.
    pub name: &'static str,
    /// The crate that it comes from.
    pub crate_name: &'static str,
}

impl Hooks for Peer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> String {
        crates::version(self.crate_name)
    }
}

/// How an allocator was told to give freed memory back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivingBack {
    /// After how long it should all be gone; `None` for never.
    pub decay_ns: Option<u64>,
    /// The most bytes per second; `None` for no limit.
    pub rate: Option<u64>,
    /// How long one call may hold `mmap_lock`.
    pub hold_budget_ns: u64,
}

impl GivingBack {
    /// Reads the lines `decay = 5s (default)`, `purge_rate = 1GiB/s (default)` and `hold_budget = 250us (default)` of
    /// `antifreeze::options`.
    fn from_options(text: &str) -> Self {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
            let word = line.split_whitespace().next()?.trim_end_matches("/s");
            let digits = word.find(|character: char| !character.is_ascii_digit()).unwrap_or(word.len());
            let (number, unit) = word.split_at(digits);
            let scale = match unit {
                "h" => 3_600_000_000_000,
                "min" => 60_000_000_000,
                "s" => 1_000_000_000,
                "ms" => 1_000_000,
                "us" => 1_000,
                "TiB" => 1 << 40,
                "GiB" => 1 << 30,
                "MiB" => 1 << 20,
                "KiB" => 1 << 10,
                _ => 1,
            };
            Some(number.parse::<u64>().ok()?.saturating_mul(scale))
        };
        Self {
            decay_ns: value("decay"),
            rate: value("purge_rate"),
            hold_budget_ns: value("hold_budget").unwrap_or_default(),
        }
    }
}

/// The hooks of antifreeze, where it is the global allocator.
#[derive(Clone, Copy, Debug)]
pub struct Antifreeze {
    /// The name of the candidate.
    pub name: &'static str,
    /// Whether memory is prewarmed.
    pub prewarms: bool,
}

impl Hooks for Antifreeze {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> String {
        crates::version("antifreeze")
    }

    fn prewarm(&self, bytes: u64) -> Option<Prewarmed> {
        let started = Instant::now();
        let request = antifreeze::prewarm(usize::try_from(bytes).unwrap_or(usize::MAX));
        let progress = request.wait(PREWARM_LIMIT);
        Some(Prewarmed {
            state: format!("{:?}", progress.state),
            time_ns: u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX),
            wanted_bytes: progress.wanted_bytes,
            warm_bytes: progress.warm_bytes,
            hugepage_bytes: progress.hugepage_bytes,
        })
    }

    fn prewarms(&self) -> bool {
        self.prewarms
    }

    fn write_lock_calls(&self) -> Option<u64> {
        Some(antifreeze::counters().write_lock_calls)
    }

    fn backlog_bytes(&self) -> Option<u64> {
        Some(antifreeze::counters().governor.backlog)
    }

    fn giving_back(&self) -> Option<GivingBack> {
        let mut buffer = [0; 4096];
        Some(GivingBack::from_options(antifreeze::options(&mut buffer).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_antifreeze_prints_them() {
        let text = "linger = 500ms (default)\ndecay = 1500ms (code)\npurge_rate = 256MiB/s (environment)\nhold_budget = 90us (code)\n";
        let giving_back = GivingBack::from_options(text);
        assert_eq!(
            giving_back,
            GivingBack { decay_ns: Some(1_500_000_000), rate: Some(256 << 20), hold_budget_ns: 90_000 }
        );
        let off = GivingBack::from_options("decay = off (code)\npurge_rate = off (code)\n");
        assert_eq!(off, GivingBack { decay_ns: None, rate: None, hold_budget_ns: 0 });
        let real = Antifreeze { name: "some", prewarms: false }.giving_back().unwrap();
        assert!(real.decay_ns.is_some() && real.rate.is_some() && real.hold_budget_ns > 0, "the defaults: {real:?}");
    }
}
