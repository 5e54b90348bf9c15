//! Makes intervals of what happens to threads. It knows no kernel: `mod` feeds it in the order of time, and hands out
//! what has ended.
//!
//! - A thread that leaves a processor is off until it arrives at one.
//! - `Start` begins a wait for a lock, `Acquired` ends it and begins a hold, `Released` ends that. Of a hold for
//!   writing that goes on as one for reading, both are told when the latter ends, for only a release has a stack.
//! - A wait has the stack with which the thread last left the processor meanwhile, or else that of the release.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use lock_trace::Mode;

use crate::event::{Interval, Kind, Sleep, Thread};
use crate::source::wire::BUCKETS;
use crate::source::{Bounds, Totals};
use crate::stack::StackPair;

/// The sample that tells where a thread was.
pub(super) type Place = Arc<[u8]>;

/// Something that happened to a thread.
pub(super) struct Happening {
    pub(super) time_ns: u64,
    /// The thread's process; 0 where it does not matter.
    pub(super) pid: i32,
    pub(super) tid: i32,
    pub(super) what: What,
}

/// What happened. A lock is named by its address space.
pub(super) enum What {
    Left {
        sleep: Sleep,
        name: String,
        place: Place,
    },
    Arrived,
    /// It has left, and wanted to run on.
    Preempted,
    /// It will not come back.
    Died,
    Start {
        space: u64,
        owner: i32,
        mode: Mode,
    },
    Acquired {
        space: u64,
        mode: Mode,
        success: bool,
    },
    Released {
        space: u64,
        place: Place,
    },
    /// So many things were not recorded.
    Lost {
        count: u64,
    },
}

/// An interval, of which it is not yet read where the thread was.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) interval: Interval,
    pub(super) place: Option<Place>,
}

/// A thread that was seen to leave a processor.
struct Seen {
    pid: i32,
    name: String,
    sleep: Sleep,
    left_ns: u64,
    place: Place,
    is_off: bool,
}

/// What a thread is doing to one lock.
struct Lock {
    owner: i32,
    pid: i32,
    wait: Option<(u64, Mode)>,
    hold: Option<(u64, Mode)>,
    /// What has ended, and is told with the stack of the release.
    late: Vec<(Kind, u64, u64)>,
}

/// What is known of all threads.
pub(super) struct State {
    off_cpu_ns: u64,
    lock_ns: u64,
    threads_max: usize,
    threads: HashMap<i32, Seen>,
    locks: HashMap<(u64, i32), Lock>,
    last_loss_ns: u64,
    /// What has ended and was not handed out.
    pub(super) finished: VecDeque<Finished>,
    pub(super) totals: Totals,
    pub(super) lost_records: u64,
    pub(super) lost_threads: u64,
}

impl State {
    pub(super) fn new(bounds: &Bounds, threads_max: usize) -> Self {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let rows = || [vec![0; BUCKETS], vec![0; BUCKETS]];
        State {
            off_cpu_ns: nanos(bounds.off_cpu),
            lock_ns: nanos(bounds.lock),
            threads_max,
            threads: HashMap::new(),
            locks: HashMap::new(),
            last_loss_ns: 0,
            finished: VecDeque::new(),
            totals: Totals { holds: rows(), waits: rows(), ..Totals::default() },
            lost_records: 0,
            lost_threads: 0,
        }
    }

    /// Takes the next happening.
    pub(super) fn push(&mut self, happening: Happening) {
        let Happening { time_ns, pid, tid, what } = happening;
        match what {
            What::Left { sleep, name, place } => {
                if self.threads.len() >= self.threads_max && !self.threads.contains_key(&tid) {
                    self.lost_threads += 1;
                    return;
                }
                self.threads.insert(tid, Seen { pid, name, sleep, left_ns: time_ns, place, is_off: true });
            }
            What::Arrived => self.arrived(tid, time_ns),
            What::Preempted => self.is_off_because(tid, Sleep::Runnable),
            What::Died => drop(self.threads.remove(&tid)),
            What::Start { space, owner, mode } => self.start(space, owner, pid, tid, (time_ns, mode)),
            What::Acquired { space, mode, success } => self.acquired(space, tid, time_ns, mode, success),
            What::Released { space, place } => self.released(space, tid, time_ns, &place),
            What::Lost { count } => {
                self.lost_records += count;
                self.last_loss_ns = time_ns;
            }
        }
    }

