//! What went wrong and was told. Held by the main loop, in which the same goes wrong fifty times a second.
//!
//! Invariant: each message is told once, and no more are remembered, or told, than a few.

use std::collections::HashSet;

use anyhow::Error;

use super::say;

/// Messages that are remembered.
const COMPLAINTS_MAX: usize = 100;

/// Things that were told and are not told again.
#[derive(Debug, Default)]
pub struct Complaints {
    told: HashSet<String>,
}

impl Complaints {
    /// Tells something, once.
    pub fn tell(&mut self, what: &str, error: &Error) {
        let text = format!("{what}: {error:#}");
        if self.told.len() < COMPLAINTS_MAX && self.told.insert(text.clone()) {
            say(text);
        }
    }
}
