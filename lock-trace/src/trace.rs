//! The result of a trace: rows by thread, activity and mode, the longest intervals with who is to blame, the system
//! calls, and what was lost. Made by [`Assembler::finish`](crate::Assembler::finish).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};

use crate::activity::Activity;
use crate::tally::Tally;

/// Who held mmap_lock of a process and who waited for it, over some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The process.
    pub pid: i32,
    /// When recording began, in nanoseconds of CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// When recording ended, in nanoseconds of CLOCK_MONOTONIC.
    pub end_ns: u64,
    /// When the process ended or executed another program, after which its old address space sees no more events.
    pub gone_ns: Option<u64>,
    /// Holds and waits by thread, activity and mode; those with the longest holds and waits in all come first.
    pub rows: Vec<Row>,
    /// The longest holds and waits, the longest first.
    pub kept: Vec<Interval>,
    /// Holds and waits that were long enough to be kept, for which there was no room.
    pub kept_dropped: u64,
    /// Entries of the traced system calls by thread, the most frequent first.
    pub calls: Vec<CallRow>,
    /// What the trace does not know.
    pub lost: Losses,
}

/// What one thread did to the lock, in one mode, in one activity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The thread; 0 for threads of one name that ended, which are counted together when there are very many.
    pub tid: i32,
    /// Its name, the last that it had.
    pub thread: String,
    /// It is a thread of another process.
    pub outsider: bool,
    /// What it was doing, see [`Activity::key`].
    pub activity: String,
    /// For reading or for writing.
    pub mode: Mode,
    /// How long it held the lock.
    pub holds: Tally,
    /// How long it waited until it had the lock. An attempt that did not have to wait counts with its few nanoseconds.
    pub waits: Tally,
}

/// How the lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mode {
    /// Shared with other readers.
    Read,
    /// By one thread alone.
    Write,
}

impl Mode {
    pub(crate) fn new(write: bool) -> Mode {
        if write { Mode::Write } else { Mode::Read }
    }
}

/// What an interval is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntervalKind {
    /// The thread had the lock.
    Hold,
    /// The thread wanted the lock.
    Wait,
}

/// One long hold or wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Hold or wait.
    pub kind: IntervalKind,
    /// For reading or for writing.
    pub mode: Mode,
    /// The thread.
    pub tid: i32,
    /// Its name at that time.
    pub thread: String,
    /// It is a thread of another process.
    pub outsider: bool,
    /// When it began, in nanoseconds of CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// What the thread was doing.
    pub activity: Activity,
    /// It was not over when recording, or the thread, ended.
    pub unfinished: bool,
    /// For a wait: who else held the lock meanwhile, the longest overlap first.
    pub blame: Vec<Blame>,
}

/// Holds of another thread during a wait, of one mode and in one activity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blame {
    /// The thread that held the lock.
    pub tid: i32,
    /// Its name at that time.
    pub thread: String,
    /// What it was doing; the size is that of the hold with the longest overlap.
    pub activity: Activity,
    /// For reading or for writing.
    pub mode: Mode,
    /// How long it held the lock during the wait.
    pub overlap_ns: u64,
}

/// How often a thread entered one of the traced system calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRow {
    /// The thread; 0 for threads of one name that ended, which are counted together when there are very many.
    pub tid: i32,
    /// Its name, the last that it had.
    pub thread: String,
    /// The name of the call.
    pub call: String,
    /// How often it was entered.
    pub count: u64,
    /// How many of these asked for nothing: a length of zero, or no ranges.
    pub empty: u64,
    /// Bytes that the arguments asked for, in all; 0 for calls whose arguments do not say.
    pub bytes: u64,
    /// How long the calls took that returned.
    pub time: Tally,
}

/// What a trace does not know. All zero is a complete trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Events that the kernel had no room for. Counts are too low then, and durations may be wrong.
    pub records: u64,
    /// Events that arrived after a later one had been worked on.
    pub reordered: u64,
    /// Releases by threads that were not known to hold the lock: they took it before recording began, or an event of
    /// theirs was lost.
    pub unmatched_releases: u64,
    /// Attempts and holds whose end was not seen although the thread went on, because an event was lost.
    pub unmatched_starts: u64,
}

impl Losses {
    /// Whether something is missing that cannot be explained by the start of recording.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.records > 0 || self.reordered > 0 || self.unmatched_starts > 0
    }
}

impl Trace {
    /// All holds of one mode.
    #[must_use]
    pub fn holds(&self, mode: Mode) -> Tally {
        self.sum(|row| (row.mode == mode).then_some(&row.holds))
    }

    /// All waits of one mode.
    #[must_use]
    pub fn waits(&self, mode: Mode) -> Tally {
        self.sum(|row| (row.mode == mode).then_some(&row.waits))
    }

    /// The holds for writing in the rows that `choose` picks.
    #[must_use]
    pub fn writes_by(&self, choose: impl Fn(&Row) -> bool) -> Tally {
        self.sum(|row| (row.mode == Mode::Write && choose(row)).then_some(&row.holds))
    }

    /// The `count` longest of the intervals that were kept.
    #[must_use]
    pub fn worst(&self, count: usize) -> &[Interval] {
        &self.kept[..count.min(self.kept.len())]
    }

    /// Makes one row of all rows that differ in nothing but the thread's number, which is 0 then: a program that starts
    /// thousands of short threads has as many rows otherwise. Intervals keep their threads.
    pub fn merge_namesakes(&mut self) {
        let mut rows: BTreeMap<(String, bool, String, Mode), Row> = BTreeMap::new();
        for row in self.rows.drain(..) {
            let key = (row.thread.clone(), row.outsider, row.activity.clone(), row.mode);
            match rows.entry(key) {
                Entry::Vacant(place) => drop(place.insert(row)),
                Entry::Occupied(mut place) => {
                    let all = place.get_mut();
                    all.tid = 0;
                    all.holds.merge(&row.holds);
                    all.waits.merge(&row.waits);
                }
            }
        }
        self.rows = rows.into_values().collect();
        let mut calls: BTreeMap<(String, String), CallRow> = BTreeMap::new();
        for row in self.calls.drain(..) {
            match calls.entry((row.thread.clone(), row.call.clone())) {
                Entry::Vacant(place) => drop(place.insert(row)),
                Entry::Occupied(mut place) => {
                    let all = place.get_mut();
                    all.tid = 0;
                    all.count += row.count;
                    all.empty += row.empty;
                    all.bytes = all.bytes.saturating_add(row.bytes);
                    all.time.merge(&row.time);
                }
            }
        }
        self.calls = calls.into_values().collect();
    }

    fn sum<'a>(&'a self, choose: impl Fn(&'a Row) -> Option<&'a Tally>) -> Tally {
        let mut sum = Tally::default();
        self.rows.iter().filter_map(choose).for_each(|tally| sum.merge(tally));
        sum
    }
}
