//! How often something is done that costs more, the more processes and threads there are. Used by the main loop.
//!
//! Invariant: never more often than was agreed on, nor for more than the agreed part of a processor, unless that would
//! take a pause of more than two seconds. What counts is processor time: in a freeze of the whole machine everything
//! takes long, and that is when it has to be looked.

use crate::clock::thread_cpu_ns;

/// The longest pause, however much it has cost.
const PAUSE_MAX_NS: u64 = 2_000_000_000;

/// One thing that is done again and again.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    every_ns: u64,
    share: u64,
    next_ns: u64,
}

/// That it is being done.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    at_ns: u64,
    cpu_ns: u64,
}

impl Begun {
    /// Now, on the thread that does it to the end.
    #[must_use]
    pub fn at(now_ns: u64) -> Self {
        Begun { at_ns: now_ns, cpu_ns: thread_cpu_ns() }
    }
}

impl Pace {
    /// Every so often, and at most for one part in `share` of the time.
    #[must_use]
    pub fn new(every_ns: u64, share: u64) -> Self {
        Pace { every_ns, share, next_ns: 0 }
    }

    /// Whether it is time to.
    #[must_use]
    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_ns
    }

    /// It was done.
    pub fn done(&mut self, begun: Begun) {
        self.took(begun.at_ns, thread_cpu_ns().saturating_sub(begun.cpu_ns));
    }

    /// It was begun at a time and took so much of a processor.
    fn took(&mut self, begun_ns: u64, cpu_ns: u64) {
        let pause_ns = cpu_ns.saturating_mul(self.share).min(PAUSE_MAX_NS);
        self.next_ns = begun_ns.saturating_add(self.every_ns.max(pause_ns));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_costs_much_is_done_less_often() {
        let mut pace = Pace::new(100, 50);
        assert!(pace.is_due(0));
        pace.took(1000, 1);
        assert!(!pace.is_due(1099) && pace.is_due(1100));
        pace.took(1100, 10);
        assert!(!pace.is_due(1599) && pace.is_due(1600));
    }

    #[test]
    fn no_pause_is_long() {
        let mut pace = Pace::new(100, 50);
        pace.took(1000, 1_000_000_000);
        assert!(!pace.is_due(PAUSE_MAX_NS) && pace.is_due(PAUSE_MAX_NS + 1000));
    }

    #[test]
    fn time_without_a_processor_costs_nothing() {
        // A share so that the wall's time would be charged with the longest pause.
        let mut pace = Pace::new(1_000_000_000, 10);
        let begun = Begun::at(0);
        thread::sleep(Duration::from_millis(300));
        pace.done(begun);
        assert!(pace.is_due(1_000_000_000));
    }
}
