//! The harness: `cargo run --release -p stress` replays the incident under each allocator and compares what it did to
//! the other threads of the process. All parts are in the library; this file is the command line and the order of
//! events.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use clap::builder::PossibleValuesParser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use stress::candidates::{self, ALLOCATORS};
use stress::command::Command;
use stress::harness::{self, HarnessError, Orders};
use stress::machine::Machine;
use stress::output::{self, Output, OutputError};
use stress::progress::Progress;
use stress::report::{Circumstances, Outcome, Report};
use stress::scenario::replay;
use stress::{locks, memory, memory_group, text};

/// How many signals to stop leave the time to undo what was made.
const SIGNALS_TO_UNDO: usize = 2;

/// Play what freezes services under each allocator, and show who waited how long.
///
/// Without a subcommand the incident is replayed: a child process per allocator fills a hash map of 24-byte entries to
/// its last free slot, inserts one more entry (the map doubles: a table twice the size is allocated and filled, the old
/// one freed) and drops the map. Meanwhile canary threads do what every thread of a service does: allocate and free,
/// map and unmap a page, touch a fresh page, start a thread. Their waits are the result; the same canaries in the idle
/// time before are the control, and the kernel's tracepoints tell who held mmap_lock.
///
/// Exit status: 0 if every child ran and what it computed was right, 1 if not, 2 for a wrong command line or too little
/// memory, 3 with --check when antifreeze missed a target, 4 with --check when one could not be judged, 130 when
/// interrupted.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    replay: replay::Options,

    #[command(flatten)]
    options: Options,
}

/// What every scenario has.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every scenario")]
#[group(skip)]
struct Options {
    /// Allocators to run, separated by commas; all of them by default
    #[arg(long, global = true, value_delimiter = ',', value_parser = PossibleValuesParser::new(ALLOCATORS))]
    allocators: Vec<String>,

    /// How often each allocator runs, in turns; medians are reported
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Do not hold memory that the host backs for the children
    ///
    /// On a virtual machine whose host has not backed the memory yet, a page fault takes 10 to 50 times as long. With
    /// this, whoever happens to get such memory pays for it: a fresh machine's truth, but no comparison of allocators.
    #[arg(long, global = true)]
    cold: bool,

    /// Do not trace mmap_lock, even where that is permitted
    #[arg(long, global = true)]
    no_trace: bool,

    /// Exit with status 3 if antifreeze missed a target, and with 4 if one could not be judged
    #[arg(long, global = true)]
    check: bool,

    /// Write the page with the plots to this file instead of <target>/stress/<scenario>.html
    #[arg(long, global = true, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Also write everything measured to this file as JSON
    #[arg(long, global = true, value_name = "FILE")]
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

    fn of_the_line(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: 2 }
    }
}

impl From<HarnessError> for Failure {
    fn from(error: HarnessError) -> Self {
        let status = if matches!(error, HarnessError::Interrupted) { 130 } else { 1 };
        Self { message: error.to_string(), status }
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        Self::new(error.to_string())
    }
}

fn main() -> ExitCode {
    match run(Line::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Whoever reads may have gone away.
            let _ = writeln!(io::stderr(), "stress: {}", failure.message);
            ExitCode::from(failure.status)
        }
    }
}

fn run(line: Line) -> Result<(), Failure> {
    let options = line.options;
    let command = match line.command {
        Some(_) if line.replay.is_given() => {
            return Err(Failure::of_the_line(
                "--keys and --settle-ms before a subcommand belong to none; put them after",
            ));
        }
        Some(command) => command,
        None => Command::Replay(line.replay),
    };
    memory_group::remove_stale();
    raise_descriptor_limit();
    let available_bytes = memory::available_bytes()
        .map_err(|error| Failure::new(format!("the available memory cannot be read: {error}")))?;
    let plan = command.choose(available_bytes).map_err(Failure::of_the_line)?;
    let executable = env::current_exe().map_err(|error| Failure::new(format!("the own executable: {error}")))?;
    let folder = executable.parent().ok_or_else(|| Failure::new("the own executable is in no folder"))?;
    let json = options.json.as_deref().map(Output::new).transpose()?;
    let html = match &options.html {
        Some(file) => Output::new(file)?,
        None => Output::new(&output::page_folder(folder)?.join(format!("{}.html", plan.scenario().name())))?,
    };
    let circumstances = circumstances(&options, available_bytes);
    let interrupted = watch_signals().map_err(|error| Failure::new(format!("signals: {error}")))?;
    let runs = children(&options, folder, &plan, circumstances.untraced.is_none(), &interrupted)?;

    let report = Report::new(circumstances, plan, runs);
    // First the files, as whoever reads standard output may have gone away.
    write(&report, &html, json.as_ref())?;
    print(&format!("{}Page with plots: {}\n", text::text(&report), html.path().display()))?;
    if options.check { check(report.outcome()) } else { Ok(()) }
}

