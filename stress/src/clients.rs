//! The clients of a service, in a process of their own beside the child. The [`harness`](crate::harness) starts them
//! when the child says that it is [`Listening`](crate::talk::Line::Listening), and answers the child when they are
//! done.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::candidates::LOAD;
use crate::process::{Ended, Running};
use crate::service::load::LoadPlan;
use crate::service::load_report::LoadReport;

/// The clients at work. They are killed if this is dropped.
#[derive(Debug)]
pub struct Clients {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<LoadReport, String>>>,
}

impl Clients {
    /// The program that plays them, which is built into the same folder as a child's.
    pub fn program_beside(child: &Path) -> PathBuf {
        child.with_file_name(LOAD)
    }

    /// Starts them. They are taken to hang when they take longer than `limit`.
    pub fn start(program: &Path, plan: &LoadPlan, limit: Duration) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.args(plan.arguments()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = Running::start(&mut command).map_err(|error| format!("{}: {error}", program.display()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || watch(running, &stop, limit)
        });
        Ok(Self { stop, thread: Some(thread) })
    }

    /// What they found, once they are done; `None` before, and once it was taken.
    pub fn report(&mut self) -> Option<Result<LoadReport, String>> {
        let thread = self.thread.take_if(|thread| thread.is_finished())?;
        Some(thread.join().unwrap_or_else(|_| Err("the thread that watches the clients panicked".to_owned())))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // Only the flag is told by it, so relaxed is enough.
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What they found is of no use any more.
            let _ = thread.join();
        }
    }
}

/// Waits for the clients' end and reads their report.
fn watch(mut running: Running, stop: &AtomicBool, limit: Duration) -> Result<LoadReport, String> {
    let (lines, messages) = (running.lines(), running.messages());
    let ended = running.wait(stop, limit).map_err(|error| format!("the clients: {error}"))?;
    let messages = messages.join().unwrap_or_default();
    match ended {
        Ended::Exited(status) if status.success() => {}
        Ended::Exited(status) => return Err(format!("the clients failed, {status}: {}", messages.trim())),
        Ended::Interrupted => return Err("the clients were stopped".to_owned()),
        Ended::TimedOut => return Err(format!("the clients did not end within {} s", limit.as_secs())),
    }
    let line = lines.iter().last().ok_or("the clients left without a report")?;
    serde_json::from_str(&line).map_err(|error| format!("the clients' report is not understood: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(program: &str) -> Result<LoadReport, String> {
        let text = ["--address=127.0.0.1:1", "--keys=9", "--put-key=9"];
        let plan = clap::Parser::try_parse_from(std::iter::once("load").chain(text)).unwrap();
        let mut clients = Clients::start(Path::new(program), &plan, Duration::from_secs(60))?;
        loop {
            if let Some(report) = clients.report() {
                return report;
            }
            thread::yield_now();
        }
    }

    #[test]
    fn failures_name_the_cause() {
        assert!(outcome("/bin/false").unwrap_err().starts_with("the clients failed, exit status: 1"));
        assert_eq!(outcome("/bin/true").unwrap_err(), "the clients left without a report");
        assert!(outcome("/bin/echo").unwrap_err().starts_with("the clients' report is not understood"));
        assert!(outcome("/nowhere/stress-load").unwrap_err().starts_with("/nowhere/stress-load: No such file"));
    }
}
