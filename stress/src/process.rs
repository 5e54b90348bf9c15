//! A process that is watched while it runs and does not outlive the wish to run it.
//!
//! [`harness`](crate::harness) runs both the build and the children through this.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a running child and the wish to stop are looked at.
const POLL_PERIOD: Duration = Duration::from_millis(20);

/// A child process that does not outlive this value.
#[derive(Debug)]
pub struct Running(Child);

/// How the wait for a child ended; in the last two cases it was killed.
#[derive(Debug)]
pub enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// The user asked to stop.
    Interrupted,
    /// The limit was over.
    TimedOut,
}

impl Running {
    /// Starts the command.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }

    /// Collects what the process writes to its standard error, if that is a pipe.
    pub fn messages(&mut self) -> JoinHandle<String> {
        collect(self.0.stderr.take())
    }

    /// Receives the lines that the process writes to its standard output, if that is a pipe.
    pub fn lines(&mut self) -> Receiver<String> {
        let (sender, receiver) = mpsc::channel();
        if let Some(pipe) = self.0.stdout.take() {
            // Ends with the pipe; a line that is no text ends it as well.
            let send = move |line: io::Result<String>| line.is_ok_and(|line| sender.send(line).is_ok());
            thread::spawn(move || BufReader::new(pipe).lines().all(send));
        }
        receiver
    }

    /// The process's standard input, if that is a pipe and was not taken before.
    pub fn input(&mut self) -> Option<ChildStdin> {
        self.0.stdin.take()
    }

    /// Waits for the end. The process is killed and reaped if `interrupted` is set or it takes longer than `limit`.
    pub fn wait(&mut self, interrupted: &AtomicBool, limit: Duration) -> io::Result<Ended> {
        self.wait_busily(interrupted, limit, |time| {
            thread::sleep(time);
            Ok(())
        })
    }

    /// Like [`wait`](Self::wait); between two looks `meanwhile` is called, which should take about the time it
    /// is given.
    pub fn wait_busily(
        &mut self,
        interrupted: &AtomicBool,
        limit: Duration,
        mut meanwhile: impl FnMut(Duration) -> io::Result<()>,
    ) -> io::Result<Ended> {
        let started = Instant::now();
        loop {
            if interrupted.load(Ordering::Relaxed) {
                self.kill();
                return Ok(Ended::Interrupted);
            }
            if let Some(status) = self.0.try_wait()? {
                return Ok(Ended::Exited(status));
            }
            if started.elapsed() > limit {
                self.kill();
                return Ok(Ended::TimedOut);
            }
            meanwhile(POLL_PERIOD)?;
        }
    }

    fn kill(&mut self) {
        // Both fail only if the child has been reaped already, which is what they are for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads a child's pipe to its end on a thread of its own, so that the child never waits for the reader.
fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Stdio;

    use super::*;

    fn cat() -> Running {
        Running::start(Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::piped())).unwrap()
    }

    fn is_gone(running: &Running) -> bool {
        // A process that was reaped is not there any more, and one that was only killed still is.
        !std::path::Path::new(&format!("/proc/{}", running.0.id())).exists()
    }

    #[test]
    fn a_process_that_should_stop_is_killed_and_reaped() {
        let mut running = cat();
        assert!(matches!(running.wait(&AtomicBool::new(true), Duration::MAX).unwrap(), Ended::Interrupted));
        assert!(is_gone(&running));
    }

    #[test]
    fn a_process_that_hangs_is_killed_and_reaped() {
        let mut running = cat();
        assert!(matches!(running.wait(&AtomicBool::new(false), Duration::ZERO).unwrap(), Ended::TimedOut));
        assert!(is_gone(&running));
    }

    #[test]
    fn output_is_collected_while_the_process_runs() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo words; echo trouble >&2"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::start(&mut command).unwrap();
        let (lines, messages) = (running.lines(), running.messages());
        let ended = running.wait(&AtomicBool::new(false), Duration::MAX).unwrap();
        assert!(matches!(ended, Ended::Exited(status) if status.success()), "{ended:?}");
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["words"]);
        assert_eq!(messages.join().unwrap(), "trouble\n");
    }

    #[test]
    fn a_process_can_be_answered_while_it_runs() {
        let mut running = cat();
        let (lines, mut input) = (running.lines(), running.input());
        let mut heard = Vec::new();
        let ended = running.wait_busily(&AtomicBool::new(false), Duration::MAX, |time| {
            // The second look ends the process by closing its input.
            if let Some(mut input) = input.take() {
                input.write_all(b"answer\n")?;
            }
            heard.extend(lines.recv_timeout(time));
            Ok(())
        });
        assert!(matches!(ended, Ok(Ended::Exited(status)) if status.success()), "{ended:?}");
        heard.extend(lines.iter());
        assert_eq!(heard, ["answer"]);
    }
}
