//! Cuts intervals into pieces of threads' time that do not overlap: a thread that sleeps until it gets mmap_lock is
//! told twice by its source, as off the processor and as waiting, and must not be counted twice. Called by `case`.
//!
//! Invariant: pieces of one thread do not overlap, and lie within the window.

use std::collections::HashMap;

use super::class::{self, Class};
use super::places::{PlaceId, Places};
use crate::event::{Interval, Kind, Sleep, Thread};
use crate::freeze::{Cause, Window};

/// What a thread did in a piece of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// It waited for mmap_lock, on a processor or off it.
    Lock,
    /// It was off the processor, for another reason.
    Off(Sleep),
}

/// A piece of a thread's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The index of the thread.
    pub(super) thread: usize,
    pub(super) what: What,
    pub(super) place: PlaceId,
    /// The index of the interval that it was cut from.
    pub(super) interval: usize,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// It was not over at the end of the window.
    pub(super) unfinished: bool,
    /// What it is for, as far as it tells alone.
    pub(super) class: Class,
    /// What it is taken for. `case` says so when it has compared all.
    pub(super) cause: Cause,
}

/// How much of one time lies in another.
pub(super) fn overlap_ns(one: (u64, u64), other: (u64, u64)) -> u64 {
    one.1.min(other.1).saturating_sub(one.0.max(other.0))
}

impl Piece {
    pub(super) fn time(&self) -> (u64, u64) {
        (self.start_ns, self.end_ns)
    }

    pub(super) fn overlap_ns(&self, time: (u64, u64)) -> u64 {
        overlap_ns(self.time(), time)
    }
}

/// Something with a start and an end that can be cut.
pub(super) trait Timed: Copy {
    fn times(&self) -> (u64, u64);
    fn with_times(self, start_ns: u64, end_ns: u64) -> Self;
}

impl Timed for Piece {
    fn times(&self) -> (u64, u64) {
        self.time()
    }

    fn with_times(self, start_ns: u64, end_ns: u64) -> Self {
        Piece { start_ns, end_ns, ..self }
    }
}

/// Brings them into the order of their starts; where two overlap, the earlier one keeps the time.
pub(super) fn make_disjoint<T: Timed>(all: &mut Vec<T>) {
    all.sort_by_key(Timed::times);
    let mut until_ns = 0;
    all.retain_mut(|one| {
        let (start_ns, end_ns) = one.times();
        let start_ns = start_ns.max(until_ns);
        if start_ns >= end_ns {
            return false;
        }
        *one = one.with_times(start_ns, end_ns);
        until_ns = end_ns;
        true
    });
}

/// What is left of `all` outside of `taken`. Both are disjoint and in order.
fn without(all: &[Piece], taken: &[Piece]) -> Vec<Piece> {
    let mut left = Vec::with_capacity(all.len());
    let mut first = 0;
    for piece in all {
        while taken.get(first).is_some_and(|other| other.end_ns <= piece.start_ns) {
            first += 1;
        }
        let mut start_ns = piece.start_ns;
        for other in taken[first..].iter().take_while(|other| other.start_ns < piece.end_ns) {
            if start_ns < other.start_ns {
                left.push(piece.with_times(start_ns, other.start_ns));
            }
            start_ns = start_ns.max(other.end_ns);
        }
        if start_ns < piece.end_ns {
            left.push(piece.with_times(start_ns, piece.end_ns));
        }
    }
    left
}

fn class_of(what: What, interval: &Interval, place: PlaceId, places: &mut Places) -> Class {
    let What::Off(sleep) = what else { return Class::MmapLock };
    let (kernel, user) = (places.kernel(place), places.user(place));
    places.class((place, sleep, interval.call.map(|call| call.number)), || {
        class::class(sleep, kernel, user, interval.call)
    })
}

