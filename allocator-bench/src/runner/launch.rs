//! Starts one child, reads back what it measured, and ends it if it hangs.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use allocator_bench::latency::{Latencies, parse_latencies};
use allocator_bench::sample::Sample;

/// How often a running child is looked at: seldom enough not to disturb it.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What one child is to play.
#[derive(Clone, Debug)]
pub struct Play {
    /// The workload's name.
    pub workload: String,
    /// Threads, or pairs of threads.
    pub threads: usize,
    /// Length of the workload.
    pub scale: f64,
    /// How long it may take at most.
    pub deadline: Duration,
}

impl Play {
    /// The arguments that a child takes it by.
    pub fn args(&self) -> [String; 3] {
        [self.workload.clone(), self.threads.to_string(), self.scale.to_string()]
    }
}

/// Why a child gave no result.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// It ran into the deadline and was killed.
    Hung {
        /// The deadline.
        after: Duration,
    },
    /// It could not be started, failed (because a check of the workload failed, for one), or reported nonsense.
    Failed(String),
}

impl Failure {
    /// What stands in the place of a figure.
    pub fn mark(&self) -> &'static str {
        match self {
            Self::Hung { .. } => "HUNG",
            Self::Failed(_) => "FAILED",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hung { after } => write!(formatter, "the child hung and was killed after {} s", after.as_secs()),
            Self::Failed(why) => formatter.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

/// Plays a workload in a new process of a `bench-*` binary.
///
/// # Errors
/// If the child gives no result.
pub fn play(binary: &Path, play: &Play) -> Result<Sample, Failure> {
    let report = output_of(Command::new(binary).args(play.args()), play.deadline)?;
    parsed(&report, report.parse())
}

/// Plays a workload in a new process of a `probe-*` binary.
///
/// # Errors
/// If the child gives no result.
pub fn probe(binary: &Path, play: &Play) -> Result<Latencies, Failure> {
    let report = output_of(Command::new(binary).args(play.args()), play.deadline)?;
    parsed(&report, parse_latencies(&report))
}

/// What a report says, or that it is nonsense.
pub(super) fn parsed<T>(report: &str, result: Result<T, impl fmt::Display>) -> Result<T, Failure> {
    result.map_err(|error| Failure::Failed(format!("{error}: the child reported `{}`", report.trim())))
}

/// Runs `command` to its end, within the deadline, and gives what it printed.
///
/// # Errors
/// If it cannot be started, does not succeed, or takes too long.
pub fn output_of(command: &mut Command, deadline: Duration) -> Result<String, Failure> {
    let cannot_start = format!("cannot start {}", command.get_program().display());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| Failure::Failed(format!("{cannot_start}: {error}")))?;
    let status = wait(&mut child, deadline)?;
    if !status.success() {
        return Err(Failure::Failed(format!("the child ended with {status}")));
    }
    // A report is a few short lines, which the pipe holds until they are read.
    let mut report = String::new();
    if let Some(mut output) = child.stdout.take() {
        output.read_to_string(&mut report).map_err(|error| Failure::Failed(error.to_string()))?;
    }
    Ok(report)
}

fn wait(child: &mut Child, deadline: Duration) -> Result<ExitStatus, Failure> {
    let failed = |error: std::io::Error| Failure::Failed(error.to_string());
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(status);
        }
        if start.elapsed() > deadline {
            child.kill().map_err(failed)?;
            child.wait().map_err(failed)?;
            return Err(Failure::Hung { after: deadline });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;

    use super::{Failure, Play, output_of, play};

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn output_is_read_and_failure_reported() {
        assert_eq!(output_of(Command::new("echo").arg("word"), LONG).expect("echo works"), "word\n");
        let error = output_of(&mut Command::new("false"), LONG).expect_err("false fails");
        assert!(error.to_string().contains("exit status: 1"));
        assert!(output_of(&mut Command::new("./no/such/binary"), LONG).is_err());
    }

    #[test]
    fn a_child_that_hangs_is_killed() {
        let deadline = Duration::from_millis(20);
        let failure = output_of(Command::new("sleep").arg("1000"), deadline).expect_err("it sleeps too long");
        assert_eq!((failure.mark(), failure), ("HUNG", Failure::Hung { after: deadline }));
    }

    #[test]
    fn nonsense_is_not_a_sample() {
        let nothing = Play { workload: "churn".to_owned(), threads: 1, scale: 1.0, deadline: LONG };
        let error = play(Path::new("echo"), &nothing).expect_err("echo prints its arguments");
        assert!(error.to_string().contains("churn 1 1"));
    }
}
