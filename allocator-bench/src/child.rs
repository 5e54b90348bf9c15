//! The program of every `bench-*` binary: plays one workload, measures itself, prints one line.
//!
//! Started by the runner as
//! * `bench-NAME --empty`: returns at once, so that the runner can time process start-up;
//! * `bench-NAME --rss`: prints the peak memory of a process that did nothing, in KiB;
//! * `bench-NAME WORKLOAD THREADS SCALE`: plays the workload and prints a [`Sample`].
//!
//! There is no argument parser here on purpose: start-up is one of the things that are measured.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::peak_rss::peak_rss_kib;
use crate::sample::Sample;
use crate::workload::{self, Workload};

/// Makes the child return at once.
pub const EMPTY_ARG: &str = "--empty";

/// Makes the child print the peak memory of a process that has done nothing.
pub const RSS_ARG: &str = "--rss";

/// Runs the child; a wrong result of a workload panics, which ends the process with a failure.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let first = args.next();
    if first.as_ref().is_some_and(|arg| arg == EMPTY_ARG) {
        return ExitCode::SUCCESS;
    }
    let outcome = if first.as_ref().is_some_and(|arg| arg == RSS_ARG) {
        print_empty_rss()
    } else {
        let words = first.into_iter().chain(args).map(|arg| arg.to_string_lossy().into_owned()).collect();
        play(words)
    };
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
    Nix(nix::Error),
}

impl fmt::Display for ChildError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(formatter, "{what}; usage: bench-NAME WORKLOAD THREADS SCALE"),
            Self::Io(error) => write!(formatter, "cannot report: {error}"),
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
    let peak_kib = peak_rss_kib()?;
    writeln!(io::stdout(), "{peak_kib}")?;
    Ok(())
}

fn play(words: Vec<String>) -> Result<(), ChildError> {
    let (workload, threads, scale) = parse(&words).map_err(ChildError::Usage)?;
    abort_on_panic();
    let sample = measure(workload, threads, scale)?;
    writeln!(io::stdout(), "{sample}")?;
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

/// Plays `workload` once in this process; every figure but the peak covers the workload alone.
fn measure(workload: &Workload, threads: usize, scale: f64) -> Result<Sample, ChildError> {
    let usage_before = getrusage(UsageWho::RUSAGE_SELF)?;
    let start = Instant::now();
    let checksum = (workload.run)(threads, scale);
    let wall = start.elapsed();
    let usage_after = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(Sample {
        wall_ns: saturating_ns(wall),
        cpu_ns: cpu_ns(&usage_after).saturating_sub(cpu_ns(&usage_before)),
        peak_rss_kib: peak_rss_kib()?,
        minor_faults: minor_faults(&usage_after).saturating_sub(minor_faults(&usage_before)),
        checksum,
    })
}

/// User and system time in `usage`.
pub fn cpu_ns(usage: &Usage) -> u64 {
    let time_ns = |time: TimeVal| {
        let seconds_ns = u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000;
        seconds_ns + u64::try_from(time.tv_usec()).unwrap_or(0) * 1_000
    };
    time_ns(usage.user_time()) + time_ns(usage.system_time())
}

/// Page faults without I/O in `usage`.
pub fn minor_faults(usage: &Usage) -> u64 {
    u64::try_from(usage.minor_page_faults()).unwrap_or(0)
}

/// A duration as a number of nanoseconds, which fits for the next 584 years.
pub fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{measure, parse};
    use crate::workload;

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
    fn measurement_carries_the_checksum() {
        let churn = workload::find("churn").expect("churn exists");
        let sample = measure(churn, 1, 0.001).expect("getrusage and /proc work");
        assert_eq!(sample.checksum, (churn.run)(1, 0.001));
        assert!(sample.wall_ns > 0 && sample.peak_rss_kib > 0);
    }
}
