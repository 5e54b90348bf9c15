//! Waves of work in a control group with a memory limit: each wave allocates until most of the limit is live, and
//! frees all but a floor. The sizes of the blocks change from wave to wave, so that an allocator that keeps what was
//! freed for blocks of the same size comes to the limit, is slowed down by the kernel, or killed.
//!
//! The harness makes the group ([`setting`](crate::setting)). Being killed is a result.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::candidates::PREWARMED;
use crate::memory_group;
use crate::phase::Phase;
use crate::record::{Figure, Span, Unit, counted};
use crate::scenario::{CONTROL, IDLE, Scenario, patience};
use crate::setting::Setting;
use crate::sizes::{self, SizeError, said};
use crate::stage::Stage;
use crate::summary::Summary;
use crate::targets::Target;

/// What is live after each wave, in hundredths of the limit.
const FLOOR_PERCENT: u64 = 25;
/// The sizes of the blocks of the floor and of each wave, in turn.
const SIZES: [RangeInclusive<usize>; 4] =
    [1 << 10..=16 << 10, 16 << 10..=256 << 10, 256 << 10..=4 << 20, 4 << 20..=32 << 20];
const USUAL_BYTES: u64 = 1 << 30;
/// Below this, what a process has beside its blocks fills the tenth that is left.
const LEAST_BYTES: u64 = 256 << 20;
const SEED: u64 = 0x3a7e;

const FLOOR: &str = "floor";
const WAVE: &str = "wave";
const FREE: &str = "free";

const WAVES_DONE: &str = "waves done";
const FAILED: &str = "failed allocations";

/// What can be chosen.
#[derive(Clone, Copy, Debug, Args)]
pub struct Options {
    /// The group's memory limit, as 1GiB or 512MiB
    #[arg(long, value_parser = sizes::parse)]
    pub limit: Option<u64>,

    /// How many waves there are
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub waves: u32,

    /// What is live at the top of a wave, in hundredths of the limit; the rest is for what an allocator wastes
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(30..=100))]
    pub top_percent: u64,
}

/// The scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waves {
    /// The group's memory limit.
    pub limit_bytes: u64,
    /// How many waves there are.
    pub waves: u32,
    /// What is live at the top of a wave, in hundredths of the limit: more than the floor's 25.
    pub top_percent: u64,
    /// Quiet time before the first.
    pub control_ms: u64,
    /// Quiet time after the last.
    pub idle_ms: u64,
}

impl Options {
    /// The scenario for a machine on which so much memory is available.
    pub fn choose(&self, available_bytes: u64) -> Result<Waves, SizeError> {
        let peak = |bytes| bytes;
        let limit_bytes = sizes::choose_by("--limit", self.limit, USUAL_BYTES, LEAST_BYTES, available_bytes, peak)?;
        let Self { waves, top_percent, .. } = *self;
        Ok(Waves { limit_bytes, waves, top_percent, control_ms: 2000, idle_ms: 1000 })
    }
}

/// Blocks, and how many there should have been and are not.
#[derive(Debug, Default)]
struct Lot {
    blocks: Vec<Block>,
    failed: u64,
}

impl Lot {
    /// Allocates blocks of `sizes` until they are so many bytes.
    fn of(bytes: u64, sizes: &RangeInclusive<usize>, seed: u64, mark: u8) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut lot, mut left) = (Self::default(), usize::try_from(bytes).unwrap_or(usize::MAX));
        while left > 0 {
            let length = random.usize(sizes.clone()).min(left);
            match Block::touched(length, mark) {
                Some(block) => lot.blocks.push(block),
                None => lot.failed += 1,
            }
            left -= length;
        }
        lot
    }

    /// Whether no block has changed.
    fn check(&self, mark: u8) -> Result<(), String> {
        let is_intact = self.blocks.iter().all(|block| block.has(mark));
        if is_intact { Ok(()) } else { Err("a block changed while it was in use".to_owned()) }
    }
}

impl Waves {
    fn part(&self, percent: u64) -> u64 {
        self.limit_bytes / 100 * percent
    }

    /// One wave; gives how long it took and how many allocations failed.
    fn wave(&self, number: u32, stage: &mut Stage<'_>) -> Result<(u64, u64), String> {
        let bytes = self.part(self.top_percent.saturating_sub(FLOOR_PERCENT));
        let (sizes, mark) = (&SIZES[number as usize % SIZES.len()], number.to_le_bytes()[0]);
        let allocate = |_: &mut Stage<'_>| Lot::of(bytes, sizes, SEED + u64::from(number), mark);
        let (lot, allocated_ns) = stage.play(WAVE, allocate)?;
        let failed = lot.failed;
        lot.check(mark)?;
        let ((), freed_ns) = stage.play(FREE, |_| drop(lot))?;
        Ok((allocated_ns + freed_ns, failed))
    }
}

