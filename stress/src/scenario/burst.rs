//! Bursts and idle: several threads allocate blocks of mixed sizes and free each other's, and then nothing happens.
//! Again and again, so that it shows whether giving memory back makes the next burst slower.

use std::mem::ManuallyDrop;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::candidates::PREWARMED;
use crate::idle::Back;
use crate::phase::Phase;
use crate::record::{Unit, counted, time};
use crate::scenario::{CONTROL, IDLE, Scenario, patience};
use crate::sizes::{self, SizeError, said};
use crate::stage::{Stage, rss_kib};
use crate::summary::Summary;
use crate::table::BESIDE_BYTES;
use crate::targets::{self, Target};
use crate::workers::{Order, Workers, dealt};

const USUAL_BYTES: u64 = 1 << 30;
const LEAST_BYTES: u64 = 1 << 20;
const SEED: u64 = 0x0b05_7000;

const ALLOCATE: &str = "burst";
const FREE: &str = "free";

const FIRST: &str = "first burst";
const LAST: &str = "last burst";
const GIVEN_BACK: &str = "back";

/// What can be chosen.
#[derive(Clone, Copy, Debug, Args)]
pub struct Options {
    /// What one burst allocates, as 1GiB or 100000000; by default 1 GiB or a quarter of the available memory
    #[arg(long, value_parser = sizes::parse)]
    pub bytes: Option<u64>,

    /// How many bursts there are
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub bursts: u32,

    /// On how many threads
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,

    /// For how long nothing happens after each burst, in milliseconds
    #[arg(long, default_value_t = 6000)]
    pub idle_ms: u64,
}

/// The scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bursts {
    /// What one burst allocates.
    pub bytes: u64,
    /// How many there are.
    pub bursts: u32,
    /// On how many threads.
    pub threads: u32,
    /// Quiet time before the first.
    pub control_ms: u64,
    /// Quiet time after each.
    pub idle_ms: u64,
}

impl Options {
    /// The scenario for a machine on which so much memory is available.
    pub fn choose(&self, available_bytes: u64) -> Result<Bursts, SizeError> {
        let usual_bytes = USUAL_BYTES.min(available_bytes / 4);
        let bytes = sizes::choose(self.bytes, usual_bytes, LEAST_BYTES, available_bytes, peak_bytes)?;
        let Self { bursts, threads, idle_ms, .. } = *self;
        Ok(Bursts { bytes, bursts, threads, control_ms: 3000, idle_ms })
    }
}

/// The blocks of a burst, and half as much for what their sizes waste and what an allocator keeps of earlier bursts.
fn peak_bytes(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 2).saturating_add(BESIDE_BYTES)
}

/// What one burst came to.
struct Burst {
    took_ns: u64,
    rss_full_kib: u64,
    rss_idle_kib: u64,
    back: Back,
}

impl Burst {
    /// How much of the memory beyond what was live before came back.
    fn given_back_percent(&self, live_kib: u64) -> u64 {
        let taken_kib = self.rss_full_kib.saturating_sub(live_kib).max(1);
        // A thread's stack and the like may have gone as well.
        let given_kib = self.rss_full_kib.saturating_sub(self.rss_idle_kib).min(taken_kib);
        given_kib.saturating_mul(100) / taken_kib
    }
}

impl Bursts {
    fn burst(&self, number: u32, workers: &Workers, live_kib: u64, stage: &mut Stage<'_>) -> Result<Burst, String> {
        let (seed, mark) = (SEED + (u64::from(number) << 16), number.to_le_bytes()[0]);
        let bytes = self.bytes / u64::from(self.threads);
        stage.about_to_touch(self.bytes)?;
        let allocate = |number| Order::Allocate { bytes, seed: seed + number, mark };
        let (blocks, allocated_ns) = stage.play(ALLOCATE, |_| workers.obey(allocate))?;
        let rss_full_kib = rss_kib()?;
        let mut shares = dealt(blocks?, self.threads, seed).into_iter();
        let free = |_| Order::Free { blocks: shares.next().unwrap_or_default(), mark };
        let (freed, freed_ns) = stage.play(FREE, |_| workers.obey(free))?;
        freed?;
        let samples = stage.rest(IDLE, Duration::from_millis(self.idle_ms))?;
        let back = Back::of(&samples, live_kib, stage.hooks().giving_back());
        Ok(Burst { took_ns: allocated_ns + freed_ns, rss_full_kib, rss_idle_kib: rss_kib()?, back })
    }
}

