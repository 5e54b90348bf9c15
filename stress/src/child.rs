//! What one allocator's child process does: the replay, from start to the one line of JSON it reports.
//!
//! The binaries in `src/bin` call [`main`]; [`harness`](crate::harness) starts them and reads the [`ChildReport`].

use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use serde::{Deserialize, Serialize};

use crate::canary::{Canary, Latency};
use crate::hooks::{GivingBack, Hooks, Prewarmed};
use crate::memory;
use crate::phase::{Phase, PhaseCell};
use crate::table::{Size, Table};
use crate::talk::{self, Line};

/// How often resident memory is looked at after the drop.
pub const SAMPLE_PERIOD: Duration = Duration::from_millis(100);
/// Four hugepages: a tenth of what little is live beside the map may be less than one.
const SLACK_KIB: u64 = 8192;

/// What a child is told: its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Parser, Serialize, Deserialize)]
#[command(about = "Replays the doubling of a big hash map under one allocator; normally started by `stress`")]
pub struct Plan {
    /// Buckets of the map before it doubles: a power of two, at least 65536
    #[arg(long)]
    pub buckets: u64,
    /// Quiet time before the doubling, the control, in milliseconds
    #[arg(long, default_value_t = 3000)]
    pub control_ms: u64,
    /// Quiet time after the doubling, in milliseconds
    #[arg(long, default_value_t = 1000)]
    pub quiet_ms: u64,
    /// Time between the drop and the last look at the memory, in milliseconds
    #[arg(long, default_value_t = 8000)]
    pub settle_ms: u64,
    /// Ask on standard output for memory that the host backs, and wait for the answer on standard input
    #[arg(long)]
    pub asks: bool,
    /// The process to die with
    #[arg(long)]
    #[serde(skip)]
    pub parent: Option<i32>,
}

impl Plan {
    /// The plan for a map of this size with the usual pauses.
    pub const fn new(size: Size) -> Self {
        Self { buckets: size.buckets(), control_ms: 3000, quiet_ms: 1000, settle_ms: 8000, asks: false, parent: None }
    }

    /// The command line that makes [`Plan::parse`] give this plan.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--buckets={}", self.buckets),
            format!("--control-ms={}", self.control_ms),
            format!("--quiet-ms={}", self.quiet_ms),
            format!("--settle-ms={}", self.settle_ms),
        ];
        arguments.extend(self.asks.then(|| "--asks".to_owned()));
        arguments.extend(self.parent.map(|parent| format!("--parent={parent}")));
        arguments
    }
}

/// What the canaries felt in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseLatency {
    /// The phase.
    pub phase: Phase,
    /// The thread that maps and unmaps a page; `None` if the phase was too short to measure.
    pub page: Option<Latency>,
    /// The thread that allocates and frees blocks; `None` if the phase was too short to measure.
    pub block: Option<Latency>,
}

/// Memory at one moment after the drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RssSample {
    /// Time since the drop ended.
    pub after_ns: u64,
    /// Resident memory.
    pub rss_kib: u64,
    /// Freed bytes that should have been given back by now and were not, if the allocator tells.
    pub backlog_bytes: Option<u64>,
}

/// What a child reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildReport {
    /// The allocator's name.
    pub allocator: String,
    /// Buckets before the doubling.
    pub buckets: u64,
    /// Entries before the doubling.
    pub entries: u64,
    /// Time to allocate and fill the map.
    pub fill_ns: u64,
    /// Time of the insert that doubled the map.
    pub doubling_ns: u64,
    /// Time to drop the doubled map.
    pub drop_ns: u64,
    /// What became of the wish for warm memory, if there was one.
    pub prewarmed: Option<Prewarmed>,
    /// Resident memory before the map was made: what is live after the drop.
    pub rss_live_kib: u64,
    /// Resident memory before the doubling.
    pub rss_before_kib: u64,
    /// The most memory that was resident, seen after the doubling.
    pub rss_peak_kib: u64,
    /// Resident memory right after the drop.
    pub rss_dropped_kib: u64,
    /// Resident memory when the time to settle was over.
    pub rss_settled_kib: u64,
    /// Resident memory from the drop until then.
    pub rss_samples: Vec<RssSample>,
    /// How the allocator was told to give memory back, if it can be told.
    pub giving_back: Option<GivingBack>,
    /// Calls of the allocator that took `mmap_lock` for writing, if it counts them.
    pub write_lock_calls: Option<u64>,
    /// What the canaries felt, in the order of the phases.
    pub phases: Vec<PhaseLatency>,
}

