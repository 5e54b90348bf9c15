//! What one allocator's rounds come to: medians, and the worst where a median would hide what must not happen.
//!
//! [`report`](crate::report) makes one [`Summary`] for each allocator.

use serde::{Deserialize, Serialize};

use crate::canary::Latency;
use crate::child::{ChildReport, PhaseLatency};
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
    /// Resident memory before the doubling.
    pub rss_before_kib: u64,
    /// The most memory that was resident.
    pub rss_peak_kib: u64,
    /// Resident memory right after the drop.
    pub rss_dropped_kib: u64,
    /// Resident memory when the time to settle was over.
    pub rss_settled_kib: u64,
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
    /// Summarises one allocator's reports, of which there should be at least one.
    pub fn of(allocator: &str, children: &[&ChildReport]) -> Self {
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
            rss_before_kib: middle(|child| child.rss_before_kib),
            rss_peak_kib: middle(|child| child.rss_peak_kib),
            rss_dropped_kib: middle(|child| child.rss_dropped_kib),
            rss_settled_kib: middle(|child| child.rss_settled_kib),
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

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([7]), Some(7));
        assert_eq!(median([9, 1, 5]), Some(5));
        assert_eq!(median([1, 4, 100, 2]), Some(3));
    }

    #[test]
    fn latencies_keep_the_worst_of_all_rounds() {
        let latency = |p999_ns, worst_ns| Latency { samples: 1000, p999_ns, worst_ns };
        let summary = LatencySummary::of(&[latency(3, 30), latency(1, 900), latency(2, 20)]);
        assert_eq!(summary, Some(LatencySummary { p999_ns: 2, worst_ns: 30, worst_any_round_ns: 900 }));
        assert_eq!(LatencySummary::of(&[]), None);
    }
}
