//! What the kernel told of `mmap_lock` in one child, and what of it the allocator has to answer for.
//!
//! [`harness`](crate::harness) attaches the tracer; [`summary`](crate::summary) and [`targets`](crate::targets) use
//! what is said here of its trace.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use lock_trace::{Mode, Options, Row, Tally, Trace, Tracer};
use serde::{Deserialize, Serialize};

use crate::record::millis;

/// The calls by which an allocator changes a process's memory.
const MEMORY_CALLS: [&str; 9] =
    ["mmap", "munmap", "mremap", "mprotect", "pkey_mprotect", "brk", "madvise", "process_madvise", "mlock2"];
/// The thread on which antifreeze gives memory back and makes it warm.
const GOVERNOR: &str = "antifreeze-gov";
/// The canary that does nothing but allocate and free, of all threads that are named so.
const BLOCK_CANARY: &str = "canary block";
/// The canary that touches and unmaps one page at a time.
const FAULT_CANARY: &str = "canary fault";

/// The traces of one allocator's rounds, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockSummary {
    /// How often the lock was taken for writing on the allocator's account: the most in any round.
    pub writes: u64,
    /// By which calls: the name of a call and how often, the most in any round.
    pub writes_by_call: Vec<(String, u64)>,
    /// The longest of these holds, of all rounds.
    pub longest_write_ns: u64,
    /// How long calls of the allocator held the lock for reading, of all rounds.
    pub reads: Tally,
    /// How long the governor's calls took that give memory back, of all rounds.
    pub purges: Tally,
    /// How long a canary's calls took that unmap one page, of all rounds: what any call takes on this machine.
    pub page_calls: Tally,
    /// How often a thread that is not the governor's gave memory back, of all rounds; only told of antifreeze.
    pub purges_elsewhere: u64,
    /// The longest that any thread of the process waited for the lock, of all rounds.
    pub longest_wait_ns: u64,
    /// Records that the kernel lost, of all rounds.
    pub lost: u64,
    /// Whether any trace lacks anything: what is said here is then the least there was.
    pub is_incomplete: bool,
}

/// Whether the thread's memory calls are the allocator's doing: of all threads but those canaries that map memory
/// themselves, and outsiders.
fn is_of_allocator(row: &Row) -> bool {
    !row.outsider && !maps_by_itself(&row.thread) && MEMORY_CALLS.contains(&row.activity.as_str())
}

/// Whether it is a canary that maps memory, or starts threads, which does so too.
fn maps_by_itself(thread: &str) -> bool {
    thread.starts_with("canary") && thread != BLOCK_CANARY
}

fn rows(trace: &Trace, mode: Mode) -> impl Iterator<Item = &Row> {
    trace.rows.iter().filter(move |row| row.mode == mode && row.holds.count > 0 && is_of_allocator(row))
}

fn merged<'a>(rows: impl Iterator<Item = &'a Row>) -> Tally {
    let mut all = Tally::default();
    rows.for_each(|row| all.merge(&row.holds));
    all
}

/// Why `mmap_lock` cannot be traced here; `None` if it can.
pub fn why_not_traced() -> Option<String> {
    let tracer = Tracer::attach(std::process::id(), &Options::default());
    match tracer.map(Tracer::stop) {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(unavailable) => Some(unavailable.to_string()),
    }
}

