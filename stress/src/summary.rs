//! What one allocator's rounds come to: medians, and the worst where a median would hide what must not happen.
//!
//! [`report`](crate::report) makes one [`Summary`] for each allocator.

use serde::{Deserialize, Serialize};

use crate::canary::Latency;
use crate::child::{ChildReport, PhaseLatency, RssSample, SAMPLE_PERIOD};
use crate::harness::Run;
use crate::phase::Phase;

/// One allocator over all rounds; medians unless a field says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The allocator's name.
    pub allocator: String,
    /// Time to allocate and fill the map.
    pub fill_ns: u64,
    /// Time of the insert that doubled the map.
    pub doubling_ns: u64,
    /// Time to drop the doubled map.
    pub drop_ns: u64,
    /// How long the allocator took to make the doubled table warm, if it was asked to.
    pub prewarm_ns: Option<u64>,
    /// Bytes of it that hugepages backed then.
    pub prewarm_hugepage_bytes: Option<u64>,
    /// Resident memory that is live after the drop.
    pub rss_live_kib: u64,
    /// Resident memory before the doubling.
    pub rss_before_kib: u64,
    /// The most memory that was resident.
    pub rss_peak_kib: u64,
    /// Resident memory right after the drop.
    pub rss_dropped_kib: u64,
    /// Resident memory when the time to settle was over.
    pub rss_settled_kib: u64,
    /// How long after the drop resident memory was within a tenth of what is live; `None` if it was not in most rounds.
    pub back_after_ns: Option<u64>,
    /// How long it may take, for an allocator that is told: the decay time and what the backlog at that time takes.
    pub back_target_ns: Option<u64>,
    /// How much longer than before the doubling another thread's mmap took after the drop, at the 99.9th percentile.
    pub page_excess_ns: Option<u64>,
    /// Time of a hugepage fault right before the child: the longest of all rounds.
    pub fault_ns: u64,
    /// Calls that took `mmap_lock` for writing: the most in any round, as there should be none.
    pub write_lock_calls: Option<u64>,
    /// Waits in each phase, in the order of the phases.
    pub phases: Vec<PhaseSummary>,
}

/// What other threads waited in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseSummary {
    /// The phase.
    pub phase: Phase,
    /// The thread that maps and unmaps a page.
    pub page: Option<LatencySummary>,
    /// The thread that allocates and frees blocks.
    pub block: Option<LatencySummary>,
}

/// One canary in one phase over all rounds in which it measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// The median of the rounds' 99.9th percentiles.
    pub p999_ns: u64,
    /// The median of the rounds' longest waits.
    pub worst_ns: u64,
    /// The longest wait of all rounds.
    pub worst_any_round_ns: u64,
}

/// The median; of an even number of values, the middle of the two in the middle.
fn median(values: impl IntoIterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.into_iter().collect();
    values.sort_unstable();
    let upper = values.len() / 2;
    let lower = values.len().checked_sub(1)? / 2;
    Some(values[lower].midpoint(values[upper]))
}

/// The median of times of which some may never have come; of an even number, the later of the two in the middle.
fn median_or_never(values: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    let mut values: Vec<u64> = values.into_iter().map(|value| value.unwrap_or(u64::MAX)).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().filter(|value| *value != u64::MAX)
}

/// By when memory should be back: when it has all decayed, and what was not given back by then has followed at the rate
/// that is allowed; and one look later.
fn back_target_ns(child: &ChildReport) -> Option<u64> {
    let giving_back = child.giving_back?;
    let decay_ns = giving_back.decay_ns?;
    let decayed = |sample: &&RssSample| sample.after_ns >= decay_ns;
    let at_decay = child.rss_samples.iter().find(decayed).or(child.rss_samples.last())?;
    let backlog = u128::from(at_decay.backlog_bytes.unwrap_or(0)) * 1_000_000_000;
    let backlog_ns = giving_back.rate.map_or(0, |rate| backlog / u128::from(rate.max(1)));
    Some(decay_ns + u64::try_from(backlog_ns).unwrap_or(u64::MAX / 2) + SAMPLE_PERIOD.as_nanos() as u64)
}

/// How much longer a page took after the drop than before the doubling, in the same child.
fn page_excess_ns(child: &ChildReport) -> Option<u64> {
    let p999_ns = |phase| Some(child.phase(phase)?.page?.p999_ns);
    Some(p999_ns(Phase::Idle)?.saturating_sub(p999_ns(Phase::Control)?))
}

