//! Makes a [`Trace`] of events. It knows no kernel and no clock: any source that sees the tracepoints can feed it, and
//! a recorded list of events gives the same trace each time.
//!
//! The rules, for each thread on its own:
//! - `Start` begins a wait, a successful `Acquired` of the same mode ends it and begins a hold, `Released` ends that.
//! - An `Acquired` without success ends the attempt, which is not counted.
//! - An `Acquired` without a `Start` is a try that does not wait. If the thread holds the lock for writing, it is a
//!   downgrade: the hold for writing ends, and one for reading begins.
//! - A thread may hold the lock several times for reading; the latest hold ends first.
//! - A thread that enters or leaves a system call holds nothing. What it still seems to hold is the rest of a loss.
//! - What has not ended when recording, or the thread, ends is counted up to there and marked.

use std::collections::{HashMap, VecDeque};

use crate::activity::Activity;
use crate::calls;
use crate::ended::{Ended, Group};
use crate::event::{Context, Event, EventKind};
use crate::keeper::Keeper;
use crate::options::Options;
use crate::thread::{Hold, Thread, Wait};
use crate::trace::{CallRow, Interval, IntervalKind, Losses, Mode, Row, Trace};

/// Threads of other processes of which a name is remembered. More than that are nameless.
const OUTSIDERS_MOST: usize = 1 << 16;
/// So long a thread that ended is still known. Since Linux 6.16 its end is told before it gives its address space back.
const ENDING_NS: u64 = 10_000_000_000;
/// What a thread does that ends without having asked for it.
const DYING: Activity = Activity::Call { number: libc::SYS_exit, bytes: None };
/// The name of a thread of which no name is known.
const NAMELESS: &str = "?";

/// Makes a trace of events.
pub struct Assembler {
    pid: i32,
    start_ns: u64,
    last_ns: u64,
    threads: HashMap<i32, Thread>,
    /// Threads that wait, so that the end of a hold finds them.
    waiting: Vec<i32>,
    /// Threads that ended not long ago, and when.
    ending: VecDeque<(u64, i32)>,
    ended: Ended,
    keeper: Keeper,
    lost: Losses,
    gone_ns: Option<u64>,
}

impl Assembler {
    /// For events of the address space of process `pid` from `start_ns` on. `Comm` events from before that give the
    /// names of threads; all other earlier events are ignored.
    #[must_use]
    pub fn new(pid: i32, start_ns: u64, options: &Options) -> Assembler {
        Assembler {
            pid,
            start_ns,
            last_ns: start_ns,
            threads: HashMap::new(),
            waiting: Vec::new(),
            ending: VecDeque::new(),
            ended: Ended::default(),
            keeper: Keeper::new(options),
            lost: Losses::default(),
            gone_ns: None,
        }
    }

    /// Whether the thread is known, so that a source need not look up its name.
    #[must_use]
    pub fn knows(&self, tid: i32) -> bool {
        self.threads.contains_key(&tid)
    }

    /// Takes the next event. Events come in the order of time; those that do not are counted and worked on all the
    /// same.
    pub fn push(&mut self, event: Event) {
        let Event { time_ns, tid, pid, kind, .. } = event;
        if time_ns < self.start_ns && !matches!(kind, EventKind::Comm { .. }) {
            return;
        }
        self.lost.reordered += u64::from(time_ns < self.last_ns && time_ns >= self.start_ns);
        self.last_ns = self.last_ns.max(time_ns);
        self.forget_ended(time_ns);
        match kind {
            EventKind::Start { write, context } => self.start(tid, pid, time_ns, Mode::new(write), context),
            EventKind::Acquired { write, success, context } => {
                self.acquired(tid, pid, time_ns, Mode::new(write), success, context);
            }
            EventKind::Released { write } => self.released(tid, time_ns, Mode::new(write)),
            EventKind::Enter { number, args } => self.enter(tid, pid, time_ns, number, &args),
            EventKind::Exit { .. } => {
                if let Some(thread) = self.threads.get_mut(&tid) {
                    thread.end_call(time_ns);
                }
                self.exit(tid);
            }
            EventKind::Comm { name, exec } => self.comm(tid, pid, time_ns, name, exec),
            EventKind::ThreadStarted { parent } => {
                if self.threads.get(&tid).is_some_and(|thread| thread.ended) {
                    // The number is used again.
                    self.retire(tid, time_ns);
                }
                let name = self.threads.get(&parent).map_or_else(String::new, |parent| parent.name.clone());
                self.name(tid, pid, name);
            }
            EventKind::ThreadEnded => self.thread_ended(tid, pid, time_ns),
            EventKind::Lost { count } => self.lost.records += count,
        }
    }

    fn thread(&mut self, tid: i32, pid: i32) -> &mut Thread {
        self.threads.entry(tid).or_insert_with(|| Thread { pid, ..Thread::default() })
    }

