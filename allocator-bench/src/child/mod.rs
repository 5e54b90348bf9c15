//! The program of every `bench-*` and `probe-*` binary: plays one workload, measures itself, prints what came out.
//!
//! Started by the runner as
//! * `bench-NAME --empty`: returns at once, so that the runner can time process start-up;
//! * `bench-NAME --rss`: prints the peak memory of a process that did nothing, in KiB;
//! * `bench-NAME --operation OPERATION ROUNDS`: repeats one operation, for valgrind to count its instructions;
//! * `bench-NAME WORKLOAD THREADS SCALE`: plays the workload and prints a [`Sample`](crate::sample::Sample);
//! * `bench-NAME WORKLOAD THREADS SCALE FD..`: the same, then reads the kernel's counters from these descriptors, and
//!   prints [`Counts`](crate::counts::Counts) in a second line;
//! * `probe-NAME WORKLOAD THREADS SCALE`: plays the workload and prints
//!   [`Latencies`](crate::latency::Latencies), one line for each kind of call.
//!
//! There is no argument parser here on purpose: start-up is one of the things that are measured.

mod counters;
pub mod measure;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::counts::COUNTERS;
use crate::figures::Figures;
use crate::latency::Call;
use crate::operation::Operation;
use crate::workload::{self, Workload};
use crate::{probe, resident};
use counters::{Counters, WRONG_DESCRIPTORS};

/// Makes the child return at once.
pub const EMPTY_ARG: &str = "--empty";

/// Makes the child print the peak memory of a process that has done nothing.
pub const RSS_ARG: &str = "--rss";

/// Makes the child repeat an operation.
pub const OPERATION_ARG: &str = "--operation";

/// Runs a `bench-*` child; a wrong result of a workload panics, which ends the process with a failure.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let first = args.next();
    if first.as_ref().is_some_and(|arg| arg == EMPTY_ARG) {
        return ExitCode::SUCCESS;
    }
    if first.as_ref().is_some_and(|arg| arg == RSS_ARG) {
        return exit_code(print_empty_rss());
    }
    let words: Vec<String> = first.into_iter().chain(args).map(|arg| arg.to_string_lossy().into_owned()).collect();
    exit_code(match words.split_first() {
        Some((first, rest)) if first == OPERATION_ARG => repeat(rest),
        _ => play(&words),
    })
}

/// Runs a `probe-*` child.
pub fn probe_main() -> ExitCode {
    let words: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    exit_code(play_timed(&words))
}

fn exit_code(outcome: Result<(), ChildError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Why a child could not play its workload.
#[derive(Debug)]
enum ChildError {
    Usage(&'static str),
    Io(io::Error),
    Counters(io::Error),
    Nix(nix::Error),
}

impl fmt::Display for ChildError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(formatter, "{what}; usage: bench-NAME WORKLOAD THREADS SCALE"),
            Self::Io(error) => write!(formatter, "cannot report: {error}"),
            Self::Counters(error) => write!(formatter, "cannot read the kernel's counters: {error}"),
            Self::Nix(error) => write!(formatter, "getrusage failed: {error}"),
        }
    }
}

impl From<io::Error> for ChildError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<nix::Error> for ChildError {
    fn from(error: nix::Error) -> Self {
        Self::Nix(error)
    }
}

fn print_empty_rss() -> Result<(), ChildError> {
    writeln!(io::stdout(), "{}", resident::read()?.peak_kib)?;
    Ok(())
}

fn repeat(words: &[String]) -> Result<(), ChildError> {
    let [name, rounds] = words else { return Err(ChildError::Usage("an operation and its rounds are needed")) };
    let operation: Operation = name.parse().map_err(|_| ChildError::Usage("no such operation"))?;
    let rounds = rounds.parse().map_err(|_| ChildError::Usage("the number of rounds is not valid"))?;
    operation.repeat(rounds);
    Ok(())
}

fn play(words: &[String]) -> Result<(), ChildError> {
    let (words, descriptors) = words.split_at(words.len().min(3));
    let (workload, threads, scale) = parse(words).map_err(ChildError::Usage)?;
    let counters = match descriptors {
        [] => None,
        _ => Some(parse_descriptors(descriptors).and_then(Counters::inherit).map_err(ChildError::Usage)?),
    };
    abort_on_panic();
    let (sample, counts) = match counters {
        None => (measure::sample(|| (workload.run)(threads, scale))?, None),
        Some(mut counters) => {
            let mut counts = None;
            let run = || {
                let (checksum, counted) = counters.count(|| (workload.run)(threads, scale))?;
                counts = Some(counted);
                Ok(checksum)
            };
            (measure::sample_of(run)?, counts)
        }
    };
    let mut output = io::stdout();
    writeln!(output, "{}", sample.line())?;
    if let Some(counts) = counts {
        writeln!(output, "{}", counts.line())?;
    }
    Ok(())
}

fn play_timed(words: &[String]) -> Result<(), ChildError> {
    let (workload, threads, scale) = parse(words).map_err(ChildError::Usage)?;
    abort_on_panic();
    let (_checksum, latencies) = probe::record(|| (workload.run)(threads, scale));
    let mut output = io::stdout();
    for (call, latency) in Call::ALL.into_iter().zip(latencies) {
        writeln!(output, "{call} {}", latency.line())?;
    }
    Ok(())
}

/// Ends the process with the first failed check: another thread may be waiting for the one that panicked.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn parse(words: &[String]) -> Result<(&'static Workload, usize, f64), &'static str> {
    let [name, threads, scale] = words else { return Err("three arguments are needed") };
    let workload = workload::find(name).ok_or("no such workload")?;
    let threads = threads.parse().ok().filter(|&count| count > 0).ok_or("the number of threads is not valid")?;
    let scale = scale.parse().ok().filter(|scale: &f64| scale.is_finite() && *scale > 0.0);
    Ok((workload, threads, scale.ok_or("the scale is not valid")?))
}

fn parse_descriptors(words: &[String]) -> Result<[i32; COUNTERS], &'static str> {
    let descriptors: Result<Vec<i32>, _> = words.iter().map(|word| word.parse()).collect();
    descriptors.map_err(|_| WRONG_DESCRIPTORS)?.try_into().map_err(|_| WRONG_DESCRIPTORS)
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_descriptors};

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_are_checked() {
        let (workload, threads, scale) = parse(&words("churn 2 0.5")).expect("valid arguments");
        assert_eq!((workload.name, threads, scale), ("churn", 2, 0.5));
        for line in ["", "churn", "churn 2", "nothing 1 1", "churn 0 1", "churn 1 0", "churn 1 nan", "churn 1 1 1"] {
            assert!(parse(&words(line)).is_err(), "`{line}` was accepted");
        }
    }

    #[test]
    fn every_counter_needs_its_descriptor() {
        assert_eq!(parse_descriptors(&words("3 4 5 6 7 8 9 10 11 12")), Ok([3, 4, 5, 6, 7, 8, 9, 10, 11, 12]));
        for line in ["3", "3 4 5 6 7 8 9 10 11 x", "3 4 5 6 7 8 9 10 11 12 13"] {
            assert!(parse_descriptors(&words(line)).is_err(), "`{line}` was accepted");
        }
    }
}
