//! The command line of the trap.

mod show;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use freeze_trap::watch::options::Options;
use freeze_trap::watch::{STATUSES, say, watch};
use freeze_trap::{check, probe, rights};

/// Catches a freeze of a service while it happens: who blocked whom in the kernel
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch a service, and capture its freezes
    #[command(after_long_help = format!("Probes:\n  {}\n\nExit status:\n  {STATUSES}", probe::HELP))]
    Watch(Box<Options>),
    /// Show a capture
    Report(show::Options),
    /// Say what this machine permits
    #[command(after_help = format!("Exit status:\n  {}", check::STATUSES))]
    Check(check::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Watch(_) | Command::Check(_) => rights::take_up(),
        // Reads files that may come from elsewhere, and has no use for them.
        Command::Report(_) => (),
    }
    let done = match &arguments.command {
        Command::Watch(options) => watch(options),
        Command::Report(options) => show::show(options),
        Command::Check(options) => check::run(options),
    };
    done.unwrap_or_else(|error| {
        say(format_args!("{error:#}"));
        ExitCode::FAILURE
    })
}
