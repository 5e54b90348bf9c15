//! Whether a command ends well, in time. Other parts that need the output of a program use [`run`] too.
//!
//! Invariant: at most one child of a probe at a time; a child that is late is killed with all that it started.

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::step::Step;
use super::{Ask, Failure, Probe};

/// How often a child is asked whether it has ended, at first and at most.
const STEP_MS: [u16; 2] = [1, 20];

/// How much of a child's output is kept: the end of it.
const OUTPUT_BYTES: usize = 4096;

/// How long a killed child is waited for.
const KILL_WAIT: Duration = Duration::from_millis(50);

/// How a program ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By itself, and the end of what it printed to the pipe that it was given.
    Exit(ExitStatus, String),
    /// It took too long and was killed. It is here if it would not die.
    Late(Option<Child>),
}

/// Runs a program whose standard output or standard error may be a pipe, in a process group of its own.
/// # Errors
/// It cannot be started.
pub(crate) fn run(command: &mut Command, deadline: Instant) -> io::Result<Ended> {
    attend(start(command)?, deadline)
}

fn start(command: &mut Command) -> io::Result<Child> {
    command.stdin(Stdio::null()).process_group(0).spawn()
}

/// Waits for a child, and reads its pipe.
fn attend(mut child: Child, deadline: Instant) -> io::Result<Ended> {
    match (child.stdout.take(), child.stderr.take()) {
        (Some(pipe), _) => attend_with(child, Some(pipe), deadline),
        (None, pipe) => attend_with(child, pipe, deadline),
    }
}

fn attend_with<P: Read + AsFd>(mut child: Child, mut pipe: Option<P>, deadline: Instant) -> io::Result<Ended> {
    if let Some(pipe) = &pipe {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let (mut output, mut step_ms) = (Vec::new(), STEP_MS[0]);
    loop {
        // First the end, then the rest of the output.
        let status = child.try_wait()?;
        drain(&mut pipe, &mut output);
        if let Some(status) = status {
            return Ok(Ended::Exit(status, String::from_utf8_lossy(&output).trim().to_owned()));
        }
        if Instant::now() >= deadline {
            return Ok(Ended::Late(kill(child)));
        }
        rest(pipe.as_ref(), step_ms);
        step_ms = (step_ms * 2).min(STEP_MS[1]);
    }
}

/// Waits until there is output, or a moment.
fn rest<P: AsFd>(pipe: Option<&P>, step_ms: u16) {
    match pipe {
        // Whatever it says, the pipe is read next.
        Some(pipe) => drop(poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], PollTimeout::from(step_ms))),
        None => thread::sleep(Duration::from_millis(step_ms.into())),
    }
}

/// Reads what there is. A pipe that has ended is closed.
fn drain<P: Read>(pipe: &mut Option<P>, output: &mut Vec<u8>) {
    let mut buffer = [0; 1024];
    while let Some(open) = pipe {
        match open.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(count) => {
                output.extend_from_slice(&buffer[..count]);
                let surplus = output.len().saturating_sub(OUTPUT_BYTES);
                output.drain(..surplus);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => *pipe = None,
        }
    }
}

/// Kills a child and its group. Gives it back if it does not die: it may hang in the kernel.
fn kill(mut child: Child) -> Option<Child> {
    // It has not been waited for, so nobody else has its number.
    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    let deadline = Instant::now() + KILL_WAIT;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return None;
        }
        thread::sleep(Duration::from_millis(1));
    }
    Some(child)
}

/// Such a probe.
#[derive(Debug)]
pub(super) struct Shell {
    line: String,
    /// A child that would not die.
    left: Option<Child>,
}

impl Shell {
    pub(super) fn new(line: String) -> Self {
        Shell { line, left: None }
    }
}

impl Probe for Shell {
    fn ask(&mut self, ask: &Ask) -> Result<(), Failure> {
        if let Some(child) = &mut self.left {
            if matches!(child.try_wait(), Ok(None)) {
                return Err(format!("an earlier command, process {}, hangs and cannot be killed", child.id()).into());
            }
            self.left = None;
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &self.line]).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = start(&mut command).map_err(|error| format!("the command cannot be started: {error}"))?;
        ask.progress.set(Step::Command);
        match attend(child, ask.deadline) {
            Err(error) => Err(format!("the command cannot be waited for: {error}").into()),
            Ok(Ended::Exit(status, _)) if status.success() => Ok(()),
            Ok(Ended::Exit(status, errors)) => Err(match errors.lines().last() {
                Some(last) => format!("{status}: {last}").into(),
                None => status.to_string().into(),
            }),
            Ok(Ended::Late(left)) => {
                self.left = left;
                Err(ask.late())
            }
        }
    }
}
