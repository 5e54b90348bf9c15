//! What the page shows of a trace of `mmap_lock`: holds and waits with the record's times, and hold times by length.
//!
//! This is the only file of the page that knows how [`lock_trace`] puts it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use lock_trace::{Blame, Interval, IntervalKind, Mode, Trace};

use crate::harness::Run;
use crate::record::time;

/// One hold of the lock, or one wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockInterval<'a> {
    /// Whether it is a wait.
    pub is_wait: bool,
    /// Whether it is for writing.
    pub is_write: bool,
    /// The thread's number.
    pub tid: i32,
    /// The thread's name.
    pub thread: &'a str,
    /// Whether it is a thread of another process.
    pub is_outsider: bool,
    /// What the thread was doing.
    pub call: String,
    /// When it began, by the record's time.
    pub start_ns: u64,
    /// How long it was.
    pub duration_ns: u64,
    /// Whether it was not over when the trace ended.
    pub is_unfinished: bool,
    /// Of a wait: the holders that it waited for, the longest first.
    pub blamed: Vec<Holder<'a>>,
}

/// A thread that held the lock while another waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder<'a> {
    /// The thread's number.
    pub tid: i32,
    /// The thread's name.
    pub thread: &'a str,
    /// What the thread was doing.
    pub call: String,
    /// For how long it held the lock while the other waited.
    pub overlap_ns: u64,
}

impl LockInterval<'_> {
    /// When it ended.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.duration_ns)
    }

    /// What it is, in two words.
    pub fn what(&self) -> &'static str {
        match (self.is_write, self.is_wait) {
            (true, false) => "write hold",
            (true, true) => "write wait",
            (false, false) => "read hold",
            (false, true) => "read wait",
        }
    }

    /// The thread's name, and whether it is of another process.
    pub fn who(&self) -> String {
        if self.is_outsider { format!("{} (another process)", self.thread) } else { self.thread.to_owned() }
    }

    /// How long, and whether it may have been longer.
    pub fn length(&self) -> String {
        let length = time(self.duration_ns);
        if self.is_unfinished { format!("over {length}") } else { length }
    }
}

/// The holds and waits that the trace of a run has kept, the longest first; none if there was no trace.
pub fn intervals(run: &Run) -> Vec<LockInterval<'_>> {
    let kept = run.locks.iter().flat_map(|trace| &trace.kept);
    let mut intervals: Vec<_> = kept.map(|interval| shown(interval, run.record.start_ns)).collect();
    intervals.sort_by_key(|interval| Reverse(interval.duration_ns));
    intervals
}

fn shown(interval: &Interval, record_start_ns: u64) -> LockInterval<'_> {
    let mut blamed: Vec<_> = interval.blame.iter().map(holder).collect();
    blamed.sort_by_key(|holder| Reverse(holder.overlap_ns));
    LockInterval {
        is_wait: interval.kind == IntervalKind::Wait,
        is_write: interval.mode == Mode::Write,
        tid: interval.tid,
        thread: &interval.thread,
        is_outsider: interval.outsider,
        call: interval.activity.to_string(),
        start_ns: interval.start_ns.saturating_sub(record_start_ns),
        duration_ns: interval.duration_ns,
        is_unfinished: interval.unfinished,
        blamed,
    }
}

fn holder(blame: &Blame) -> Holder<'_> {
    Holder { tid: blame.tid, thread: &blame.thread, call: blame.activity.to_string(), overlap_ns: blame.overlap_ns }
}

/// Holds by length, as upper bounds and counts, of all traces together; each bound is twice the one before.
pub fn hold_times<'a>(traces: impl Iterator<Item = &'a Trace>, is_write: bool) -> Vec<(u64, u64)> {
    let mode = if is_write { Mode::Write } else { Mode::Read };
    let buckets = traces.flat_map(|trace| trace.holds(mode).histogram);
    let doubled = |up_to_ns: u64| up_to_ns.checked_next_power_of_two().unwrap_or(u64::MAX);
    merged(buckets.map(|(up_to_ns, count)| (doubled(up_to_ns), count)))
}

/// Buckets of several histograms with the same bounds, as one.
pub fn merged(buckets: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut counts = BTreeMap::new();
    for (up_to_ns, count) in buckets {
        *counts.entry(up_to_ns).or_insert(0) += count;
    }
    counts.into_iter().collect()
}
