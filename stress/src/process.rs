//! A process that is watched while it runs, and that neither it nor what it starts outlives the wish to run it.
//!
//! [`candidates`](crate::candidates) runs the build, [`harness`](crate::harness) the children and
//! [`clients`](crate::clients) the clients through this.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// How often a running child and the wish to stop are looked at.
const POLL_PERIOD: Duration = Duration::from_millis(20);

/// A child process that does not outlive this value, and leads a process group that does not either.
#[derive(Debug)]
pub struct Running {
    child: Child,
    is_reaped: bool,
}

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
    /// Starts the command in a process group of its own: it does not get the terminal's Ctrl-C, so that it ends in one
    /// way only, and what it has started ends with it.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        Ok(Self { child, is_reaped: false })
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Collects what the process writes to its standard error, if that is a pipe.
    pub fn messages(&mut self) -> JoinHandle<String> {
        collect(self.child.stderr.take())
    }

    /// Receives the lines that the process writes to its standard output, if that is a pipe.
    pub fn lines(&mut self) -> Receiver<String> {
        let (sender, receiver) = mpsc::channel();
        if let Some(pipe) = self.child.stdout.take() {
            // Ends with the pipe; a line that is no text ends it as well.
            let send = move |line: io::Result<String>| line.is_ok_and(|line| sender.send(line).is_ok());
            thread::spawn(move || BufReader::new(pipe).lines().all(send));
        }
        receiver
    }

    /// The process's standard input, if that is a pipe and was not taken before.
    pub fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
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
                return self.kill().map(|_| Ended::Interrupted);
            }
            if self.has_ended()? {
                return self.kill().map(Ended::Exited);
            }
            if started.elapsed() > limit {
                return self.kill().map(|_| Ended::TimedOut);
            }
            meanwhile(POLL_PERIOD)?;
        }
    }

    /// Whether the process has ended; it stays to be reaped.
    fn has_ended(&self) -> io::Result<bool> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        Ok(waitid(Id::Pid(self.group()), flags)? != WaitStatus::StillAlive)
    }

    /// Kills what is left of the group and reaps the process, which keeps its status if it has ended before.
    fn kill(&mut self) -> io::Result<ExitStatus> {
        // Until the process is reaped nobody else is given its number.
        if !self.is_reaped {
            // Fails if nobody is left, which is what it is for.
            let _ = killpg(self.group(), Signal::SIGKILL);
        }
        let status = self.child.wait()?;
        self.is_reaped = true;
        Ok(status)
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.kill();
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
        !std::path::Path::new(&format!("/proc/{}", running.pid())).exists()
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
    fn what_a_process_started_ends_with_it() {
        // What is left behind holds the pipe open, so that the last line would come after an hour.
        for (script, is_interrupted) in [("sleep 3600 & echo words", false), ("sleep 3600 & sleep 3600", true)] {
            let mut running =
                Running::start(Command::new("/bin/sh").args(["-c", script]).stdout(Stdio::piped())).unwrap();
            let lines = running.lines();
            let ended = running.wait(&AtomicBool::new(is_interrupted), Duration::MAX).unwrap();
            match ended {
                Ended::Exited(status) => assert!(status.success() && lines.iter().eq(["words"]), "{status}"),
                ended => assert!(matches!(ended, Ended::Interrupted) && lines.iter().next().is_none()),
            }
        }
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
