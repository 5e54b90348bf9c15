//! The soak as a scenario: seeded random work against a shadow model of every block, with faults injected, and then
//! silence, in which memory must come back.
//!
//! There are no canaries: they need memory too, which may be refused here at any time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::canary::Kind;
use crate::idle;
use crate::phase::Phase;
use crate::record::Unit;
use crate::scenario::{IDLE, Scenario};
use crate::sizes::{self, said};
use crate::soak::plan::{Length, SoakPlan, THREAD_BYTES_LEAST};
use crate::soak::report::SoakReport;
use crate::soak::run;
use crate::stage::Stage;
use crate::summary::Summary;
use crate::targets::{self, Target};

const SOAK: &str = "soak";

/// What live blocks have at most, if nothing else is chosen and the machine has four times as much.
const USUAL_BYTES_MOST: u64 = 1 << 30;
/// How many times as much as in live blocks a child may use: for what is freed and not given back yet, and for the
/// pages that a forked child writes.
const PEAK_FACTOR: u64 = 2;
/// What a step takes at the very most, on average over a soak.
const STEP_MS_MOST: u64 = 100;

/// What can be chosen.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// What all random choices follow from [default: the time]
    #[arg(long)]
    pub seed: Option<u64>,

    /// For how long each allocator is soaked, in milliseconds
    #[arg(long, default_value_t = 60_000, conflicts_with = "steps", value_parser = clap::value_parser!(u64).range(1..))]
    pub time_ms: u64,

    /// How many steps each thread makes; with a seed, this replays a failure
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: Option<u64>,

    /// How many threads work at once
    #[arg(long, default_value_t = 4)]
    pub threads: usize,

    /// The most memory in live blocks, as 1GiB or 100000000 [default: a quarter of the available memory, up to 1 GiB]
    #[arg(long, value_parser = sizes::parse)]
    pub bytes_most: Option<u64>,

    /// Have no system calls fail and no limits lowered
    #[arg(long)]
    pub no_faults: bool,

    /// Fork no children
    #[arg(long)]
    pub no_forks: bool,

    /// For how long memory is watched after the soak, in milliseconds
    #[arg(long, default_value_t = 8000)]
    pub settle_ms: u64,
}

impl Options {
    /// The scenario for a machine on which so much memory is available.
    pub fn choose(&self, available_bytes: u64) -> Result<Soak, String> {
        let bytes_most = self.bytes_most.unwrap_or_else(|| {
            let least = THREAD_BYTES_LEAST.saturating_mul(self.threads as u64);
            USUAL_BYTES_MOST.min(available_bytes / 4).max(least)
        });
        let plan = SoakPlan {
            seed: self.seed.unwrap_or_else(seed_from_clock),
            length: self.steps.map_or(Length::TimeMs(self.time_ms), Length::Steps),
            threads: self.threads,
            bytes_most,
            faults: !self.no_faults,
            forks: !self.no_forks,
        };
        plan.check().map_err(|error| error.to_string())?;
        let fits = sizes::child_bytes(available_bytes) / PEAK_FACTOR;
        if bytes_most > fits {
            return Err(format!(
                "--bytes-most {} needs {}, and {} are available; --bytes-most {} would fit",
                sizes::option(bytes_most),
                said(bytes_most.saturating_mul(PEAK_FACTOR)),
                said(available_bytes),
                sizes::option(fits)
            ));
        }
        Ok(Soak { plan, settle_ms: self.settle_ms })
    }
}

fn seed_from_clock() -> u64 {
    // Six digits are enough to differ from day to day, and short enough to be typed again.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| u64::from(time.subsec_micros()))
}

/// The scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Soak {
    /// What the soak is told.
    pub plan: SoakPlan,
    /// Time between the soak and the last look at the memory.
    pub settle_ms: u64,
}

