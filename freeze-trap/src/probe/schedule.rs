//! When a probe is asked, and what its requests came to. No clock of its own and no thread: `board` tells it the time.
//!
//! Invariant: one request at a time; each time at which one was to begin gets at most one answer, in order. While a
//! request hangs, the times that come after it fail as well, each when its own bound is over.

use std::collections::VecDeque;

use super::duration::show;
use super::step::Step;
use super::{Answer, Failure};

/// How many answers wait to be fetched; the oldest go first. Nobody who fetches them sees so many.
const ANSWERS_MAX: usize = 1024;

/// A request is not late before this, however fast answers are: threads are not run at once either.
const LATE_MIN_NS: u64 = 50_000_000;

/// A request under way.
#[derive(Debug)]
struct Asked {
    /// When it was to begin.
    slot_ns: u64,
    /// When it did.
    began_ns: u64,
    /// It has been counted as failed.
    failed: bool,
}

/// The requests of one probe.
#[derive(Debug)]
pub(super) struct Schedule {
    every_ns: u64,
    within_ns: u64,
    next_ns: u64,
    asked: Option<Asked>,
    answers: VecDeque<Answer>,
    /// What successes have taken lately, at most.
    usual_ns: u64,
}

impl Schedule {
    /// The first request begins at a time, the others follow.
    pub(super) fn new(first_ns: u64, every_ns: u64, within_ns: u64) -> Self {
        Schedule {
            every_ns: every_ns.max(1),
            within_ns,
            next_ns: first_ns,
            asked: None,
            answers: VecDeque::new(),
            usual_ns: 0,
        }
    }

    /// Begins a request if it is time to. Otherwise says how long that will be. Times that were missed are left out,
    /// but for the last.
    pub(super) fn begin(&mut self, now_ns: u64) -> Result<(), u64> {
        if now_ns < self.next_ns {
            return Err(self.next_ns - now_ns);
        }
        let missed = (now_ns - self.next_ns) / self.every_ns;
        let slot_ns = self.next_ns + missed * self.every_ns;
        self.next_ns = slot_ns + self.every_ns;
        self.asked = Some(Asked { slot_ns, began_ns: now_ns, failed: false });
        Ok(())
    }

    /// The request is over.
    pub(super) fn end(&mut self, now_ns: u64, result: Result<(), Failure>) {
        let Some(asked) = self.asked.take() else { return };
        if asked.failed {
            return;
        }
        let took_ns = now_ns.saturating_sub(asked.began_ns);
        let late = took_ns >= self.within_ns;
        let failure = match result {
            Err(failure) => Some(failure),
            Ok(()) if late => Some(format!("an answer only after {}", show(took_ns)).into()),
            Ok(()) => {
                self.usual_ns = took_ns.max(self.usual_ns - self.usual_ns / 8);
                None
            }
        };
        self.answer(asked.slot_ns, took_ns.min(self.within_ns), failure);
    }

    /// Whether a request is under way for much longer than usual, which may become a failure.
    pub(super) fn is_late(&self, now_ns: u64) -> bool {
        let late_ns = self.usual_ns.saturating_mul(2).max(LATE_MIN_NS);
        self.asked.as_ref().is_some_and(|asked| now_ns.saturating_sub(asked.began_ns) > late_ns)
    }

    /// Counts what has had no answer for too long; `step` is what the request under way does.
    pub(super) fn look(&mut self, now_ns: u64, step: Step) {
        let Some(asked) = &mut self.asked else { return };
        let since_ns = now_ns.saturating_sub(asked.began_ns);
        if since_ns < self.within_ns {
            return;
        }
        let (slot_ns, first) = (asked.slot_ns, !asked.failed);
        asked.failed = true;
        if first {
            self.answer(slot_ns, self.within_ns, Some(step.late(self.within_ns).into()));
        }
        while self.next_ns.saturating_add(self.within_ns) <= now_ns {
            let hangs_ns = (self.next_ns + self.within_ns).saturating_sub(slot_ns);
            let what = step.late_behind(self.within_ns, hangs_ns);
            self.answer(self.next_ns, self.within_ns, Some(what.into()));
            self.next_ns += self.every_ns;
        }
    }