impl ChildReport {
    /// How long after the drop resident memory came to within a tenth of what is live, or 8 MiB, and stayed there as
    /// far as was looked; `None` if it did not.
    pub fn back_after_ns(&self) -> Option<u64> {
        let enough_kib = self.rss_live_kib + (self.rss_live_kib / 10).max(SLACK_KIB);
        let back = self.rss_samples.iter().rev().take_while(|sample| sample.rss_kib <= enough_kib).last();
        back.map(|sample| sample.after_ns)
    }

    /// What the canaries felt in `phase`.
    pub fn phase(&self, phase: Phase) -> Option<&PhaseLatency> {
        self.phases.iter().find(|entry| entry.phase == phase)
    }
}

/// The whole of a child binary: reads the command line, runs the replay, reports.
pub fn main(hooks: &impl Hooks) -> ExitCode {
    let plan = Plan::parse();
    match run(&plan, hooks) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replay-{}: {error}", hooks.name());
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan, hooks: &impl Hooks) -> Result<(), String> {
    if let Some(parent) = plan.parent {
        die_with(parent)?;
    }
    let report = replay(plan, hooks)?;
    talk::say(&Line::Report(Box::new(report)))
}

/// Has the kernel kill this process when the thread that started it ends, however that happens.
fn die_with(parent: i32) -> Result<(), String> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| format!("prctl(PR_SET_PDEATHSIG): {error}"))?;
    // The parent may have ended before the call above; then nobody would send the signal.
    if getppid().as_raw() == parent { Ok(()) } else { Err("the harness that started this process is gone".to_owned()) }
}

/// Fills, doubles, checks and drops the map while the canaries watch.
pub fn replay(plan: &Plan, hooks: &impl Hooks) -> Result<ChildReport, String> {
    let size = Size::with_buckets(plan.buckets)
        .ok_or_else(|| format!("--buckets {} is not a power of two from 65536", plan.buckets))?;
    let rss_kib = || memory::rss_kib().map_err(|error| format!("resident memory: {error}"));

    let phase = Arc::new(PhaseCell::new());
    let start = Arc::new(Barrier::new(3));
    let pages = Canary::pages(&phase, &start)?;
    let blocks = Canary::blocks(&phase, &start)?;
    start.wait();

    let rss_live_kib = rss_kib()?;
    // The harness answers when it has let go of as much memory as is about to be touched.
    let about_to_touch = |bytes| if plan.asks { talk::about_to_touch(bytes) } else { Ok(()) };
    // All of the rest before the doubling: an allocator may touch more than the table, and not the table first.
    let rest_bytes = size.replay_bytes() - size.table_bytes();
    let faulted_in = hooks.faults_in();
    about_to_touch(if faulted_in { size.replay_bytes() } else { size.table_bytes() })?;
    hooks.fault_in(size)?;

    phase.set(Phase::Fill);
    let started = Instant::now();
    let mut table = Table::filled(size)?;
    let fill_ns = elapsed_ns(started);

    let mut prewarmed = None;
    if hooks.prewarms() {
        phase.leave();
        about_to_touch(rest_bytes)?;
        phase.set(Phase::Prewarm);
        prewarmed = hooks.prewarm(size.doubled_bytes());
    }

    phase.set(Phase::Control);
    let rss_before_kib = rss_kib()?;
    thread::sleep(Duration::from_millis(plan.control_ms));
    if !faulted_in && !hooks.prewarms() {
        phase.leave();
        about_to_touch(rest_bytes)?;
    }

    phase.set(Phase::Doubling);
    let started = Instant::now();
    table.double();
    let doubling_ns = elapsed_ns(started);

    phase.set(Phase::AfterDoubling);
    let rss_peak_kib = memory::peak_rss_kib().map_err(|error| format!("peak of resident memory: {error}"))?;
    thread::sleep(Duration::from_millis(plan.quiet_ms));
    table.check_doubled()?;

    phase.set(Phase::Drop);
    let started = Instant::now();
    drop(table);
    let drop_ns = elapsed_ns(started);

    phase.set(Phase::Idle);
    let rss_dropped_kib = rss_kib()?;
    let rss_samples = watch_rss(Duration::from_millis(plan.settle_ms), hooks)?;
    let rss_settled_kib = rss_kib()?;

    phase.end();
    let pages = pages.join()?;
    let blocks = blocks.join()?;
    let phases = Phase::ALL
        .map(|phase| PhaseLatency { phase, page: pages.latency(phase), block: blocks.latency(phase) })
        .to_vec();
    Ok(ChildReport {
        allocator: hooks.name().to_owned(),
        buckets: size.buckets(),
        entries: size.entries(),
        fill_ns,
        doubling_ns,
        drop_ns,
        prewarmed,
        rss_live_kib,
        rss_before_kib,
        rss_peak_kib,
        rss_dropped_kib,
        rss_settled_kib,
        rss_samples,
        giving_back: hooks.giving_back(),
        write_lock_calls: hooks.write_lock_calls(),
        phases,
    })
}