    fn start(&mut self, tid: i32, pid: i32, start_ns: u64, mode: Mode, context: Context) {
        let thread = self.thread(tid, pid);
        let activity = thread.activity(context);
        let replaced = thread.wait.replace(Wait { start_ns, mode, activity, blame: Vec::new() });
        if replaced.is_some() {
            self.lost.unmatched_starts += 1;
        } else {
            self.waiting.push(tid);
        }
    }

    fn acquired(&mut self, tid: i32, pid: i32, time_ns: u64, mode: Mode, success: bool, context: Context) {
        let wait = self.take_wait(tid);
        if !success {
            return;
        }
        let mut activity = self.thread(tid, pid).activity(context);
        match wait {
            Some(wait) if wait.mode == mode => {
                activity = wait.activity;
                self.end_wait(tid, wait, time_ns, false);
            }
            Some(_) => self.lost.unmatched_starts += 1,
            None => {
                let downgraded = if mode == Mode::Read { self.take_hold(tid, Mode::Write) } else { None };
                if let Some(hold) = downgraded {
                    activity = hold.activity;
                    self.end_hold(tid, hold, time_ns, false);
                }
            }
        }
        let given_up = self.thread(tid, pid).begin_hold(Hold { start_ns: time_ns, mode, activity });
        self.lost.unmatched_starts += given_up;
    }

    fn released(&mut self, tid: i32, time_ns: u64, mode: Mode) {
        match self.take_hold(tid, mode) {
            Some(hold) => self.end_hold(tid, hold, time_ns, false),
            None => self.lost.unmatched_releases += 1,
        }
    }

    fn enter(&mut self, tid: i32, pid: i32, time_ns: u64, number: i64, args: &[u64; 6]) {
        let bytes = calls::find(number).and_then(|call| call.bytes(args));
        self.exit(tid);
        let thread = self.thread(tid, pid);
        thread.call = Some(Activity::Call { number, bytes });
        thread.entered_ns = time_ns;
        thread.counts.add_call(number, bytes);
    }

