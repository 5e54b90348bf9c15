//! When the trap goes off: failures in a row, a pause after a capture, so many captures in an hour; and which captures
//! have to leave the disk for the next one. The main loop feeds it with answers of probes and does what it says.
//!
//! Invariant: no clock and no file in here; times are arguments, nanoseconds of CLOCK_MONOTONIC, and never go back. A
//! row of failures is captured at most once, however long it is. At most one capture is under way.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::probe::Answer;

/// An hour, in nanoseconds.
pub const HOUR_NS: u64 = 3_600_000_000_000;

/// When it goes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long nothing is captured after the end of a capture, in nanoseconds.
    pub cooldown_ns: u64,
    /// How many captures may begin within an hour.
    pub captures_per_hour: usize,
}

impl Default for Rules {
    /// A minute; six.
    fn default() -> Self {
        Rules { cooldown_ns: 60_000_000_000, captures_per_hour: 6 }
    }
}

/// Why a freeze was not captured when it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// A capture was under way: the freeze is in that one.
    Capturing,
    /// The last capture had ended only just now.
    Cooldown,
    /// There were enough captures in the last hour.
    Hourly,
}

/// How many freezes were found and not captured, each counted once for each reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressed {
    /// See [`Why::Capturing`].
    pub capturing: u64,
    /// See [`Why::Cooldown`].
    pub cooldown: u64,
    /// See [`Why::Hourly`].
    pub hourly: u64,
}

/// What set the trap off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onset {
    /// The number of the probe.
    pub probe: usize,
    /// From when on the service is taken to be frozen: the time of the first of the failures.
    pub frozen_ns: u64,
    /// How many failures in a row it took.
    pub failures: u32,
    /// What the last of them said.
    pub found: String,
}

/// What an answer leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A capture is to begin. [`Trigger::captured`] is owed when it is over.
    Capture(Onset),
    /// A freeze would have been captured, if not for that.
    Suppressed(Onset, Why),
    /// The probe that set the trap off had its first success since then.
    Recovered {
        /// The number of the probe.
        probe: usize,
        /// When the success was known.
        at_ns: u64,
    },
}

/// Failures in a row of one probe.
#[derive(Clone, Debug)]
struct Row {
    first_ns: u64,
    count: u32,
    /// It is in a capture.
    captured: bool,
    /// Reasons that it was counted for.
    suppressed: Vec<Why>,
}

#[derive(Clone, Debug)]
struct Watched {
    /// How many failures in a row are a freeze.
    failures: u32,
    row: Option<Row>,
}

/// The state of it.
#[derive(Clone, Debug)]
pub struct Trigger {
    rules: Rules,
    probes: Vec<Watched>,
    /// Starts of captures in the last hour; below zero are those from before the machine was started.
    starts: VecDeque<i64>,
    capturing: bool,
    /// When the last capture ended.
    ended_ns: Option<u64>,
    /// The probe that set off the last capture and has not recovered since.
    frozen: Option<usize>,
    suppressed: Suppressed,
}

impl Trigger {
    /// For probes that each take so many failures in a row.
    #[must_use]
    pub fn new(rules: Rules, failures: impl IntoIterator<Item = u32>) -> Self {
        let probes = failures.into_iter().map(|failures| Watched { failures: failures.max(1), row: None }).collect();
        Trigger {
            rules,
            probes,
            starts: VecDeque::new(),
            capturing: false,
            ended_ns: None,
            frozen: None,
            suppressed: Suppressed::default(),
        }
    }

    /// Takes an answer of a probe.
    ///
    /// # Panics
    /// There is no such probe.
    pub fn see(&mut self, probe: usize, answer: &Answer, now_ns: u64) -> Option<Event> {
        match &answer.failure {
            Some(found) => self.failed(probe, answer.frozen_ns(), found, now_ns),
            None => self.succeeded(probe, answer.ended_ns()),
        }
    }

    /// Whether a failure of a probe would be more than one of a row: begin a capture, or be told as suppressed.
    ///
    /// # Panics
    /// There is no such probe.
    #[must_use]
    pub fn would_go_off(&mut self, probe: usize, now_ns: u64) -> bool {
        let refusal = self.refusal(now_ns);
        let Watched { failures, row } = &self.probes[probe];
        let Some(row) = row else { return *failures == 1 };
        let is_told = row.captured || refusal.is_some_and(|why| row.suppressed.contains(&why));
        !is_told && row.count.saturating_add(1) >= *failures
    }

    fn succeeded(&mut self, probe: usize, at_ns: u64) -> Option<Event> {
        self.probes[probe].row = None;
        self.frozen.take_if(|frozen| *frozen == probe)?;
        Some(Event::Recovered { probe, at_ns })
    }

