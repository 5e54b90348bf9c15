//! A whole run of one scenario: what was run on what, and what came out.
//!
//! `main.rs` makes one [`Report`]; [`text`](crate::text) prints it on a terminal, [`page`](crate::page) as HTML, and
//! serde as JSON.

use serde::{Deserialize, Serialize};

use crate::harness::Run;
use crate::machine::Machine;
use crate::scenario::Plan;
use crate::summary::{Summary, distinct};
use crate::targets::{self, Target, Verdict};

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was run, in one sentence.
    pub headline: String,
    /// When it began: seconds since 1970, in UTC.
    pub began_s: u64,
    /// The machine.
    pub machine: Machine,
    /// What each child was told.
    pub plan: Plan,
    /// How often each allocator ran.
    pub rounds: u32,
    /// Whether the children ran without memory that the host was made to back.
    pub cold: bool,
    /// Why `mmap_lock` was not traced; `None` if it was.
    pub untraced: Option<String>,
    /// One summary for each allocator, in the order of the first round.
    pub summaries: Vec<Summary>,
    /// What is to be reached, and who did.
    pub targets: Vec<Target>,
    /// What came of each child, in the order in which they ran.
    pub runs: Vec<Run>,
}

/// How a run was made.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// When it began: seconds since 1970, in UTC.
    pub began_s: u64,
    /// The machine.
    pub machine: Machine,
    /// How often each allocator ran.
    pub rounds: u32,
    /// Whether the children ran without memory that the host was made to back.
    pub cold: bool,
    /// Why `mmap_lock` was not traced; `None` if it was.
    pub untraced: Option<String>,
}

impl Report {
    /// Summarises and judges the children's records.
    pub fn new(circumstances: Circumstances, plan: Plan, runs: Vec<Run>) -> Self {
        let allocators = distinct(runs.iter().map(|run| run.record.allocator.as_str()));
        let summarise = |allocator: &&str| {
            let own: Vec<_> = runs.iter().filter(|run| run.record.allocator == *allocator).collect();
            Summary::of(allocator, &own)
        };
        let summaries: Vec<_> = allocators.iter().map(summarise).collect();
        let targets = targets::judge(&plan, &summaries);
        let Circumstances { began_s, machine, rounds, cold, untraced } = circumstances;
        let headline = plan.scenario().headline();
        Self { headline, began_s, machine, plan, rounds, cold, untraced, summaries, targets, runs }
    }

    /// How this project's allocators did on all targets together.
    pub fn outcome(&self) -> Outcome {
        let verdicts = || self.targets.iter().flat_map(Target::verdicts_on_antifreeze);
        if verdicts().any(|verdict| *verdict == Verdict::Missed) {
            Outcome::Missed
        } else if verdicts().any(|verdict| matches!(verdict, Verdict::Unjudged(_))) {
            Outcome::Unjudged
        } else if verdicts().any(|verdict| *verdict == Verdict::Met) {
            Outcome::Met
        } else {
            Outcome::Nothing
        }
    }
}

/// All verdicts on this project's allocators together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every target that applies was met.
    Met,
    /// One was missed.
    Missed,
    /// None was missed, but one could not be judged.
    Unjudged,
    /// There was nothing to judge.
    Nothing,
}

/// Made-up results for tests.
#[cfg(test)]
pub mod samples {
    use lock_trace::{CallRow, Mode, Row, Tally, Trace};

    use super::*;
    use crate::hooks::GivingBack;
    use crate::idle::IdleSample;
    use crate::latency::{Latency, Timeline};
    use crate::record::{CanaryRecord, Figure, PhaseLatency, Record, RssSample, Span, Unit};
    use crate::scenario::replay::Replay;
    use crate::table::Size;

    /// What a canary felt whose longest wait was `worst_ns`.
    pub fn latency(worst_ns: u64) -> Latency {
        Latency {
            samples: 10,
            p50_ns: worst_ns / 8,
            p90_ns: worst_ns / 4,
            p99_ns: worst_ns / 3,
            p999_ns: worst_ns / 2,
            worst_ns,
            histogram: vec![(worst_ns / 8, 8), (worst_ns, 2)],
        }
    }

