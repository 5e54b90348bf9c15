//! What an allocator that does not freeze has to reach, and who did, in plain words.
//!
//! Each [`scenario`](crate::scenario) has targets of its own; here are those that several have in common, and the
//! promises of antifreeze that the kernel judges in every scenario. [`report`](crate::report) collects them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::candidates::{LIMIT, is_antifreeze};
use crate::locks::LockSummary;
use crate::phase::Phase;
use crate::record::time;
use crate::scenario::{CONTROL, Plan, after_control};
use crate::summary::{Summary, Wait};

/// The most calls for writing of a process in stepped mode.
const STEPS_MAX: u64 = 16;
/// The longest that another thread's mmap may take more than before, at the 99.9th percentile.
const MAP_EXCESS_NS_MAX: u64 = 1_000_000;
/// The longest that a canary may wait more than beside the limit, at the 99.9th percentile.
const BESIDE_LIMIT_NS_MAX: u64 = 1_000_000;
/// Where a canary waits longer beside the limit, the machine is too busy to judge.
const NOISE_NS_MAX: u64 = 10_000_000;

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
    /// Whether it meets the target.
    pub verdict: Verdict,
}

/// Whether a target is met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is.
    Met,
    /// It is not.
    Missed,
    /// This run cannot tell, for this reason.
    Unjudged(String),
    /// The target is not for this allocator, which is shown for comparison.
    Shown,
}

impl Verdict {
    /// Of what is to be compared with the limit where that did not run.
    pub fn without_limit() -> Self {
        Self::Unjudged("the limit did not run".to_owned())
    }
}

impl From<bool> for Verdict {
    fn from(is_met: bool) -> Self {
        if is_met { Self::Met } else { Self::Missed }
    }
}

/// `None` is for comparison only.
impl From<Option<bool>> for Verdict {
    fn from(is_met: Option<bool>) -> Self {
        is_met.map_or(Self::Shown, Self::from)
    }
}

impl Target {
    /// The target, and for each allocator what `result` says: its value, and whether that meets the target.
    pub fn of<V: Into<Verdict>>(
        goal: impl Into<String>,
        summaries: &[Summary],
        result: impl Fn(&Summary) -> Option<(String, V)>,
    ) -> Self {
        let result = |summary: &Summary| {
            let (value, verdict) = result(summary)?;
            Some(TargetResult { allocator: summary.allocator.clone(), value, verdict: verdict.into() })
        };
        Self { goal: goal.into(), results: summaries.iter().filter_map(result).collect() }
    }

    /// The verdicts on this project's allocators.
    pub fn verdicts_on_antifreeze(&self) -> impl Iterator<Item = &Verdict> {
        self.results.iter().filter(|result| is_antifreeze(&result.allocator)).map(|result| &result.verdict)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.goal)?;
        if self.results.is_empty() {
            f.write_str(" nobody took part")?;
        }
        for (number, result) in self.results.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma} {} {}", result.allocator, result.value)?;
            match &result.verdict {
                Verdict::Met => f.write_str(" (met)")?,
                Verdict::Missed => f.write_str(" (missed)")?,
                Verdict::Unjudged(why) => write!(f, " (not judged: {why})")?,
                Verdict::Shown => {}
            }
        }
        f.write_str(".")
    }
}

/// All targets of a scenario: its own, then the promises.
pub fn judge(plan: &Plan, summaries: &[Summary]) -> Vec<Target> {
    let scenario = plan.scenario();
    let mut targets = scenario.targets(summaries);
    if scenario.keeps_still() {
        targets.extend(promises(summaries));
    }
    targets
}

/// The limit, if it ran.
pub fn limit(summaries: &[Summary]) -> Option<&Summary> {
    summaries.iter().find(|summary| summary.allocator == LIMIT)
}

