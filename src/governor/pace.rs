//! How much may be purged now, and how much of it in one call: decay, budget and step size put together. Pure: time,
//! amounts and pressure are arguments. Called by `governor::worker`.
//!
//! Invariant: without pressure and without being asked to, no more is purged than has decayed, nor faster than the
//! budget allows. Pressure and requests lift both; nothing lifts the bound on one call, nor the pause after it.

use super::budget::Budget;
use super::decay::{Curve, Decay};
use super::step::Step;
use crate::limits::{CHUNK_BYTES, PURGE_PIECE_HUGE_BYTES, PURGE_PIECE_SMALL_BYTES};
use crate::options::Options;
use crate::units::Nanos;

/// What to do next about retired memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Go {
    /// Purge up to so many bytes of ranges that were freed at least `linger` ago.
    Purge { bytes_max: usize, linger: Nanos },
    /// Nothing for so long.
    Wait(Nanos),
    /// Nothing is retired, or it stays.
    Nothing,
}

/// The pace of purging.
pub(crate) struct Pace {
    curve: Curve,
    decay: Decay,
    budget: Budget,
    steps: [Step; 2],
    /// Bytes that are still to be purged because the program asked for it.
    asked: u64,
    retired: u64,
}

impl Pace {
    /// Nothing retired; `budget` is the longest that one call should take.
    pub(crate) const fn new(options: &Options, budget: Nanos) -> Self {
        Pace {
            curve: Curve { linger: options.linger, decay: options.decay },
            decay: Decay::new(),
            budget: Budget::new(options.purge_rate, options.purge_calls),
            steps: [Step::new(PURGE_PIECE_SMALL_BYTES, budget), Step::new(PURGE_PIECE_HUGE_BYTES, budget).wary()],
            asked: 0,
            retired: 0,
        }
    }

    /// Bytes that one call may cover, of a range that hugepages should back (`huge`) or not.
    pub(crate) fn step_bytes(&self, huge: bool) -> usize {
        self.steps.get(usize::from(huge)).map_or(CHUNK_BYTES, |step| step.bytes())
    }

    /// Notes that the program asks for `bytes` to be given back soon.
    pub(crate) fn ask(&mut self, bytes: u64) {
        self.asked = self.asked.saturating_add(bytes);
    }

    /// Notes that at least `bytes` have to be given back soon.
    pub(crate) fn ask_at_least(&mut self, bytes: u64) {
        self.asked = self.asked.max(bytes);
    }

    /// Notes that `bytes` are retired at `now`.
    pub(crate) fn observe(&mut self, now: Nanos, bytes: u64) {
        self.decay.observe(self.curve, now, bytes);
        self.retired = bytes;
        // What is not there cannot be given back.
        self.asked = self.asked.min(bytes);
    }

    /// What to do at `now`; `hurry` under pressure.
    pub(crate) fn next(&mut self, now: Nanos, hurry: bool) -> Go {
        let chunk = CHUNK_BYTES as u64;
        let wait = self.budget.wait(now);
        if self.retired == 0 {
            return Go::Nothing;
        }
        let unconditional = if hurry { self.retired } else { self.asked };
        if unconditional > 0 {
            return Go::Purge { bytes_max: in_chunks(unconditional), linger: Nanos(0) };
        }
        let due = self.decay.due_bytes(self.curve, now);
        if due < chunk {
            return match self.decay.wait_for(self.curve, now, chunk) {
                Some(wait) => Go::Wait(wait),
                None => Go::Nothing,
            };
        }
        if wait > Nanos(0) {
            return Go::Wait(wait);
        }
        Go::Purge { bytes_max: (due / chunk * chunk) as usize, linger: self.curve.linger }
    }

    /// Notes a call that purged `bytes` in `time`.
    pub(crate) fn note_call(&mut self, huge: bool, bytes: usize, time: Nanos) {
        if let Some(step) = self.steps.get_mut(usize::from(huge)) {
            step.learn(bytes, time);
        }
        self.budget.spend(bytes as u64);
        self.decay.note_purged(bytes as u64);
        self.asked = self.asked.saturating_sub(bytes as u64);
        self.retired = self.retired.saturating_sub(bytes as u64);
    }

    /// Bytes that the program asked for and that are still there.
    pub(crate) fn asked_bytes(&self) -> u64 {
        self.asked
    }

    /// Bytes that should be gone at `now` and are not.
    pub(crate) fn backlog_bytes(&self, now: Nanos) -> u64 {
        self.decay.due_bytes(self.curve, now)
    }

    /// Bytes that may remain at `now`.
    pub(crate) fn may_remain_bytes(&self, now: Nanos) -> u64 {
        self.decay.may_remain_bytes(self.curve, now)
    }
}

/// At least one chunk, and whole ones.
fn in_chunks(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX).max(CHUNK_BYTES) / CHUNK_BYTES * CHUNK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(millis: u64) -> Nanos {
        Nanos::from_millis(1_000_000 + millis)
    }

    fn pace() -> Pace {
        Pace::new(&Options::new(), Options::new().hold_budget)
    }

    #[test]
    fn nothing_goes_before_it_has_lingered_and_all_is_due_at_the_end() {
        let mut pace = pace();
        pace.observe(at(0), 100 * MIB);
        let Go::Wait(wait) = pace.next(at(0), false) else { panic!("nothing is due yet") };
        assert!(wait >= Options::new().linger, "{wait:?}");
        let decay_ms = Options::new().decay.unwrap().0 / 1_000_000;
        pace.observe(at(decay_ms), 100 * MIB);
        let linger = Options::new().linger;
        assert_eq!(pace.next(at(decay_ms), false), Go::Purge { bytes_max: 100 * MIB as usize, linger });
    }

    #[test]
    fn the_budget_delays_what_is_due() {
        let mut pace = pace();
        pace.observe(at(0), 4096 * MIB);
        assert!(matches!(pace.next(at(6_000), false), Go::Purge { .. }));
        pace.note_call(true, 256 << 20, Nanos(1));
        let rate = Options::new().purge_rate.unwrap();
        let Go::Wait(wait) = pace.next(at(6_000), false) else { panic!("the budget is spent") };
        assert!(wait.0 <= 256 * MIB * 1_000_000_000 / rate && wait.0 > 0);
    }

    #[test]
    fn pressure_lifts_decay_and_budget() {
        let mut pace = pace();
        pace.observe(at(0), 4096 * MIB);
        pace.note_call(true, 1024 << 20, Nanos(1));
        assert_eq!(pace.next(at(1), true), Go::Purge { bytes_max: 3072 << 20, linger: Nanos(0) });
    }

    #[test]
    fn what_the_program_asks_for_goes_at_once_and_no_more() {
        let mut pace = pace();
        pace.observe(at(0), 100 * MIB);
        pace.ask(10 * MIB);
        assert_eq!(pace.next(at(1), false), Go::Purge { bytes_max: 10 << 20, linger: Nanos(0) });
        pace.note_call(true, 10 << 20, Nanos(1));
        assert!(matches!(pace.next(at(1), false), Go::Wait(_)));
        pace.ask_at_least(4 * MIB);
        pace.ask_at_least(2 * MIB);
        assert_eq!(pace.asked_bytes(), 4 * MIB);
        pace.ask(u64::MAX);
        pace.observe(at(2), 0);
        assert_eq!((pace.next(at(2), false), pace.asked_bytes()), (Go::Nothing, 0));
    }
}
