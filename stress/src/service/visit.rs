//! The visit of the clients: the time in which they ask a server, waited for by a thread of its own.
//!
//! The scenario [`service`](crate::scenario::service) starts the thread before it begins and joins it after it is over,
//! as both takes `mmap_lock` for writing.

use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::load::{self, LoadPlan};
use super::load_report::LoadReport;
use super::serving::joined;
use crate::talk::{self, Line};

/// How long before the end of the warm-up the harness is asked to let go of memory for the doubling: as long as that
/// takes, so that it disturbs nothing that is measured.
pub const LETTING_GO_MS: u64 = 300;

/// The time in which the clients are there.
pub struct Visit {
    /// What the clients do.
    pub plan: LoadPlan,
    /// What the doubling touches, where nothing has touched it before.
    pub touches_bytes: Option<u64>,
    /// Whether a harness listens and answers.
    pub is_watched: bool,
}

impl Visit {
    /// Waits until the clients are done. Without a harness they run in this process.
    fn wait(&self) -> Result<Option<Box<LoadReport>>, String> {
        if !self.is_watched {
            return load::run(&self.plan).map(|report| Some(Box::new(report)));
        }
        talk::say(&Line::Listening { address: self.plan.address.to_string() })?;
        if let Some(bytes) = self.touches_bytes {
            // This thread asks, as it is the one that hears what the harness answers from now on. If the clients should
            // be done already, the first answer is theirs: both are waited for.
            thread::sleep(Duration::from_millis(self.plan.warm_up_ms.saturating_sub(LETTING_GO_MS)));
            talk::ask(&Line::About { bytes })?;
        }
        talk::hear()?;
        Ok(None)
    }
}

/// The thread that waits for the clients.
pub struct Waiting {
    turns: Sender<()>,
    thread: JoinHandle<Result<(), String>>,
}

impl Waiting {
    /// Starts the thread, which waits for [`go`](Self::go) and hands over what the visit came to.
    pub fn start(
        visit: Visit,
        hand_over: impl FnOnce(Result<Option<Box<LoadReport>>, String>) + Send + 'static,
    ) -> Result<Self, String> {
        let (turns, turn) = mpsc::channel();
        let wait = move || {
            // If the main thread gives up, there is no turn.
            if turn.recv().is_ok() {
                hand_over(visit.wait());
                let _ = turn.recv();
            }
            Ok(())
        };
        let thread = thread::Builder::new().name("clients".to_owned()).spawn(wait);
        let thread = thread.map_err(|error| format!("the clients could not be waited for: {error}"))?;
        Ok(Self { turns, thread })
    }

    /// Lets the clients begin.
    pub fn go(&self) {
        // A thread that is gone says why when it is joined.
        let _ = self.turns.send(());
    }

    /// Lets the thread end.
    pub fn end(self) -> Result<(), String> {
        drop(self.turns);
        joined(self.thread)
    }
}