    fn failed(&mut self, probe: usize, frozen_ns: u64, found: &str, now_ns: u64) -> Option<Event> {
        let refusal = self.refusal(now_ns);
        let watched = &mut self.probes[probe];
        let fresh = || Row { first_ns: frozen_ns, count: 0, captured: false, suppressed: Vec::new() };
        let row = watched.row.get_or_insert_with(fresh);
        row.count = row.count.saturating_add(1);
        if row.captured || row.count < watched.failures {
            return None;
        }
        let onset = Onset { probe, frozen_ns: row.first_ns, failures: row.count, found: found.to_owned() };
        let Some(why) = refusal else {
            row.captured = true;
            self.capturing = true;
            self.frozen = Some(probe);
            self.starts.push_back(now_ns.cast_signed());
            return Some(Event::Capture(onset));
        };
        // What freezes during a capture is in it; all else may still be captured if it lasts.
        row.captured = why == Why::Capturing;
        if row.suppressed.contains(&why) {
            return None;
        }
        row.suppressed.push(why);
        *match why {
            Why::Capturing => &mut self.suppressed.capturing,
            Why::Cooldown => &mut self.suppressed.cooldown,
            Why::Hourly => &mut self.suppressed.hourly,
        } += 1;
        Some(Event::Suppressed(onset, why))
    }

    /// Why no capture may begin now.
    fn refusal(&mut self, now_ns: u64) -> Option<Why> {
        let hour_ago_ns = now_ns.cast_signed() - HOUR_NS.cast_signed();
        while self.starts.front().is_some_and(|start_ns| *start_ns <= hour_ago_ns) {
            self.starts.pop_front();
        }
        let cools = self.ended_ns.is_some_and(|ended_ns| now_ns < ended_ns.saturating_add(self.rules.cooldown_ns));
        if self.capturing {
            Some(Why::Capturing)
        } else if cools {
            Some(Why::Cooldown)
        } else if self.starts.len() >= self.rules.captures_per_hour {
            Some(Why::Hourly)
        } else {
            None
        }
    }

    /// Goes on from an earlier run: what was suppressed then, and when captures began, the oldest first. Times from
    /// before the machine was started are below zero.
    #[must_use]
    pub fn resume(mut self, suppressed: Suppressed, starts_ns: impl IntoIterator<Item = i64>) -> Self {
        self.suppressed = suppressed;
        self.starts = starts_ns.into_iter().collect();
        self
    }

    /// When captures began, of those that count for the bound of an hour, the oldest first.
    pub fn starts_ns(&self) -> impl Iterator<Item = i64> {
        self.starts.iter().copied()
    }

    /// The capture is over: its window has ended.
    pub fn captured(&mut self, now_ns: u64) {
        self.capturing = false;
        self.ended_ns = Some(now_ns);
    }

    /// The service has been restarted: what failed before does not count any more.
    pub fn forget_failures(&mut self) {
        for watched in &mut self.probes {
            watched.row = None;
        }
        self.frozen = None;
    }

    /// Whether a capture is under way.
    #[must_use]
    pub fn is_capturing(&self) -> bool {
        self.capturing
    }

    /// How many freezes were not captured, and why.
    #[must_use]
    pub fn suppressed(&self) -> Suppressed {
        self.suppressed
    }
}

/// Captures on disk, within a bound.
#[derive(Clone, Debug)]
pub struct Shelf<N> {
    bound_bytes: u64,
    /// Names and sizes, the oldest first.
    stored: VecDeque<(N, u64)>,
}

/// A capture is larger than all that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Its size.
    pub bytes: u64,
    /// The bound.
    pub bound_bytes: u64,
}

impl std::fmt::Display for TooLarge {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        let TooLarge { bytes, bound_bytes } = self;
        write!(formatter, "a capture of {bytes} bytes does not fit into the {bound_bytes} bytes that all may have")
    }
}

impl std::error::Error for TooLarge {}

impl<N> Shelf<N> {
    /// With the captures that are there, the oldest first.
    pub fn new(bound_bytes: u64, stored: impl IntoIterator<Item = (N, u64)>) -> Self {
        Shelf { bound_bytes, stored: stored.into_iter().collect() }
    }

    /// Puts a capture on, and gives the names of those that have to be deleted before it is written, the oldest first.
    /// # Errors
    /// It would not fit though all others were gone. Then nothing changes.
    pub fn put(&mut self, name: N, bytes: u64) -> Result<Vec<N>, TooLarge> {
        if bytes > self.bound_bytes {
            return Err(TooLarge { bytes, bound_bytes: self.bound_bytes });
        }
        let mut surplus = Vec::new();
        while self.used_bytes() > self.bound_bytes - bytes {
            let Some((oldest, _)) = self.stored.pop_front() else { break };
            surplus.push(oldest);
        }
        self.stored.push_back((name, bytes));
        Ok(surplus)
    }

    /// What all of them take.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.stored.iter().map(|(_, bytes)| *bytes).sum()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }
}

#[cfg(test)]
mod tests;
