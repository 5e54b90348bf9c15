//! Health probes: each asks the watched service, again and again, whether it is well. Started and read by the main loop
//! through [`Board`]; `syntax` reads them from the command line, as a [`Spec`] each.
//!
//! Invariant: a probe that hangs delays nobody, costs no further thread, and has failed as soon as its bound is over.

mod board;
mod command;
pub mod duration;
mod heartbeat_file;
mod heartbeat_socket;
mod http;
mod lock;
mod options;
mod pressure;
mod resp;
mod schedule;
mod spec;
mod stalled;
mod step;
mod syntax;
mod tcp;

use std::time::{Duration, Instant};

pub use board::Board;
pub(crate) use command::{Ended, run};
pub use spec::{Kind, LockTime, Resource, Share, Spec};
use step::Progress;
pub use syntax::HELP;

/// What one request to a probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it was to begin, in nanoseconds of CLOCK_MONOTONIC.
    pub began_ns: u64,
    /// How long it took; its bound, if there was no answer within that.
    pub took_ns: u64,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// Since when what it found has lasted, if the probe can tell: a hold of mmap_lock began before it was asked about.
    pub since_ns: Option<u64>,
}

impl Answer {
    /// When it was known.
    #[must_use]
    pub fn ended_ns(&self) -> u64 {
        self.began_ns.saturating_add(self.took_ns)
    }

    /// From when on the service is taken to be frozen, if the request failed.
    #[must_use]
    pub fn frozen_ns(&self) -> u64 {
        self.since_ns.map_or(self.began_ns, |since_ns| since_ns.min(self.began_ns))
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    /// For the reader, such as `status 503`.
    what: String,
    /// See [`Answer::since_ns`].
    since_ns: Option<u64>,
}

impl From<String> for Failure {
    fn from(what: String) -> Self {
        Failure { what, since_ns: None }
    }
}

/// A request.
struct Ask<'a> {
    /// How long it may take.
    within: Duration,
    /// When that is over.
    deadline: Instant,
    /// The watched processes.
    pids: &'a [i32],
    /// Where the probe says what it does.
    progress: &'a Progress,
}

impl Ask<'_> {
    /// What is left of the time, if anything is.
    fn left(&self) -> Option<Duration> {
        left(self.deadline)
    }

    /// The failure of one that takes too long, the same as if the main loop had counted it.
    fn late(&self) -> Failure {
        self.progress.step().late(duration::ns(self.within)).into()
    }
}

/// What is left of the time until a deadline, if anything is.
fn left(deadline: Instant) -> Option<Duration> {
    deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}

/// Something that can be asked. It is asked on a thread of its own, which has [`board::STACK_BYTES`] of stack.
trait Probe: Send {
    /// Asks once, and tells [`Ask::progress`] what it does wherever that may hang. Whoever implements it takes care
    /// that it ends at the deadline, as far as that is possible; what does not is counted as failed all the same.
    fn ask(&mut self, ask: &Ask) -> Result<(), Failure>;
}
