//! What a soak is told.

use serde::{Deserialize, Serialize};

use super::script::SLOTS;

/// The most threads of one soak.
pub const THREADS_MOST: usize = 256;
/// The least memory per thread: what a script needs to do something of each kind.
pub const THREAD_BYTES_LEAST: u64 = 4 << 20;

/// A soak. Plans with equal seed, threads and memory have equal scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoakPlan {
    /// What all random choices follow from.
    pub seed: u64,
    /// When it ends.
    pub length: Length,
    /// How many threads work at once.
    pub threads: usize,
    /// The most bytes in live blocks.
    pub bytes_most: u64,
    /// Whether faults are injected.
    pub faults: bool,
    /// Whether children are forked.
    pub forks: bool,
}

/// How long a soak goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// So many milliseconds.
    TimeMs(u64),
    /// So many steps of each thread.
    Steps(u64),
}

impl SoakPlan {
    /// The bytes that blocks held by one thread may have; half as much again may be on its way to each.
    pub const fn held_bytes_most(&self) -> u64 {
        self.thread_bytes() / 4 * 3
    }

    /// The bytes that may be on their way to one thread.
    pub const fn mail_bytes_most(&self) -> u64 {
        self.thread_bytes() / 4
    }

    const fn thread_bytes(&self) -> u64 {
        self.bytes_most / if self.threads == 0 { 1 } else { self.threads as u64 }
    }

    /// Says what is wrong with the plan, if anything is.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.threads == 0 || self.threads > THREADS_MOST {
            return Err(PlanError::Threads(self.threads));
        }
        if self.thread_bytes() < THREAD_BYTES_LEAST {
            return Err(PlanError::Bytes(self.bytes_most, self.threads as u64 * THREAD_BYTES_LEAST));
        }
        Ok(())
    }

    /// The most blocks that can be live at once: those held and those on their way.
    pub(super) const fn blocks_most(&self) -> usize {
        2 * self.threads * SLOTS
    }

    /// The step at which each thread ends, if that was chosen.
    pub const fn steps_most(&self) -> Option<u64> {
        match self.length {
            Length::Steps(steps) => Some(steps),
            Length::TimeMs(_) => None,
        }
    }
}

/// A plan that cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too many threads, or none.
    #[error("a soak of {0} threads cannot be made: choose 1 to {THREADS_MOST}")]
    Threads(usize),
    /// Too little memory.
    #[error("{0} bytes are too few for so many threads: allow at least {1}, or fewer threads")]
    Bytes(u64, u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_that_cannot_be_followed_are_refused() {
        let length = Length::Steps(1);
        let plan = SoakPlan { seed: 1, length, threads: 4, bytes_most: 64 << 20, faults: false, forks: false };
        assert_eq!(plan.check(), Ok(()));
        assert_eq!(SoakPlan { threads: 0, ..plan }.check(), Err(PlanError::Threads(0)));
        assert_eq!(SoakPlan { threads: 257, ..plan }.check(), Err(PlanError::Threads(257)));
        assert_eq!(SoakPlan { bytes_most: 1 << 20, ..plan }.check(), Err(PlanError::Bytes(1 << 20, 16 << 20)));
        assert!(plan.threads as u64 * (plan.held_bytes_most() + plan.mail_bytes_most()) <= plan.bytes_most);
    }
}
