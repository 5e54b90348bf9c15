//! Whether mmap_lock was held for writing, or waited for, over a bound. It asks nobody: the main loop shows it the
//! intervals that the source tells, those that are not over as well.
//!
//! Invariant: a failure is told as soon as it is seen; one interval is told more than once only as long as it lasts.

use lock_trace::Mode;

use super::Answer;
use super::duration::show;
use super::spec::LockTime;
use crate::event::{Interval, Kind};

/// Such a probe.
#[derive(Debug)]
pub(super) struct LockProbe {
    time: LockTime,
    over_ns: u64,
    every_ns: u64,
    next_ns: u64,
    /// The longest that was seen and not told yet.
    worst: Option<Worst>,
    /// Thread and start of the one that was told last, and the end of the turn in which that was.
    told: Option<(i32, u64, u64)>,
    /// A failure of this turn has been told.
    early: bool,
}

#[derive(Debug)]
struct Worst {
    tid: i32,
    start_ns: u64,
    duration_ns: u64,
    what: String,
}

impl LockProbe {
    /// The first turn begins at a time.
    pub(super) fn new(time: LockTime, over_ns: u64, every_ns: u64, first_ns: u64) -> Self {
        let next_ns = first_ns + every_ns;
        LockProbe { time, over_ns, every_ns: every_ns.max(1), next_ns, worst: None, told: None, early: false }
    }

    /// Takes note of an interval.
    pub(super) fn see(&mut self, interval: &Interval) {
        let doing = match (self.time, &interval.kind) {
            (LockTime::WriteHold, Kind::Hold { mode: Mode::Write }) => "held for writing",
            (LockTime::Wait, Kind::Wait { .. }) => "awaited",
            _ => return,
        };
        let duration_ns = interval.duration_ns();
        let longer = self.worst.as_ref().is_none_or(|worst| worst.duration_ns < duration_ns);
        if duration_ns <= self.over_ns || !longer || self.has_been_told(interval) {
            return;
        }
        let thread = &interval.thread;
        let whose = if interval.is_outsider() { " of another process" } else { "" };
        let so_far = if interval.unfinished { " so far" } else { "" };
        let what = format!(
            "mmap_lock was {doing} for {}{so_far} by thread {} ({}){whose}",
            show(duration_ns),
            thread.tid,
            thread.name
        );
        self.worst = Some(Worst { tid: thread.tid, start_ns: interval.start_ns, duration_ns, what });
    }

    /// Whether an interval was told, and was over before the next turn.
    fn has_been_told(&self, interval: &Interval) -> bool {
        self.told.is_some_and(|(tid, start_ns, turn_end_ns)| {
            (tid, start_ns) == (interval.thread.tid, interval.start_ns) && interval.end_ns < turn_end_ns
        })
    }

    /// The answer that is due, if one is: each turn has one, and a failure comes at once.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<Answer> {
        let due = now_ns >= self.next_ns;
        if !due && (self.early || self.worst.is_none()) {
            return None;
        }
        let turn_ns = self.next_ns;
        if due {
            self.next_ns += ((now_ns - self.next_ns) / self.every_ns + 1) * self.every_ns;
        }
        self.early = !due;
        let Some(worst) = self.worst.take() else {
            return Some(Answer { began_ns: turn_ns, took_ns: 0, failure: None, since_ns: None });
        };
        self.told = Some((worst.tid, worst.start_ns, self.next_ns));
        let (began_ns, took_ns) = (worst.start_ns, worst.duration_ns);
        Some(Answer { began_ns, took_ns, failure: Some(worst.what), since_ns: Some(began_ns) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Thread;
    use crate::stack::StackPair;

    fn interval(kind: Kind, start_ns: u64, end_ns: u64, unfinished: bool) -> Interval {
        let thread = Thread { pid: 1, tid: 7, name: "grower".into() };
        Interval { kind, thread, owner_pid: 1, start_ns, end_ns, unfinished, call: None, stack: StackPair::default() }
    }

    fn hold(start_ns: u64, end_ns: u64, unfinished: bool) -> Interval {
        interval(Kind::Hold { mode: Mode::Write }, start_ns, end_ns, unfinished)
    }

    /// Holds over 100, a turn every 1000 from 0 on.
    fn probe() -> LockProbe {
        LockProbe::new(LockTime::WriteHold, 100, 1000, 0)
    }

    /// When, how long, and whether it failed.
    fn take(probe: &mut LockProbe, now_ns: u64) -> Option<(u64, u64, bool)> {
        probe.take(now_ns).map(|answer| (answer.began_ns, answer.took_ns, answer.failure.is_some()))
    }

    #[test]
    fn every_turn_without_a_long_hold_is_a_success() {
        let mut probe = probe();
        for other in [
            hold(10, 110, false),
            interval(Kind::Hold { mode: Mode::Read }, 0, 500, false),
            interval(Kind::Wait { mode: Mode::Write }, 0, 500, false),
        ] {
            probe.see(&other);
        }
        assert_eq!(take(&mut probe, 999), None);
        assert_eq!(take(&mut probe, 1010), Some((1000, 0, false)));
        assert_eq!(take(&mut probe, 1020), None);
        assert_eq!(take(&mut probe, 4500), Some((2000, 0, false)));
        assert_eq!(take(&mut probe, 4999), None);
    }

    #[test]
    fn a_long_hold_fails_at_once_and_counts_once() {
        let mut probe = probe();
        probe.see(&hold(10, 140, true));
        let answer = probe.take(140).unwrap();
        assert_eq!((answer.began_ns, answer.took_ns, answer.frozen_ns()), (10, 130, 10));
        let failure = answer.failure.unwrap();
        assert_eq!(failure, "mmap_lock was held for writing for 0.13 us so far by thread 7 (grower)");
        probe.see(&hold(10, 200, false));
        assert_eq!(take(&mut probe, 220), None);
        assert_eq!(take(&mut probe, 1000), Some((1000, 0, false)));
    }

    #[test]
    fn a_hold_that_goes_on_fails_in_every_turn() {
        let mut probe = probe();
        let mut failures = Vec::new();
        for now_ns in (20..3000).step_by(20) {
            probe.see(&hold(10, now_ns, true));
            failures.extend(take(&mut probe, now_ns));
        }
        let told_at: Vec<u64> = failures.iter().map(|(began_ns, took_ns, _)| began_ns + took_ns).collect();
        assert!(failures.iter().all(|(began_ns, _, failed)| *failed && *began_ns == 10));
        assert_eq!(told_at, [120, 1000, 2000], "at once, then once a turn");
    }

    #[test]
    fn waits_are_seen_by_the_other_kind_alone() {
        let mut probe = LockProbe::new(LockTime::Wait, 100, 1000, 0);
        probe.see(&hold(10, 500, false));
        assert_eq!(take(&mut probe, 500), None);
        probe.see(&interval(Kind::Wait { mode: Mode::Read }, 10, 500, false));
        assert_eq!(take(&mut probe, 500), Some((10, 490, true)));
    }
}
