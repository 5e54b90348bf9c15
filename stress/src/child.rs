//! What one allocator's child process does: the replay, from start to the one line of JSON it reports.
//!
//! The binaries in `src/bin` call [`main`]; [`harness`](crate::harness) starts them and reads the [`ChildReport`].

use std::io::{self, Write};
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
use crate::memory;
use crate::phase::{Phase, PhaseCell};
use crate::table::{Size, Table};

/// What a child is told: its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Parser, Serialize, Deserialize)]
#[command(about = "Replays the doubling of a big hash map under one allocator; normally started by `stress`")]
pub struct Plan {
    /// Buckets of the map before it doubles: a power of two, at least 65536
    #[arg(long)]
    pub buckets: u64,
    /// Quiet time before and after the doubling, in milliseconds
    #[arg(long, default_value_t = 1000)]
    pub quiet_ms: u64,
    /// Time between the drop and the last look at the memory, in milliseconds
    #[arg(long, default_value_t = 2000)]
    pub settle_ms: u64,
    /// The process to die with
    #[arg(long)]
    #[serde(skip)]
    pub parent: Option<i32>,
}

impl Plan {
    /// The plan for a map of this size with the usual pauses.
    pub const fn new(size: Size) -> Self {
        Self { buckets: size.buckets(), quiet_ms: 1000, settle_ms: 2000, parent: None }
    }

    /// The command line that makes [`Plan::parse`] give this plan.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--buckets={}", self.buckets),
            format!("--quiet-ms={}", self.quiet_ms),
            format!("--settle-ms={}", self.settle_ms),
        ];
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
    /// Resident memory before the doubling.
    pub rss_before_kib: u64,
    /// The most memory that was resident, seen after the doubling.
    pub rss_peak_kib: u64,
    /// Resident memory right after the drop.
    pub rss_dropped_kib: u64,
    /// Resident memory when the time to settle was over.
    pub rss_settled_kib: u64,
    /// Calls of the allocator that took `mmap_lock` for writing, if it counts them.
    pub write_lock_calls: Option<u64>,
    /// What the canaries felt, in the order of the phases.
    pub phases: Vec<PhaseLatency>,
}

/// The whole of a child binary: reads the command line, runs the replay, reports.
///
/// `write_lock_calls` is asked once at the end; it gives `None` for an allocator that does not count.
pub fn main(allocator: &str, write_lock_calls: impl FnOnce() -> Option<u64>) -> ExitCode {
    let plan = Plan::parse();
    match run(allocator, &plan, write_lock_calls) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replay-{allocator}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(allocator: &str, plan: &Plan, write_lock_calls: impl FnOnce() -> Option<u64>) -> Result<(), String> {
    if let Some(parent) = plan.parent {
        die_with(parent)?;
    }
    let report = replay(allocator, plan, write_lock_calls)?;
    let line = serde_json::to_string(&report).map_err(|error| format!("the report cannot be written: {error}"))?;
    writeln!(io::stdout(), "{line}").map_err(|error| format!("standard output: {error}"))
}

/// Has the kernel kill this process when the thread that started it ends, however that happens.
fn die_with(parent: i32) -> Result<(), String> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| format!("prctl(PR_SET_PDEATHSIG): {error}"))?;
    // The parent may have ended before the call above; then nobody would send the signal.
    if getppid().as_raw() == parent { Ok(()) } else { Err("the harness that started this process is gone".to_owned()) }
}

/// Fills, doubles, checks and drops the map while the canaries watch.
pub fn replay(
    allocator: &str,
    plan: &Plan,
    write_lock_calls: impl FnOnce() -> Option<u64>,
) -> Result<ChildReport, String> {
    let size = Size::with_buckets(plan.buckets)
        .ok_or_else(|| format!("--buckets {} is not a power of two from 65536", plan.buckets))?;
    let rss_kib = || memory::rss_kib().map_err(|error| format!("resident memory: {error}"));

    let phase = Arc::new(PhaseCell::new());
    let start = Arc::new(Barrier::new(3));
    let pages = Canary::pages(&phase, &start)?;
    let blocks = Canary::blocks(&phase, &start)?;
    start.wait();

    phase.set(Phase::Fill);
    let started = Instant::now();
    let mut table = Table::filled(size)?;
    let fill_ns = elapsed_ns(started);

    phase.set(Phase::Control);
    let rss_before_kib = rss_kib()?;
    thread::sleep(Duration::from_millis(plan.quiet_ms));

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
    thread::sleep(Duration::from_millis(plan.settle_ms));
    let rss_settled_kib = rss_kib()?;

    phase.end();
    let pages = pages.join()?;
    let blocks = blocks.join()?;
    let phases = Phase::ALL
        .map(|phase| PhaseLatency { phase, page: pages.latency(phase), block: blocks.latency(phase) })
        .to_vec();
    Ok(ChildReport {
        allocator: allocator.to_owned(),
        buckets: size.buckets(),
        entries: size.entries(),
        fill_ns,
        doubling_ns,
        drop_ns,
        rss_before_kib,
        rss_peak_kib,
        rss_dropped_kib,
        rss_settled_kib,
        write_lock_calls: write_lock_calls(),
        phases,
    })
}

fn elapsed_ns(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_the_command_line() {
        let plan = Plan { buckets: 1 << 20, quiet_ms: 3, settle_ms: 4, parent: Some(77) };
        let arguments = std::iter::once("replay".to_owned()).chain(plan.arguments());
        assert_eq!(Plan::try_parse_from(arguments).unwrap(), plan);
        let plan = Plan::new(Size::SMALLEST);
        assert_eq!(Plan::try_parse_from(["replay", "--buckets", "65536"]).unwrap(), plan);
    }

    #[test]
    fn a_replay_in_this_process_reports_every_phase() {
        let plan = Plan { buckets: 1 << 16, quiet_ms: 5, settle_ms: 5, parent: None };
        let report = replay("some", &plan, || Some(3)).unwrap();
        assert_eq!((report.allocator.as_str(), report.entries, report.write_lock_calls), ("some", 57_344, Some(3)));
        assert_eq!(report.phases.iter().map(|entry| entry.phase).collect::<Vec<_>>(), Phase::ALL);
        let line = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<ChildReport>(&line).unwrap(), report);
    }

    #[test]
    fn a_wrong_bucket_count_is_refused() {
        let plan = Plan { buckets: 1000, quiet_ms: 0, settle_ms: 0, parent: None };
        assert!(replay("some", &plan, || None).unwrap_err().contains("--buckets 1000"));
    }
}