    fn exit(&mut self, tid: i32) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        thread.call = None;
        let forgotten = thread.is_outside();
        if forgotten > 0 {
            self.lost.unmatched_starts += forgotten;
            self.waiting.retain(|waiting| *waiting != tid);
        }
    }

    fn comm(&mut self, tid: i32, pid: i32, time_ns: u64, name: String, exec: bool) {
        self.name(tid, pid, name);
        if exec && pid == self.pid {
            self.gone_ns.get_or_insert(time_ns);
        }
    }

    fn name(&mut self, tid: i32, pid: i32, name: String) {
        if pid != self.pid && self.threads.len() >= OUTSIDERS_MOST && !self.knows(tid) {
            return;
        }
        let thread = self.thread(tid, pid);
        thread.pid = pid;
        thread.name = name;
    }

    fn thread_ended(&mut self, tid: i32, pid: i32, time_ns: u64) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        thread.ended = true;
        thread.call.get_or_insert(DYING);
        self.ending.push_back((time_ns, tid));
        if pid == self.pid && !self.threads.values().any(|thread| thread.pid == pid && !thread.ended) {
            self.gone_ns.get_or_insert(time_ns);
        }
    }

    /// Forgets the threads whose end is long ago.
    fn forget_ended(&mut self, now_ns: u64) {
        while let Some((ended_ns, tid)) = self.ending.front().copied() {
            if now_ns.saturating_sub(ended_ns) < ENDING_NS {
                return;
            }
            self.ending.pop_front();
            let Some(thread) = self.threads.get(&tid).filter(|thread| thread.ended) else { continue };
            if thread.wait.is_some() || !thread.holds.is_empty() {
                self.ending.push_back((now_ns, tid));
            } else {
                self.retire(tid, now_ns);
            }
        }
    }

    /// Moves a thread to those that are no more.
    fn retire(&mut self, tid: i32, now_ns: u64) {
        self.cut_off(tid, now_ns);
        if let Some(thread) = self.threads.remove(&tid) {
            self.ended.add(group(self.pid, tid, thread));
        }
    }

    fn take_wait(&mut self, tid: i32) -> Option<Wait> {
        let wait = self.threads.get_mut(&tid)?.wait.take()?;
        self.waiting.retain(|waiting| *waiting != tid);
        Some(wait)
    }

    fn take_hold(&mut self, tid: i32, mode: Mode) -> Option<Hold> {
        self.threads.get_mut(&tid)?.end_hold(mode)
    }

    fn end_wait(&mut self, tid: i32, mut wait: Wait, end_ns: u64, unfinished: bool) {
        let duration_ns = end_ns.saturating_sub(wait.start_ns);
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        thread.counts.add_wait(wait.activity, wait.mode, duration_ns);
        if !self.keeper.wants(duration_ns) {
            return;
        }
        for (other, thread) in self.threads.iter().filter(|(other, _)| **other != tid) {
            for hold in &thread.holds {
                wait.add_blame(*other, shown(&thread.name), hold, end_ns);
            }
        }
        wait.blame.sort_by_key(|blame| (std::cmp::Reverse(blame.overlap_ns), blame.tid));
        let interval = Interval {
            kind: IntervalKind::Wait,
            blame: wait.blame,
            ..self.interval(tid, wait.mode, wait.activity, wait.start_ns, end_ns, unfinished)
        };
        self.keeper.keep(interval);
    }

    fn end_hold(&mut self, tid: i32, hold: Hold, end_ns: u64, unfinished: bool) {
        for other in self.waiting.iter().filter(|other| **other != tid) {
            let name = self.threads.get(&tid).map_or(NAMELESS, |thread| shown(&thread.name)).to_owned();
            if let Some(wait) = self.threads.get_mut(other).and_then(|thread| thread.wait.as_mut()) {
                wait.add_blame(tid, &name, &hold, end_ns);
            }
        }
        let duration_ns = end_ns.saturating_sub(hold.start_ns);
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        thread.counts.add_hold(hold.activity, hold.mode, duration_ns);
        if self.keeper.wants(duration_ns) {
            let interval = self.interval(tid, hold.mode, hold.activity, hold.start_ns, end_ns, unfinished);
            self.keeper.keep(interval);
        }
    }

    /// A hold; without blame.
    fn interval(&self, tid: i32, mode: Mode, activity: Activity, start: u64, end: u64, unfinished: bool) -> Interval {
        let thread = self.threads.get(&tid);
        Interval {
            kind: IntervalKind::Hold,
            mode,
            tid,
            thread: thread.map_or(NAMELESS, |thread| shown(&thread.name)).to_owned(),
            outsider: thread.is_some_and(|thread| thread.pid != self.pid),
            start_ns: start,
            duration_ns: end.saturating_sub(start),
            activity,
            unfinished,
            blame: Vec::new(),
        }
    }

    /// Ends what the thread has not ended itself.
    fn cut_off(&mut self, tid: i32, end_ns: u64) {
        if let Some(wait) = self.take_wait(tid) {
            self.end_wait(tid, wait, end_ns, true);
        }
        while let Some(hold) = self.threads.get_mut(&tid).and_then(|thread| thread.holds.pop()) {
            self.end_hold(tid, hold, end_ns, true);
        }
    }

    /// Ends the trace at this time.
    #[must_use]
    pub fn finish(mut self, end_ns: u64) -> Trace {
        // Waits first: holds that last until the end are to blame for them.
        let mut open: Vec<i32> = self.waiting.clone();
        let holding = self.threads.iter().filter(|(_, thread)| !thread.holds.is_empty());
        open.extend(holding.map(|(tid, _)| *tid));
        for tid in &open {
            if let Some(wait) = self.take_wait(*tid) {
                self.end_wait(*tid, wait, end_ns, true);
            }
        }
        open.iter().for_each(|tid| self.cut_off(*tid, end_ns));
        let (kept, kept_dropped) = self.keeper.finish();
        for (tid, thread) in self.threads {
            self.ended.add(group(self.pid, tid, thread));
        }
        let groups = self.ended.finish();
        Trace {
            pid: self.pid,
            start_ns: self.start_ns,
            end_ns,
            gone_ns: self.gone_ns,
            rows: rows(&groups),
            kept,
            kept_dropped,
            calls: call_rows(&groups),
            lost: self.lost,
        }
    }
}

fn shown(name: &str) -> &str {
    if name.is_empty() { NAMELESS } else { name }
}

fn group(pid: i32, tid: i32, thread: Thread) -> Group {
    Group { tid, name: shown(&thread.name).to_owned(), outsider: thread.pid != pid, counts: thread.counts }
}

fn rows(groups: &[Group]) -> Vec<Row> {
    let mut rows = Vec::new();
    for group in groups {
        for ((activity, mode), (holds, waits)) in &group.counts.times {
            rows.push(Row {
                tid: group.tid,
                thread: group.name.clone(),
                outsider: group.outsider,
                activity: activity.key(),
                mode: *mode,
                holds: holds.clone(),
                waits: waits.clone(),
            });
        }
    }
    let weight = |row: &Row| std::cmp::Reverse(row.holds.total_ns.saturating_add(row.waits.total_ns));
    rows.sort_by(|a, b| {
        (weight(a), a.tid, &a.thread, &a.activity, a.mode).cmp(&(weight(b), b.tid, &b.thread, &b.activity, b.mode))
    });
    rows
}

fn call_rows(groups: &[Group]) -> Vec<CallRow> {
    let mut rows = Vec::new();
    for group in groups {
        for (number, call) in &group.counts.calls {
            rows.push(CallRow {
                tid: group.tid,
                thread: group.name.clone(),
                call: calls::name(*number),
                count: call.count,
                empty: call.empty,
                bytes: call.bytes,
                time: call.time.clone(),
            });
        }
    }
    let count = |row: &CallRow| std::cmp::Reverse(row.count);
    rows.sort_by(|a, b| (count(a), a.tid, &a.thread, &a.call).cmp(&(count(b), b.tid, &b.thread, &b.call)));
    rows
}