    fn arrived(&mut self, tid: i32, now_ns: u64) {
        let Some(thread) = self.threads.get_mut(&tid).filter(|thread| thread.is_off) else { return };
        thread.is_off = false;
        let off_ns = now_ns.saturating_sub(thread.left_ns);
        self.totals.switches += 1;
        self.totals.off_cpu_ns[thread.sleep as usize] += off_ns;
        if off_ns >= self.off_cpu_ns {
            let off = thread.off(tid, now_ns, false);
            self.finished.push_back(off);
        }
    }

    /// Says why a thread is off the processor, of which that was not told when it left.
    pub(super) fn is_off_because(&mut self, tid: i32, sleep: Sleep) {
        if let Some(thread) = self.threads.get_mut(&tid).filter(|thread| thread.is_off) {
            thread.sleep = sleep;
        }
    }

    /// The threads that are off the processor for long enough to be told, and it is not known why: process and thread.
    pub(super) fn unexplained(&self, now_ns: u64) -> Vec<(i32, i32)> {
        let is_unexplained = |thread: &Seen| {
            let is_long = now_ns.saturating_sub(thread.left_ns) >= self.off_cpu_ns;
            thread.is_off && thread.sleep == Sleep::Other && is_long
        };
        let threads = self.threads.iter().filter(|(_, thread)| is_unexplained(thread));
        threads.map(|(tid, thread)| (thread.pid, *tid)).collect()
    }

    fn start(&mut self, space: u64, owner: i32, pid: i32, tid: i32, wait: (u64, Mode)) {
        let known = self.locks.len();
        if known >= 2 * self.threads_max && !self.locks.contains_key(&(space, tid)) {
            self.lost_threads += 1;
            return;
        }
        let new = Lock { owner, pid, wait: None, hold: None, late: Vec::new() };
        let lock = self.locks.entry((space, tid)).or_insert(new);
        lock.wait = Some(wait);
        if lock.hold.is_some_and(|(_, mode)| mode == Mode::Write) {
            // Whoever holds it for writing cannot ask for it: the release was lost.
            lock.hold = None;
        }
    }

    fn acquired(&mut self, space: u64, tid: i32, now_ns: u64, mode: Mode, success: bool) {
        let Some(mut lock) = self.locks.remove(&(space, tid)) else { return };
        if let Some((start_ns, wanted)) = lock.wait.take().filter(|_| success) {
            let ns = now_ns.saturating_sub(start_ns);
            count(&mut self.totals.waits, &mut self.totals.wait_ns, wanted, ns);
            if ns >= self.lock_ns {
                let place = self.threads.get(&tid).filter(|thread| thread.left_ns >= start_ns);
                match place.map(|thread| Arc::clone(&thread.place)) {
                    Some(place) => {
                        let wait = self.interval(&lock, tid, Kind::Wait { mode: wanted }, start_ns, now_ns);
                        self.finished.push_back(Finished { interval: wait, place: Some(place) });
                    }
                    None => lock.late.push((Kind::Wait { mode: wanted }, start_ns, now_ns)),
                }
            }
        }
        if success {
            self.end_hold(&mut lock, now_ns);
            lock.hold = Some((now_ns, mode));
        }
        if lock.hold.is_some() {
            self.locks.insert((space, tid), lock);
        }
    }

    fn released(&mut self, space: u64, tid: i32, now_ns: u64, place: &Place) {
        let Some(mut lock) = self.locks.remove(&(space, tid)) else { return };
        self.end_hold(&mut lock, now_ns);
        for (kind, start_ns, end_ns) in std::mem::take(&mut lock.late) {
            let interval = self.interval(&lock, tid, kind, start_ns, end_ns);
            self.finished.push_back(Finished { interval, place: Some(Arc::clone(place)) });
        }
    }

