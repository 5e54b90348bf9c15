//! What one allocator's child process does: one scenario, from start to the one line of JSON it reports.
//!
//! The binaries in `src/bin` call [`main`]; [`harness`](crate::harness) starts them and reads the [`Record`].

use std::process::ExitCode;

use clap::Parser;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use crate::hooks::Hooks;
use crate::record::Record;
use crate::scenario::Plan;
use crate::stage::Stage;
use crate::talk::{self, Line};

/// The command line of a child.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(about = "Plays one scenario under one allocator; normally started by `stress`")]
pub struct Arguments {
    /// The scenario with its sizes, as JSON
    #[arg(long, value_parser = plan_of)]
    pub plan: Plan,
    /// The process to die with, which listens on standard output and answers on standard input
    #[arg(long)]
    pub parent: Option<i32>,
}

fn plan_of(text: &str) -> Result<Plan, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl Arguments {
    /// The command line that is read as this.
    pub fn to_line(&self) -> Result<Vec<String>, serde_json::Error> {
        let mut line = vec!["--plan".to_owned(), serde_json::to_string(&self.plan)?];
        line.extend(self.parent.map(|parent| format!("--parent={parent}")));
        Ok(line)
    }
}

/// The whole of a child binary: reads the command line, plays the scenario, reports.
pub fn main(hooks: &impl Hooks) -> ExitCode {
    match run(&Arguments::parse(), hooks) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stress-{}: {error}", hooks.name());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, hooks: &impl Hooks) -> Result<(), String> {
    if let Some(parent) = arguments.parent {
        die_with(parent)?;
    }
    let is_watched = arguments.parent.is_some();
    let report = Line::Report(Box::new(play(&arguments.plan, hooks, is_watched)?));
    if is_watched { talk::ask(&report) } else { talk::say(&report) }
}

/// Has the kernel kill this process when the thread that started it ends, however that happens.
fn die_with(parent: i32) -> Result<(), String> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| format!("prctl(PR_SET_PDEATHSIG): {error}"))?;
    // The parent may have ended before the call above; then nobody would send the signal.
    if getppid().as_raw() == parent { Ok(()) } else { Err("the harness that started this process is gone".to_owned()) }
}

/// Plays the scenario in this process; if it `is_watched`, a harness listens and answers.
pub fn play(plan: &Plan, hooks: &dyn Hooks, is_watched: bool) -> Result<Record, String> {
    let scenario = plan.scenario();
    let mut stage = Stage::new(hooks, scenario.phases(), scenario.canaries(), is_watched)?;
    let played = scenario.run(&mut stage);
    let record = stage.end();
    played.and(record)
}
