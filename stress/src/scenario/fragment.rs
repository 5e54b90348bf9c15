//! The incident at a smaller size while hugepages are scarce: most of the machine's free memory is in pages that do not
//! lie side by side.
//!
//! The harness makes it so before each child ([`setting`](crate::setting)); the child is the [`replay`](super::replay).

use std::fs;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::canary::Kind;
use crate::fragmentation::{FEW, FREE};
use crate::memory;
use crate::phase::Phase;
use crate::record::{Unit, time};
use crate::scenario::Scenario;
use crate::scenario::replay::Replay;
use crate::setting::Setting;
use crate::sizes::{self, said};
use crate::stage::{Stage, rss_kib};
use crate::summary::Summary;
use crate::table::Size;
use crate::targets::Target;

/// A replay takes at most this part of the available memory, so that what else is free can be broken up.
const REPLAY_PART: u64 = 12;
/// The part of the memory that is in hugepages when the table has doubled.
const HUGE_PART: &str = "part in hugepages";

/// What can be chosen.
#[derive(Clone, Copy, Debug, Args)]
pub struct Options {
    /// Entries of the map before it doubles, rounded up to a full table (7/8 of a power of two); by default as many as
    /// take a twelfth of the available memory
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: Option<u64>,

    /// The most memory that is held so that few hugepages are free, as 8GiB; by default three quarters of what is
    /// available, less what the replay takes
    #[arg(long, value_parser = sizes::parse)]
    pub hold_bytes: Option<u64>,

    /// For how long memory is watched after the map was dropped, in milliseconds
    #[arg(long, default_value_t = 8000)]
    pub settle_ms: u64,
}

/// The scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragmented {
    /// The most memory that is held.
    pub hold_bytes: u64,
    /// What is done meanwhile.
    pub replay: Replay,
}

impl Options {
    /// The scenario for a machine on which so much memory is available.
    pub fn choose(&self, available_bytes: u64) -> Result<Fragmented, String> {
        let usual = Size::largest_within(available_bytes / REPLAY_PART, Size::INCIDENT);
        let size = match (self.keys, usual) {
            (None, Some(usual)) => usual,
            (keys, _) => Size::choose(keys, available_bytes).map_err(|error| error.to_string())?,
        };
        let hold_most = sizes::child_bytes(available_bytes).saturating_sub(size.replay_bytes());
        let hold_usual = (available_bytes / 4 * 3).saturating_sub(size.replay_bytes());
        let hold_bytes = self.hold_bytes.unwrap_or(hold_usual);
        if hold_bytes > hold_most || hold_bytes == 0 {
            return Err(format!(
                "--hold-bytes {} beside a replay of {} is more than may be used of the {} available; {} would fit",
                sizes::option(hold_bytes),
                said(size.replay_bytes()),
                said(available_bytes),
                sizes::option(hold_most)
            ));
        }
        Ok(Fragmented { hold_bytes, replay: Replay { settle_ms: self.settle_ms, ..Replay::new(size) } })
    }
}

/// What is in hugepages on the whole machine. The count of the process alone is made by a walk through its page tables
/// under `mmap_lock`, which would be the longest hold of all and would have the canaries wait; this one takes no lock
/// of the process.
fn machine_huge_kib() -> Result<u64, String> {
    let meminfo = fs::read_to_string("/proc/meminfo").map_err(|error| format!("/proc/meminfo: {error}"))?;
    memory::field_kib(&meminfo, "AnonHugePages").ok_or_else(|| "/proc/meminfo has no AnonHugePages".to_owned())
}

/// How much of the memory is in hugepages, most of which is the doubled table: what the machine has more of than
/// before. What other processes take or give back meanwhile counts as well.
fn look(stage: &mut Stage<'_>, before_kib: u64) -> Result<(), String> {
    let huge_kib = machine_huge_kib()?.saturating_sub(before_kib);
    stage.figure("in hugepages", Some(huge_kib), Unit::Kib);
    stage.figure(HUGE_PART, Some(percent(huge_kib, rss_kib()?)), Unit::Percent);
    Ok(())
}

/// The part that is in hugepages; never more than all, whatever other processes did.
fn percent(huge_kib: u64, rss_kib: u64) -> u64 {
    (huge_kib.saturating_mul(100) / rss_kib.max(1)).min(100)
}