/// What a goal says of the limit's time.
pub fn of_limit(limit_ns: Option<u64>) -> String {
    limit_ns.map_or_else(|| "the limit, which did not run".to_owned(), |ns| format!("the limit's {}", time(ns)))
}

/// Another thread's mmap in the phase `after` beside the phase `before`.
pub fn map_wait(summaries: &[Summary], before: &str, after: &str) -> Target {
    let goal = format!(
        "In the phase \"{after}\" another thread's mmap takes at p99.9 at most {} more than in \"{before}\"",
        time(MAP_EXCESS_NS_MAX)
    );
    Target::of(goal, summaries, |summary| {
        let p999_ns = |phase| Some(summary.wait("map", phase)?.p999_ns);
        let before_ns = p999_ns(before)?;
        let excess_ns = p999_ns(after)?.saturating_sub(before_ns);
        let verdict = if before_ns > NOISE_NS_MAX {
            Verdict::Unjudged(format!("it took {} before as well", time(before_ns)))
        } else {
            Verdict::from(excess_ns <= MAP_EXCESS_NS_MAX)
        };
        Some((format!("{} more", time(excess_ns)), verdict))
    })
}

/// What the canaries felt in the phases after the control, beside what they felt under the limit, which never calls the
/// kernel: at p99.9, as the longest wait of all is the machine's on one that others share.
pub fn waits_beside_limit(summaries: &[Summary], phases: &[Phase]) -> Target {
    let after: Vec<&str> = after_control(phases).iter().map(|phase| phase.name).collect();
    let goal = format!(
        "After \"{CONTROL}\" no canary waits in any phase at p99.9 more than {} longer than beside the limit",
        time(BESIDE_LIMIT_NS_MAX)
    );
    let limit = limit(summaries);
    // Beside the limit there are no such phases as a canary could tell apart: the worst of all is what the machine
    // does.
    let floor_ns = |kind: &str| {
        let waits = limit.into_iter().flat_map(|limit| &limit.waits).filter(|wait| wait.kind == kind);
        waits.map(|wait| wait.p999_ns).max()
    };
    Target::of(goal, summaries, |summary| {
        let waits = summary.waits.iter().filter(|wait| after.contains(&wait.phase.as_str()));
        let excess = |wait: &Wait| floor_ns(&wait.kind).map(|floor_ns| wait.p999_ns.saturating_sub(floor_ns));
        let worst = waits.clone().max_by_key(|wait| excess(wait).unwrap_or(wait.p999_ns))?;
        let said = format!("{} ({}, {})", time(worst.p999_ns), worst.kind, worst.phase);
        if summary.allocator == LIMIT {
            return Some((said, Verdict::Shown));
        }
        let noise_ns = waits.filter_map(|wait| floor_ns(&wait.kind)).max();
        let verdict = match (excess(worst), noise_ns) {
            (_, Some(noise_ns)) if noise_ns > NOISE_NS_MAX => {
                Verdict::Unjudged(format!("beside the limit one waited {} as well", time(noise_ns)))
            }
            (Some(excess_ns), _) => Verdict::from(excess_ns <= BESIDE_LIMIT_NS_MAX),
            (None, _) => Verdict::without_limit(),
        };
        Some((said, verdict))
    })
}

/// Whether memory came back in time in every round: the figures `back after` and `back due`.
pub fn memory_back(summaries: &[Summary]) -> Target {
    let common_ns = summaries.iter().filter_map(|summary| summary.median("back due")).max();
    let within =
        common_ns.map_or_else(String::new, |ns| format!(" {} after the drop (decay, and backlog by rate)", time(ns)));
    let goal = format!("Resident memory is within 10 % of what is live{within}");
    Target::of(goal, summaries, |summary| {
        // What the limit has is never given back.
        if summary.allocator == LIMIT {
            return None;
        }
        let own_due_ns = summary.figure("back due").and_then(|figure| figure.highest);
        let Some(after) = summary.figure("back after") else {
            let why = format!("it is due after {}, and was not watched for so long", time(own_due_ns?));
            return Some(("not yet".to_owned(), Verdict::Unjudged(why)));
        };
        Some(match after.highest {
            Some(ns) => (format!("after {}", time(ns)), own_due_ns.or(common_ns).map(|due_ns| ns <= due_ns).into()),
            None => ("not within the time watched".to_owned(), Verdict::Missed),
        })
    })
}