impl Scenario for Waves {
    fn name(&self) -> &'static str {
        "cgroup"
    }

    fn headline(&self) -> String {
        let (limit, top, floor) =
            (said(self.limit_bytes), said(self.part(self.top_percent)), said(self.part(FLOOR_PERCENT)));
        format!(
            "{} of work between {floor} and {top} in a control group with a memory limit of {limit}.",
            counted(u64::from(self.waves), "wave")
        )
    }

    fn phases(&self) -> &'static [Phase] {
        const { &[Phase::quiet(CONTROL), Phase::busy(FLOOR), Phase::busy(WAVE), Phase::busy(FREE), Phase::quiet(IDLE)] }
    }

    fn peak_bytes(&self) -> u64 {
        self.limit_bytes
    }

    fn time_limit(&self) -> Duration {
        patience(Duration::ZERO, self.limit_bytes.saturating_mul(self.waves.into()))
    }

    // It never takes memory back, so the first waves would be its last.
    fn limit_bytes(&self) -> Option<u64> {
        None
    }

    fn takes(&self, allocator: &str) -> bool {
        allocator != PREWARMED
    }

    fn setting(&self) -> Setting {
        Setting::MemoryLimit { limit_bytes: self.limit_bytes }
    }

    fn run(&self, stage: &mut Stage<'_>) -> Result<(), String> {
        stage.begin()?;
        stage.rest(CONTROL, Duration::from_millis(self.control_ms))?;
        stage.about_to_touch(self.limit_bytes)?;
        let floor_mark = 0xf1;
        let floor = stage.play(FLOOR, |_| Lot::of(self.part(FLOOR_PERCENT), &SIZES[1], SEED, floor_mark))?.0;
        let waves: Result<Vec<_>, _> = (0..self.waves).map(|number| self.wave(number, stage)).collect();
        let waves = waves?;
        floor.check(floor_mark)?;
        let times = || waves.iter().map(|(took_ns, _)| *took_ns);
        stage.figure(WAVES_DONE, Some(waves.len() as u64), Unit::Count);
        stage.figure(FAILED, Some(floor.failed + waves.iter().map(|(_, failed)| failed).sum::<u64>()), Unit::Count);
        stage.figure("all waves", Some(times().sum()), Unit::Ns);
        stage.figure("slowest wave", times().max(), Unit::Ns);
        stage.peak_rss_figure("RSS peak")?;
        drop(floor);
        stage.rest(IDLE, Duration::from_millis(self.idle_ms)).map(drop)
    }

    fn figures_of_killed(&self, spans: &[Span]) -> Vec<Figure> {
        let done = spans.iter().filter(|span| span.phase == FREE).count() as u64;
        vec![Figure { name: WAVES_DONE.to_owned(), value: Some(done), unit: Unit::Count }]
    }

    fn targets(&self, summaries: &[Summary]) -> Vec<Target> {
        let goal =
            "Memory that was freed is given back before the limit is felt: no process is killed, no allocation fails";
        let lives = Target::of(goal, summaries, |summary| {
            let highest = |name| summary.figure(name).and_then(|figure| figure.highest).unwrap_or(0);
            let done = summary.figure(WAVES_DONE)?.lowest?;
            let (killed, failed) = (highest(memory_group::KILLED) > 0, highest(FAILED));
            let waves = counted(done, "wave");
            let how = match (killed, failed) {
                (true, _) => format!("killed after {waves}"),
                (false, 0) => format!("{waves}, {} of the limit", counted(highest(memory_group::HITS), "hit")),
                (false, failed) => format!("{waves}, {}", counted(failed, "failed allocation")),
            };
            Some((how, Some(!killed && failed == 0 && done == u64::from(self.waves))))
        });
        vec![lives]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child;
    use crate::hooks::Peer;
    use crate::report::samples;
    use crate::scenario::Plan;

    const SMALL: Waves = Waves { limit_bytes: 64 << 20, waves: 5, top_percent: 90, control_ms: 5, idle_ms: 5 };

    #[test]
    fn each_wave_is_done_and_timed() {
        let record = child::play(&Plan::Cgroup(SMALL), &Peer { name: "some", crate_name: "none" }, false).unwrap();
        let phases: Vec<_> = record.spans.iter().map(|span| span.phase.as_str()).collect();
        let expected = [&[CONTROL, FLOOR][..], &[WAVE, FREE].repeat(5), &[IDLE]].concat();
        assert_eq!(phases, expected);
        assert_eq!((record.figure(WAVES_DONE), record.figure(FAILED)), (Some(5), Some(0)));
        assert!(record.figure("slowest wave") <= record.figure("all waves"));
        assert_eq!(SMALL.figures_of_killed(&record.spans)[0].value, Some(5));
    }

    #[test]
    fn a_lot_is_as_large_as_it_should_be_and_checked() {
        let lot = Lot::of(1_000_000, &SIZES[0], 1, 7);
        assert_eq!(lot.blocks.iter().map(Block::bytes).sum::<usize>(), 1_000_000);
        assert!(lot.check(7).is_ok() && lot.check(8).is_err());
    }

    #[test]
    fn the_limit_has_an_option_of_its_own() {
        let options = |limit| Options { limit, waves: 1, top_percent: 90 };
        assert_eq!(options(None).choose(8 << 30).map(|waves| waves.limit_bytes), Ok(1 << 30));
        let error = options(Some(8 << 30)).choose(8 << 30).unwrap_err().to_string();
        assert!(error.starts_with("--limit 8192MiB needs 8.1 GiB") && error.contains("; --limit "), "{error}");
    }

    #[test]
    fn one_that_was_killed_missed_the_target() {
        let mut record = samples::record("antifreeze", 5);
        let count = |name: &str, value| Figure { name: name.to_owned(), value: Some(value), unit: Unit::Count };
        record.figures = vec![count(WAVES_DONE, 3), count(memory_group::KILLED, 1)];
        let said = |record| SMALL.targets(&samples::report(vec![samples::run(1, record)]).summaries)[0].to_string();
        assert!(said(record.clone()).ends_with("antifreeze killed after 3 waves (missed)."));
        record.figures = vec![count(WAVES_DONE, 5), count(FAILED, 0), count(memory_group::HITS, 2)];
        assert!(said(record).ends_with("antifreeze 5 waves, 2 hits of the limit (met)."));
    }
}