    /// A replay of which every time is `doubling_ns`.
    pub fn record(allocator: &str, doubling_ns: u64) -> Record {
        let figure = |name: &str, value, unit| Figure { name: name.to_owned(), value: Some(value), unit };
        let span = |phase: &str, is_busy, start_ns, end_ns| Span { phase: phase.to_owned(), is_busy, start_ns, end_ns };
        let felt = |phase: &str| PhaseLatency { phase: phase.to_owned(), latency: latency(doubling_ns) };
        let canary = |kind: &str| CanaryRecord {
            kind: kind.to_owned(),
            phases: vec![felt("control"), felt("doubling")],
            timeline: Timeline { point_ns: 5_000_000, worst_ns: vec![0, doubling_ns, 7] },
        };
        Record {
            allocator: allocator.to_owned(),
            version: "1.2.3".to_owned(),
            start_ns: 1_000_000,
            spans: vec![span("control", false, 0, 5_000_000), span("doubling", true, 5_000_000, 9_000_000)],
            figures: vec![
                figure("doubling", doubling_ns, Unit::Ns),
                figure("drop", doubling_ns, Unit::Ns),
                figure("RSS peak", 2048, Unit::Kib),
                Figure { name: "back after".to_owned(), value: None, unit: Unit::Ns },
            ],
            canaries: vec![canary("block"), canary("map")],
            idle: vec![IdleSample { at_ns: 9_000_000, rss_kib: 2048, backlog_bytes: None }],
            giving_back: Some(GivingBack { decay_ns: None, rate: None, hold_budget_ns: 250_000 }),
            write_lock_calls: Some(1),
            notes: vec!["A note.".to_owned()],
        }
    }

    /// A run of one child.
    pub fn run(round: u32, record: Record) -> Run {
        let rss = vec![RssSample { at_ns: 0, rss_kib: 1024 }, RssSample { at_ns: 9_000_000, rss_kib: 2048 }];
        Run { round, fault_ns: 100_000, record, rss, locks: None }
    }

    /// A row of holds of these lengths.
    pub fn lock_row(thread: &str, activity: &str, mode: Mode, holds_ns: &[u64]) -> Row {
        let mut holds = Tally::default();
        holds_ns.iter().for_each(|ns| holds.add(*ns));
        let (thread, activity) = (thread.to_owned(), activity.to_owned());
        Row { tid: 1, thread, outsider: false, activity, mode, holds, waits: Tally::default() }
    }

    /// A row of calls that took so long.
    pub fn call_row(thread: &str, call: &str, took_ns: &[u64]) -> CallRow {
        let mut time = Tally::default();
        took_ns.iter().for_each(|ns| time.add(*ns));
        let (thread, call, count) = (thread.to_owned(), call.to_owned(), time.count);
        CallRow { tid: 1, thread, call, count, empty: 0, bytes: 0, time }
    }

    /// A trace of these rows.
    pub fn trace(rows: Vec<Row>) -> Trace {
        Trace {
            pid: 1,
            start_ns: 0,
            end_ns: 10_000_000,
            gone_ns: None,
            rows,
            kept: Vec::new(),
            kept_dropped: 0,
            calls: Vec::new(),
            lost: lock_trace::Losses::default(),
        }
    }

    /// A machine.
    pub fn machine() -> Machine {
        Machine {
            kernel: "6.1".to_owned(),
            cpu_model: "Some CPU".to_owned(),
            cpu_count: 2,
            thp_mode: "madvise".to_owned(),
            thp_defrag: "madvise".to_owned(),
            c_library: "some libc 1".to_owned(),
            rustc: "rustc 1".to_owned(),
            memory_kib: 8 << 20,
            available_kib: 4 << 20,
        }
    }

    /// A report of these runs.
    pub fn report(runs: Vec<Run>) -> Report {
        let circumstances =
            Circumstances { began_s: 1_800_000_000, machine: machine(), rounds: 2, cold: false, untraced: None };
        Report::new(circumstances, Plan::Replay(Replay::new(Size::SMALLEST)), runs)
    }
}
