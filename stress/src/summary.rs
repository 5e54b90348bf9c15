//! What one allocator's rounds come to: medians, and the worst where a median would hide what must not happen.
//!
//! [`report`](crate::report) makes one [`Summary`] for each allocator; [`targets`](crate::targets) judges them.

use serde::{Deserialize, Serialize};

use crate::harness::Run;
use crate::latency::Latency;
use crate::locks::LockSummary;
use crate::record::{Figure, Unit};

/// One allocator over all rounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The allocator's name.
    pub allocator: String,
    /// What was measured, in the order in which it was.
    pub figures: Vec<FigureSummary>,
    /// What the canaries felt: one entry for each kind and phase, in the order of the phases.
    pub waits: Vec<Wait>,
    /// What the kernel told of `mmap_lock`; `None` where it was not traced.
    pub locks: Option<LockSummary>,
    /// Calls that took `mmap_lock` for writing, as the allocator counts them: the most in any round.
    pub write_lock_calls: Option<u64>,
    /// How long one call may hold `mmap_lock`, for an allocator that can be told.
    pub hold_budget_ns: Option<u64>,
    /// Time of a hugepage fault right before the child: the longest of all rounds.
    pub fault_ns: u64,
}

/// One figure over all rounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FigureSummary {
    /// What it is.
    pub name: String,
    /// The unit of the values.
    pub unit: Unit,
    /// The median; `None` if it did not happen in most rounds.
    pub median: Option<u64>,
    /// The lowest of all rounds.
    pub lowest: Option<u64>,
    /// The highest of all rounds; `None` if it did not happen in one.
    pub highest: Option<u64>,
}

/// One kind of canary in one phase, over all rounds in which it measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// What the canary does.
    pub kind: String,
    /// The phase.
    pub phase: String,
    /// The median of the rounds' medians.
    pub p50_ns: u64,
    /// The median of the rounds' 99th percentiles.
    pub p99_ns: u64,
    /// The median of the rounds' 99.9th percentiles.
    pub p999_ns: u64,
    /// The median of the rounds' longest waits.
    pub worst_ns: u64,
    /// The longest wait of all rounds.
    pub worst_any_round_ns: u64,
}

/// The median; of an even number of values, the middle of the two in the middle.
pub fn median(values: impl IntoIterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.into_iter().collect();
    values.sort_unstable();
    let upper = values.len() / 2;
    let lower = values.len().checked_sub(1)? / 2;
    Some(values[lower].midpoint(values[upper]))
}

/// The median of what may never have come; of an even number, the later of the two in the middle if one never came.
fn median_or_never(values: &[Option<u64>]) -> Option<u64> {
    let never = values.iter().filter(|value| value.is_none()).count();
    if never == 0 {
        return median(values.iter().copied().flatten());
    }
    let mut values: Vec<u64> = values.iter().map(|value| value.unwrap_or(u64::MAX)).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().filter(|value| *value != u64::MAX)
}

impl FigureSummary {
    fn of(name: &str, figures: &[&Figure]) -> Option<Self> {
        let values: Vec<_> = figures.iter().map(|figure| figure.value).collect();
        Some(Self {
            name: name.to_owned(),
            unit: figures.first()?.unit,
            median: median_or_never(&values),
            lowest: values.iter().copied().flatten().min(),
            highest: values.iter().copied().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max()),
        })
    }
}

impl Wait {
    fn of(kind: &str, phase: &str, latencies: &[&Latency]) -> Option<Self> {
        let middle = |field: fn(&Latency) -> u64| median(latencies.iter().map(|latency| field(latency)));
        Some(Self {
            kind: kind.to_owned(),
            phase: phase.to_owned(),
            p50_ns: middle(|latency| latency.p50_ns)?,
            p99_ns: middle(|latency| latency.p99_ns)?,
            p999_ns: middle(|latency| latency.p999_ns)?,
            worst_ns: middle(|latency| latency.worst_ns)?,
            worst_any_round_ns: latencies.iter().map(|latency| latency.worst_ns).max()?,
        })
    }
}