impl Scenario for Fragmented {
    fn name(&self) -> &'static str {
        "fragment"
    }

    fn headline(&self) -> String {
        format!(
            "While up to {} are held so that few hugepages are free: {}",
            said(self.hold_bytes),
            self.replay.headline()
        )
    }

    fn phases(&self) -> &'static [Phase] {
        self.replay.phases()
    }

    fn canaries(&self) -> &'static [Kind] {
        self.replay.canaries()
    }

    fn peak_bytes(&self) -> u64 {
        self.replay.peak_bytes()
    }

    fn time_limit(&self) -> Duration {
        self.replay.time_limit()
    }

    // What it has comes from the same free memory, and is faulted in before anything is measured.
    fn limit_bytes(&self) -> Option<u64> {
        None
    }

    fn setting(&self) -> Setting {
        Setting::ScarceHugepages { hold_bytes: self.hold_bytes }
    }

    fn run(&self, stage: &mut Stage<'_>) -> Result<(), String> {
        let before_kib = machine_huge_kib()?;
        self.replay.run_and_look(stage, |stage| look(stage, before_kib))
    }

    fn targets(&self, summaries: &[Summary]) -> Vec<Target> {
        let goal =
            "The doubling works without hugepages as well (else the run would have failed); its time, for comparison";
        let doubling = Target::of(goal, summaries, |summary| {
            let part = summary.median(HUGE_PART)?;
            let doubling = time(summary.median("doubling")?);
            Some((format!("{doubling} with {part} % in hugepages{}", plenty(summary)), None))
        });
        vec![doubling]
    }
}

/// That hugepages were not scarce after all, if so, in which case there is little to compare.
fn plenty(summary: &Summary) -> String {
    match summary.median(FREE) {
        Some(free) if free > FEW => format!(" (not scarce: {free} were free; more --hold-bytes takes them)"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child;
    use crate::hooks::Peer;
    use crate::record::Figure;
    use crate::report::samples;
    use crate::scenario::Plan;

    const GIB: u64 = 1 << 30;

    #[test]
    fn what_is_held_leaves_room_for_the_replay() {
        let options = |keys, hold_bytes| Options { keys, hold_bytes, settle_ms: 5 };
        let usual = options(None, None).choose(24 * GIB).unwrap();
        assert_eq!((usual.replay.buckets, usual.replay.settle_ms), (1 << 24, 5));
        assert_eq!(usual.hold_bytes, 18 * GIB - usual.replay.size().replay_bytes());
        assert_eq!(options(Some(1000), Some(GIB)).choose(24 * GIB).unwrap().hold_bytes, GIB);
        let error = options(None, Some(22 * GIB)).choose(24 * GIB).unwrap_err();
        assert!(error.starts_with("--hold-bytes 22528MiB beside a replay") && error.ends_with("would fit"), "{error}");
        assert!(options(None, None).choose(1 << 20).unwrap_err().starts_with("only 1024 KiB"));
    }

    #[test]
    fn the_replay_tells_what_is_in_hugepages() {
        let replay = Replay { buckets: 1 << 16, control_ms: 5, quiet_ms: 5, settle_ms: 5 };
        let plan = Plan::Fragment(Fragmented { hold_bytes: GIB, replay });
        let record = child::play(&plan, &Peer { name: "some", crate_name: "none" }, false).unwrap();
        assert!(record.figure("in hugepages").is_some() && record.figure("doubling").is_some(), "{record:?}");
        assert!(record.figure(HUGE_PART).is_some_and(|percent| percent <= 100));
    }

    #[test]
    fn a_run_with_plenty_of_hugepages_says_so() {
        let plan = Fragmented { hold_bytes: GIB, replay: Replay { settle_ms: 5, ..Replay::new(Size::SMALLEST) } };
        let target = |free| {
            let mut record = samples::record("some", 5);
            for (name, value) in [("doubling", 9), (HUGE_PART, 50), (FREE, free)] {
                record.figures.push(Figure { name: name.to_owned(), value: Some(value), unit: Unit::Count });
            }
            plan.targets(&[Summary::of("some", &[&samples::run(1, record)])]).remove(0).to_string()
        };
        assert!(!target(FEW).contains("scarce"), "{}", target(FEW));
        assert!(target(FEW + 1).contains(" (not scarce: 33 were free; "), "{}", target(FEW + 1));
    }

    #[test]
    fn the_part_in_hugepages_is_of_what_is_resident() {
        assert_eq!((percent(50, 200), percent(0, 0), percent(300, 200)), (25, 0, 100));
        assert!(machine_huge_kib().is_ok());
    }
}
