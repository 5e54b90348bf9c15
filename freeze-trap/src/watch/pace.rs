//! How often something is done that costs more, the more processes and threads there are. Used by the main loop.
//!
//! Invariant: never more often than was agreed on, nor for more than the agreed part of the time.

/// One thing that is done again and again.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    every_ns: u64,
    share: u64,
    next_ns: u64,
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
    pub fn done(&mut self, begun_ns: u64, now_ns: u64) {
        let took_ns = now_ns.saturating_sub(begun_ns);
        self.next_ns = begun_ns + self.every_ns.max(took_ns.saturating_mul(self.share));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_done_less_often() {
        let mut pace = Pace::new(100, 50);
        assert!(pace.is_due(0));
        pace.done(1000, 1001);
        assert!(!pace.is_due(1099) && pace.is_due(1100));
        pace.done(1100, 1110);
        assert!(!pace.is_due(1599) && pace.is_due(1600));
    }
}