    /// The next answer.
    pub(super) fn take(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    fn answer(&mut self, began_ns: u64, took_ns: u64, failure: Option<Failure>) {
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.pop_front();
        }
        let since_ns = failure.as_ref().and_then(|failure| failure.since_ns);
        self.answers.push_back(Answer { began_ns, took_ns, failure: failure.map(|failure| failure.what), since_ns });
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::probe::Ask;
    use crate::probe::step::Progress;

    /// Asked every 100, bound 30.
    fn schedule() -> Schedule {
        Schedule::new(1000, 100, 30)
    }

    fn answers(schedule: &mut Schedule) -> Vec<(u64, u64, bool)> {
        let taken = std::iter::from_fn(|| schedule.take());
        taken.map(|answer| (answer.began_ns, answer.took_ns, answer.failure.is_some())).collect()
    }

    #[test]
    fn requests_begin_when_they_were_to() {
        let mut schedule = schedule();
        assert_eq!(schedule.begin(900), Err(100));
        assert_eq!(schedule.begin(1002), Ok(()));
        schedule.look(1010, Step::Answer);
        schedule.end(1012, Ok(()));
        assert_eq!(schedule.begin(1012), Err(88));
        assert_eq!(schedule.begin(1100), Ok(()));
        schedule.end(1101, Err("refused".to_owned().into()));
        assert_eq!(answers(&mut schedule), [(1000, 10, false), (1100, 1, true)]);
    }

    #[test]
    fn a_request_without_an_answer_fails_at_its_bound_and_once() {
        let mut schedule = schedule();
        schedule.begin(1000).unwrap();
        schedule.look(1029, Step::Answer);
        assert_eq!(answers(&mut schedule), []);
        schedule.look(1030, Step::Answer);
        schedule.look(1035, Step::Answer);
        assert_eq!(answers(&mut schedule), [(1000, 30, true)]);
        schedule.end(1050, Ok(()));
        assert_eq!(answers(&mut schedule), []);
        assert!(schedule.asked.is_none());
    }

    #[test]
    fn it_makes_no_difference_who_counts_a_request_first() {
        let within = Duration::from_millis(100);
        let progress = Progress::default();
        let ask = Ask { within, deadline: Instant::now() + within, pids: &[], progress: &progress };
        for step in [Step::Start, Step::Connect, Step::Answer] {
            progress.set(step);
            let counted = |by_probe: bool| {
                let mut schedule = Schedule::new(0, 1, 100_000_000);
                schedule.begin(0).unwrap();
                let now_ns = 100_000_000;
                if by_probe {
                    schedule.end(now_ns, Err(ask.late()))
                } else {
                    schedule.look(now_ns, progress.step())
                }
                schedule.take().unwrap()
            };
            assert_eq!(counted(true), counted(false));
            assert_eq!(counted(true).failure, Some(format!("no answer within 100 ms: {step}")));
        }
    }

    #[test]
    fn those_behind_a_request_that_hangs_say_what_it_does() {
        let mut schedule = Schedule::new(0, 1_000_000_000, 500_000_000);
        schedule.begin(0).unwrap();
        schedule.look(500_000_000, Step::Lookup);
        schedule.look(1_500_000_000, Step::Lookup);
        let told: Vec<String> = std::iter::from_fn(|| schedule.take()?.failure).collect();
        let expected = [
            "no answer within 500 ms: looking up the name",
            "no answer within 500 ms: a request hangs for 1.5 s, looking up the name",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_answer_behind_the_bound_is_a_failure_though_nobody_looked() {
        let mut schedule = schedule();
        schedule.begin(1000).unwrap();
        schedule.end(1040, Ok(()));
        assert_eq!(answers(&mut schedule), [(1000, 30, true)]);
    }

    #[test]
    fn while_a_request_hangs_those_after_it_fail_at_their_own_bounds() {
        let mut schedule = schedule();
        schedule.begin(1000).unwrap();
        schedule.look(1229, Step::Answer);
        assert_eq!(answers(&mut schedule), [(1000, 30, true), (1100, 30, true)]);
        schedule.look(1230, Step::Answer);
        assert_eq!(answers(&mut schedule), [(1200, 30, true)]);
        schedule.end(1250, Ok(()));
        assert_eq!(schedule.begin(1250), Err(50));
        schedule.begin(1300).unwrap();
        schedule.end(1310, Ok(()));
        assert_eq!(answers(&mut schedule), [(1300, 10, false)]);
    }

    #[test]
    fn a_bound_longer_than_the_interval_leaves_times_out_and_does_not_fail_them_early() {
        let mut schedule = Schedule::new(1000, 100, 250);
        schedule.begin(1000).unwrap();
        schedule.look(1249, Step::Answer);
        assert_eq!(answers(&mut schedule), []);
        schedule.end(1249, Ok(()));
        schedule.begin(1249).unwrap();
        schedule.look(1600, Step::Answer);
        // The one of 1200 hangs since 1249; those of 1300 follow, each after 250.
        assert_eq!(answers(&mut schedule), [(1000, 249, false), (1200, 250, true), (1300, 250, true)]);
    }

    #[test]
    fn a_request_is_late_when_it_takes_longer_than_usual() {
        const MS: u64 = 1_000_000;
        let mut schedule = Schedule::new(0, 1000 * MS, 900 * MS);
        assert!(!schedule.is_late(500 * MS), "there is none");
        let mut late_after = |begin: u64, took: u64| {
            schedule.begin(begin * MS).unwrap();
            let late = (0..took).find(|after| schedule.is_late((begin + after) * MS));
            schedule.end((begin + took) * MS, Ok(()));
            late
        };
        assert_eq!(late_after(0, 200), Some(51));
        assert_eq!(late_after(1000, 200), None);
        assert_eq!(late_after(2000, 500), Some(401));
        // Not used to it for ever.
        (3..40).for_each(|second| assert_eq!(late_after(second * 1000, 10), None));
        assert_eq!(late_after(40_000, 200), Some(51));
    }

    #[test]
    fn answers_that_nobody_fetches_do_not_pile_up() {
        let mut schedule = schedule();
        schedule.begin(1000).unwrap();
        schedule.look(1000 + 100 * 5000, Step::Answer);
        assert_eq!(answers(&mut schedule).len(), ANSWERS_MAX);
    }
}
