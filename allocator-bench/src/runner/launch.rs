//! Starts one child and reads back what it measured.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use allocator_bench::sample::Sample;
use anyhow::{Context, Result, bail, ensure};

/// Far longer than any workload takes; a child that is still running then has hung.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// How often a running child is looked at: seldom enough not to disturb it.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What one child is to play.
#[derive(Clone, Copy, Debug)]
pub struct Play {
    /// The workload's name.
    pub workload: &'static str,
    /// Threads, or pairs of threads.
    pub threads: usize,
    /// Length of the workload.
    pub scale: f64,
}

/// Plays a workload in a new process of `binary`.
///
/// # Errors
/// If the child cannot be started, fails (because a check of the workload failed, for one), hangs, or reports nonsense.
pub fn play(binary: &Path, play: &Play) -> Result<Sample> {
    let args = [play.workload.to_owned(), play.threads.to_string(), play.scale.to_string()];
    let report = output_of(Command::new(binary).args(args))?;
    report.parse().with_context(|| format!("the child reported `{}`", report.trim()))
}

/// Runs `command` to its end, within the time limit, and gives what it printed.
///
/// # Errors
/// If it cannot be started, does not succeed, or takes too long.
pub fn output_of(command: &mut Command) -> Result<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let status = wait(&mut child)?;
    ensure!(status.success(), "the child ended with {status}");
    // A report is one short line, which the pipe holds until it is read.
    let mut report = String::new();
    child.stdout.take().context("the child's output was not kept")?.read_to_string(&mut report)?;
    Ok(report)
}

fn wait(child: &mut Child) -> Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > TIME_LIMIT {
            child.kill()?;
            child.wait()?;
            bail!("the child hung and was killed after {} s", TIME_LIMIT.as_secs());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::{Play, output_of, play};

    #[test]
    fn output_is_read_and_failure_reported() {
        assert_eq!(output_of(Command::new("echo").arg("word")).expect("echo works"), "word\n");
        let error = output_of(&mut Command::new("false")).expect_err("false fails");
        assert!(error.to_string().contains("exit status: 1"));
        assert!(output_of(&mut Command::new("./no/such/binary")).is_err());
    }

    #[test]
    fn nonsense_is_not_a_sample() {
        let nothing = Play { workload: "churn", threads: 1, scale: 1.0 };
        let error = play(Path::new("echo"), &nothing).expect_err("echo prints its arguments");
        assert!(error.to_string().contains("churn 1 1"));
    }
}