/// Whether the run shows that every promise was kept.
fn check(outcome: Outcome) -> Result<(), Failure> {
    let (message, status) = match outcome {
        Outcome::Met => return Ok(()),
        Outcome::Missed => ("antifreeze missed a target (--check)", 3),
        Outcome::Unjudged => ("a target of antifreeze could not be judged; the list of targets says why (--check)", 4),
        Outcome::Nothing => ("there was no antifreeze to be judged (--check)", 4),
    };
    Err(Failure { message: message.to_owned(), status })
}

/// Under which circumstances the children run.
fn circumstances(options: &Options, available_bytes: u64) -> Circumstances {
    let untraced = if options.no_trace { Some("--no-trace".to_owned()) } else { locks::why_not_traced() };
    Circumstances {
        began_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        machine: Machine::read(available_bytes),
        rounds: options.rounds,
        cold: options.cold,
        untraced,
    }
}

/// Builds, finds and runs the children.
fn children(
    options: &Options,
    folder: &Path,
    plan: &stress::scenario::Plan,
    traces: bool,
    interrupted: &AtomicBool,
) -> Result<Vec<harness::Run>, Failure> {
    candidates::build(folder, interrupted)?;
    let all: Vec<String> = ALLOCATORS.iter().map(|&allocator| allocator.to_owned()).collect();
    let wanted = if options.allocators.is_empty() { all } else { options.allocators.clone() };
    let contenders = harness::contenders(candidates::find(folder, &wanted)?, plan);
    if contenders.is_empty() {
        return Err(Failure::of_the_line("none of the named allocators can play this scenario"));
    }
    print(&format!("{}\n", plan.scenario().headline()))?;
    let orders = Orders { plan: plan.clone(), rounds: options.rounds, cold: options.cold, traces };
    let mut progress = Progress::new(&contenders, orders.rounds);
    let runs = harness::run_rounds(&contenders, &orders, interrupted, |event| progress.show(event));
    progress.end();
    Ok(runs?)
}

/// The flag that a signal to stop sets, upon which the child is killed and all that was made is undone. Two may come at
/// once and mean the same, as a terminal's Ctrl-C and what its shell sends; a third one ends the process as it is.
fn watch_signals() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new().name("signals".to_owned()).spawn({
        let interrupted = Arc::clone(&interrupted);
        move || {
            for number in signals.forever().enumerate().map(|(number, _)| number) {
                // Nothing but the flag is told by it, so relaxed is enough.
                interrupted.store(true, Ordering::Relaxed);
                if number >= SIGNALS_TO_UNDO {
                    signal_hook::low_level::exit(130);
                }
            }
        }
    })?;
    Ok(interrupted)
}

/// Has as many files open as is permitted: a trace takes several for each thread of a child. What is not permitted
/// shows where it is missed.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn write(report: &Report, html: &Output, json: Option<&Output>) -> Result<(), Failure> {
    if let Some(json) = json {
        let text = serde_json::to_string(report).map_err(|error| Failure::new(error.to_string()))?;
        json.write(&(text + "\n"))?;
    }
    html.write(&stress::page::html(report).map_err(|error| Failure::new(error.to_string()))?)?;
    Ok(())
}

/// Prints to standard output; a reader that has gone away is a failure and not a panic.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(|error| Failure::new(format!("standard output: {error}")))
}