/// The promises that antifreeze makes of every program, as the kernel's tracepoints saw them. Only antifreeze makes
/// them; the others are shown for comparison.
fn promises(summaries: &[Summary]) -> Vec<Target> {
    if summaries.iter().all(|summary| summary.locks.is_none()) {
        return vec![untraced(summaries)];
    }
    let writes = promise(
        format!(
            "P1, by the kernel: no call on the allocator's account takes mmap_lock for writing, but at most {STEPS_MAX} \
             mprotect calls that it counts itself in stepped mode"
        ),
        summaries,
        |summary, locks| Some((writes_said(locks), keeps_p1(locks, summary.write_lock_calls))),
    );
    let budget_ns = summaries.iter().filter_map(|summary| summary.hold_budget_ns).max();
    let within = budget_ns.map_or_else(|| "the budget".to_owned(), time);
    // Time that the machine takes away is in every call. What a call on one page takes beside the limit, which gives
    // nothing back, is that of any call.
    let page_call_ns = limit(summaries).and_then(|limit| Some(limit.locks.as_ref()?.page_calls.quantile_ns(999)));
    let beyond = page_call_ns.map_or_else(
        || "what any call takes, which only the limit would tell".to_owned(),
        |ns| format!("the {} that a canary's munmap of one page takes beside the limit", time(ns)),
    );
    let holds = promise(
        format!(
            "P2, by the kernel: of the governor's calls that give memory back at most one in a thousand, or one of \
             fewer, takes longer than {within} and {beyond} together"
        ),
        summaries,
        |summary, locks| {
            let bound_ns = purge_bound_ns(summary.hold_budget_ns, page_call_ns);
            let verdict = || keeps_p2(locks, bound_ns, page_call_ns);
            is_antifreeze(&summary.allocator).then(|| (purges_said(locks, bound_ns), verdict()))
        },
    );
    let purges = promise(
        "P3, by the kernel: no thread but the governor's gives memory back".to_owned(),
        summaries,
        |_, locks| Some((format!("{} calls", locks.purges_elsewhere), Verdict::from(locks.purges_elsewhere == 0))),
    );
    vec![writes, holds, purges]
}

/// Stands for the promises where nobody could trace.
fn untraced(summaries: &[Summary]) -> Target {
    Target::of("P1 to P3, by the kernel", summaries, |summary| {
        let why = || Verdict::Unjudged("mmap_lock was not traced".to_owned());
        is_antifreeze(&summary.allocator).then(|| ("unknown".to_owned(), why()))
    })
}

/// A target that only antifreeze has to meet.
fn promise(
    goal: String,
    summaries: &[Summary],
    result: impl Fn(&Summary, &LockSummary) -> Option<(String, Verdict)>,
) -> Target {
    Target::of(goal, summaries, |summary| {
        let locks = summary.locks.as_ref()?;
        let (value, verdict) = result(summary, locks)?;
        let verdict = if !is_antifreeze(&summary.allocator) {
            Verdict::Shown
        } else if locks.is_incomplete {
            Verdict::Unjudged("events were lost".to_owned())
        } else if summary.hold_budget_ns.is_none() {
            // One that was killed at a memory limit did not tell what it may do and what it has counted.
            Verdict::Unjudged("it was killed before it could tell its own count".to_owned())
        } else {
            verdict
        };
        Some((value, verdict))
    })
}

fn writes_said(locks: &LockSummary) -> String {
    match locks.writes {
        0 => "0".to_owned(),
        writes => format!("{writes} ({}; up to {})", locks.calls_said(), time(locks.longest_write_ns)),
    }
}

