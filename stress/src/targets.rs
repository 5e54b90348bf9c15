//! What an allocator that does not freeze has to reach in a replay, and who did: four targets in plain words.
//!
//! [`report`](crate::report) prints them last and puts them into the JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::harness::LIMIT;
use crate::report::time;
use crate::summary::Summary;

/// The longest that dropping the table may take the thread that drops it.
const DROP_NS_MAX: u64 = 1_000_000;
/// The longest that another thread's mmap may take more after the drop, at the 99.9th percentile.
const PAGE_EXCESS_NS_MAX: u64 = 1_000_000;
/// The most that a prewarmed doubling may take, in hundredths of the limit.
const DOUBLING_PERCENT_MAX: u64 = 110;

/// One target, and what each allocator came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What is to be reached.
    pub goal: String,
    /// The allocators to which it applies or that it is instructive to see beside them.
    pub results: Vec<TargetResult>,
}

/// What one allocator came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetResult {
    /// The allocator.
    pub allocator: String,
    /// The value, with its unit.
    pub value: String,
    /// Whether it meets the target; `None` if the target is not for this allocator.
    pub met: Option<bool>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.goal)?;
        for (number, result) in self.results.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let verdict = match result.met {
                Some(true) => " (met)",
                Some(false) => " (missed)",
                None => "",
            };
            write!(f, "{comma} {} {}{verdict}", result.allocator, result.value)?;
        }
        f.write_str(".")
    }
}

/// All targets, judged by the medians of a run that watched memory for `settle_ms` after the drop.
pub fn judge(summaries: &[Summary], settle_ms: u64) -> Vec<Target> {
    vec![drop_time(summaries), page_wait(summaries), memory_back(summaries, settle_ms), doubling(summaries)]
}

fn target(goal: String, summaries: &[Summary], result: impl Fn(&Summary) -> Option<(String, Option<bool>)>) -> Target {
    let result = |summary: &Summary| {
        let (value, met) = result(summary)?;
        Some(TargetResult { allocator: summary.allocator.clone(), value, met })
    };
    Target { goal, results: summaries.iter().filter_map(result).collect() }
}

fn drop_time(summaries: &[Summary]) -> Target {
    let goal = format!("Dropping the doubled table takes the dropping thread less than {}", time(DROP_NS_MAX));
    target(goal, summaries, |summary| Some((time(summary.drop_ns), Some(summary.drop_ns < DROP_NS_MAX))))
}

fn page_wait(summaries: &[Summary]) -> Target {
    let goal = format!(
        "After the drop another thread's mmap of a page takes at p99.9 at most {} more than before",
        time(PAGE_EXCESS_NS_MAX)
    );
    target(goal, summaries, |summary| {
        let excess_ns = summary.page_excess_ns?;
        Some((format!("{} more", time(excess_ns)), Some(excess_ns <= PAGE_EXCESS_NS_MAX)))
    })
}

fn memory_back(summaries: &[Summary], settle_ms: u64) -> Target {
    let common_ns = summaries.iter().filter_map(|summary| summary.back_target_ns).max();
    let within =
        common_ns.map_or_else(String::new, |ns| format!(" {} after the drop (decay, and backlog by rate)", time(ns)));
    let goal = format!("Resident memory is within 10 % of what is live{within}");
    target(goal, summaries, |summary| {
        // What the limit has is never given back.
        if summary.allocator == LIMIT {
            return None;
        }
        let target_ns = summary.back_target_ns.or(common_ns);
        match summary.back_after_ns {
            Some(ns) => Some((format!("after {}", time(ns)), target_ns.map(|target_ns| ns <= target_ns))),
            None => Some((format!("not within {}", time(settle_ms * 1_000_000)), Some(false))),
        }
    })
}

fn doubling(summaries: &[Summary]) -> Target {
    let limit_ns = summaries.iter().find(|summary| summary.allocator == LIMIT).map(|limit| limit.doubling_ns.max(1));
    let of_limit =
        limit_ns.map_or_else(|| "the limit, which did not run".to_owned(), |ns| format!("the limit's {}", time(ns)));
    let factor = DOUBLING_PERCENT_MAX as f64 / 100.0;
    let goal = format!("A prewarmed doubling takes at most {factor} x {of_limit}; the others for comparison");
    target(goal, summaries, |summary| {
        let limit_ns = limit_ns.filter(|_| summary.allocator != LIMIT)?;
        let percent = summary.doubling_ns.saturating_mul(100) / limit_ns;
        let met = summary.prewarm_ns.map(|_| percent <= DOUBLING_PERCENT_MAX);
        Some((format!("{:.2} x", percent as f64 / 100.0), met))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(allocator: &str, doubling_ns: u64) -> Summary {
        let run = crate::report::tests::run(1, crate::report::tests::child(allocator, doubling_ns, None));
        Summary { drop_ns: 999_999, page_excess_ns: Some(1_000_000), ..Summary::of(allocator, &[&run]) }
    }

    fn lines(summaries: &[Summary]) -> Vec<String> {
        judge(summaries, 8000).iter().map(Target::to_string).collect()
    }

    #[test]
    fn each_target_is_met_up_to_its_bound() {
        let ours = Summary {
            prewarm_ns: Some(1),
            back_after_ns: Some(5_000_000_000),
            back_target_ns: Some(5_000_000_000),
            ..summary("ours", 110_000_000)
        };
        let [drop, page, back, doubling] = &lines(&[ours, summary(LIMIT, 100_000_000)])[..] else { panic!() };
        assert_eq!(
            drop,
            "Dropping the doubled table takes the dropping thread less than 1.0 ms: ours 999 µs (met), \
             limit 999 µs (met)."
        );
        assert!(page.ends_with("before: ours 1.0 ms more (met), limit 1.0 ms more (met)."), "{page}");
        assert!(
            back.ends_with("live 5.00 s after the drop (decay, and backlog by rate): ours after 5.00 s (met)."),
            "{back}"
        );
        assert!(
            doubling.ends_with("1.1 x the limit's 100.0 ms; the others for comparison: ours 1.10 x (met)."),
            "{doubling}"
        );
    }

    #[test]
    fn each_target_is_missed_beyond_it() {
        let ours = Summary {
            drop_ns: 1_000_000,
            page_excess_ns: Some(1_000_001),
            prewarm_ns: Some(1),
            back_after_ns: Some(5_000_000_001),
            back_target_ns: Some(5_000_000_000),
            ..summary("ours", 111_000_000)
        };
        let never = Summary { back_after_ns: None, ..summary("never", 50_000_000) };
        let lines = lines(&[ours, never, summary(LIMIT, 100_000_000)]);
        assert!(lines.iter().all(|line| line.contains("ours ") && line.contains("(missed)")), "{lines:#?}");
        assert!(lines[2].contains("never not within 8.00 s (missed)"), "{lines:#?}");
        assert!(lines[3].ends_with("ours 1.11 x (missed), never 0.50 x."), "{lines:#?}");
    }

    #[test]
    fn what_has_nothing_to_be_compared_with_is_not_judged() {
        let lines = lines(&[Summary { page_excess_ns: None, back_after_ns: Some(1), ..summary("alone", 1) }]);
        assert!(lines[1].ends_with("before:."), "{lines:#?}");
        assert!(lines[2].ends_with("what is live: alone after 0 µs."), "{lines:#?}");
        assert!(lines[3].contains("did not run"), "{lines:#?}");
    }
}
