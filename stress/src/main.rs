//! The harness: `cargo run --release -p stress` replays the incident under each allocator and compares what it did to
//! the other threads of the process. All parts are in the library; this file is the command line and the order of
//! events.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::signal::{SIGINT, SIGTERM};
use stress::child::Plan;
use stress::harness::{self, HarnessError};
use stress::machine::Machine;
use stress::memory;
use stress::report::Report;
use stress::table::Size;

/// Replay the doubling of a big hash map under each allocator and show who waited how long.
///
/// A child process per allocator fills a hash map of 24-byte entries to its last free slot, inserts one more entry (the
/// map doubles: a table twice the size is allocated and filled, the old one freed) and drops the map. Meanwhile two
/// canary threads do what every thread of a service does: one maps and unmaps a page, the other allocates and frees
/// blocks. Their longest waits are the result; the same canaries in the idle time before are the control.
///
/// Exit status: 0 if every child ran and its map was right, 1 if not, 2 for a wrong command line, 130 when interrupted.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Options {
    /// Entries of the map before it doubles, rounded up to a full table (7/8 of a power of two); by default the most
    /// that leaves half of the available memory free, up to the incident's 58720256
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    keys: Option<u64>,

    /// How often each allocator runs, in turns; medians are reported
    #[arg(long, default_value = "2")]
    rounds: NonZeroU32,

    /// Do not hold memory that the host backs for the children
    ///
    /// On a virtual machine whose host has not backed the memory yet, a page fault takes 10 to 50 times as long. With
    /// this, whoever happens to get such memory pays for it: a fresh machine's truth, but no comparison of allocators.
    #[arg(long)]
    cold: bool,

    /// For how long memory is watched after the map was dropped, in milliseconds
    #[arg(long, default_value = "8000")]
    settle_ms: u64,

    /// Also write everything measured to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Why there is no result: the message and the exit status.
struct Failure {
    message: String,
    status: u8,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: 1 }
    }
}

impl From<HarnessError> for Failure {
    fn from(error: HarnessError) -> Self {
        let status = if matches!(error, HarnessError::Interrupted) { 130 } else { 1 };
        Self { message: error.to_string(), status }
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("stress: {}", failure.message);
            ExitCode::from(failure.status)
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let available_bytes = memory::available_bytes()
        .map_err(|error| Failure::new(format!("the available memory cannot be read: {error}")))?;
    let size = Size::choose(options.keys, available_bytes)
        .map_err(|error| Failure { message: error.to_string(), status: 2 })?;
    let machine = Machine::read(available_bytes);
    let json_failure = |file: &Path, error| Failure::new(format!("{}: {error}", file.display()));
    if let Some(file) = &options.json {
        // Not after minutes of work; what the file holds stays until there is something to replace it with.
        OpenOptions::new().create(true).append(true).open(file).map_err(|error| json_failure(file, error))?;
    }
    let interrupted = watch_signals().map_err(|error| Failure::new(format!("signals: {error}")))?;

    let executable = env::current_exe().map_err(|error| Failure::new(format!("the own executable: {error}")))?;
    let folder = executable.parent().ok_or_else(|| Failure::new("the own executable is in no folder"))?;
    harness::build_candidates(folder, &interrupted)?;
    let candidates = harness::find_candidates(folder)?;

    print(&headline(options, size))?;
    let rounds = options.rounds.get();
    let bar = progress_bar(u64::from(rounds) * candidates.len() as u64);
    let mut started = 0;
    let plan = Plan { settle_ms: options.settle_ms, ..Plan::new(size) };
    let result = harness::run_rounds(&candidates, &plan, rounds, options.cold, &interrupted, |round, allocator| {
        bar.set_position(started);
        bar.set_message(format!("round {round} of {rounds}: {allocator}"));
        started += 1;
    });
    bar.finish_and_clear();

    let report = Report::new(machine, plan, rounds, options.cold, result?);
    print(&report.text())?;
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(&report).map_err(|error| Failure::new(error.to_string()))?;
        fs::write(file, json + "\n").map_err(|error| json_failure(file, error))?;
    }
    Ok(())
}

/// The flag that the first SIGINT or SIGTERM sets; a second one ends the process at once, and the child with it.
fn watch_signals() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted))?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}

/// What is about to run, said before it takes its time.
fn headline(options: &Options, size: Size) -> String {
    let entries = HumanCount(size.entries());
    let chosen = match options.keys {
        Some(keys) if keys != size.entries() => format!(" (--keys {} rounded up)", HumanCount(keys)),
        Some(_) => String::new(),
        None if size == Size::INCIDENT => " (the incident's size)".to_owned(),
        None => " (the most that leaves half of the available memory free; --keys chooses)".to_owned(),
    };
    format!(
        "Replaying the doubling of {entries} entries, 7/8 of 2^{} buckets{chosen}; {} MiB at the peak.\n",
        size.buckets_log2(),
        size.peak_bytes() >> 20
    )
}

fn progress_bar(children: u64) -> ProgressBar {
    let bar = ProgressBar::new(children);
    if io::stderr().is_terminal() {
        bar.enable_steady_tick(Duration::from_millis(250));
    } else {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    match ProgressStyle::with_template("{spinner} [{elapsed_precise}] {bar:24} {pos}/{len} {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Prints to standard output; a reader that has gone away is a failure and not a panic.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(|error| Failure::new(format!("standard output: {error}")))
}