/// Whether all calls for writing are steps that the allocator counts itself; in ready mode it counts none.
fn keeps_p1(locks: &LockSummary, counted: Option<u64>) -> Verdict {
    let steps_only = locks.writes_by_call.iter().all(|(call, _)| call == "mprotect");
    Verdict::from(steps_only && locks.writes <= STEPS_MAX.min(counted.unwrap_or(0)))
}

/// What a call that gives memory back may take: the budget and what any call takes. A bucket's bound is up to an eighth
/// above what is in it.
fn purge_bound_ns(budget_ns: Option<u64>, page_call_ns: Option<u64>) -> u64 {
    budget_ns.unwrap_or(0).saturating_add(page_call_ns.unwrap_or(0)).saturating_mul(9) / 8
}

fn purges_over(locks: &LockSummary, bound_ns: u64) -> u64 {
    let over = |bucket: &&(u64, u64)| bucket.0 > bound_ns;
    locks.purges.histogram.iter().filter(over).map(|(_, count)| count).sum()
}

fn purges_said(locks: &LockSummary, bound_ns: u64) -> String {
    let (over, p99_9) = (purges_over(locks, bound_ns), time(locks.purges.quantile_ns(999)));
    format!("{over} longer, p99.9 {p99_9}, of {} calls", locks.purges.count)
}

/// Whether at most one call in a thousand took longer than `bound_ns`; of fewer calls, at most one.
fn keeps_p2(locks: &LockSummary, bound_ns: u64, page_call_ns: Option<u64>) -> Verdict {
    if locks.purges.count == 0 {
        return Verdict::Unjudged("there was none".to_owned());
    }
    let over = purges_over(locks, bound_ns);
    match (over <= (locks.purges.count / 1000).max(1), page_call_ns) {
        (true, _) => Verdict::Met,
        (false, Some(ns)) if ns > NOISE_NS_MAX => {
            Verdict::Unjudged(format!("beside the limit a call on one page took {} as well", time(ns)))
        }
        (false, Some(_)) => Verdict::Missed,
        (false, None) => Verdict::without_limit(),
    }
}

#[cfg(test)]
mod tests {
    use lock_trace::{Mode, Row};

    use super::*;
    use crate::harness::Run;
    use crate::record::{Figure, Unit};
    use crate::report::samples;
    use crate::scenario::Scenario;
    use crate::scenario::replay::Replay;
    use crate::table::Size;

    fn traced_run(allocator: &str, rows: Vec<Row>, (thread, call, times_ns): (&str, &str, &[u64])) -> Run {
        let mut run = samples::run(1, samples::record(allocator, 1000));
        let mut trace = samples::trace(rows);
        trace.calls = vec![samples::call_row(thread, call, times_ns)];
        run.locks = Some(trace);
        run
    }

    /// What the targets say of an allocator without the limit, and beside one with these calls on one page.
    fn lines_beside(allocator: &str, rows: Vec<Row>, purges_ns: &[u64], page_calls_ns: &[u64]) -> Vec<String> {
        let mut runs = vec![traced_run(allocator, rows, ("antifreeze-gov", "madvise", purges_ns))];
        if !page_calls_ns.is_empty() {
            runs.push(traced_run(LIMIT, Vec::new(), ("canary fault", "munmap", page_calls_ns)));
        }
        let targets = promises(&samples::report(runs).summaries);
        let of_allocator = |mut target: Target| {
            target.results.retain(|result| result.allocator == allocator);
            target.to_string()
        };
        targets.into_iter().map(of_allocator).collect()
    }

    fn lines(allocator: &str, rows: Vec<Row>, purges_ns: &[u64]) -> Vec<String> {
        lines_beside(allocator, rows, purges_ns, &[])
    }