/// The threads of the watched processes, and all that they did off the processor or waiting for mmap_lock, by thread
/// and time. A thread that was woken and then had to wait for a processor was runnable from there on.
pub(super) fn cut(intervals: &[Interval], window: &Window, places: &mut Places) -> (Vec<Thread>, Vec<Piece>) {
    let mut threads: Vec<Thread> = Vec::new();
    let mut indexes: HashMap<(i32, i32), usize> = HashMap::new();
    let mut by_thread: Vec<(Vec<Piece>, Vec<Piece>)> = Vec::new();
    for (at, interval) in intervals.iter().enumerate().filter(|(_, interval)| !interval.is_outsider()) {
        let index = *indexes.entry((interval.thread.pid, interval.thread.tid)).or_insert(threads.len());
        if index == threads.len() {
            threads.push(interval.thread.clone());
            by_thread.push((Vec::new(), Vec::new()));
        }
        // The latest name is the best known.
        threads[index].name.clone_from(&interval.thread.name);
        let what = match interval.kind {
            Kind::Hold { .. } => continue,
            Kind::Wait { .. } => What::Lock,
            Kind::OffCpu { sleep, .. } => What::Off(sleep),
        };
        let start_ns = interval.start_ns.max(window.start_ns);
        let end_ns = interval.end_ns.min(window.end_ns);
        let unfinished = interval.unfinished;
        let place = places.of(interval.stack);
        let class = class_of(what, interval, place, places);
        let cause = Cause::Unknown;
        let piece = Piece { thread: index, what, place, interval: at, start_ns, end_ns, unfinished, class, cause };
        match &interval.kind {
            Kind::OffCpu { sleep, waker: Some(waker) } if *sleep != Sleep::Runnable => {
                let woken_ns = waker.at_ns.clamp(start_ns, end_ns.max(start_ns));
                let asleep = Piece { end_ns: woken_ns, unfinished: false, ..piece };
                let what = What::Off(Sleep::Runnable);
                let runnable = Piece { start_ns: woken_ns, what, class: Class::Runnable, ..piece };
                by_thread[index].1.extend([asleep, runnable]);
            }
            Kind::OffCpu { .. } => by_thread[index].1.push(piece),
            _ => by_thread[index].0.push(piece),
        }
    }
    let mut pieces = Vec::new();
    for (mut waits, mut off) in by_thread {
        make_disjoint(&mut waits);
        make_disjoint(&mut off);
        let mut all = without(&off, &waits);
        all.extend(waits);
        all.sort_by_key(Piece::time);
        pieces.extend(all);
    }
    (threads, pieces)
}

#[cfg(test)]
mod tests {
    use lock_trace::Mode;

    use super::super::samples::{MS, Sample};
    use super::*;
    use crate::stack::StackPair;

    fn told(sample: &Sample) -> Vec<(i32, What, u64, u64)> {
        let mut places = Places::new(&sample.stacks);
        let (threads, pieces) = cut(&sample.intervals, &sample.window, &mut places);
        let told = |piece: &Piece| (threads[piece.thread].tid, piece.what, piece.start_ns / MS, piece.end_ns / MS);
        pieces.iter().map(told).collect()
    }

    #[test]
    fn time_in_a_wait_is_not_counted_as_sleep_too() {
        let mut sample = Sample::new();
        let none = StackPair::default();
        sample.sleep(2, Sleep::Uninterruptible, (100, 900), none);
        sample.wait(2, Mode::Write, (50, 300), none);
        sample.wait(2, Mode::Read, (500, 600), none);
        sample.sleep(3, Sleep::Interruptible, (0, 100), none);
        let off = What::Off(Sleep::Uninterruptible);
        let expected = [
            (2, What::Lock, 50, 300),
            (2, off, 300, 500),
            (2, What::Lock, 500, 600),
            (2, off, 600, 900),
            (3, What::Off(Sleep::Interruptible), 0, 100),
        ];
        assert_eq!(told(&sample), expected);
    }

    #[test]
    fn a_thread_that_was_woken_wants_to_run() {
        let mut sample = Sample::new();
        sample.lock(2, (100, 400), StackPair::default(), Some((3, StackPair::default())));
        sample.intervals[0].end_ns = 900 * MS;
        let expected = [(2, What::Off(Sleep::Interruptible), 100, 400), (2, What::Off(Sleep::Runnable), 400, 900)];
        assert_eq!(told(&sample), expected);
    }

    #[test]
    fn what_is_outside_of_the_window_or_another_process_is_left_out() {
        let mut sample = Sample::new();
        sample.window.start_ns = 200 * MS;
        sample.sleep(2, Sleep::Interruptible, (100, 30_000), StackPair::default());
        sample.sleep(2, Sleep::Interruptible, (50, 150), StackPair::default());
        sample.wait(3, Mode::Read, (300, 400), StackPair::default()).owner_pid = 99;
        assert_eq!(told(&sample), [(2, What::Off(Sleep::Interruptible), 200, 25_000)]);
    }
}
