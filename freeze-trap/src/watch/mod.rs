//! `freeze-trap watch`: arms the trap, watches, captures, and ends. Called by `main`.
//!
//! `options` is the command line, `run` the main loop, `schedule` when it does what, `end` why it ends and with which
//! status; `capture` is the trap without its surroundings, `writer` what happens to a capture then, `maps` when maps
//! are read; `disk`, `state`, `metrics` and `listener` are where results go.
//!
//! Invariant: the source is armed before the target is started or looked at, and taken down after the last capture has
//! its names. Nothing here stops or signals the target, but for signals that are passed on to a command.

mod arm;
pub mod capture;
mod complaints;
pub mod disk;
mod end;
mod listener;
mod machine;
pub mod maps;
pub mod metrics;
pub mod options;
mod own;
mod pace;
mod restart;
mod run;
pub mod running;
pub mod samples;
mod schedule;
mod signals;
pub mod state;
mod timeline;
pub mod writer;

use std::io::Write;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};

use self::capture::{Setting, Trap};
use self::complaints::Complaints;
use self::disk::Disk;
use self::maps::Maps;
use self::metrics::Metrics;
use self::options::{Options, USUAL_PROBES};
use self::own::Limits;
use self::restart::Restart;
use self::run::Run;
use self::schedule::Schedule;
use self::signals::Signals;
use self::state::State;
use self::writer::Writer;
use crate::clock::now_ns;
use crate::probe::{self, Board, duration};
use crate::source::choose::Chosen;
use crate::target::{self, Target};
use crate::trigger::{Rules, Trigger};

/// Intervals that the flight recorder keeps for each of `--threads-max`, and at least: some 40 MB with their stacks.
const INTERVALS_PER_THREAD: usize = 8;
const INTERVALS_MIN: usize = 1 << 16;

/// Tells the user something. Names of threads and functions, and answers of services, may be in it; none of them can
/// give the terminal orders, or begin another line.
pub fn say(text: impl std::fmt::Display) {
    let text = text.to_string().replace('\n', " ").replace(char::is_control, "\u{fffd}");
    // A full disk or a closed pipe there does not end the watch, as `eprintln!` would.
    let _ = writeln!(std::io::stderr(), "freeze-trap: {text}");
}

/// Exit statuses, for `--help`.
pub const STATUSES: &str = "\
  0    it was ended by a signal, by --for, by --once after a capture, or with the process of --pid
  N    the command of --exec ended with status N, or 128 + N if signal N ended it (without --restart, or after a signal)
  1    it could not begin, or the capture of --once could not be written, for the reason that is told
  2    the command line is wrong
  3    --once, and it ended without a capture
  128+N  a second signal N ended it at once: a capture under way is lost";

/// The probes of the command line, or the usual ones.
fn probes(options: &Options) -> Result<Vec<probe::Spec>> {
    if !options.probes.is_empty() {
        return Ok(options.probes.clone());
    }
    say(format_args!("without --probe, these are watched: {}", USUAL_PROBES.join(" ")));
    USUAL_PROBES.iter().map(|text| text.parse().map_err(anyhow::Error::msg)).collect()
}

/// Watches until the end.
/// # Errors
/// It cannot begin: there is no such target, the source that is wanted is not permitted, a probe cannot be asked, the
/// directory cannot be written to.
pub fn watch(options: &Options) -> Result<ExitCode> {
    let spec = options.watched.spec().context("nothing to watch: give --pid, --exec, --unit or --cgroup")?;
    let probes = probes(options)?;
    let directory = options.directory.clone().map_or_else(options::usual_directory, Ok)?;
    let disk = Disk::open(&directory, options.disk_bound.as_u64())?;
    let state = State::read(&directory).unwrap_or_else(|error| {
        say(format_args!("what an earlier trap has left in {} is not used: {error}", directory.display()));
        State::default()
    });
    let is_command = matches!(spec, target::Spec::Exec(_));
    let signals = Signals::take(is_command)?;
    own::keep_rights();
    let limits = Limits::raise();
    let Chosen { source, mut missing } = arm::arm(options)?;
    own::give_back();
    missing.extend(own::lock_memory().err());
    say(format_args!("intervals come from {}", source.name()));
    missing.iter().for_each(say);

    let names: Vec<String> = probes.iter().map(ToString::to_string).collect();
    let metrics = Metrics::new(source.name(), probes.iter().map(probe::Spec::label));
    if let Some(address) = options.metrics {
        let address = listener::listen(address, metrics.clone())?;
        say(format_args!("metrics are at http://{address}/metrics"));
    }
    let (now_ns, wall) = (now_ns(), SystemTime::now());
    let rules = Rules {
        cooldown_ns: duration::ns(options.cooldown),
        captures_per_hour: usize::try_from(options.captures_per_hour).unwrap_or(usize::MAX),
    };
    let trigger = Trigger::new(rules, probes.iter().map(|probe| probe.failures(options.failures)));
    let trigger = trigger.resume(state.suppressed, state.starts_ns(now_ns, wall));
    let setting = Setting {
        window_ns: duration::ns(options.window),
        history_ns: duration::ns(options.history),
        grace_ns: duration::ns(options.grace),
        intervals_max: (options.threads_max as usize * INTERVALS_PER_THREAD).max(INTERVALS_MIN),
        target: spec.to_string(),
        source: source.name().to_owned(),
        missing,
        machine: machine::machine(),
    };
    let maps = Maps::start()?;
    let writer = Writer::start(disk, maps.shared())?;
    let board = Board::start(probes, options.every)?;
    let target = limits.as_given(|| Target::open(&spec))?;
    target.awaited().iter().for_each(say);
    say(format_args!("armed: {}; captures go to {}", target.name(), directory.display()));
    let run = Run {
        trap: Trap::new(setting, trigger, names, now_ns),
        source,
        board,
        target,
        maps,
        writer,
        metrics,
        directory,
        signals,
        once: options.once,
        restart: options.restart.then(|| Restart::new(spec, limits, now_ns)),
        schedule: Schedule::new(now_ns, options.lasting.map(duration::ns)),
        pids: Vec::new(),
        may_run_already: !is_command,
        complaints: Complaints::default(),
        end: None,
        captured: 0,
    };
    Ok(run.run())
}
