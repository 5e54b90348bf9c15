//! The `startup` workload: how long a process that does nothing takes from start to end under each allocator, and how
//! much memory it needs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use allocator_bench::child::{EMPTY_ARG, RSS_ARG, cpu_ns, minor_faults, saturating_ns};
use allocator_bench::sample::Sample;
use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};

use super::contender::Contender;
use super::csv::CsvFile;
use super::launch::{self, Play};
use super::results::Cell;
use super::rotated;

/// The name on the command line and in the results.
pub const STARTUP: &str = "startup";

/// First runs of each child that are discarded.
const WARM_UP_RUNS: u32 = 5;

/// The runs of all allocators.
#[derive(Clone, Debug)]
pub struct Startup {
    /// The lines of the report.
    pub contenders: Vec<Contender>,
    /// One for each contender.
    pub cells: Vec<Cell>,
}

impl Startup {
    /// Whether every child could be run.
    pub fn is_sound(&self) -> bool {
        self.cells.iter().all(|cell| cell.failure.is_none())
    }

    /// The cell that the others are compared with.
    pub fn system(&self) -> Option<&Cell> {
        let index = self.contenders.iter().position(|&contender| contender == Contender::System)?;
        self.cells.get(index)
    }
}

/// Starts each child `runs` times, in turn.
///
/// # Errors
/// If the CSV file cannot be written; a child that fails is noted in its cell.
pub fn measure(
    contenders: &[Contender],
    directory: &Path,
    runs: u32,
    mut csv: Option<&mut CsvFile>,
) -> Result<Startup> {
    eprintln!("{STARTUP}: {runs} runs of each");
    let play = Play { workload: STARTUP, threads: 1, scale: 1.0 };
    let mut cells = vec![Cell::default(); contenders.len()];
    for run in 0..WARM_UP_RUNS + runs {
        for position in 0..contenders.len() {
            let index = rotated(position, run as usize, contenders.len());
            let (contender, cell) = (contenders[index], &mut cells[index]);
            if cell.failure.is_some() {
                continue;
            }
            match start_and_end(&contender.path_in(directory)) {
                Err(error) => {
                    eprintln!("{} on {STARTUP}: {error:#}", contender.name());
                    cell.failure = Some(format!("{error:#}"));
                }
                Ok(_) if run < WARM_UP_RUNS => {}
                Ok(sample) => {
                    cell.samples.push(sample);
                    if let Some(csv) = csv.as_mut() {
                        csv.append(&play, contender, run - WARM_UP_RUNS + 1, &sample)?;
                    }
                }
            }
        }
    }
    Ok(Startup { contenders: contenders.to_vec(), cells })
}

/// One run that is timed, and one that says how much memory it took.
fn start_and_end(binary: &Path) -> Result<Sample> {
    let mut command = Command::new(binary);
    command.arg(EMPTY_ARG).stdin(Stdio::null()).stdout(Stdio::null());
    let usage_before = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let start = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {}", binary.display()))?;
    let wall = start.elapsed();
    let usage_after = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    ensure!(status.success(), "the child ended with {status}");

    let report = launch::output_of(Command::new(binary).arg(RSS_ARG))?;
    let peak_rss_kib = report.trim().parse().with_context(|| format!("the child reported `{}`", report.trim()))?;
    Ok(Sample {
        wall_ns: saturating_ns(wall),
        cpu_ns: cpu_ns(&usage_after).saturating_sub(cpu_ns(&usage_before)),
        peak_rss_kib,
        minor_faults: minor_faults(&usage_after).saturating_sub(minor_faults(&usage_before)),
        checksum: 0,
    })
}
