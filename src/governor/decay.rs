//! How much retired memory should be gone by now: nothing for a while after it was freed (linger), all of it after the
//! decay time, along a smooth curve in between. Pure: time and amounts are arguments. Called by `governor::pace`.
//!
//! Invariant: what was retired in one epoch is followed as one amount; of the `retired` bytes, `left` are still there.
//! The sum of `left` over all epochs is what was observed last, less what was purged since.
//!
//! The curve is jemalloc's smoothstep; counting in epochs of a 64th of the decay time keeps the whole history in 1 KiB.

use crate::units::Nanos;

/// Epochs that are told apart. What is older has decayed.
const EPOCHS: usize = 64;
/// Shortest epoch in nanoseconds: decay times below 64 ms are followed more coarsely.
const EPOCH_NS_MIN: u64 = 1_000_000;
/// One, as a fixed-point number.
const ONE: u64 = 1 << 16;

/// The times that shape the curve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Curve {
    /// How long all of it stays.
    pub(crate) linger: Nanos,
    /// After how long none of it is left; `None`: it stays for ever.
    pub(crate) decay: Option<Nanos>,
}

impl Curve {
    fn epoch_ns(self) -> u64 {
        // One epoch fewer than there are places: what was retired at the start of the oldest is gone at its end.
        let decay_ns = self.decay.unwrap_or(Nanos(0)).0.max(self.linger.0);
        (decay_ns / (EPOCHS as u64 - 2)).max(EPOCH_NS_MIN)
    }

    /// The part of an amount that may remain at `age`, between zero and [`ONE`].
    fn part_left(self, age: Nanos) -> u64 {
        let Some(decay) = self.decay else { return ONE };
        let span_ns = decay.0.saturating_sub(self.linger.0);
        let over_ns = age.0.saturating_sub(self.linger.0);
        if age < self.linger {
            ONE
        } else if over_ns >= span_ns {
            0
        } else {
            let x = (u128::from(over_ns) * u128::from(ONE) / u128::from(span_ns)) as u64;
            // 1 - x² (3 - 2 x)
            ONE - x * x / ONE * (3 * ONE - 2 * x) / ONE
        }
    }
}

/// What was retired in one epoch.
#[derive(Clone, Copy, Default, Debug)]
struct Amount {
    /// Bytes that the curve started from.
    retired: u64,
    /// Bytes of them that are still there.
    left: u64,
}

/// The history of retired memory.
#[derive(Clone, Debug)]
pub(crate) struct Decay {
    amounts: [Amount; EPOCHS],
    /// Number of the current epoch, counted from the clock's zero.
    epoch: u64,
}

impl Decay {
    /// Nothing retired.
    pub(crate) const fn new() -> Self {
        Decay { amounts: [Amount { retired: 0, left: 0 }; EPOCHS], epoch: 0 }
    }

    fn left(&self) -> u64 {
        self.amounts.iter().map(|amount| amount.left).sum()
    }

    /// The amounts, youngest first, with the time since their epoch began.
    fn aged(&self, curve: Curve, now: Nanos) -> impl Iterator<Item = (Nanos, Amount)> {
        let epoch_ns = curve.epoch_ns();
        (0..EPOCHS as u64).filter_map(move |back| {
            let epoch = self.epoch.checked_sub(back)?;
            let amount = self.amounts.get((epoch % EPOCHS as u64) as usize)?;
            Some((now.since(Nanos(epoch.saturating_mul(epoch_ns))), *amount))
        })
    }

    /// Goes on to the epoch of `now`. What falls out of the history has decayed: it is added to the oldest amount.
    fn advance(&mut self, curve: Curve, now: Nanos) {
        let epoch = now.0 / curve.epoch_ns();
        let steps = epoch.saturating_sub(self.epoch).min(EPOCHS as u64);
        for step in 1..=steps {
            let next = epoch - steps + step;
            let Some(place) = self.amounts.get_mut((next % EPOCHS as u64) as usize) else { continue };
            let fallen = core::mem::take(place);
            if let Some(oldest) = self.amounts.get_mut(((next + 1) % EPOCHS as u64) as usize) {
                oldest.retired += fallen.retired;
                oldest.left += fallen.left;
            }
        }
        self.epoch = self.epoch.max(epoch);
    }

