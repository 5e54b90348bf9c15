//! The flight recorder: the latest intervals of the watched processes, so that a capture holds what was before it
//! began. Filled from a source, emptied into a capture.
//!
//! Invariant: at most as many intervals as was agreed on, none that ended earlier than the agreed time before the
//! newest; memory is bounded by the former. While a capture is under way nothing ages, and when there are too many,
//! those outside of the frozen time go instead of the oldest, then those that take up least of it: the beginning of a
//! freeze says most, and threads that have nothing to do sleep for longer than a freeze has them wait. Within the
//! frozen time, holds compete with holds alone: of ten thousand threads each waits for longer than the one hold that
//! they all wait for.

use std::collections::{HashSet, VecDeque};

use crate::event::{Interval, Kind, Sleep, Thread};
use crate::stack::{StackId, StackPair, Stacks};

/// How often stacks that nothing refers to any more are dropped: when there are more than so many for each interval.
const STACKS_PER_INTERVAL: usize = 4;
/// If one part in so many of the intervals is outside of the frozen time, it is enough that some of those go. To go
/// through all intervals for fewer would be dear.
const OUTSIDE_PART: usize = 8;

/// For so many intervals at most there is memory from the beginning.
const TOUCHED_MAX: usize = 1 << 16;
/// No interval of anybody.
const BLANK: Interval = Interval {
    kind: Kind::OffCpu { sleep: Sleep::Other, waker: None },
    thread: Thread { pid: 0, tid: 0, name: String::new() },
    owner_pid: 0,
    start_ns: 0,
    end_ns: 0,
    unfinished: false,
    call: None,
    stack: StackPair { kernel: None, user: None },
};

/// How much the recorder keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How far back, in nanoseconds.
    pub history_ns: u64,
    /// How many intervals at most. Some 300 bytes each, and as much for stacks.
    pub intervals_max: usize,
}

/// The latest intervals.
#[derive(Debug)]
pub struct Recorder {
    limits: Limits,
    intervals: VecDeque<Interval>,
    /// Stacks of the intervals.
    pub stacks: Stacks,
    newest_ns: u64,
    pin: Option<Pin>,
    /// What had ended before then may be missing.
    complete_from_ns: u64,
    dropped: u64,
}

/// What a capture under way wants to have kept.
#[derive(Clone, Copy, Debug)]
struct Pin {
    /// From then on nothing ages.
    from_ns: u64,
    /// From when to when the service is frozen: for ever, as long as it is not well again.
    frozen_ns: u64,
    thawed_ns: u64,
}

impl Pin {
    /// How much of the frozen time an interval takes up.
    fn frozen_within_ns(&self, one: &Interval) -> u64 {
        one.end_ns.min(self.thawed_ns).saturating_sub(one.start_ns.max(self.frozen_ns))
    }
}

/// The ids of the stacks that an interval refers to.
pub fn stacks_of(interval: &Interval) -> impl Iterator<Item = StackId> + '_ {
    let waker = match &interval.kind {
        Kind::OffCpu { waker: Some(waker), .. } => Some(waker.stack),
        _ => None,
    };
    [Some(interval.stack), waker].into_iter().flatten().flat_map(|pair| [pair.kernel, pair.user]).flatten()
}