    #[test]
    fn one_that_was_killed_is_not_judged_by_what_it_could_not_tell() {
        let step = samples::lock_row("main", "mprotect", Mode::Write, &[4000]);
        let mut run = samples::run(1, samples::record("antifreeze", 1000));
        run.locks = Some(samples::trace(vec![step]));
        (run.record.giving_back, run.record.write_lock_calls) = (None, None);
        let targets = promises(&samples::report(vec![run]).summaries);
        let verdicts: Vec<_> = targets.iter().flat_map(Target::verdicts_on_antifreeze).collect();
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Unjudged(_))), "{targets:#?}");
    }

    #[test]
    fn promises_are_kept_up_to_their_bounds() {
        let [writes, holds, purges] = &lines("antifreeze", Vec::new(), &[200_000, 220_000])[..] else { panic!() };
        assert!(writes.ends_with("antifreeze 0 (met)."), "{writes}");
        assert!(holds.ends_with("of 2 calls (met)."), "{holds}");
        assert!(purges.ends_with("antifreeze 0 calls (met)."), "{purges}");
        let step = samples::lock_row("main", "mprotect", Mode::Write, &[4000]);
        assert!(lines("antifreeze", vec![step], &[])[0].ends_with("antifreeze 1 (mprotect 1; up to 4 µs) (met)."));
    }

    #[test]
    fn promises_are_broken_beyond() {
        let writes = |calls: &[(&str, usize)]| {
            let row = |(call, count): &(&str, usize)| samples::lock_row("main", call, Mode::Write, &vec![4000; *count]);
            lines("antifreeze", calls.iter().map(row).collect(), &[]).swap_remove(0)
        };
        // One call is counted by the allocator itself in these samples.
        assert!(writes(&[("mprotect", 2)]).ends_with("(missed)."));
        assert!(writes(&[("munmap", 1)]).ends_with("antifreeze 1 (munmap 1; up to 4 µs) (missed)."));
    }

    #[test]
    fn calls_are_bounded_beside_what_any_call_takes() {
        let purges = |over: usize, page_calls_ns: &[u64]| {
            let purges_ns = [&[100_000; 1990][..], &vec![900_000; over]].concat();
            lines_beside("antifreeze", Vec::new(), &purges_ns, page_calls_ns).swap_remove(1)
        };
        assert!(purges(2, &[9_000]).contains("of 1992 calls (missed)"), "{}", purges(2, &[9_000]));
        assert!(purges(1, &[9_000]).contains("antifreeze 1 longer, p99.9 "), "{}", purges(1, &[9_000]));
        assert!(purges(1, &[9_000]).contains("of 1991 calls (met)"));
        assert!(purges(2, &[800_000]).contains("of 1992 calls (met)"), "{}", purges(2, &[800_000]));
        assert!(purges(2, &[]).contains("of 1992 calls (not judged: the limit did not run)"));
        assert!(purges(1, &[]).contains("of 1991 calls (met)"));
        let noisy = lines_beside("antifreeze", Vec::new(), &[90_000_000; 3], &[30_000_000]).swap_remove(1);
        assert!(noisy.contains("(not judged: beside the limit a call on one page took"), "{noisy}");
        assert!(lines("antifreeze", Vec::new(), &[])[1].ends_with("of 0 calls (not judged: there was none)."));
    }

    #[test]
    fn a_trace_with_losses_proves_nothing() {
        let mut run = samples::run(1, samples::record("antifreeze", 1000));
        let mut trace = samples::trace(Vec::new());
        trace.lost.records = 1;
        run.locks = Some(trace);
        let targets = promises(&samples::report(vec![run]).summaries);
        assert!(
            targets.iter().all(|target| target.to_string().contains("(not judged: events were lost)")),
            "{targets:#?}"
        );
    }

    #[test]
    fn each_round_has_to_keep_the_promise() {
        let mut runs = [1, 2].map(|round| samples::run(round, samples::record("antifreeze", 1000)));
        runs[0].locks = Some(samples::trace(vec![samples::lock_row("main", "mprotect", Mode::Write, &[4000])]));
        runs[1].locks = Some(samples::trace(vec![samples::lock_row("main", "munmap", Mode::Write, &[4000])]));
        let target = promises(&samples::report(runs.to_vec()).summaries)[0].to_string();
        assert!(target.contains("(mprotect 1, munmap 1; up to 4 µs) (missed)"), "{target}");
    }

    #[test]
    fn what_is_not_traced_is_not_judged() {
        let report = samples::report(vec![samples::run(1, samples::record("antifreeze", 1))]);
        let targets = promises(&report.summaries);
        assert!(targets[0].to_string().ends_with("antifreeze unknown (not judged: mmap_lock was not traced)."));
    }

    #[test]
    fn canaries_are_compared_with_those_beside_the_limit() {
        let line = |ours_ns, limit_ns: Option<u64>| {
            let ours = samples::run(1, samples::record("antifreeze", ours_ns));
            let limit = limit_ns.map(|ns| samples::run(1, samples::record(LIMIT, ns)));
            let report = samples::report([Some(ours), limit].into_iter().flatten().collect());
            let phases = Replay::new(Size::SMALLEST);
            waits_beside_limit(&report.summaries, phases.phases()).to_string()
        };
        // The samples' p99.9 is half of the longest wait.
        assert!(line(2_400_000, Some(400_000)).contains("antifreeze 1.2 ms (map, doubling) (met)"));
        assert!(line(2_400_002, Some(400_000)).contains("antifreeze 1.2 ms (map, doubling) (missed)"));
        assert!(line(1, None).contains("(not judged: the limit did not run)"));
        assert!(line(1, Some(30_000_000)).contains("(not judged: beside the limit one waited 15.0 ms as well)"));
    }

    #[test]
    fn memory_is_judged_by_the_latest_round_and_only_if_it_was_watched_for_long_enough() {
        let back = |rounds: &[(Option<u64>, u64)]| {
            let run = |(after_ns, due_ns): &(Option<u64>, u64)| {
                let mut record = samples::record("antifreeze", 1);
                record.figures.retain(|figure| figure.name != "back after");
                let figure = |name: &str, ns| Figure { name: name.to_owned(), value: Some(ns), unit: Unit::Ns };
                record.figures.extend(after_ns.map(|ns| figure("back after", ns)));
                record.figures.push(figure("back due", *due_ns));
                samples::run(1, record)
            };
            memory_back(&samples::report(rounds.iter().map(run).collect()).summaries).results[0].verdict.clone()
        };
        assert_eq!(back(&[(Some(5), 5), (Some(3), 5)]), Verdict::Met);
        assert_eq!(back(&[(Some(6), 5), (Some(1), 5)]), Verdict::Missed);
        assert!(matches!(back(&[(None, 5)]), Verdict::Unjudged(_)));
    }

    #[test]
    fn others_are_shown_and_not_judged() {
        let row = samples::lock_row("main", "munmap", Mode::Write, &[4_000_000]);
        let lines = lines("system", vec![row], &[]);
        assert!(lines[0].ends_with("system 1 (munmap 1; up to 4.0 ms)."), "{lines:#?}");
        assert!(lines[1].ends_with("nobody took part."), "{lines:#?}");
    }

    #[test]
    fn what_has_nothing_to_be_compared_with_is_not_judged() {
        let report = samples::report(vec![samples::run(1, samples::record("alone", 1))]);
        assert_eq!(memory_back(&report.summaries).results[0].verdict, Verdict::Missed);
        assert!(map_wait(&report.summaries, "control", "idle after").results.is_empty());
        let targets = judge(&Plan::Replay(Replay::new(Size::SMALLEST)), &report.summaries);
        assert_eq!(targets.len(), 6, "the promises are one target without a trace");
        assert!(targets[5].results.is_empty(), "and nobody here made them");
    }
}