    /// Notes that `bytes` are retired at `now`. More than before were freed just now; fewer: requests took the oldest.
    pub(crate) fn observe(&mut self, curve: Curve, now: Nanos, bytes: u64) {
        self.advance(curve, now);
        let before = self.left();
        if bytes > before {
            if let Some(amount) = self.amounts.get_mut((self.epoch % EPOCHS as u64) as usize) {
                amount.retired += bytes - before;
                amount.left += bytes - before;
            }
        } else {
            self.take_oldest(before - bytes, |amount, taken| {
                // The rest goes on along its curve.
                let rest = u128::from(amount.left - taken) * u128::from(amount.retired);
                amount.retired = (rest / u128::from(amount.left.max(1))) as u64;
                amount.left -= taken;
            });
        }
    }

    /// Notes that `bytes` were purged, of the oldest.
    pub(crate) fn note_purged(&mut self, bytes: u64) {
        self.take_oldest(bytes, |amount, taken| amount.left -= taken);
    }

    fn take_oldest(&mut self, bytes: u64, take: impl Fn(&mut Amount, u64)) {
        let mut missing = bytes;
        for back in (0..EPOCHS as u64).rev() {
            let Some(epoch) = self.epoch.checked_sub(back) else { continue };
            let Some(amount) = self.amounts.get_mut((epoch % EPOCHS as u64) as usize) else { continue };
            let taken = missing.min(amount.left);
            if taken > 0 {
                take(amount, taken);
                missing -= taken;
            }
        }
    }

    /// Bytes that should be gone at `now` and are not.
    pub(crate) fn due_bytes(&self, curve: Curve, now: Nanos) -> u64 {
        let due = |(age, amount): (Nanos, Amount)| {
            let may = (u128::from(amount.retired) * u128::from(curve.part_left(age)) / u128::from(ONE)) as u64;
            amount.left.saturating_sub(may)
        };
        self.aged(curve, now).map(due).sum()
    }

    /// Bytes that may remain at `now`.
    pub(crate) fn may_remain_bytes(&self, curve: Curve, now: Nanos) -> u64 {
        self.left() - self.due_bytes(curve, now)
    }

