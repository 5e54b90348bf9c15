//! The `startup` workload: how long a process that does nothing takes from start to end under each allocator, and how
//! much memory it needs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use allocator_bench::child::measure::{difference, saturating_ns};
use allocator_bench::child::{EMPTY_ARG, RSS_ARG};
use allocator_bench::contender::Contender;
use allocator_bench::sample::Sample;
use anyhow::{Result, anyhow};
use nix::sys::resource::{UsageWho, getrusage};

use super::cell::{Cell, Run};
use super::launch::{Failure, Play, output_of, parsed};
use super::record::RecordFile;
use super::results::Row;
use super::schedule::{Round, order};

/// The name on the command line and in the results.
pub const STARTUP: &str = "startup";

/// First runs of each child that are discarded.
const WARM_UP_RUNS: u32 = 5;

/// Starts each child `runs` times, in turn, and gives a cell for each contender.
///
/// # Errors
/// If the record cannot be written; a child that fails is noted in its cell.
pub fn measure(
    contenders: &[Contender],
    directory: &Path,
    (runs, deadline): (u32, Duration),
    mut record: Option<&mut RecordFile>,
) -> Result<Vec<Cell>> {
    eprintln!("{STARTUP}: {runs} runs of each");
    let row = Row { workload: STARTUP.to_owned(), threads: 1, scale: 1.0 };
    let play = Play { workload: row.workload.clone(), threads: row.threads, scale: row.scale, deadline };
    let mut cells = vec![Cell::default(); contenders.len()];
    for run in 0..WARM_UP_RUNS + runs {
        for index in order(run as usize, &row, contenders.len()) {
            let (contender, cell) = (contenders[index], &mut cells[index]);
            if cell.failure.is_some() {
                continue;
            }
            let outcome =
                start_and_end(&contender.bench_in(directory), deadline).map(|sample| Run::Timed(sample.into()));
            if run < WARM_UP_RUNS && outcome.is_ok() {
                continue;
            }
            if let Some(record) = record.as_deref_mut() {
                record.append(&play, contender, Round::Timed((run + 1).saturating_sub(WARM_UP_RUNS)), &outcome)?;
            }
            match outcome {
                Ok(run) => cell.add(run),
                Err(failure) => {
                    eprintln!("{contender} on {STARTUP}: {failure}");
                    cell.failure = Some(failure);
                }
            }
        }
    }
    Ok(cells)
}

/// One run that is timed, and one that says how much memory it took.
fn start_and_end(binary: &Path, deadline: Duration) -> Result<Sample, Failure> {
    let failed = |error: anyhow::Error| Failure::Failed(format!("{error:#}"));
    let usage = || getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| failed(error.into()));
    let mut command = Command::new(binary);
    command.arg(EMPTY_ARG).stdin(Stdio::null()).stdout(Stdio::null());
    let before = usage()?;
    let start = Instant::now();
    let status = command.status().map_err(|error| failed(anyhow!("cannot start {}: {error}", binary.display())))?;
    let wall = start.elapsed();
    let after = usage()?;
    if !status.success() {
        return Err(failed(anyhow!("the child ended with {status}")));
    }
    let report = output_of(Command::new(binary).arg(RSS_ARG), deadline)?;
    let peak_rss_kib = parsed(&report, report.trim().parse())?;
    Ok(Sample { wall_ns: saturating_ns(wall), peak_rss_kib, ..difference(&before, &after) })
}
