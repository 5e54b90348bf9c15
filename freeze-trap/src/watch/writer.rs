//! Gives names to what was captured, has it explained, and writes it to the disk: on a thread of its own, so that the
//! source is read meanwhile.
//!
//! Invariant: every capture that is accepted leads to one [`Outcome`]. The source lives as long as a capture is here,
//! for the names of the kernel's functions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};

use super::capture::Evidence;
use super::disk::{Disk, Stored};
use super::maps::{self, Shared};
use super::own;
use super::state::State;
use crate::analysis::{self, Observed, explain};
use crate::freeze::Freeze;
use crate::symbols::Namer;

/// What waits for the capture that is being written. More captures are dropped, and told.
const WAITING_MAX: usize = 2;

/// Something to write.
#[derive(Debug)]
enum Job {
    /// A capture.
    Capture(Box<Evidence>),
    /// The state.
    State(State),
}

/// What became of a capture.
#[derive(Debug)]
pub struct Outcome {
    /// The answer in one sentence.
    pub sentence: String,
    /// Where it is, or why it is nowhere.
    pub stored: Result<Stored>,
}

/// The thread.
#[derive(Debug)]
pub struct Writer {
    jobs: Option<SyncSender<Job>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
    pending: usize,
}

/// Names and explains a freeze.
#[must_use]
pub fn explained(evidence: Evidence, namer: &mut Namer, maps: &Shared) -> Freeze {
    let stacks = namer.name(&evidence.stacks, evidence.stack_ids(), &maps::lock(maps));
    let observed = Observed {
        intervals: &evidence.intervals,
        stacks: &stacks,
        window: &evidence.window,
        calm_ns: analysis::calm_ns(&evidence.circumstances.probes, &evidence.window),
        totals: evidence.totals.as_ref().map(|(start, end)| (start, end)),
        throttled_ns: evidence.throttled_ns,
        cpus: evidence.circumstances.machine.cpus,
        running: &evidence.running,
    };
    explain(&observed, evidence.circumstances.clone())
}

/// The time of a capture as the name of its directory begins with it.
fn name(trigger_wall: &str) -> String {
    trigger_wall.split('.').next().unwrap_or_default().trim_end_matches('Z').replace(':', "-") + "Z"
}

fn keep_writing(jobs: &Receiver<Job>, outcomes: &Sender<Outcome>, disk: &Disk, maps: &Shared) {
    let mut namer = Namer::new();
    for job in jobs {
        let evidence = match job {
            Job::Capture(evidence) => evidence,
            Job::State(state) => {
                // It is written again at the end, where a failure is told.
                let _ = state.write(disk.directory());
                continue;
            }
        };
        // What goes wrong with one capture, as with a program whose debug information is broken, is no matter of the
        // next.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let freeze = explained(*evidence, &mut namer, maps);
            let stored = disk.store(&freeze, &name(&freeze.window.trigger_wall));
            Outcome { sentence: freeze.sentence, stored }
        }));
        let outcome = outcome.unwrap_or_else(|_| {
            namer = Namer::new();
            Outcome { sentence: "a freeze".to_owned(), stored: Err(anyhow!("explaining it has failed, as told above")) }
        });
        own::give_back();
        // Whether that can be was told when the trap started.
        let _ = own::lock_memory();
        if outcomes.send(outcome).is_err() {
            return;
        }
    }
}

impl Writer {
    /// Starts the thread.
    /// # Errors
    /// It cannot be started.
    pub fn start(disk: Disk, maps: Shared) -> Result<Writer> {
        let (jobs, received) = sync_channel(WAITING_MAX);
        let (sender, outcomes) = channel();
        let thread = thread::Builder::new().name("writer".into());
        let thread = thread.spawn(move || keep_writing(&received, &sender, &disk, &maps));
        let thread = thread.context("no thread for writing captures")?;
        Ok(Writer { jobs: Some(jobs), outcomes, thread: Some(thread), pending: 0 })
    }

    /// Hands a capture over. Gives whether there was room for it.
    #[must_use]
    pub fn write(&mut self, evidence: Evidence) -> bool {
        let accepted = self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(Job::Capture(Box::new(evidence))).is_ok());
        self.pending += usize::from(accepted);
        accepted
    }

    /// Has the state written, unless there is too much to do already.
    pub fn save(&self, state: State) {
        if let Some(jobs) = &self.jobs {
            // What finds no room is in the state that is written next.
            let _ = jobs.try_send(Job::State(state));
        }
    }

    /// What became of a capture, if that is known meanwhile.
    pub fn outcome(&mut self) -> Option<Outcome> {
        let outcome = self.outcomes.try_recv().ok()?;
        self.pending -= 1;
        Some(outcome)
    }

    /// How many captures are here.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending
    }
}

impl Drop for Writer {
    /// Waits for what is being written.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been printed when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_time_in_a_form_that_no_file_system_minds() {
        for wall in ["2026-11-27T23:25:01Z", "2026-11-27T23:25:01.123456789Z"] {
            assert_eq!(name(wall), "2026-11-27T23-25-01Z");
        }
    }
}
