//! A command that the trap has started, and the processes that come from it.
//!
//! Invariant: the command is a child that is waited for here alone, so its number stays its own until its end has been
//! told. What it starts is found by parentage; a daemon, which leaves its parent, is lost: watch its unit or cgroup.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::{Child, ExitStatus};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process;

/// Such a command.
#[derive(Debug)]
pub(super) struct Command {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Command {
    /// Starts it, with the standard streams of the trap.
    pub(super) fn start(words: &[OsString]) -> Result<Self> {
        let (program, arguments) = words.split_first().context("the command is missing")?;
        let mut command = std::process::Command::new(program);
        let child = command.args(arguments).spawn();
        let child = child.with_context(|| format!("`{}` cannot be started", program.to_string_lossy()))?;
        Ok(Command { child, ended: None })
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// It and all that it has started, as far as they still run.
    pub(super) fn processes(&mut self) -> BTreeSet<i32> {
        if self.ended().is_some() {
            return BTreeSet::new();
        }
        let (mut found, mut left) = (BTreeSet::new(), vec![self.pid()]);
        while let Some(pid) = left.pop() {
            if found.insert(pid) {
                left.extend(process::children(pid));
            }
        }
        // The dead that nobody has waited for are no processes to watch.
        found.retain(|pid| process::stat(*pid).is_ok_and(|stat| !stat.has_ended()));
        found
    }

    /// Sends it a signal.
    pub(super) fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended().is_some() {
            return Ok(());
        }
        kill(Pid::from_raw(self.pid()), signal).with_context(|| format!("{signal} cannot be passed on to the command"))
    }
}