impl Summary {
    /// Summarises one allocator's runs.
    pub fn of(allocator: &str, runs: &[&Run]) -> Self {
        let records = || runs.iter().map(|run| &run.record);
        let names = distinct(records().flat_map(|record| record.figures.iter().map(|figure| figure.name.as_str())));
        let figures = names.into_iter().filter_map(|name| {
            let own = records().flat_map(|record| &record.figures).filter(|figure| figure.name == name);
            FigureSummary::of(name, &own.collect::<Vec<_>>())
        });
        Self {
            allocator: allocator.to_owned(),
            figures: figures.collect(),
            waits: waits(runs),
            locks: LockSummary::of(runs.iter().filter_map(|run| run.locks.as_ref())),
            write_lock_calls: records().filter_map(|record| record.write_lock_calls).max(),
            hold_budget_ns: records().filter_map(|record| record.giving_back).map(|told| told.hold_budget_ns).max(),
            fault_ns: runs.iter().map(|run| run.fault_ns).max().unwrap_or_default(),
        }
    }

    /// The figure of this name.
    pub fn figure(&self, name: &str) -> Option<&FigureSummary> {
        self.figures.iter().find(|figure| figure.name == name)
    }

    /// The median of the figure of this name, if it was measured and happened.
    pub fn median(&self, name: &str) -> Option<u64> {
        self.figure(name)?.median
    }

    /// The waits of a kind of canary in a phase, if the phase was long enough to measure any.
    pub fn wait(&self, kind: &str, phase: &str) -> Option<&Wait> {
        self.waits.iter().find(|wait| wait.kind == kind && wait.phase == phase)
    }
}

/// All waits of the runs, phase by phase in the order in which they were.
fn waits(runs: &[&Run]) -> Vec<Wait> {
    let canaries = || runs.iter().flat_map(|run| &run.record.canaries);
    let spans = runs.iter().flat_map(|run| run.record.spans.iter().map(|span| span.phase.as_str()));
    let told = canaries().flat_map(|canary| canary.phases.iter().map(|entry| entry.phase.as_str()));
    let phases = distinct(spans.chain(told));
    let kinds = distinct(canaries().map(|canary| canary.kind.as_str()));
    let pairs = phases.iter().flat_map(|phase| kinds.iter().map(move |kind| (*kind, *phase)));
    let wait = |(kind, phase): (&str, &str)| {
        let latencies: Vec<_> = runs.iter().filter_map(|run| run.record.latency(kind, phase)).collect();
        Wait::of(kind, phase, &latencies)
    };
    pairs.filter_map(wait).collect()
}

/// Each item once, in the order of its first appearance.
pub fn distinct<'a>(items: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen: Vec<&str> = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([7]), Some(7));
        assert_eq!(median([9, 1, 5]), Some(5));
        assert_eq!(median([1, 4, 100, 2]), Some(3));
    }

    #[test]
    fn what_never_came_is_later_than_anything() {
        assert_eq!(median_or_never(&[Some(3), None, Some(5)]), Some(5));
        assert_eq!(median_or_never(&[Some(3), None]), None);
        assert_eq!(median_or_never(&[Some(3), Some(5)]), Some(4));
        assert_eq!(median_or_never(&[]), None);
    }

    #[test]
    fn a_summary_has_medians_and_the_worst_of_all_rounds() {
        let runs = [
            samples::run(1, samples::record("some", 100)),
            samples::run(2, samples::record("some", 300)),
            samples::run(3, samples::record("some", 900)),
        ];
        let summary = Summary::of("some", &runs.iter().collect::<Vec<_>>());
        let doubling = summary.figure("doubling").unwrap();
        assert_eq!((doubling.median, doubling.lowest, doubling.highest), (Some(300), Some(100), Some(900)));
        assert_eq!(summary.median("nothing"), None);
        let wait = summary.wait("map", "doubling").unwrap();
        assert_eq!((wait.p999_ns, wait.worst_ns, wait.worst_any_round_ns), (150, 300, 900));
        assert!(summary.wait("map", "drop").is_none(), "too short");
        let phases = distinct(summary.waits.iter().map(|wait| wait.phase.as_str()));
        assert_eq!(phases, ["control", "doubling"]);
    }

    #[test]
    fn a_figure_that_failed_to_happen_once_has_no_highest() {
        let figure = |value| Figure { name: "back".to_owned(), value, unit: Unit::Ns };
        let figures = [figure(Some(4)), figure(None), figure(Some(2))];
        let summary = FigureSummary::of("back", &figures.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((summary.lowest, summary.median, summary.highest), (Some(2), Some(4), None));
    }
}
