//! What outlives the trap: when captures began, for the bound of an hour, and what was suppressed. Read at the start,
//! written when a capture begins, and at the end.
//!
//! Invariant: a state that cannot be read is told, and never keeps the trap from watching.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::trigger::{Suppressed, Trigger};

/// The state as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// When captures began, in milliseconds since 1970; those of the last hour.
    pub starts_unix_ms: Vec<u64>,
    /// What was suppressed, since the first trap that used the directory.
    pub suppressed: Suppressed,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("state.json")
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl State {
    /// Reads the state in a directory; empty if there is none.
    /// # Errors
    /// It cannot be read or understood.
    pub fn read(directory: &Path) -> io::Result<State> {
        match fs::read_to_string(path(directory)) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(error),
        }
    }

    /// That of a trigger, at a time on both clocks.
    #[must_use]
    pub fn of(trigger: &Trigger, now_ns: u64, wall: SystemTime) -> State {
        let ms_ago = |start_ns| now_ns.saturating_sub(start_ns) / 1_000_000;
        let starts_unix_ms =
            trigger.starts_ns().map(|start_ns| unix_ms(wall).saturating_sub(ms_ago(start_ns))).collect();
        State { starts_unix_ms, suppressed: trigger.suppressed() }
    }

    /// When captures began by this machine's monotonic clock. One from before the machine was started counts as from
    /// its start; one from the future, as a clock that was set back leaves it, as from now.
    pub fn starts_ns(&self, now_ns: u64, wall: SystemTime) -> impl Iterator<Item = u64> {
        let now_ms = unix_ms(wall);
        self.starts_unix_ms.iter().map(move |start_ms| {
            let ago_ns = now_ms.saturating_sub(*start_ms).saturating_mul(1_000_000);
            now_ns.saturating_sub(ago_ns)
        })
    }

    /// Writes it, as a whole or not at all.
    /// # Errors
    /// The disk is full or may not be written to.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let unfinished = directory.join(".state.json");
        fs::write(&unfinished, serde_json::to_string_pretty(self)?)?;
        fs::rename(unfinished, path(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::Rules;

    #[test]
    fn starts_survive_on_another_clock() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(State::read(directory.path()).unwrap(), State::default());
        let suppressed = Suppressed { capturing: 1, cooldown: 2, hourly: 3 };
        let second = 1_000_000_000;
        let starts_ns = [1000 * second, 1500 * second];
        let trigger = Trigger::new(Rules::default(), [1]).resume(suppressed, starts_ns);
        let wall = UNIX_EPOCH + Duration::from_secs(1_000_000);
        State::of(&trigger, 2000 * second, wall).write(directory.path()).unwrap();
        let state = State::read(directory.path()).unwrap();
        assert_eq!(state.suppressed, suppressed);
        // Another start of the machine, a hundred seconds later.
        let later: Vec<u64> = state.starts_ns(5000 * second, wall + Duration::from_secs(100)).collect();
        assert_eq!(later, [3900 * second, 4400 * second]);
        let just_booted: Vec<u64> = state.starts_ns(7 * second, wall).collect();
        assert_eq!(just_booted, [0, 0]);
        let set_back: Vec<u64> = state.starts_ns(7 * second, UNIX_EPOCH).collect();
        assert_eq!(set_back, [7 * second; 2]);
    }

    #[test]
    fn a_state_that_is_none_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(path(directory.path()), "{").unwrap();
        assert!(State::read(directory.path()).is_err());
    }
}
