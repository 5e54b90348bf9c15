//! A vector that grows by push from empty to gigabytes: what a log, a queue or a result set does that nobody sized.

use std::hint::black_box;
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::candidates::LIMIT;
use crate::idle::{self, Back};
use crate::phase::Phase;
use crate::record::{Unit, time};
use crate::scenario::{CONTROL, IDLE, PREWARM, Scenario, patience};
use crate::sizes::{self, SizeError, said};
use crate::stage::Stage;
use crate::summary::Summary;
use crate::table::BESIDE_BYTES;
use crate::targets::{self, Target};

/// The longest that one push may take.
const PUSH_NS_MAX: u64 = 10_000_000;
/// From this size on a vector is to grow where it is.
const LARGE_BYTES: usize = 1 << 20;
/// How often a vector of that size may move all the same.
const LARGE_MOVES_MAX: u64 = 1;
const USUAL_BYTES: u64 = 8 << 30;
const LEAST_BYTES: u64 = 1 << 20;
const ENTRY_BYTES: u64 = size_of::<u64>() as u64;

const GROWTH: &str = "growth";
const AFTER: &str = "after growth";
const DROP: &str = "drop";

const LONGEST_PUSH: &str = "longest push";
const MOVES: &str = "moves";
const LARGE_MOVES: &str = "moves from 1 MiB";

/// What can be chosen.
#[derive(Clone, Copy, Debug, Args)]
pub struct Options {
    /// Size that the vector reaches, as 8GiB or 100000000, rounded up to a power of two; by default 8 GiB or as much as
    /// half of the available memory
    #[arg(long, value_parser = sizes::parse)]
    pub bytes: Option<u64>,

    /// For how long memory is watched after the vector was dropped, in milliseconds, and one second more for each GiB
    #[arg(long, default_value_t = 8000)]
    pub idle_ms: u64,
}

/// The scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growing {
    /// The size that the vector reaches: a power of two, at least 64.
    pub bytes: u64,
    /// Quiet time before the growth.
    pub control_ms: u64,
    /// Quiet time after it.
    pub quiet_ms: u64,
    /// Time between the drop and the last look at the memory, without what its size adds.
    pub idle_ms: u64,
}

impl Options {
    /// The scenario for a machine on which so much memory is available.
    pub fn choose(&self, available_bytes: u64) -> Result<Growing, SizeError> {
        let usual_bytes = USUAL_BYTES.min(power_within(available_bytes / 2));
        let peak = |bytes: u64| peak_bytes(bytes.checked_next_power_of_two().unwrap_or(u64::MAX / 4));
        let bytes = sizes::choose(self.bytes, usual_bytes, LEAST_BYTES, available_bytes, peak)?;
        // What nobody asked for may be as much as fits, which is no power of two.
        let bytes = if self.bytes.is_some() { bytes.next_power_of_two() } else { power_within(bytes) };
        Ok(Growing { bytes, control_ms: 3000, quiet_ms: 1000, idle_ms: self.idle_ms })
    }
}

/// The largest power of two within so many bytes.
fn power_within(bytes: u64) -> u64 {
    bytes.checked_ilog2().map_or(0, |log2| 1 << log2)
}

/// All sizes of the vector together: an allocator may keep each old one while there is a new one.
fn peak_bytes(bytes: u64) -> u64 {
    bytes.saturating_mul(2).saturating_add(BESIDE_BYTES)
}

/// A vector that has grown, and how.
#[derive(Debug, Default)]
struct Growth {
    vector: Vec<u64>,
    longest_push_ns: u64,
    moves: u64,
    large_moves: u64,
}

impl Growth {
    /// Pushes so many entries. Only a push for which there is no room is timed: it is the one that can take long, and a
    /// look at the clock would outweigh the others.
    fn to(entries: u64) -> Result<Self, String> {
        let mut growth = Self::default();
        let mut next = 0;
        while next < entries {
            growth.push_beyond_room(next)?;
            let room = growth.vector.capacity() as u64;
            (next + 1..room.min(entries)).for_each(|value| growth.vector.push(value));
            next = growth.vector.len() as u64;
        }
        Ok(growth)
    }