impl Recorder {
    /// Empty.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        // Written to once: in the course of hours, what is kept wanders through all of it, and the trap is to take as
        // much memory from the beginning.
        let mut intervals = VecDeque::from(vec![BLANK; limits.intervals_max.min(TOUCHED_MAX)]);
        intervals.clear();
        Recorder { limits, intervals, stacks: Stacks::new(), newest_ns: 0, pin: None, complete_from_ns: 0, dropped: 0 }
    }

    /// Keeps intervals whose stacks are all in [`Recorder::stacks`], and lets go of what is too old or too much.
    pub fn keep(&mut self, intervals: impl IntoIterator<Item = Interval>) {
        for interval in intervals {
            self.newest_ns = self.newest_ns.max(interval.end_ns);
            if self.intervals.len() >= self.limits.intervals_max {
                self.make_room();
            }
            self.intervals.push_back(interval);
        }
        let oldest_ns = self.newest_ns.saturating_sub(self.limits.history_ns);
        let oldest_ns = self.pin.map_or(oldest_ns, |pin| pin.from_ns.min(oldest_ns));
        while self.intervals.front().is_some_and(|first| first.end_ns < oldest_ns) {
            self.intervals.pop_front();
        }
        if self.stacks.len() > STACKS_PER_INTERVAL * self.intervals.len().max(1024) {
            let used: HashSet<StackId> = self.intervals.iter().flat_map(stacks_of).collect();
            self.stacks.forget_all_but(&used);
        }
    }

    /// Lets go of the oldest; in a capture, of the shorter half of those outside of the frozen time. Where these are
    /// few, all of them go, and the holds or the others, whichever are more, that take up least of the frozen time.
    fn make_room(&mut self) {
        let Some(pin) = self.pin else {
            let oldest = self.intervals.pop_front();
            self.complete_from_ns = self.complete_from_ns.max(oldest.map_or(0, |oldest| oldest.end_ns));
            self.dropped += 1;
            return;
        };
        let is_outside = |one: &Interval| pin.frozen_within_ns(one) == 0;
        let is_hold = |one: &Interval| matches!(one.kind, Kind::Hold { .. });
        let before = self.intervals.len();
        let outside = self.intervals.iter().filter(|one| is_outside(one)).count();
        let holds = self.intervals.iter().filter(|one| is_hold(one) && !is_outside(one)).count();
        let are_enough = outside > 0 && outside >= before / OUTSIDE_PART;
        let are_holds_more = holds > (before - outside) / 2;
        let competes = |one: &Interval| is_outside(one) || (!are_enough && is_hold(one) == are_holds_more);
        let weight = |one: &Interval| (pin.frozen_within_ns(one), one.duration_ns());
        let mut weights: Vec<(u64, u64)> = self.intervals.iter().filter(|one| competes(one)).map(weight).collect();
        let middle = weights.len() / 2;
        let median = *weights.select_nth_unstable(middle).1;
        // Of those that weigh the same, every second one goes, the first at any rate.
        let mut is_kept = true;
        self.intervals.retain(|one| {
            let is_median = competes(one) && weight(one) == median;
            is_kept ^= is_median;
            !competes(one) || weight(one) > median || (is_median && is_kept)
        });
        self.dropped += (before - self.intervals.len()) as u64;
    }

    /// Keeps what ends after a time, until [`Recorder::unpin`], for a service that has been frozen since another.
    pub fn pin(&mut self, from_ns: u64, frozen_ns: u64) {
        self.pin = Some(Pin { from_ns, frozen_ns, thawed_ns: u64::MAX });
    }

    /// The service is well again since a time: what begins later says less.
    pub fn thawed(&mut self, at_ns: u64) {
        if let Some(pin) = &mut self.pin {
            pin.thawed_ns = pin.thawed_ns.min(at_ns);
        }
    }

    /// Lets intervals age again.
    pub fn unpin(&mut self) {
        self.pin = None;
    }

    /// The time from which on nothing that has ended is missing for want of room; 0 if nothing ever was.
    #[must_use]
    pub fn complete_from_ns(&self) -> u64 {
        self.complete_from_ns
    }

    /// What there is, the oldest first, more or less.
    pub fn intervals(&self) -> impl Iterator<Item = &Interval> {
        self.intervals.iter()
    }

    /// How many intervals there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.intervals.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// How many had to go before their time, since the recorder was made.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(start_ns: u64, end_ns: u64, stack: StackPair) -> Interval {
        Interval {
            kind: Kind::OffCpu { sleep: Sleep::Interruptible, waker: None },
            thread: Thread { pid: 1, tid: 2, name: "worker".into() },
            owner_pid: 1,
            start_ns,
            end_ns,
            unfinished: false,
            call: None,
            stack,
        }
    }

    #[test]
    fn the_latest_intervals_stay_and_the_oldest_go() {
        let mut recorder = Recorder::new(Limits { history_ns: 100, intervals_max: 4 });
        for end_ns in [10, 50, 60, 115] {
            recorder.keep([interval(0, end_ns, StackPair::default())]);
        }
        let ends = |recorder: &Recorder| recorder.intervals().map(|one| one.end_ns).collect::<Vec<_>>();
        assert_eq!((ends(&recorder), recorder.dropped()), (vec![50, 60, 115], 0));
        for end_ns in [116, 117] {
            recorder.keep([interval(0, end_ns, StackPair::default())]);
        }
        assert_eq!((ends(&recorder), recorder.dropped()), (vec![60, 115, 116, 117], 1));
    }

    #[test]
    fn a_capture_keeps_the_longest_from_its_beginning_on() {
        let mut recorder = Recorder::new(Limits { history_ns: 100, intervals_max: 8 });
        recorder.keep([interval(0, 50, StackPair::default()), interval(0, 60, StackPair::default())]);
        recorder.pin(40, 40);
        for start_ns in 1000..1100 {
            recorder.keep([interval(start_ns, start_ns + 1, StackPair::default())]);
            assert!(recorder.len() <= 8);
        }
        let ends: Vec<_> = recorder.intervals().take(2).map(|one| one.end_ns).collect();
        assert_eq!((ends, recorder.complete_from_ns()), (vec![50, 60], 0));
        assert_eq!(recorder.dropped() + recorder.len() as u64, 102);
        recorder.unpin();
        recorder.keep([interval(1100, 1101, StackPair::default())]);
        assert!(recorder.intervals().all(|one| one.end_ns >= 1001));
    }

    #[test]
    fn in_a_capture_no_wait_takes_the_place_of_a_hold() {
        let mut recorder = Recorder::new(Limits { history_ns: 100, intervals_max: 8 });
        recorder.pin(0, 0);
        let kind = Kind::Hold { mode: lock_trace::Mode::Write };
        recorder.keep([Interval { kind, ..interval(0, 50, StackPair::default()) }]);
        for start_ns in 0..1000 {
            recorder.keep([interval(start_ns, start_ns + 2000, StackPair::default())]);
            assert!(recorder.len() <= 8);
        }
        assert!(recorder.intervals().any(|one| matches!(one.kind, Kind::Hold { .. })));
    }

    /// Threads that wake up once a second, and in a freeze wait for less than that.
    #[test]
    fn in_a_capture_no_sleep_outside_of_the_freeze_takes_the_place_of_a_wait_in_it() {
        const MS: u64 = 1_000_000;
        const THREADS: u64 = 1000;
        let mut recorder = Recorder::new(Limits { history_ns: 10_000 * MS, intervals_max: 4 * THREADS as usize });
        let all = |start_ms: u64, end_ms: u64| {
            (0..THREADS).map(move |number| {
                let start_ns = start_ms * MS + number;
                interval(start_ns, start_ns + (end_ms - start_ms) * MS, StackPair::default())
            })
        };
        (0..4).for_each(|second| recorder.keep(all(second * 1000, second * 1000 + 1000)));
        recorder.pin(0, 4_500 * MS);
        // The last sleep reaches into the freeze, and has more of it outside than inside.
        recorder.keep(all(4_000, 5_000));
        let kind = Kind::Hold { mode: lock_trace::Mode::Write };
        recorder.keep([Interval { kind, ..interval(4_900 * MS, 5_000 * MS, StackPair::default()) }]);
        recorder.keep(all(5_000, 5_600));
        recorder.thawed(5_700 * MS);
        (0..9).for_each(|second| recorder.keep(all(5_700 + second * 1000, 6_700 + second * 1000)));
        assert!(recorder.len() <= 4 * THREADS as usize);
        let waits = recorder.intervals().filter(|one| one.duration_ns() == 600 * MS).count();
        assert_eq!(waits, THREADS as usize, "waits of the freeze went");
        assert!(recorder.intervals().any(|one| matches!(one.kind, Kind::Hold { .. })));
    }

    #[test]
    fn in_a_capture_what_takes_up_more_of_the_frozen_time_stays() {
        let mut recorder = Recorder::new(Limits { history_ns: 100, intervals_max: 8 });
        recorder.pin(0, 1000);
        for number in 0..100 {
            let longer_but_less_of_it = interval(0, 1000 + number % 10, StackPair::default());
            recorder.keep([interval(1000, 1119 - number, StackPair::default()), longer_but_less_of_it]);
            assert!(recorder.len() <= 8);
        }
        assert!(recorder.intervals().any(|one| (one.start_ns, one.end_ns) == (1000, 1119)));
    }

    #[test]
    fn what_went_for_want_of_room_is_told() {
        let mut recorder = Recorder::new(Limits { history_ns: u64::MAX, intervals_max: 2 });
        for end_ns in [5, 6, 7] {
            recorder.keep([interval(0, end_ns, StackPair::default())]);
        }
        assert_eq!((recorder.complete_from_ns(), recorder.dropped()), (5, 1));
    }

    #[test]
    fn stacks_do_not_pile_up() {
        let mut recorder = Recorder::new(Limits { history_ns: u64::MAX, intervals_max: 10 });
        for round in 0..100_000 {
            let user = recorder.stacks.intern(1, &[round, 7], 0);
            recorder.keep([interval(round, round + 1, StackPair { kernel: None, user })]);
            assert!(recorder.stacks.len() <= STACKS_PER_INTERVAL * 1024 + 1);
        }
        for kept in recorder.intervals() {
            assert!(recorder.stacks.get(kept.stack.user.unwrap()).is_some(), "a stack that is needed is gone");
        }
    }
}
