//! `--restart`: the command of `--exec`, started again whenever it has ended. Used by the main loop.
//!
//! Invariant: it is started with the limits that the trap was given, as the first time, and not more often than once a
//! second.

use anyhow::Result;

use super::own::Limits;
use crate::target::{Spec, Target};

/// Time between two starts, at least.
const PAUSE_NS: u64 = 1_000_000_000;

/// What is started again.
#[derive(Clone, Debug)]
pub struct Restart {
    spec: Spec,
    limits: Limits,
    next_ns: u64,
}

impl Restart {
    /// For a command that was started just now.
    #[must_use]
    pub fn new(spec: Spec, limits: Limits, now_ns: u64) -> Restart {
        Restart { spec, limits, next_ns: now_ns + PAUSE_NS }
    }

    /// Starts it again; `None` if that would be too early.
    /// # Errors
    /// It cannot be started, and is not tried again for as long as otherwise.
    pub fn start(&mut self, now_ns: u64) -> Option<Result<Target>> {
        if now_ns < self.next_ns {
            return None;
        }
        self.next_ns = now_ns + PAUSE_NS;
        Some(self.limits.as_given(|| Target::open(&self.spec)))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn a_second_lies_between_two_starts_also_of_those_that_fail() {
        let spec = |program: &str| Spec::Exec(vec![OsString::from(program)]);
        let limits = Limits::raise();
        for program in ["true", "/no/such/program"] {
            let mut restart = Restart::new(spec(program), limits, 5);
            assert!(restart.start(PAUSE_NS + 4).is_none());
            assert_eq!(restart.start(PAUSE_NS + 5).unwrap().is_ok(), program == "true");
            assert!(restart.start(2 * PAUSE_NS + 4).is_none());
            assert!(restart.start(2 * PAUSE_NS + 5).is_some());
        }
    }
}