    fn push_beyond_room(&mut self, value: u64) -> Result<(), String> {
        let vector = &mut self.vector;
        let (old_start, old_bytes) = (vector.as_ptr().addr(), size_of_val(&vector[..]));
        let started = Instant::now();
        vector.try_reserve(1).map_err(|error| format!("a vector of {old_bytes} bytes cannot grow: {error}"))?;
        vector.push(value);
        let push_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.longest_push_ns = self.longest_push_ns.max(push_ns);
        if old_bytes > 0 && black_box(vector.as_ptr()).addr() != old_start {
            self.moves += 1;
            self.large_moves += u64::from(old_bytes >= LARGE_BYTES);
        }
        Ok(())
    }

    /// Whether all that was pushed is there.
    fn check(&self, entries: u64) -> Result<(), String> {
        let length = self.vector.len() as u64;
        if length != entries {
            return Err(format!("the vector says it has {length} entries instead of {entries}"));
        }
        match (0..).zip(&self.vector).find(|(index, value)| index != *value) {
            Some((index, value)) => {
                Err(format!("entry {index} of the vector is {value:#x}, which was never pushed there"))
            }
            None => Ok(()),
        }
    }
}

impl Scenario for Growing {
    fn name(&self) -> &'static str {
        "grow"
    }

    fn headline(&self) -> String {
        let entries = indicatif::HumanCount(self.bytes / ENTRY_BYTES);
        format!("Growth of a vector by {entries} pushes from empty to {}.", said(self.bytes))
    }

    fn phases(&self) -> &'static [Phase] {
        const {
            &[
                Phase::quiet(PREWARM),
                Phase::quiet(CONTROL),
                Phase::busy(GROWTH),
                Phase::quiet(AFTER),
                Phase::busy(DROP),
                Phase::quiet(IDLE),
            ]
        }
    }

    fn peak_bytes(&self) -> u64 {
        peak_bytes(self.bytes)
    }

    fn time_limit(&self) -> Duration {
        let quiet = Duration::from_millis(self.control_ms.saturating_add(self.quiet_ms));
        patience(quiet.saturating_add(idle::watch_time(self.idle_ms, self.bytes)), self.peak_bytes())
    }

    fn limit_bytes(&self) -> Option<u64> {
        Some(self.peak_bytes())
    }

    fn run(&self, stage: &mut Stage<'_>) -> Result<(), String> {
        let hooks = stage.hooks();
        let entries = self.bytes / ENTRY_BYTES;
        stage.begin()?;
        let live_kib = stage.rss_figure("RSS live")?;
        if hooks.faults_in() {
            stage.about_to_touch(self.peak_bytes())?;
        }
        hooks.fault_in(self.peak_bytes())?;
        stage.prewarm(self.peak_bytes(), self.bytes)?;
        stage.rest(CONTROL, Duration::from_millis(self.control_ms))?;
        if !hooks.faults_in() && !hooks.prewarms() {
            stage.about_to_touch(self.peak_bytes())?;
        }
        let growth = stage.time(GROWTH, |_| Growth::to(entries))??;
        stage.figure(LONGEST_PUSH, Some(growth.longest_push_ns), Unit::Ns);
        stage.figure(MOVES, Some(growth.moves), Unit::Count);
        stage.figure(LARGE_MOVES, Some(growth.large_moves), Unit::Count);
        let check = |_: &mut Stage<'_>| {
            std::thread::sleep(Duration::from_millis(self.quiet_ms));
            growth.check(entries)
        };
        stage.play(AFTER, check)?.0?;
        stage.peak_rss_figure("RSS peak")?;
        stage.time(DROP, |_| drop(growth))?;
        let samples = stage.rest(IDLE, idle::watch_time(self.idle_ms, self.bytes))?;
        stage.back_figures(Back::of(&samples, live_kib, hooks.giving_back()));
        Ok(())
    }

    fn targets(&self, summaries: &[Summary]) -> Vec<Target> {
        let longest = Target::of(format!("No push takes longer than {}", time(PUSH_NS_MAX)), summaries, |summary| {
            let ns = summary.figure(LONGEST_PUSH)?.highest?;
            Some((format!("up to {}", time(ns)), judged(summary, ns <= PUSH_NS_MAX)))
        });
        let goal = format!("From 1 MiB on the vector grows where it is, and moves at most {LARGE_MOVES_MAX} time");
        let in_place = Target::of(goal, summaries, |summary| {
            let moves = summary.figure(LARGE_MOVES)?.highest?;
            Some((format!("{moves} moves"), judged(summary, moves <= LARGE_MOVES_MAX)))
        });
        vec![
            longest,
            in_place,
            targets::map_wait(summaries, CONTROL, GROWTH),
            targets::map_wait(summaries, CONTROL, IDLE),
            targets::memory_back(summaries),
        ]
    }
}