impl LatencySummary {
    /// Summarises the rounds in which a canary measured.
    pub fn of(latencies: &[Latency]) -> Option<Self> {
        Some(Self {
            p999_ns: median(latencies.iter().map(|latency| latency.p999_ns))?,
            worst_ns: median(latencies.iter().map(|latency| latency.worst_ns))?,
            worst_any_round_ns: latencies.iter().map(|latency| latency.worst_ns).max()?,
        })
    }
}

impl Summary {
    /// Summarises one allocator's runs, of which there should be at least one.
    pub fn of(allocator: &str, runs: &[&Run]) -> Self {
        let children: Vec<_> = runs.iter().map(|run| &run.report).collect();
        let prewarmed = || children.iter().filter_map(|child| child.prewarmed.as_ref());
        let middle =
            |field: fn(&ChildReport) -> u64| median(children.iter().map(|child| field(child))).unwrap_or_default();
        let latency = |phase: Phase, canary: fn(&PhaseLatency) -> Option<Latency>| {
            let entries = children.iter().flat_map(|child| &child.phases).filter(|entry| entry.phase == phase);
            LatencySummary::of(&entries.filter_map(canary).collect::<Vec<_>>())
        };
        Self {
            allocator: allocator.to_owned(),
            fill_ns: middle(|child| child.fill_ns),
            doubling_ns: middle(|child| child.doubling_ns),
            drop_ns: middle(|child| child.drop_ns),
            prewarm_ns: median(prewarmed().map(|prewarmed| prewarmed.time_ns)),
            prewarm_hugepage_bytes: median(prewarmed().map(|prewarmed| prewarmed.hugepage_bytes)),
            rss_live_kib: middle(|child| child.rss_live_kib),
            rss_before_kib: middle(|child| child.rss_before_kib),
            rss_peak_kib: middle(|child| child.rss_peak_kib),
            rss_dropped_kib: middle(|child| child.rss_dropped_kib),
            rss_settled_kib: middle(|child| child.rss_settled_kib),
            back_after_ns: median_or_never(children.iter().map(|child| child.back_after_ns())),
            back_target_ns: median(children.iter().filter_map(|child| back_target_ns(child))),
            page_excess_ns: median(children.iter().filter_map(|child| page_excess_ns(child))),
            fault_ns: runs.iter().map(|run| run.fault_ns).max().unwrap_or_default(),
            write_lock_calls: children.iter().filter_map(|child| child.write_lock_calls).max(),
            phases: Phase::ALL
                .map(|phase| PhaseSummary {
                    phase,
                    page: latency(phase, |entry| entry.page),
                    block: latency(phase, |entry| entry.block),
                })
                .to_vec(),
        }
    }

    /// The waits of the thread that maps and unmaps a page, if the phase was long enough to measure any.
    pub fn page(&self, phase: Phase) -> Option<LatencySummary> {
        self.phases.iter().find(|entry| entry.phase == phase)?.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::GivingBack;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([7]), Some(7));
        assert_eq!(median([9, 1, 5]), Some(5));
        assert_eq!(median([1, 4, 100, 2]), Some(3));
    }

    #[test]
    fn a_time_that_never_came_is_later_than_any() {
        assert_eq!(median_or_never([Some(3), None, Some(5)]), Some(5));
        assert_eq!(median_or_never([Some(3), None]), None);
        assert_eq!(median_or_never([]), None);
    }

    #[test]
    fn the_backlog_at_the_decay_time_puts_the_target_off() {
        let mut child = crate::report::tests::child("some", 1, None);
        assert_eq!(back_target_ns(&child), None);
        child.giving_back = Some(GivingBack { decay_ns: Some(5_000_000_000), rate: Some(1 << 30) });
        let sample = |after_ns, backlog| RssSample { after_ns, rss_kib: 0, backlog_bytes: Some(backlog) };
        child.rss_samples = vec![sample(0, 8 << 30), sample(5_000_000_000, 1 << 30), sample(6_000_000_000, 0)];
        assert_eq!(back_target_ns(&child), Some(6_100_000_000));
        child.giving_back = Some(GivingBack { decay_ns: Some(5_000_000_000), rate: None });
        assert_eq!(back_target_ns(&child), Some(5_100_000_000));
        child.giving_back = Some(GivingBack { decay_ns: None, rate: None });
        assert_eq!(back_target_ns(&child), None);
    }

    #[test]
    fn latencies_keep_the_worst_of_all_rounds() {
        let latency = |p999_ns, worst_ns| Latency { samples: 1000, p999_ns, worst_ns };
        let summary = LatencySummary::of(&[latency(3, 30), latency(1, 900), latency(2, 20)]);
        assert_eq!(summary, Some(LatencySummary { p999_ns: 2, worst_ns: 30, worst_any_round_ns: 900 }));
        assert_eq!(LatencySummary::of(&[]), None);
    }
}
