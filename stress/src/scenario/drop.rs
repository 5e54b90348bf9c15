//! Large blocks, one after the other: allocated, touched, freed by one thread, and then given back or not.

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::candidates::{LIMIT, PREWARMED};
use crate::idle::{self, Back};
use crate::phase::Phase;
use crate::record::{Unit, time};
use crate::scenario::{CONTROL, IDLE, Scenario, patience};
use crate::sizes::{self, SizeError, said};
use crate::stage::Stage;
use crate::summary::Summary;
use crate::table::BESIDE_BYTES;
use crate::targets::{self, Target};

/// The longest that freeing a block may take the thread that frees it, whatever its size.
const DROP_NS_MAX: u64 = 1_000_000;
/// The incident's tables: what is freed after the doubling, and what is freed in the end.
const USUAL_BYTES: [u64; 2] = [1_825_361_100, 3_650_722_201];
/// The mark in each page.
const MARK: u8 = 0xd0;

const FILL: &str = "fill";
const DROP: &str = "drop";

/// What can be chosen.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Sizes of the blocks, separated by commas, as 1.7GiB,3.4GiB,100000; by default the incident's two tables and half
    /// of the available memory, or an eighth and a quarter of it if they do not fit
    #[arg(long, value_delimiter = ',', value_parser = sizes::parse)]
    pub bytes: Vec<u64>,

    /// For how long memory is watched after each block was freed, in milliseconds, and one second more for each GiB
    #[arg(long, default_value_t = 8000)]
    pub idle_ms: u64,
}

/// The scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropping {
    /// The sizes of the blocks.
    pub bytes: Vec<u64>,
    /// Quiet time before each block is freed.
    pub control_ms: u64,
    /// Time between freeing a block and the last look at the memory, without what its size adds.
    pub idle_ms: u64,
}

impl Options {
    /// The scenario for a machine on which so much memory is available.
    pub fn choose(&self, available_bytes: u64) -> Result<Dropping, SizeError> {
        let needed = |bytes: &[u64]| sizes::needed_bytes(peak_bytes(bytes));
        let fits = |bytes: &[u64]| needed(bytes) <= sizes::usable_bytes(available_bytes);
        let half_bytes = available_bytes / 2 / (1 << 20) * (1 << 20);
        let usual = [&USUAL_BYTES[..], &[half_bytes]].concat();
        let fitting = if fits(&usual) { usual } else { vec![available_bytes / 8, available_bytes / 4] };
        if !fits(&fitting) {
            let needed_bytes = needed(&fitting);
            return Err(SizeError::NothingFits { available_bytes, least_bytes: fitting.iter().sum(), needed_bytes });
        }
        let bytes = if self.bytes.is_empty() { fitting.clone() } else { self.bytes.clone() };
        let dropping = Dropping { bytes, control_ms: 2000, idle_ms: self.idle_ms };
        let names: Vec<_> = dropping.bytes.iter().map(|bytes| said(*bytes)).collect();
        if let Some(twice) = names.iter().enumerate().find(|(number, name)| names[..*number].contains(name)) {
            return Err(SizeError::Senseless(format!("--bytes names {} twice; each size is run once", twice.1)));
        }
        if !fits(&dropping.bytes) {
            return Err(SizeError::TooBig {
                wanted: format!("--bytes {}", list(&dropping.bytes)),
                needed_bytes: needed(&dropping.bytes),
                available_bytes,
                fitting: format!("--bytes {}", list(&fitting)),
            });
        }
        Ok(dropping)
    }
}

/// All of the blocks, as an allocator may keep them.
fn peak_bytes(bytes: &[u64]) -> u64 {
    bytes.iter().fold(BESIDE_BYTES, |sum, bytes| sum.saturating_add(*bytes))
}

fn list(bytes: &[u64]) -> String {
    bytes.iter().map(|bytes| sizes::option(*bytes)).collect::<Vec<_>>().join(",")
}

impl Dropping {
    /// One block from its allocation until its memory was watched.
    fn drop_one(&self, bytes: u64, live_kib: u64, stage: &mut Stage<'_>) -> Result<Back, String> {
        let hooks = stage.hooks();
        if !hooks.faults_in() {
            stage.about_to_touch(bytes)?;
        }
        let length = usize::try_from(bytes).map_err(|_| format!("{bytes} bytes exceed the address space"))?;
        let block = stage.play(FILL, |_| Block::touched(length, MARK))?.0;
        let block = block.ok_or_else(|| format!("the allocator has no block of {}", said(bytes)))?;
        stage.rest(CONTROL, Duration::from_millis(self.control_ms))?;
        if !block.has(MARK) {
            return Err(format!("the block of {} changed while it was in use", said(bytes)));
        }
        let ((), drop_ns) = stage.play(DROP, |_| drop(block))?;
        stage.figure(&figure(bytes), Some(drop_ns), Unit::Ns);
        let samples = stage.rest(IDLE, idle::watch_time(self.idle_ms, bytes))?;
        let back = Back::of(&samples, live_kib, hooks.giving_back());
        stage.figure(&format!("{} back after", said(bytes)), back.after_ns, Unit::Ns);
        Ok(back)
    }
}

/// The name of the time that freeing a block took.
fn figure(bytes: u64) -> String {
    format!("{DROP} {}", said(bytes))
}