/// The verdict on an allocator that is one: the limit cannot grow a block and copies.
fn judged(summary: &Summary, met: bool) -> Option<bool> {
    (summary.allocator != LIMIT).then_some(met)
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
    const SMALL: Growing = Growing { bytes: 4 << 20, control_ms: 5, quiet_ms: 5, idle_ms: 120 };

    #[test]
    fn the_size_is_a_power_of_two_that_fits_twice() {
        let chosen = |bytes, available_bytes| {
            let options = Options { bytes, idle_ms: 1 };
            options.choose(available_bytes).map(|growing| growing.bytes).map_err(|error| error.to_string())
        };
        assert_eq!(chosen(None, 22 * GIB), Ok(8 * GIB));
        assert_eq!(chosen(None, 12 * GIB), Ok(4 * GIB));
        assert_eq!(chosen(None, 2 * GIB), Ok(GIB / 2));
        assert_eq!(chosen(Some(GIB + 1), 12 * GIB), Ok(2 * GIB));
        let error = chosen(Some(5 * GIB), 12 * GIB).unwrap_err();
        assert!(error.contains("needs 16.4 GiB") && error.ends_with("--bytes 4096MiB would fit"), "{error}");
        assert!(chosen(Some(u64::MAX), 12 * GIB).is_err() && chosen(None, 1000).is_err());
    }

    #[test]
    fn a_growth_is_timed_and_its_moves_are_counted() {
        let record = child::play(&Plan::Grow(SMALL), &Peer { name: "some", crate_name: "none" }, false).unwrap();
        let phases: Vec<_> = record.spans.iter().map(|span| span.phase.as_str()).collect();
        assert_eq!(phases, [CONTROL, GROWTH, AFTER, DROP, IDLE]);
        let (growth_ns, longest_ns) = (record.figure(GROWTH).unwrap(), record.figure(LONGEST_PUSH).unwrap());
        assert!(0 < longest_ns && longest_ns <= growth_ns, "{record:?}");
        assert!(record.figure(LARGE_MOVES) <= record.figure(MOVES) && record.figure(LARGE_MOVES).is_some());
    }

    #[test]
    fn a_wrong_entry_is_found() {
        let mut growth = Growth::to(1000).unwrap();
        assert_eq!(growth.check(1000), Ok(()));
        growth.vector[7] = 8;
        assert!(growth.check(1000).unwrap_err().contains("entry 7 of the vector is 0x8"));
        growth.vector.pop();
        assert!(growth.check(1000).unwrap_err().contains("999 entries instead of 1000"));
    }

    #[test]
    fn moves_and_long_pushes_are_missed_targets() {
        let said = |push_ns, moves| {
            let mut record = samples::record("antifreeze", 5);
            let figure = |name: &str, value, unit| Figure { name: name.to_owned(), value: Some(value), unit };
            record.figures.extend([figure(LONGEST_PUSH, push_ns, Unit::Ns), figure(LARGE_MOVES, moves, Unit::Count)]);
            let report = samples::report(vec![samples::run(1, record)]);
            SMALL.targets(&report.summaries).iter().take(2).map(Target::to_string).collect::<Vec<_>>()
        };
        let (met, missed) = (said(10_000_000, 1), said(10_000_001, 2));
        assert!(met.iter().all(|line| line.ends_with("(met).")), "{met:?}");
        assert!(missed.iter().all(|line| line.ends_with("(missed).")), "{missed:?}");
    }
}
