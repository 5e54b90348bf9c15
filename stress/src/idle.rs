//! What is seen while nothing happens: whether memory comes back, and by when it should.
//!
//! [`stage`](crate::stage) takes the samples, scenarios make figures of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hooks::GivingBack;

/// How often it is looked.
pub const PERIOD: Duration = Duration::from_millis(100);
/// Four hugepages: a tenth of what little is live beside a scenario's own memory may be less than one.
const SLACK_KIB: u64 = 8192;

/// How long to watch what was freed: `idle_ms`, and one second more for each GiB, as an allocator may limit the rate.
pub const fn watch_time(idle_ms: u64, freed_bytes: u64) -> Duration {
    Duration::from_millis(idle_ms.saturating_add((freed_bytes >> 30) * 1000))
}

/// Memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleSample {
    /// When, counted from the scenario's start.
    pub at_ns: u64,
    /// Resident memory.
    pub rss_kib: u64,
    /// Freed bytes that should have been given back by now and were not, if the allocator tells.
    pub backlog_bytes: Option<u64>,
}

/// How long after the first sample resident memory came to within a tenth of what is live, or 8 MiB, and stayed there
/// as far as was looked; `None` if it did not.
pub fn back_after_ns(samples: &[IdleSample], live_kib: u64) -> Option<u64> {
    let enough_kib = live_kib + (live_kib / 10).max(SLACK_KIB);
    let back = samples.iter().rev().take_while(|sample| sample.rss_kib <= enough_kib).last()?;
    Some(back.at_ns - samples.first()?.at_ns)
}

/// By when memory that was freed at the first sample should be back: when it has all decayed, and what was not given
/// back by then has followed at the rate that is allowed; and one look later. `None` for an allocator that does not
/// say.
pub fn back_due_ns(samples: &[IdleSample], giving_back: Option<GivingBack>) -> Option<u64> {
    let giving_back = giving_back?;
    let decay_ns = giving_back.decay_ns?;
    let freed_ns = samples.first()?.at_ns;
    let decayed = |sample: &&IdleSample| sample.at_ns - freed_ns >= decay_ns;
    let at_decay = samples.iter().find(decayed).or(samples.last())?;
    let backlog = u128::from(at_decay.backlog_bytes.unwrap_or(0)) * 1_000_000_000;
    let backlog_ns = giving_back.rate.map_or(0, |rate| backlog / u128::from(rate.max(1)));
    Some(decay_ns + u64::try_from(backlog_ns).unwrap_or(u64::MAX / 2) + PERIOD.as_nanos() as u64)
}

/// Whether and when what was freed at one time came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Back {
    /// After how long; `None` if it did not.
    pub after_ns: Option<u64>,
    /// By when it should have; `None` if the allocator does not say.
    pub due_ns: Option<u64>,
    /// For how long it was looked.
    pub watched_ns: u64,
}

impl Back {
    /// What the samples say of memory that was freed at the first of them.
    pub fn of(samples: &[IdleSample], live_kib: u64, giving_back: Option<GivingBack>) -> Self {
        let watched_ns = samples.last().zip(samples.first()).map_or(0, |(last, first)| last.at_ns - first.at_ns);
        let (after_ns, due_ns) = (back_after_ns(samples, live_kib), back_due_ns(samples, giving_back));
        Self { after_ns, due_ns, watched_ns }
    }

    /// Of several times, the one that came latest against its due time.
    pub fn latest(times: &[Self]) -> Option<Self> {
        let lateness = |back: &&Self| {
            let due_ns = i128::from(back.due_ns.unwrap_or(0));
            back.after_ns.map_or(i128::MAX, |after_ns| i128::from(after_ns) - due_ns)
        };
        times.iter().max_by_key(lateness).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_back_when_it_stays_within_a_tenth_of_what_is_live() {
        let back = |rss: &[u64]| {
            let sample = |(at_ns, rss_kib): (u64, &u64)| IdleSample { at_ns, rss_kib: *rss_kib, backlog_bytes: None };
            back_after_ns(&(7..).zip(rss).map(sample).collect::<Vec<_>>(), 100_000)
        };
        assert_eq!(back(&[900_000, 110_000, 100_000]), Some(1));
        assert_eq!(back(&[900_000, 100_000, 110_001, 110_000]), Some(3));
        assert_eq!(back(&[100_000, 110_001]), None);
        assert_eq!(back(&[90_000]), Some(0));
        assert_eq!(back(&[]), None);
    }

    #[test]
    fn the_backlog_at_the_decay_time_puts_the_time_off() {
        let sample = |at_ns, backlog| IdleSample { at_ns, rss_kib: 0, backlog_bytes: Some(backlog) };
        let samples = [sample(100, 8 << 30), sample(5_000_000_100, 1 << 30), sample(6_000_000_000, 0)];
        let due = |decay_ns, rate| back_due_ns(&samples, Some(GivingBack { decay_ns, rate, hold_budget_ns: 1 }));
        assert_eq!(due(Some(5_000_000_000), Some(1 << 30)), Some(6_100_000_000));
        assert_eq!(due(Some(5_000_000_000), None), Some(5_100_000_000));
        assert_eq!(due(None, None), None);
        assert_eq!(back_due_ns(&samples, None), None);
        assert_eq!(back_due_ns(&[], Some(GivingBack { decay_ns: Some(1), rate: None, hold_budget_ns: 1 })), None);
    }

    #[test]
    fn more_memory_is_watched_for_longer() {
        assert_eq!(watch_time(500, (3 << 30) - 1), Duration::from_millis(2500));
    }

    #[test]
    fn the_latest_is_late_against_its_due_time() {
        let back = |after_ns, due_ns| Back { after_ns, due_ns, watched_ns: 0 };
        let (early, late, never) = (back(Some(90), Some(100)), back(Some(60), Some(50)), back(None, Some(900)));
        assert_eq!(Back::latest(&[early, late]), Some(late));
        assert_eq!(Back::latest(&[never, late]), Some(never));
        assert_eq!(Back::latest(&[]), None);
        assert_eq!(Back::of(&[], 5, None), back(None, None));
    }
}
