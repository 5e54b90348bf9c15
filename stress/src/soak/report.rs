//! What a soak tells: while it runs, when it has ended well, and why it has not.

use std::io;

use serde::{Deserialize, Serialize};

use super::faults::FaultCounts;
use super::plan::{PlanError, SoakPlan};
use super::tally::Counts;
use super::violation::Violation;

/// How far a soak is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Since the beginning.
    pub elapsed_ms: u64,
    /// What was done.
    pub counts: Counts,
    /// What was injected.
    pub faults: FaultCounts,
    /// Bytes in live blocks.
    pub live_bytes: u64,
}

/// A soak that found nothing wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoakReport {
    /// What was asked for.
    pub plan: SoakPlan,
    /// How long it took.
    pub elapsed_ms: u64,
    /// What was done.
    pub counts: Counts,
    /// What was injected.
    pub faults: FaultCounts,
    /// Why no faults could be injected by the kernel, if they were wanted.
    pub faults_refused: Option<String>,
    /// The most bytes that live blocks had together.
    pub peak_bytes: u64,
    /// Steps of each thread.
    pub thread_steps: Vec<u64>,
    /// A number for each thread that differs if any of its steps was another.
    pub thread_digests: Vec<u64>,
}

/// Why a soak ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum SoakFailure {
    /// The plan cannot be followed.
    #[error("{0}")]
    Plan(#[from] PlanError),
    /// The system gave too little to begin.
    #[error("the soak cannot begin: {0}; free some memory, or choose fewer threads")]
    Setup(#[from] io::Error),
    /// The allocator broke a promise.
    #[error("{violation}; replay it with --seed {} --steps {} --threads {} --bytes-most {}{}", plan.seed,
        violation.step, plan.threads, plan.bytes_most, switches(plan))]
    Violation {
        /// What was asked for.
        plan: SoakPlan,
        /// What was broken.
        violation: Box<Violation>,
    },
    /// A thread does not come to an end of its step.
    #[error("seed {} thread {thread} step {step}: no progress in {stall_ms} ms, the allocator has hung; replay it with \
        --seed {} --steps {step} --threads {} --bytes-most {}{}", plan.seed, plan.seed, plan.threads, plan.bytes_most,
        switches(plan))]
    Stalled {
        /// What was asked for.
        plan: SoakPlan,
        /// The thread.
        thread: usize,
        /// The step that it is at.
        step: u64,
        /// How long it was waited for.
        stall_ms: u64,
    },
}

/// The switches that the command line needs for the plan.
fn switches(plan: &SoakPlan) -> &'static str {
    match (plan.faults, plan.forks) {
        (true, true) => "",
        (false, true) => " --no-faults",
        (true, false) => " --no-forks",
        (false, false) => " --no-faults --no-forks",
    }
}
