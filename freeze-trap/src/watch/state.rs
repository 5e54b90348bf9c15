//! What outlives the trap: when captures began, for the bound of an hour, and what was suppressed. Read at the start,
//! written when a capture begins, and at the end.
//!
//! Invariant: a state that cannot be read is told, and never keeps the trap from watching.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::disk::own_file;
use crate::trigger::{HOUR_NS, Suppressed, Trigger};

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
        let ms_ago = |start_ns: i64| u64::try_from(now_ns.cast_signed() - start_ns).unwrap_or(0) / 1_000_000;
        let starts_unix_ms =
            trigger.starts_ns().map(|start_ns| unix_ms(wall).saturating_sub(ms_ago(start_ns))).collect();
        State { starts_unix_ms, suppressed: trigger.suppressed() }
    }

    /// When captures of the last hour began by this machine's monotonic clock, below zero before the machine was
    /// started. One from the future, as a clock that was set back leaves it, counts as from now.
    pub fn starts_ns(&self, now_ns: u64, wall: SystemTime) -> impl Iterator<Item = i64> {
        let now_ms = unix_ms(wall);
        let ago_ns =
            self.starts_unix_ms.iter().map(move |start_ms| now_ms.saturating_sub(*start_ms).saturating_mul(1_000_000));
        ago_ns.filter(|ago_ns| *ago_ns < HOUR_NS).map(move |ago_ns| now_ns.cast_signed() - ago_ns.cast_signed())
    }

    /// Writes it, as a whole or not at all.
    /// # Errors
    /// The disk is full or may not be written to.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let unfinished = directory.join(".state.json");
        // An earlier one may be left, or a link that somebody has put there.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => own_file(&unfinished)?.write_all(serde_json::to_string_pretty(self)?.as_bytes())?,
        }
        fs::rename(unfinished, path(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Answer;
    use crate::trigger::{Event, Rules, Why};

    #[test]
    fn starts_survive_on_another_clock() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(State::read(directory.path()).unwrap(), State::default());
        let suppressed = Suppressed { capturing: 1, cooldown: 2, hourly: 3 };
        let second = 1_000_000_000_i64;
        let at = |seconds: u64| seconds * 1_000_000_000;
        let starts_ns = [1000 * second, 1500 * second];
        let trigger = Trigger::new(Rules::default(), [1]).resume(suppressed, starts_ns);
        let wall = UNIX_EPOCH + Duration::from_secs(1_000_000);
        State::of(&trigger, at(2000), wall).write(directory.path()).unwrap();
        let state = State::read(directory.path()).unwrap();
        assert_eq!(state.suppressed, suppressed);
        // Another start of the machine, a hundred seconds later.
        let later: Vec<i64> = state.starts_ns(at(5000), wall + Duration::from_secs(100)).collect();
        assert_eq!(later, [3900 * second, 4400 * second]);
        let just_booted: Vec<i64> = state.starts_ns(at(7), wall).collect();
        assert_eq!(just_booted, [-993 * second, -493 * second], "before the machine was started");
        let set_back: Vec<i64> = state.starts_ns(at(7), UNIX_EPOCH).collect();
        assert_eq!(set_back, [7 * second; 2]);
    }

    #[test]
    fn a_start_counts_for_an_hour_though_the_machine_was_started_since() {
        let wall = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let state = State { starts_unix_ms: vec![1000, 996_400_000, 996_430_000], ..State::default() };
        // The machine runs for ten seconds; the last one began an hour ago but for half a minute.
        let now_ns = 10_000_000_000;
        let starts_ns: Vec<i64> = state.starts_ns(now_ns, wall).collect();
        assert_eq!(starts_ns, [-3_560_000_000_000]);
        let rules = Rules { captures_per_hour: 1, ..Rules::default() };
        let mut trigger = Trigger::new(rules, [1]).resume(Suppressed::default(), starts_ns);
        let failure = Answer { began_ns: 0, took_ns: 1, failure: Some("no".to_owned()), since_ns: None };
        assert!(matches!(trigger.see(0, &failure, now_ns), Some(Event::Suppressed(_, Why::Hourly))));
        assert!(matches!(trigger.see(0, &failure, now_ns + 30_000_000_000), Some(Event::Capture(_))));
    }

    #[test]
    fn a_state_is_not_written_through_a_link() {
        let (around, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let victim = around.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, directory.path().join(".state.json")).unwrap();
        let state = State { starts_unix_ms: vec![7], ..State::default() };
        state.write(directory.path()).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        assert_eq!(State::read(directory.path()).unwrap(), state);
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::symlink_metadata(path(directory.path())).unwrap());
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn a_state_that_is_none_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(path(directory.path()), "{").unwrap();
        assert!(State::read(directory.path()).is_err());
    }
}
