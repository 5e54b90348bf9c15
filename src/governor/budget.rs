//! How much may be purged by now: a rate of bytes and a rate of calls. Pure. Called by `governor::pace`.
//!
//! Invariant: over any length of time no more is spent than the rate gives, plus a hundredth of a second's worth, plus
//! the one call that was under way when the budget ran out: a bucket of tokens that may be overdrawn by one call.

use crate::units::Nanos;

const SECOND_NS: u64 = 1_000_000_000;
/// What may be saved up, as a part of what a second gives.
const SAVED_DIVISOR: u64 = 100;

/// One rate. Amounts are kept in billionths, so that nanoseconds times rate needs no division.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Units per second; `None` for no limit.
    rate: Option<u64>,
    /// Units spent beyond what the rate has given, in billionths; negative are savings.
    debt: i128,
}

impl Bucket {
    const fn new(rate: Option<u64>) -> Self {
        Bucket { rate, debt: 0 }
    }

    fn earn(&mut self, time: Nanos) {
        let rate = self.rate.unwrap_or(0);
        let saved = i128::from(rate) * i128::from(SECOND_NS / SAVED_DIVISOR);
        self.debt = (self.debt - i128::from(rate) * i128::from(time.0)).max(-saved);
    }

    fn spend(&mut self, units: u64) {
        if self.rate.is_some() {
            self.debt += i128::from(units) * i128::from(SECOND_NS);
        }
    }

    fn wait(&self) -> Nanos {
        match self.rate {
            Some(rate) if self.debt > 0 => Nanos((self.debt as u128).div_ceil(u128::from(rate.max(1))) as u64),
            _ => Nanos(0),
        }
    }
}

/// The two rates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    bytes: Bucket,
    calls: Bucket,
    at: Nanos,
}

impl Budget {
    /// A full budget; `None` for no limit.
    pub(crate) const fn new(bytes_per_second: Option<u64>, calls_per_second: Option<u64>) -> Self {
        Budget { bytes: Bucket::new(bytes_per_second), calls: Bucket::new(calls_per_second), at: Nanos(0) }
    }

    /// How long to wait at `now` before the next call; zero if it may be made.
    pub(crate) fn wait(&mut self, now: Nanos) -> Nanos {
        let time = now.since(self.at);
        self.at = self.at.max(now);
        self.bytes.earn(time);
        self.calls.earn(time);
        self.bytes.wait().max(self.calls.wait())
    }

    /// Notes a call over `bytes`.
    pub(crate) fn spend(&mut self, bytes: u64) {
        self.bytes.spend(bytes);
        self.calls.spend(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Spends pieces of `bytes` for `seconds`; gives calls and bytes.
    fn spend_for(budget: &mut Budget, bytes: u64, seconds: u64) -> (u64, u64) {
        let mut now = Nanos(7 * SECOND_NS);
        budget.wait(now);
        let end = now.0 + seconds * SECOND_NS;
        let mut calls = 0;
        loop {
            let wait = budget.wait(now);
            now.0 += wait.0.max(1_000);
            if now.0 > end {
                return (calls, calls * bytes);
            }
            if wait == Nanos(0) {
                budget.spend(bytes);
                calls += 1;
            }
        }
    }

    #[test]
    fn the_rate_of_bytes_is_kept_whatever_the_pieces() {
        for piece in [MIB / 16, 2 * MIB, 64 * MIB, 200 * MIB] {
            let rate = 1024 * MIB;
            let (_, bytes) = spend_for(&mut Budget::new(Some(rate), None), piece, 4);
            assert!(bytes <= 4 * rate + rate / SAVED_DIVISOR + piece, "{bytes} in pieces of {piece}");
            assert!(bytes >= 4 * rate - 2 * piece, "{bytes} in pieces of {piece}");
        }
    }

    #[test]
    fn the_rate_of_calls_is_kept() {
        let (calls, _) = spend_for(&mut Budget::new(None, Some(100)), 1, 3);
        assert!((298..=302).contains(&calls), "{calls}");
    }

    #[test]
    fn time_saved_up_is_worth_a_hundredth_of_a_second() {
        let mut budget = Budget::new(Some(1000 * MIB), None);
        budget.wait(Nanos(3_600 * SECOND_NS));
        budget.spend(10 * MIB);
        assert_eq!(budget.wait(Nanos(3_600 * SECOND_NS)), Nanos(0));
        budget.spend(10 * MIB);
        let wait = budget.wait(Nanos(3_600 * SECOND_NS));
        assert!((9_999_999..=10_000_001).contains(&wait.0), "{wait:?}");
    }

    #[test]
    fn without_rates_there_is_no_wait() {
        let mut budget = Budget::new(None, None);
        (0..1000).for_each(|_| budget.spend(u64::MAX / 2));
        assert_eq!(budget.wait(Nanos(1)), Nanos(0));
    }
}
