//! What a request does at the moment, so that one without an answer says what it waits for: a port that takes no
//! connection and a service that does not answer are two freezes.
//!
//! Invariant: the probe's own thread alone sets the step; whoever counts the request as failed, that thread or the main
//! loop, reads it there and tells it in the words of [`Step::late`].

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::duration::show;

/// A part of a request that may hang.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Step {
    /// What the probe needs before it asks. A thread or a program that gets no processor does not come further.
    #[default]
    Start,
    /// Finds the addresses of a host.
    Lookup,
    /// Makes the connection: the kernel answers for the service, unless its queue is full.
    Connect,
    /// Agrees on keys, after the connection.
    Handshake,
    /// Has sent the request, and got nothing yet.
    Answer,
    /// Has got the head of the answer.
    Body,
    /// A program runs.
    Command,
    /// Reads what files or the kernel tell.
    Files,
}

impl Step {
    /// Why a request has failed that did this when its bound was over.
    pub(super) fn late(self, within_ns: u64) -> String {
        format!("no answer within {}: {self}", show(within_ns))
    }

    /// The same for one that was to begin while an earlier one did this.
    pub(super) fn late_behind(self, within_ns: u64, hangs_ns: u64) -> String {
        format!("no answer within {}: a request hangs for {}, {self}", show(within_ns), show(hangs_ns))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Step::Start => "starting",
            Step::Lookup => "looking up the name",
            Step::Connect => "connecting",
            Step::Handshake => "in the TLS handshake",
            Step::Answer => "waiting for the answer",
            Step::Body => "receiving the answer",
            Step::Command => "running the command",
            Step::Files => "reading files",
        })
    }
}

/// Where a probe's thread leaves word of its step.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Step>);

impl Progress {
    /// From now on it does this.
    pub(super) fn set(&self, step: Step) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    /// What it does.
    pub(super) fn step(&self) -> Step {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