impl Scenario for Dropping {
    fn name(&self) -> &'static str {
        "drop"
    }

    fn headline(&self) -> String {
        let sizes: Vec<_> = self.bytes.iter().map(|bytes| said(*bytes)).collect();
        format!("Freeing of touched blocks of {}, one after the other.", sizes.join(", "))
    }

    fn phases(&self) -> &'static [Phase] {
        const { &[Phase::busy(FILL), Phase::quiet(CONTROL), Phase::busy(DROP), Phase::quiet(IDLE)] }
    }

    fn peak_bytes(&self) -> u64 {
        peak_bytes(&self.bytes)
    }

    fn limit_bytes(&self) -> Option<u64> {
        Some(self.peak_bytes())
    }

    fn time_limit(&self) -> Duration {
        let rest =
            |bytes: &u64| Duration::from_millis(self.control_ms).saturating_add(idle::watch_time(self.idle_ms, *bytes));
        let rests = self.bytes.iter().map(rest).fold(Duration::ZERO, Duration::saturating_add);
        patience(rests, self.peak_bytes())
    }

    fn takes(&self, allocator: &str) -> bool {
        allocator != PREWARMED
    }

    fn run(&self, stage: &mut Stage<'_>) -> Result<(), String> {
        let hooks = stage.hooks();
        stage.begin()?;
        let live_kib = stage.rss_figure("RSS live")?;
        if hooks.faults_in() {
            stage.about_to_touch(self.peak_bytes())?;
        }
        hooks.fault_in(self.peak_bytes())?;
        let backs: Result<Vec<_>, _> = self.bytes.iter().map(|bytes| self.drop_one(*bytes, live_kib, stage)).collect();
        Back::latest(&backs?).into_iter().for_each(|back| stage.back_figures(back));
        stage.peak_rss_figure("RSS peak")?;
        stage.rss_figure("RSS settled").map(drop)
    }

    fn targets(&self, summaries: &[Summary]) -> Vec<Target> {
        let drop_times = Target::of(
            format!("Freeing a block takes the thread less than {}, whatever its size", time(DROP_NS_MAX)),
            summaries,
            |summary| {
                let highest = |bytes: &u64| summary.figure(&figure(*bytes))?.highest;
                let times: Option<Vec<u64>> = self.bytes.iter().map(highest).collect();
                let longest_ns = times?.into_iter().max()?;
                let met = (summary.allocator != LIMIT).then_some(longest_ns < DROP_NS_MAX);
                Some((format!("up to {}", time(longest_ns)), met))
            },
        );
        vec![
            drop_times,
            targets::waits_beside_limit(summaries, self.phases()),
            targets::map_wait(summaries, CONTROL, DROP),
            targets::map_wait(summaries, CONTROL, IDLE),
            targets::memory_back(summaries),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child;
    use crate::hooks::Peer;
    use crate::scenario::Plan;

    const GIB: u64 = 1 << 30;

    fn chosen(bytes: &[u64], available_bytes: u64) -> Result<Vec<u64>, String> {
        let options = Options { bytes: bytes.to_vec(), idle_ms: 1 };
        options.choose(available_bytes).map(|dropping| dropping.bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn the_sizes_are_the_incidents_and_what_fits() {
        assert_eq!(chosen(&[], 20 * GIB), Ok(vec![USUAL_BYTES[0], USUAL_BYTES[1], 10 * GIB]));
        assert_eq!(chosen(&[], 8 * GIB), Ok(vec![GIB, 2 * GIB]));
        assert_eq!(chosen(&[5, 7 * GIB], 20 * GIB), Ok(vec![5, 7 * GIB]));
    }

    #[test]
    fn what_does_not_fit_or_comes_twice_is_refused() {
        let error = chosen(&[7 * GIB, 3 * GIB], 8 * GIB).unwrap_err();
        assert!(error.starts_with("--bytes 7168MiB,3072MiB needs 10.4 GiB"), "{error}");
        assert!(error.ends_with("--bytes 1024MiB,2048MiB would fit"), "{error}");
        assert!(chosen(&[GIB, GIB], 8 * GIB).unwrap_err().contains("names 1.0 GiB twice"));
        assert!(chosen(&[], 1 << 20).unwrap_err().starts_with("only 1.0 MiB of memory"));
    }

    #[test]
    fn each_size_is_freed_and_timed() {
        let dropping = Dropping { bytes: vec![40 << 20, 80 << 20], control_ms: 5, idle_ms: 120 };
        let hooks = Peer { name: "some", crate_name: "none" };
        let record = child::play(&Plan::Drop(dropping.clone()), &hooks, false).unwrap();
        let phases: Vec<_> = record.spans.iter().map(|span| span.phase.as_str()).collect();
        assert_eq!(phases, [FILL, CONTROL, DROP, IDLE].repeat(2));
        for name in ["drop 40.0 MiB", "drop 80.0 MiB", "RSS live", "RSS peak"] {
            assert!(record.figure(name).is_some_and(|value| value > 0), "{name}: {record:?}");
        }
        assert!(record.figures.iter().any(|figure| figure.name == "back after"));
        assert!(!dropping.takes(PREWARMED) && dropping.takes(LIMIT));
    }

    #[test]
    fn the_slowest_size_is_judged() {
        use crate::record::Figure;
        use crate::report::samples;
        let dropping = Dropping { bytes: vec![GIB, 2 * GIB], control_ms: 5, idle_ms: 5 };
        let mut record = samples::record("antifreeze", 5);
        let drop = |name: &str, ns| Figure { name: name.to_owned(), value: Some(ns), unit: Unit::Ns };
        record.figures.extend([drop("drop 1.0 GiB", 10), drop("drop 2.0 GiB", 1_000_000)]);
        let report = samples::report(vec![samples::run(1, record)]);
        let said = dropping.targets(&report.summaries)[0].to_string();
        assert!(said.ends_with("whatever its size: antifreeze up to 1.0 ms (missed)."), "{said}");
    }
}