    /// How long until at least `bytes` are due, if nothing else happens; `None` if never.
    pub(crate) fn wait_for(&self, curve: Curve, now: Nanos, bytes: u64) -> Option<Nanos> {
        curve.decay?;
        let epoch_ns = curve.epoch_ns();
        // All is due after as many epochs as there are.
        (0..=EPOCHS as u64)
            .map(|epochs| Nanos(epochs * epoch_ns))
            .find(|wait| self.due_bytes(curve, Nanos(now.0.saturating_add(wait.0))) >= bytes)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const CURVE: Curve = Curve { linger: Nanos::from_millis(500), decay: Some(Nanos::from_millis(5_000)) };

    fn at(millis: u64) -> Nanos {
        Nanos::from_millis(1_000_000 + millis)
    }

    /// 1000 MiB retired at once: how many MiB may remain after so many milliseconds, to a percent or so and an epoch.
    #[test]
    fn the_curve_lingers_falls_smoothly_and_ends_at_the_decay_time() {
        let mut decay = Decay::new();
        decay.observe(CURVE, at(0), 1000 * MIB);
        for (millis, low, high) in [
            (0, 1000, 1000),
            (400, 1000, 1000),
            (1_000, 950, 990),
            (2_000, 690, 770),
            (2_750, 450, 530),
            (4_000, 90, 150),
            (4_700, 0, 20),
            (5_000, 0, 0),
            (50_000, 0, 0),
        ] {
            let remains = decay.may_remain_bytes(CURVE, at(millis)) / MIB;
            assert!((low..=high).contains(&remains), "{remains} MiB after {millis} ms");
        }
    }

    #[test]
    fn purging_does_not_make_the_curve_steeper() {
        let mut all_at_once = Decay::new();
        all_at_once.observe(CURVE, at(0), 1000 * MIB);
        let mut step_by_step = all_at_once.clone();
        let mut left = 1000 * MIB;
        for millis in (0..4_000).step_by(50) {
            step_by_step.observe(CURVE, at(millis), left);
            let due = step_by_step.due_bytes(CURVE, at(millis));
            step_by_step.note_purged(due);
            left -= due;
        }
        assert_eq!(left, all_at_once.may_remain_bytes(CURVE, at(3_950)));
    }

    #[test]
    fn what_is_freed_later_decays_later() {
        let mut decay = Decay::new();
        decay.observe(CURVE, at(0), 100 * MIB);
        decay.observe(CURVE, at(3_000), 300 * MIB);
        // The first have decayed; of the second two seconds have passed, and less than an epoch more.
        let remains = decay.may_remain_bytes(CURVE, at(5_000)) / MIB;
        assert!((140..=150).contains(&remains), "{remains} MiB");
        assert_eq!(decay.due_bytes(CURVE, at(8_000)), 300 * MIB);
    }

    #[test]
    fn what_requests_take_back_is_not_due() {
        let mut decay = Decay::new();
        decay.observe(CURVE, at(0), 100 * MIB);
        decay.observe(CURVE, at(100), 30 * MIB);
        assert_eq!(decay.due_bytes(CURVE, at(6_000)), 30 * MIB);
        decay.observe(CURVE, at(6_000), 0);
        assert_eq!(decay.due_bytes(CURVE, at(6_000)), 0);
        assert_eq!(decay.wait_for(CURVE, at(6_000), 1), None);
    }

    #[test]
    fn without_decay_nothing_is_ever_due() {
        let never = Curve { decay: None, ..CURVE };
        let mut decay = Decay::new();
        decay.observe(never, at(0), 100 * MIB);
        assert_eq!(decay.due_bytes(never, at(1 << 40)), 0);
        assert_eq!(decay.wait_for(never, at(0), 1), None);
    }

    #[test]
    fn a_decay_of_zero_makes_all_due_at_once() {
        let now = Curve { linger: Nanos(0), decay: Some(Nanos(0)) };
        let mut decay = Decay::new();
        decay.observe(now, at(0), 100 * MIB);
        assert_eq!(decay.due_bytes(now, at(0)), 100 * MIB);
    }

    #[test]
    fn the_wait_for_a_single_chunk_is_one_wait() {
        let mut decay = Decay::new();
        decay.observe(CURVE, at(0), 2 * MIB);
        let wait = decay.wait_for(CURVE, at(0), 2 * MIB).unwrap();
        assert!((4_900..=5_100).contains(&(wait.0 / 1_000_000)), "{wait:?}");
        assert_eq!(decay.due_bytes(CURVE, Nanos(at(0).0 + wait.0)), 2 * MIB);
    }

    proptest! {
        /// Whatever is freed, reused and purged when: what is due and what may remain make up what is there, and all
        /// that is there is due one decay time after the last free.
        #[test]
        fn amounts_add_up_and_everything_decays(
            steps in proptest::collection::vec((0_u64..3_000, 0_u64..4_000), 1..100),
            linger in 0_u64..2_000,
            decay_ms in 0_u64..10_000,
        ) {
            let (linger, all_gone) = (Nanos::from_millis(linger), Nanos::from_millis(decay_ms.max(linger)));
            let curve = Curve { linger, decay: Some(all_gone) };
            let mut decay = Decay::new();
            let mut now = at(0);
            let mut left = 0;
            for (pause, mib) in steps {
                now = Nanos(now.0 + pause * 1_000_000);
                left = mib * MIB;
                decay.observe(curve, now, left);
                let due = decay.due_bytes(curve, now);
                prop_assert!(due <= left);
                prop_assert_eq!(due + decay.may_remain_bytes(curve, now), left);
                let purged = due / 3;
                decay.note_purged(purged);
                left -= purged;
            }
            prop_assert_eq!(decay.due_bytes(curve, Nanos(now.0 + all_gone.0)), left);
        }
    }
}