    fn end_hold(&mut self, lock: &mut Lock, now_ns: u64) {
        let Some((start_ns, mode)) = lock.hold.take() else { return };
        let ns = now_ns.saturating_sub(start_ns);
        count(&mut self.totals.holds, &mut self.totals.hold_ns, mode, ns);
        if ns >= self.lock_ns {
            lock.late.push((Kind::Hold { mode }, start_ns, now_ns));
        }
    }

    fn interval(&self, lock: &Lock, tid: i32, kind: Kind, start_ns: u64, end_ns: u64) -> Interval {
        let name = self.threads.get(&tid).map(|thread| thread.name.clone()).unwrap_or_default();
        Interval {
            kind,
            thread: Thread { pid: lock.pid, tid, name },
            owner_pid: lock.owner,
            start_ns,
            end_ns,
            unfinished: false,
            call: None,
            stack: StackPair::default(),
        }
    }

    /// What is not over. Waits and holds that began before the last loss are left out: their ends may be lost.
    pub(super) fn unfinished(&self, now_ns: u64) -> Vec<Finished> {
        let off = self.threads.iter().filter(|(_, thread)| thread.is_off);
        let mut all: Vec<Finished> = off.map(|(tid, thread)| thread.off(*tid, now_ns, true)).collect();
        for ((_, tid), lock) in &self.locks {
            let wait = lock.wait.map(|(start_ns, mode)| (start_ns, Kind::Wait { mode }));
            let hold = lock.hold.map(|(start_ns, mode)| (start_ns, Kind::Hold { mode }));
            let both = [wait, hold].into_iter().flatten();
            for (start_ns, kind) in both.filter(|(start_ns, _)| *start_ns > self.last_loss_ns) {
                let interval = self.interval(lock, *tid, kind, start_ns, now_ns);
                let place = self.threads.get(tid).filter(|thread| thread.left_ns >= start_ns);
                let place = place.map(|thread| Arc::clone(&thread.place));
                all.push(Finished { interval: Interval { unfinished: true, ..interval }, place });
            }
        }
        all
    }

    /// Forgets the threads that are no more.
    pub(super) fn keep_threads(&mut self, living: &[i32]) {
        let living: std::collections::HashSet<i32> = living.iter().copied().collect();
        self.threads.retain(|tid, _| living.contains(tid));
    }

    /// Forgets the locks of processes that are not watched any more.
    pub(super) fn keep_locks(&mut self, is_watched: impl Fn(u64) -> bool) {
        self.locks.retain(|(space, _), _| is_watched(*space));
    }
}

impl Seen {
    fn off(&self, tid: i32, now_ns: u64, unfinished: bool) -> Finished {
        let interval = Interval {
            kind: Kind::OffCpu { sleep: self.sleep, waker: None },
            thread: Thread { pid: self.pid, tid, name: self.name.clone() },
            owner_pid: self.pid,
            start_ns: self.left_ns,
            end_ns: now_ns,
            unfinished,
            call: None,
            stack: StackPair::default(),
        };
        Finished { interval, place: Some(Arc::clone(&self.place)) }
    }
}