/// Looks at resident memory for `time`, from right now to the end.
fn watch_rss(time: Duration, hooks: &impl Hooks) -> Result<Vec<RssSample>, String> {
    let count = usize::try_from(time.as_nanos() / SAMPLE_PERIOD.as_nanos()).unwrap_or(0);
    // All room at once: growing would be work for the allocator that is watched.
    let mut samples = Vec::with_capacity(count + 2);
    let started = Instant::now();
    loop {
        let after = started.elapsed();
        samples.push(RssSample {
            after_ns: u64::try_from(after.as_nanos()).unwrap_or(u64::MAX),
            rss_kib: memory::rss_kib().map_err(|error| format!("resident memory: {error}"))?,
            backlog_bytes: hooks.backlog_bytes(),
        });
        if after >= time {
            return Ok(samples);
        }
        let next = SAMPLE_PERIOD * u32::try_from(samples.len()).unwrap_or(u32::MAX);
        thread::sleep(next.min(time).saturating_sub(started.elapsed()));
    }
}

fn elapsed_ns(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hooks that all have an answer.
    struct Talkative;

    impl Hooks for Talkative {
        fn name(&self) -> &'static str {
            "some"
        }

        fn prewarms(&self) -> bool {
            true
        }

        fn prewarm(&self, bytes: u64) -> Option<Prewarmed> {
            thread::sleep(Duration::from_millis(5));
            let state = "Ready".to_owned();
            Some(Prewarmed { state, time_ns: 5, wanted_bytes: bytes, warm_bytes: bytes, hugepage_bytes: 0 })
        }

        fn write_lock_calls(&self) -> Option<u64> {
            Some(3)
        }

        fn backlog_bytes(&self) -> Option<u64> {
            Some(4)
        }
    }

    const PLAN: Plan = Plan { buckets: 1 << 16, control_ms: 5, quiet_ms: 5, settle_ms: 250, asks: false, parent: None };

    #[test]
    fn a_plan_survives_the_command_line() {
        let plan = Plan { buckets: 1 << 20, control_ms: 2, quiet_ms: 3, settle_ms: 4, asks: true, parent: Some(77) };
        let arguments = std::iter::once("replay".to_owned()).chain(plan.arguments());
        assert_eq!(Plan::try_parse_from(arguments).unwrap(), plan);
        let plan = Plan::new(Size::SMALLEST);
        assert_eq!(Plan::try_parse_from(["replay", "--buckets", "65536"]).unwrap(), plan);
    }

    #[test]
    fn a_replay_in_this_process_reports_every_phase() {
        let report = replay(&PLAN, &Talkative).unwrap();
        assert_eq!((report.allocator.as_str(), report.entries, report.write_lock_calls), ("some", 57_344, Some(3)));
        assert_eq!(report.phases.iter().map(|entry| entry.phase).collect::<Vec<_>>(), Phase::ALL);
        assert_eq!(report.prewarmed.as_ref().map(|prewarmed| prewarmed.wanted_bytes), Some(3_276_816));
        assert!(report.phase(Phase::Prewarm).unwrap().page.is_some());
        assert!((3..=4).contains(&report.rss_samples.len()), "{report:?}");
        assert!(report.rss_samples.iter().all(|sample| sample.backlog_bytes == Some(4)));
        let line = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<ChildReport>(&line).unwrap(), report);
    }

    #[test]
    fn memory_is_back_when_it_stays_within_a_tenth_of_what_is_live() {
        let mut report = replay(&PLAN, &Talkative).unwrap();
        let back = |report: &mut ChildReport, rss: &[u64]| {
            let samples = (0..).zip(rss).map(|(after_ns, rss_kib)| (after_ns, *rss_kib));
            let sample = |(after_ns, rss_kib)| RssSample { after_ns, rss_kib, backlog_bytes: None };
            (report.rss_live_kib, report.rss_samples) = (100_000, samples.map(sample).collect());
            report.back_after_ns()
        };
        assert_eq!(back(&mut report, &[900_000, 110_000, 100_000]), Some(1));
        assert_eq!(back(&mut report, &[900_000, 100_000, 110_001, 110_000]), Some(3));
        assert_eq!(back(&mut report, &[100_000, 110_001]), None);
        assert_eq!(back(&mut report, &[90_000]), Some(0));
        assert_eq!(back(&mut report, &[]), None);
    }

    #[test]
    fn a_wrong_bucket_count_is_refused() {
        let plan = Plan { buckets: 1000, ..PLAN };
        assert!(replay(&plan, &Talkative).unwrap_err().contains("--buckets 1000"));
    }
}
