//! Whether the service has touched a file lately.
//!
//! Invariant: once the file has been seen, its age is counted by CLOCK_MONOTONIC; setting the clock on the wall raises
//! no alarm.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use super::duration::show;
use super::step::Step;
use super::{Ask, Failure, Probe};
use crate::clock::now_ns;

/// Such a probe.
#[derive(Debug)]
pub(super) struct HeartbeatFile {
    path: PathBuf,
    older_ns: u64,
    seen: Option<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    modified: SystemTime,
    /// When the file was touched, by the other clock.
    touched_ns: u64,
    /// When it was looked at last.
    looked_ns: u64,
}

impl HeartbeatFile {
    pub(super) fn new(path: PathBuf, older_ns: u64) -> Self {
        HeartbeatFile { path, older_ns, seen: None }
    }

    /// When a file of that time of change was touched, by CLOCK_MONOTONIC.
    fn touched_ns(&mut self, modified: SystemTime, wall: SystemTime, now_ns: u64) -> u64 {
        let age_ns = wall.duration_since(modified).map_or(0, super::duration::ns);
        let touched_ns = match self.seen {
            Some(seen) if seen.modified == modified => seen.touched_ns,
            // Since it was looked at last, whatever the clock on the wall says.
            Some(seen) => now_ns.saturating_sub(age_ns).max(seen.looked_ns),
            None => now_ns.saturating_sub(age_ns),
        };
        self.seen = Some(Seen { modified, touched_ns, looked_ns: now_ns });
        touched_ns
    }
}

impl Probe for HeartbeatFile {
    fn ask(&mut self, ask: &Ask) -> Result<(), Failure> {
        ask.progress.set(Step::Files);
        let modified = fs::metadata(&self.path).and_then(|file| file.modified());
        let modified = modified.map_err(|error| format!("{}: {error}", self.path.display()))?;
        let now_ns = now_ns();
        let touched_ns = self.touched_ns(modified, SystemTime::now(), now_ns);
        let age_ns = now_ns.saturating_sub(touched_ns);
        if age_ns <= self.older_ns {
            return Ok(());
        }
        Err(Failure { what: format!("the file was touched {} ago", show(age_ns)), since_ns: Some(touched_ns) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_clock_on_the_wall_counts_only_at_first() {
        let mut probe = HeartbeatFile::new(PathBuf::new(), 0);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let second = 1_000_000_000;
        assert_eq!(probe.touched_ns(at(1000), at(1003), 50 * second), 47 * second);
        // The clock is set back, and forth, while the file stays as it is.
        assert_eq!(probe.touched_ns(at(1000), at(500), 51 * second), 47 * second);
        assert_eq!(probe.touched_ns(at(1000), at(9000), 52 * second), 47 * second);
        // The file is touched; the clock is an hour ahead of the file.
        assert_eq!(probe.touched_ns(at(1007), at(4600), 54 * second), 52 * second);
        assert_eq!(probe.touched_ns(at(2000), at(1990), 55 * second), 55 * second);
    }
}