impl Scenario for Bursts {
    fn name(&self) -> &'static str {
        "burst"
    }

    fn headline(&self) -> String {
        let Self { bursts, threads, idle_ms, .. } = self;
        let size = said(self.bytes);
        let (bursts, threads) = (counted(u64::from(*bursts), "burst"), counted(u64::from(*threads), "thread"));
        format!("{bursts} of {size} in blocks of 16 B to 4 MiB on {threads}, each with {idle_ms} ms of idle.")
    }

    fn phases(&self) -> &'static [Phase] {
        const { &[Phase::quiet(CONTROL), Phase::busy(ALLOCATE), Phase::busy(FREE), Phase::quiet(IDLE)] }
    }

    fn peak_bytes(&self) -> u64 {
        peak_bytes(self.bytes)
    }

    // It would need all bursts together, and show nothing.
    fn limit_bytes(&self) -> Option<u64> {
        None
    }

    fn takes(&self, allocator: &str) -> bool {
        allocator != PREWARMED
    }

    fn time_limit(&self) -> Duration {
        let idle = Duration::from_millis(self.idle_ms).saturating_mul(self.bursts);
        patience(idle, self.peak_bytes().saturating_mul(self.bursts.into()))
    }

    fn run(&self, stage: &mut Stage<'_>) -> Result<(), String> {
        // Never dropped: the end of a thread unmaps its signal stack and gives its stack back, which is not the
        // allocator's doing but would be taken for it. So the workers wait for the end of the process.
        let workers = ManuallyDrop::new(Workers::start(self.threads)?);
        stage.begin()?;
        let live_kib = stage.rss_figure("RSS live")?;
        stage.rest(CONTROL, Duration::from_millis(self.control_ms))?;
        let bursts: Result<Vec<_>, _> =
            (0..self.bursts).map(|number| self.burst(number, &workers, live_kib, stage)).collect();
        let bursts = bursts?;
        if let (Some(first), Some(last)) = (bursts.first(), bursts.last()) {
            stage.figure(FIRST, Some(first.took_ns), Unit::Ns);
            stage.figure(LAST, Some(last.took_ns), Unit::Ns);
            stage.figure("RSS burst", Some(last.rss_full_kib), Unit::Kib);
            stage.figure("RSS idle", Some(last.rss_idle_kib), Unit::Kib);
            stage.figure(GIVEN_BACK, Some(last.given_back_percent(live_kib)), Unit::Percent);
        }
        let backs: Vec<_> = bursts.iter().map(|burst| burst.back).collect();
        Back::latest(&backs).into_iter().for_each(|back| stage.back_figures(back));
        Ok(())
    }

    fn targets(&self, summaries: &[Summary]) -> Vec<Target> {
        let goal = "The last burst beside the first, for comparison: what giving memory back in between costs";
        let slower = Target::of(goal, summaries, |summary| {
            let (first_ns, last_ns) = (summary.median(FIRST)?, summary.median(LAST)?);
            let factor = last_ns as f64 / first_ns.max(1) as f64;
            Some((format!("{factor:.2} x ({})", time(last_ns)), None))
        });
        vec![targets::memory_back(summaries), targets::map_wait(summaries, CONTROL, IDLE), slower]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child;
    use crate::hooks::Peer;
    use crate::scenario::Plan;

    const SMALL: Bursts = Bursts { bytes: 48 << 20, bursts: 2, threads: 3, control_ms: 5, idle_ms: 120 };

    #[test]
    fn the_size_is_a_quarter_of_what_is_available() {
        let options = |bytes| Options { bytes, bursts: 1, threads: 1, idle_ms: 1 };
        assert_eq!(options(None).choose(20 << 30).map(|bursts| bursts.bytes), Ok(1 << 30));
        assert_eq!(options(None).choose(2 << 30).map(|bursts| bursts.bytes), Ok(512 << 20));
        let error = options(Some(2 << 30)).choose(2 << 30).unwrap_err().to_string();
        assert!(error.starts_with("--bytes 2048MiB needs 3.4 GiB"), "{error}");
    }

    #[test]
    fn each_burst_is_freed_and_watched() {
        let record = child::play(&Plan::Burst(SMALL), &Peer { name: "some", crate_name: "none" }, false).unwrap();
        let phases: Vec<_> = record.spans.iter().map(|span| span.phase.as_str()).collect();
        assert_eq!(phases, [CONTROL, ALLOCATE, FREE, IDLE, ALLOCATE, FREE, IDLE]);
        for name in [FIRST, LAST, "RSS burst", "RSS idle"] {
            assert!(record.figure(name).is_some_and(|value| value > 0), "{name}: {record:?}");
        }
        assert!(record.figure(GIVEN_BACK).is_some_and(|percent| percent <= 100));
    }
}