/// Adds a duration to the totals of its mode.
fn count(rows: &mut [Vec<u64>; 2], sums_ns: &mut [u64; 2], mode: Mode, ns: u64) {
    let row = usize::from(mode == Mode::Write);
    rows[row][(ns.checked_ilog2().unwrap_or(0) as usize).min(BUCKETS - 1)] += 1;
    sums_ns[row] += ns;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const SPACE: u64 = 0xffff_8881_0000_0000;
    const OWNER: i32 = 100;

    fn state() -> State {
        State::new(&Bounds::default(), 8)
    }

    fn place(name: u8) -> Place {
        Arc::from([name])
    }

    fn push(state: &mut State, time_ns: u64, tid: i32, what: What) {
        state.push(Happening { time_ns, pid: OWNER, tid, what });
    }

    fn left(sleep: Sleep, name: u8) -> What {
        What::Left { sleep, name: "worker".into(), place: place(name) }
    }

    fn start(mode: Mode) -> What {
        What::Start { space: SPACE, owner: OWNER, mode }
    }

    fn acquired(mode: Mode) -> What {
        What::Acquired { space: SPACE, mode, success: true }
    }

    fn released(name: u8) -> What {
        What::Released { space: SPACE, place: place(name) }
    }

    /// Kind, start and end in ms, and where.
    fn told(state: &mut State) -> Vec<(Kind, u64, u64, u8)> {
        let one = |one: Finished| {
            let Interval { kind, start_ns, end_ns, .. } = one.interval;
            (kind, start_ns / MS, end_ns / MS, one.place.expect("a place")[0])
        };
        state.finished.drain(..).map(one).collect()
    }

    #[test]
    fn time_off_the_processor_ends_with_the_arrival() {
        let mut state = state();
        push(&mut state, 10 * MS, 1, left(Sleep::Uninterruptible, 7));
        push(&mut state, 12 * MS, 1, What::Arrived);
        push(&mut state, 13 * MS, 1, What::Arrived);
        push(&mut state, 14 * MS, 1, left(Sleep::Runnable, 8));
        push(&mut state, 14 * MS + 10, 1, What::Arrived);
        let off = Kind::OffCpu { sleep: Sleep::Uninterruptible, waker: None };
        assert_eq!(told(&mut state), [(off, 10, 12, 7)]);
        assert_eq!((state.totals.switches, state.totals.off_cpu_ns), (2, [10, 0, 2 * MS, 0]));
    }

    #[test]
    fn why_a_thread_is_off_may_be_told_later() {
        let mut state = state();
        push(&mut state, 10 * MS, 1, left(Sleep::Other, 7));
        push(&mut state, 10 * MS, 2, left(Sleep::Other, 8));
        push(&mut state, 10 * MS, 2, What::Preempted);
        push(&mut state, 11 * MS, 3, left(Sleep::Other, 9));
        assert_eq!(state.unexplained(11 * MS), [(OWNER, 1)]);
        state.is_off_because(1, Sleep::Interruptible);
        [1, 2].into_iter().for_each(|tid| push(&mut state, 20 * MS, tid, What::Arrived));
        state.is_off_because(1, Sleep::Uninterruptible);
        let off = |sleep| Kind::OffCpu { sleep, waker: None };
        assert_eq!(told(&mut state), [(off(Sleep::Interruptible), 10, 20, 7), (off(Sleep::Runnable), 10, 20, 8)]);
        assert_eq!(state.unexplained(30 * MS), [(OWNER, 3)]);
    }

    #[test]
    fn a_wait_has_the_stack_of_the_sleep_and_a_hold_that_of_the_release() {
        let mut state = state();
        push(&mut state, 10 * MS, 1, start(Mode::Write));
        push(&mut state, 11 * MS, 1, left(Sleep::Uninterruptible, 1));
        push(&mut state, 20 * MS, 1, What::Arrived);
        push(&mut state, 21 * MS, 1, acquired(Mode::Write));
        push(&mut state, 30 * MS, 1, released(2));
        let all = told(&mut state);
        assert_eq!(
            all[1..],
            [(Kind::Wait { mode: Mode::Write }, 10, 21, 1), (Kind::Hold { mode: Mode::Write }, 21, 30, 2)]
        );
        assert_eq!((state.totals.wait_ns, state.totals.hold_ns), ([0, 11 * MS], [0, 9 * MS]));
        assert!(state.unfinished(40 * MS).is_empty());
    }

    #[test]
    fn a_wait_without_a_sleep_has_the_stack_of_the_release() {
        let mut state = state();
        push(&mut state, 10 * MS, 1, start(Mode::Read));
        push(&mut state, 11 * MS, 1, acquired(Mode::Read));
        push(&mut state, 11 * MS + 5, 1, released(2));
        assert_eq!(told(&mut state), [(Kind::Wait { mode: Mode::Read }, 10, 11, 2)]);
    }

    #[test]
    fn a_hold_for_writing_that_goes_on_for_reading_is_two_holds() {
        let mut state = state();
        push(&mut state, 10 * MS, 1, start(Mode::Write));
        push(&mut state, 10 * MS, 1, acquired(Mode::Write));
        push(&mut state, 15 * MS, 1, acquired(Mode::Read));
        push(&mut state, 25 * MS, 1, released(3));
        assert_eq!(
            told(&mut state),
            [(Kind::Hold { mode: Mode::Write }, 10, 15, 3), (Kind::Hold { mode: Mode::Read }, 15, 25, 3)]
        );
    }

    #[test]
    fn an_attempt_without_success_is_no_wait_and_leaves_nothing() {
        let mut state = state();
        push(&mut state, 10 * MS, 1, start(Mode::Write));
        push(&mut state, 90 * MS, 1, What::Acquired { space: SPACE, mode: Mode::Write, success: false });
        assert!(told(&mut state).is_empty() && state.locks.is_empty());
    }

    #[test]
    fn what_is_not_over_is_told_unless_its_end_may_be_lost() {
        let mut state = state();
        push(&mut state, 10 * MS, 1, start(Mode::Write));
        push(&mut state, 10 * MS, 1, acquired(Mode::Write));
        push(&mut state, 12 * MS, 2, start(Mode::Read));
        push(&mut state, 13 * MS, 2, left(Sleep::Uninterruptible, 9));
        let kinds = |state: &State| {
            let mut kinds: Vec<_> = state.unfinished(50 * MS).into_iter().map(|one| one.interval).collect();
            kinds.sort_by_key(|one| one.start_ns);
            assert!(kinds.iter().all(|one| one.unfinished && one.end_ns == 50 * MS));
            kinds.into_iter().map(|one| (one.thread.tid, one.kind)).collect::<Vec<_>>()
        };
        let off = Kind::OffCpu { sleep: Sleep::Uninterruptible, waker: None };
        let (hold, wait) = (Kind::Hold { mode: Mode::Write }, Kind::Wait { mode: Mode::Read });
        assert_eq!(kinds(&state), [(1, hold), (2, wait), (2, off.clone())]);
        push(&mut state, 20 * MS, 1, What::Lost { count: 3 });
        assert_eq!((kinds(&state), state.lost_records), (vec![(2, off)], 3));
        push(&mut state, 30 * MS, 1, released(1));
        assert_eq!(told(&mut state), [(Kind::Hold { mode: Mode::Write }, 10, 30, 1)]);
    }

    #[test]
    fn events_that_are_told_twice_count_once() {
        let mut state = state();
        for _ in 0..2 {
            push(&mut state, 10 * MS, 1, start(Mode::Write));
        }
        for _ in 0..2 {
            push(&mut state, 12 * MS, 1, acquired(Mode::Write));
        }
        for _ in 0..2 {
            push(&mut state, 15 * MS, 1, released(1));
        }
        for _ in 0..2 {
            push(&mut state, 20 * MS, 1, left(Sleep::Interruptible, 2));
        }
        for _ in 0..2 {
            push(&mut state, 25 * MS, 1, What::Arrived);
        }
        assert_eq!(told(&mut state).len(), 3);
        assert_eq!((state.totals.wait_ns[1], state.totals.hold_ns[1]), (2 * MS, 3 * MS));
    }

    #[test]
    fn there_are_never_more_threads_than_agreed() {
        let mut state = state();
        for tid in 0..100 {
            push(&mut state, 10 * MS, tid, left(Sleep::Interruptible, 0));
            push(&mut state, 10 * MS, tid, start(Mode::Read));
        }
        assert_eq!((state.threads.len(), state.locks.len(), state.lost_threads), (8, 16, 92 + 84));
        push(&mut state, 11 * MS, 3, What::Died);
        state.keep_threads(&[1, 2, 50]);
        state.keep_locks(|space| space != SPACE);
        assert_eq!((state.threads.len(), state.locks.len()), (2, 0));
    }
}