impl Scenario for Soak {
    fn name(&self) -> &'static str {
        "soak"
    }

    fn headline(&self) -> String {
        let SoakPlan { seed, length, threads, bytes_most, faults, forks } = self.plan;
        let length = match length {
            Length::TimeMs(ms) => format!("for {} s", ms as f64 / 1e3),
            Length::Steps(steps) => format!("for {steps} steps each"),
        };
        let faults = if faults { "faults injected" } else { "no faults injected" };
        let forks = if forks { "children forked" } else { "no children" };
        format!(
            "Soak with seed {seed}: {threads} threads of random work {length} against a shadow model of every block, {faults}, \
             {forks}; up to {} MiB in live blocks.",
            bytes_most >> 20
        )
    }

    fn phases(&self) -> &'static [Phase] {
        const { &[Phase::busy(SOAK), Phase::quiet(IDLE)] }
    }

    fn canaries(&self) -> &'static [Kind] {
        &[]
    }

    /// It starts and ends threads, and has a model in mappings of its own.
    fn keeps_still(&self) -> bool {
        false
    }

    fn peak_bytes(&self) -> u64 {
        self.plan.bytes_most * PEAK_FACTOR
    }

    fn limit_bytes(&self) -> Option<u64> {
        None
    }

    fn time_limit(&self) -> Duration {
        let soak_ms = match self.plan.length {
            Length::TimeMs(time_ms) => time_ms,
            Length::Steps(steps) => steps.saturating_mul(STEP_MS_MOST),
        };
        // A soak finds out by itself that a thread has hung, in three minutes.
        Duration::from_millis(soak_ms.saturating_add(self.settle_ms)) + Duration::from_secs(600)
    }

    fn run(&self, stage: &mut Stage<'_>) -> Result<(), String> {
        stage.begin()?;
        let live_kib = stage.rss_figure("RSS live")?;
        stage.about_to_touch(self.peak_bytes())?;
        let report = stage.play(SOAK, |_| run::soak(&self.plan, |_| {}))?.0.map_err(|failure| failure.to_string())?;
        stage.peak_rss_figure("RSS peak")?;
        let samples = stage.rest(IDLE, Duration::from_millis(self.settle_ms))?;
        stage.figure("back after", idle::back_after_ns(&samples, live_kib), Unit::Ns);
        if let Some(due_ns) = idle::back_due_ns(&samples, stage.hooks().giving_back()) {
            stage.figure("back due", Some(due_ns), Unit::Ns);
        }
        tell(stage, &report);
        Ok(())
    }

    fn targets(&self, summaries: &[Summary]) -> Vec<Target> {
        vec![targets::memory_back(summaries)]
    }
}

/// Notes what came out.
fn tell(stage: &mut Stage<'_>, report: &SoakReport) {
    let (counts, faults) = (report.counts, report.faults);
    for (name, value) in [
        ("steps", counts.steps),
        ("allocations", counts.allocations),
        ("reallocs", counts.reallocs),
        ("remote frees", counts.remote_frees),
        ("forks", counts.forks),
        ("threads", counts.threads),
        ("faults", faults.calls()),
        ("refusals", counts.refusals),
    ] {
        stage.figure(name, Some(value), Unit::Count);
    }
    stage.figure("peak live", Some(report.peak_bytes >> 10), Unit::Kib);
    if let Some(why) = &report.faults_refused {
        stage.note(format!("No faults were injected: {why}."));
    } else if report.plan.faults {
        stage.note(format!(
            "Calls that were made to fail: {} of mmap, {} of mprotect, {} of madvise, {} of mremap, {} of clone; RLIMIT_AS was \
             low {} times and RLIMIT_DATA {} times; {} requests for memory and {} starts of a thread or child were refused.",
            faults.mmap,
            faults.mprotect,
            faults.madvise,
            faults.mremap,
            faults.clone,
            faults.address_space_windows,
            faults.data_windows,
            counts.refusals,
            counts.start_refusals
        ));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::child;
    use crate::hooks::Hooks;
    use crate::scenario::Plan;

    struct Quiet;

    impl Hooks for Quiet {
        fn name(&self) -> &'static str {
            "some"
        }
    }

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn choose(arguments: &[&str], available_bytes: u64) -> Result<Soak, String> {
        let line = Line::try_parse_from([&["soak"], arguments].concat()).map_err(|error| error.to_string())?;
        line.options.choose(available_bytes)
    }

    #[test]
    fn a_soak_in_this_process_reports_what_it_did() {
        // Without faults: the filter would stay for the other tests.
        let arguments = ["--seed=3", "--steps=500", "--threads=2", "--no-faults", "--settle-ms=5"];
        let soak = choose(&arguments, 4 << 30).unwrap();
        assert!(
            soak.headline().contains("seed 3: 2 threads") && soak.headline().contains("500 steps"),
            "{}",
            soak.headline()
        );
        let record = child::play(&Plan::Soak(soak), &Quiet, false).unwrap();
        assert_eq!(record.figure("steps"), Some(1000));
        assert_eq!((record.figure("faults"), record.figure("refusals")), (Some(0), Some(0)));
        assert!(record.figure("allocations") > Some(0) && record.canaries.is_empty());
        let phases: Vec<_> = record.spans.iter().map(|span| span.phase.as_str()).collect();
        assert_eq!(phases, soak.phases().iter().map(|phase| phase.name).collect::<Vec<_>>());
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let error = choose(&["--bytes-most=3GiB"], 4 << 30).unwrap_err();
        assert_eq!(
            error,
            "--bytes-most 3072MiB needs 6.0 GiB, and 4.0 GiB are available; --bytes-most 1779MiB would fit"
        );
        assert_eq!(choose(&["--bytes-most=1.5GiB"], 4 << 30).unwrap().plan.bytes_most, 3 << 29);
        assert!(choose(&["--threads=0"], 4 << 30).unwrap_err().contains("0 threads"));
        assert!(choose(&["--threads=100"], 100 << 20).unwrap_err().contains("would fit"));
        assert!(choose(&["--steps=5", "--time-ms=5"], 4 << 30).unwrap_err().contains("cannot be used with"));
        assert_eq!(choose(&[], 2 << 30).unwrap().plan.bytes_most, 512 << 20);
    }
}