impl LockSummary {
    /// Summarises the traces; `None` if there is none.
    pub fn of<'a>(traces: impl Iterator<Item = &'a Trace>) -> Option<Self> {
        let traces: Vec<_> = traces.collect();
        let writes = |trace: &Trace| rows(trace, Mode::Write).map(|row| row.holds.count).sum::<u64>();
        let most = traces.iter().map(|trace| writes(trace)).max()?;
        let all = |mode| traces.iter().flat_map(move |trace| rows(trace, mode));
        let advice = traces.iter().flat_map(|trace| &trace.calls).filter(|row| row.call.ends_with("madvise"));
        let mut purges = Tally::default();
        advice.clone().filter(|row| row.thread == GOVERNOR).for_each(|row| purges.merge(&row.time));
        let mut page_calls = Tally::default();
        let calls = traces.iter().flat_map(|trace| &trace.calls);
        calls
            .filter(|row| row.thread == FAULT_CANARY && row.call == "munmap")
            .for_each(|row| page_calls.merge(&row.time));
        let elsewhere = advice.filter(|row| row.thread != GOVERNOR && !maps_by_itself(&row.thread));
        let waits = traces.iter().flat_map(|trace| &trace.rows).filter(|row| !row.outsider);
        Some(Self {
            writes: most,
            writes_by_call: most_by_call(&traces),
            longest_write_ns: all(Mode::Write).map(|row| row.holds.longest_ns).max().unwrap_or(0),
            reads: merged(all(Mode::Read)),
            purges,
            page_calls,
            purges_elsewhere: elsewhere.map(|row| row.count).sum(),
            longest_wait_ns: waits.map(|row| row.waits.longest_ns).max().unwrap_or(0),
            lost: traces.iter().map(|trace| trace.lost.records).sum(),
            is_incomplete: traces.iter().any(|trace| trace.lost.is_incomplete()),
        })
    }

    /// What tables show of it: names with units, and values.
    pub fn rows(&self) -> [(&'static str, String); 7] {
        [
            ("calls of the allocator that wrote", self.writes.to_string()),
            ("their longest hold (ms)", millis(self.longest_write_ns)),
            ("its holds for reading", self.reads.count.to_string()),
            ("p99.9 of these (ms)", millis(self.reads.quantile_ns(999))),
            ("the longest of these (ms)", millis(self.reads.longest_ns)),
            ("longest wait of any thread (ms)", millis(self.longest_wait_ns)),
            ("events lost", self.lost.to_string()),
        ]
    }

    /// The calls that took the lock for writing, as `mprotect 4, munmap 1`.
    pub fn calls_said(&self) -> String {
        let calls: Vec<_> = self.writes_by_call.iter().map(|(call, count)| format!("{call} {count}")).collect();
        calls.join(", ")
    }
}

/// How often each call took the lock for writing, in the round in which it did most often; the most frequent first.
fn most_by_call(traces: &[&Trace]) -> Vec<(String, u64)> {
    let mut most: BTreeMap<&str, u64> = BTreeMap::new();
    for trace in traces {
        let mut calls: BTreeMap<&str, u64> = BTreeMap::new();
        rows(trace, Mode::Write).for_each(|row| *calls.entry(&row.activity).or_default() += row.holds.count);
        for (call, count) in calls {
            let highest = most.entry(call).or_default();
            *highest = count.max(*highest);
        }
    }
    let mut calls: Vec<_> = most.into_iter().map(|(call, count)| (call.to_owned(), count)).collect();
    calls.sort_by_key(|(_, count)| Reverse(*count));
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn only_what_is_on_the_allocators_account_counts() {
        let row = samples::lock_row;
        let mut trace = samples::trace(vec![
            row("main", "munmap", Mode::Write, &[90]),
            row("main", "mmap", Mode::Write, &[50, 60]),
            row("main", "fault", Mode::Write, &[7000]),
            row("canary map", "munmap", Mode::Write, &[8000, 8000, 8000, 8000]),
            row("canary block", "mmap", Mode::Write, &[20]),
            row(GOVERNOR, "madvise", Mode::Read, &[200, 300]),
        ]);
        trace.calls = vec![
            samples::call_row(GOVERNOR, "madvise", &[400]),
            samples::call_row(GOVERNOR, "process_madvise", &[300]),
            samples::call_row("main", "madvise", &[1, 2, 3]),
            samples::call_row("canary thread", "madvise", &[1]),
            samples::call_row("canary fault", "munmap", &[50, 60]),
            samples::call_row("canary fault", "mmap", &[1]),
            samples::call_row("canary map", "munmap", &[1]),
            samples::call_row("main", "munmap", &[1]),
        ];
        let quiet = samples::trace(vec![row("main", "madvise", Mode::Read, &[10])]);
        let summary = LockSummary::of([&quiet, &trace].into_iter()).unwrap();
        assert_eq!((summary.writes, summary.longest_write_ns), (4, 90));
        assert_eq!(summary.calls_said(), "mmap 3, munmap 1");
        assert_eq!((summary.reads.count, summary.reads.longest_ns), (3, 300));
        assert_eq!((summary.purges.count, summary.purges.longest_ns, summary.purges_elsewhere), (2, 400, 3));
        assert_eq!((summary.page_calls.count, summary.page_calls.longest_ns), (2, 60));
        assert_eq!(LockSummary::of(std::iter::empty()), None);
    }
}
