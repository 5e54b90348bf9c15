//! The evidence, put in order: the threads' time in pieces, each with what it is taken for. Made once for each freeze;
//! the rest of `analysis` reads it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::class::{Class, Futex};
use super::pieces::{self, Piece, What};
use super::places::{PlaceId, Places};
use super::{Observed, doing, program, waker};
use crate::event::{Interval, Sleep, Thread};
use crate::freeze::Cause;

/// A lock is taken for one that is always fought for, as by a pool whose workers queue up for the next job, if its
/// share of the time before the freeze was so many hundredths of its share of the frozen time.
const LOCK_SHARE_PERCENT: f64 = 50.0;
/// The same for what may be a lock, or may be a pool that has nothing to do.
const WAIT_SHARE_PERCENT: f64 = 10.0;

/// Functions that are told of for one cause.
const FUNCTIONS_MAX: usize = 2;

/// How much of the time threads were at one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    /// In the frozen time, of all threads.
    frozen_ns: u64,
    /// Before that.
    before_ns: u64,
}

/// A freeze, as far as it is understood.
pub(super) struct Case<'a> {
    pub(super) observed: &'a Observed<'a>,
    /// From when to when.
    pub(super) frozen: (u64, u64),
    pub(super) places: Places<'a>,
    pub(super) threads: Vec<Thread>,
    /// By thread and time.
    pub(super) pieces: Vec<Piece>,
    /// Where the pieces of each thread are.
    of_thread: HashMap<(i32, i32), Range<usize>>,
    shares: HashMap<PlaceId, Share>,
}

impl<'a> Case<'a> {
    pub(super) fn new(observed: &'a Observed<'a>) -> Self {
        let window = observed.window;
        let mut places = Places::new(observed.stacks);
        let (threads, pieces) = pieces::cut(observed.intervals, window, &mut places);
        let frozen = (window.frozen_ns.max(window.start_ns), window.frozen_end_ns().min(window.end_ns));
        let mut of_thread = HashMap::new();
        let mut start = 0;
        for chunk in pieces.chunk_by(|one, other| one.thread == other.thread) {
            let thread = &threads[chunk[0].thread];
            of_thread.insert((thread.pid, thread.tid), start..start + chunk.len());
            start += chunk.len();
        }
        let mut case = Case { observed, frozen, places, threads, pieces, of_thread, shares: HashMap::new() };
        case.shares = case.measure();
        let causes = case.judge();
        for (piece, cause) in case.pieces.iter_mut().zip(causes) {
            piece.cause = cause;
        }
        case
    }

    fn measure(&self) -> HashMap<PlaceId, Share> {
        let before = self.before();
        let mut shares: HashMap<PlaceId, Share> = HashMap::new();
        for piece in self.pieces.iter().filter(|piece| piece.what != What::Off(Sleep::Runnable)) {
            let share = shares.entry(piece.place).or_default();
            share.frozen_ns = share.frozen_ns.saturating_add(piece.overlap_ns(self.frozen));
            // The freeze may have begun a little earlier than was noticed.
            let is_early = piece.end_ns > before.1 && piece.start_ns >= before.1.saturating_sub(self.frozen_ns() / 2);
            let before_ns = if is_early { 0 } else { piece.overlap_ns(before) };
            share.before_ns = share.before_ns.saturating_add(before_ns);
        }
        shares
    }

    fn judge(&self) -> Vec<Cause> {
        let runnable = if self.is_throttled() { Cause::Throttled } else { Cause::Starved };
        let cause = |piece: &Piece| match piece.class {
            Class::Runnable => runnable,
            Class::MmapLock => Cause::MmapLock,
            Class::Disk => Cause::Disk,
            Class::Kernel | Class::Stopped => Cause::Kernel,
            Class::Futex(futex) if self.is_blocked(piece, futex) => Cause::UserLock,
            Class::Unclear if self.is_new(piece) => Cause::Kernel,
            Class::Futex(_) | Class::Event | Class::Unclear | Class::Ended => Cause::Idle,
        };
        self.pieces.iter().map(cause).collect()
    }

    /// Whether a sleep in futex(2) is for a lock that another thread has, and not for work.
    fn is_blocked(&self, piece: &Piece, futex: Futex) -> bool {
        match futex {
            Futex::Join => false,
            Futex::Wait | Futex::Unknown if waker::joins(self.interval(piece), self) => false,
            Futex::Lock => self.is_more_than_before(piece.place, LOCK_SHARE_PERCENT),
            // Whoever has nothing to do is woken by who has something for it; who is woken by nobody tells nothing.
            Futex::Wait => self.has_history() && self.is_new(piece) && waker::of(self.interval(piece), self).is_some(),
            Futex::Unknown => self.is_new(piece),
        }
    }

    /// Whether the threads were at this place in the frozen time, and hardly ever before.
    pub(super) fn is_new(&self, piece: &Piece) -> bool {
        if self.has_history() {
            return self.is_more_than_before(piece.place, WAIT_SHARE_PERCENT);
        }
        self.interval(piece).start_ns >= self.frozen.0.saturating_sub(self.frozen_ns() / 10)
    }

    /// Whether a place's share of the time before is below so many hundredths of its share of the frozen time.
    fn is_more_than_before(&self, place: PlaceId, percent: f64) -> bool {
        let share = self.shares.get(&place).copied().unwrap_or_default();
        let before = share.before_ns as f64 / self.before_ns() as f64;
        let frozen = share.frozen_ns as f64 / self.frozen_ns() as f64;
        !self.has_history() || before * 100.0 < frozen * percent
    }

    /// How long threads would have been off the processor for each cause in the frozen time if it had gone on as
    /// before.
    pub(super) fn usual(&self) -> HashMap<Cause, u64> {
        let mut usual: HashMap<Cause, u64> = HashMap::new();
        if !self.has_history() {
            return usual;
        }
        let before = self.before();
        // What goes on when the freeze begins is a part of it.
        for piece in self.pieces.iter().filter(|piece| piece.end_ns <= before.1) {
            let of_cause = usual.entry(piece.cause).or_default();
            *of_cause = of_cause.saturating_add(piece.overlap_ns(before));
        }
        let scale = self.frozen_ns() as f64 / self.before_ns() as f64;
        usual.values_mut().for_each(|ns| *ns = (*ns as f64 * scale) as u64);
        usual
    }

    /// Whether enough is known of the time before the freeze to compare.
    fn has_history(&self) -> bool {
        self.before_ns() > 0 && self.before_ns() >= self.frozen_ns() / 10
    }

    /// The time that the frozen time is compared with: before it, and after the last failure of a probe then, as an
    /// earlier freeze is not how things always are.
    pub(super) fn before(&self) -> (u64, u64) {
        (self.observed.calm_ns.max(self.observed.window.start_ns).min(self.frozen.0), self.frozen.0)
    }

    fn before_ns(&self) -> u64 {
        let (start_ns, end_ns) = self.before();
        end_ns - start_ns
    }

    /// Whether the cgroup was refused as much time as would explain half of what its threads wanted to run.
    pub(super) fn is_throttled(&self) -> bool {
        let mut wanted: HashMap<usize, u64> = HashMap::new();
        for piece in self.pieces.iter().filter(|piece| piece.class == Class::Runnable) {
            *wanted.entry(piece.thread).or_default() += piece.overlap_ns(self.frozen);
        }
        let longest_ns = wanted.into_values().max().unwrap_or(0);
        self.observed.throttled_ns.is_some_and(|refused_ns| refused_ns > 0 && refused_ns >= longest_ns / 2)
    }

    /// How long the service was frozen.
    pub(super) fn frozen_ns(&self) -> u64 {
        self.frozen.1.saturating_sub(self.frozen.0)
    }

    /// Pieces of the frozen time, and how long they are in it.
    pub(super) fn frozen_pieces(&self) -> impl Iterator<Item = (&Piece, u64)> {
        self.pieces.iter().map(|piece| (piece, piece.overlap_ns(self.frozen))).filter(|(_, ns)| *ns > 0)
    }

    /// Those of one thread, by its process and number, all of the window.
    pub(super) fn pieces_of(&self, thread: &Thread) -> &[Piece] {
        let range = self.of_thread.get(&(thread.pid, thread.tid)).cloned().unwrap_or(0..0);
        &self.pieces[range]
    }

    pub(super) fn interval(&self, piece: &Piece) -> &'a Interval {
        &self.observed.intervals[piece.interval]
    }

    pub(super) fn thread(&self, piece: &Piece) -> &Thread {
        &self.threads[piece.thread]
    }

    /// What a thread did for the longest part of some time off the processor, unless it was on it for longer.
    pub(super) fn mostly(&self, thread: &Thread, time: (u64, u64)) -> Option<&Piece> {
        let mut groups: HashMap<(PlaceId, What), (u64, &Piece)> = HashMap::new();
        for own in self.pieces_of(thread) {
            let ns = own.overlap_ns(time);
            let group = groups.entry((own.place, own.what)).or_insert((0, own));
            group.0 += ns;
            if ns > group.1.overlap_ns(time) {
                group.1 = own;
            }
        }
        let off_ns: u64 = groups.values().map(|(ns, _)| *ns).sum();
        let ran_ns = time.1.saturating_sub(time.0).saturating_sub(off_ns);
        let longest = groups.into_values().max_by_key(|(ns, own)| (*ns, own.start_ns));
        longest.filter(|(ns, _)| *ns > ran_ns).map(|(_, own)| own)
    }

    /// How long a thread was not off the processor, as far as was seen, in some time between the first and the last
    /// that was seen of it. Sleeps below the source's bound count as well.
    pub(super) fn seen_running_ns(&self, thread: &Thread, time: (u64, u64)) -> u64 {
        let pieces = self.pieces_of(thread).iter().filter(|piece| piece.class != Class::Ended);
        let (mut first_ns, mut last_ns, mut off_ns) = (u64::MAX, 0, 0);
        for piece in pieces.filter(|piece| piece.overlap_ns(time) > 0) {
            first_ns = first_ns.min(piece.start_ns.max(time.0));
            last_ns = last_ns.max(piece.end_ns.min(time.1));
            off_ns += piece.overlap_ns(time);
        }
        last_ns.saturating_sub(first_ns).saturating_sub(off_ns)
    }

    /// The same thread with the name that it had in the window, if something was seen of it.
    pub(super) fn known<'t>(&'t self, thread: &'t Thread) -> &'t Thread {
        let index = self.pieces_of(thread).first().map(|piece| piece.thread);
        index.map_or(thread, |index| &self.threads[index])
    }

    /// What the thread was doing in a piece of time.
    pub(super) fn doing(&self, piece: &Piece) -> String {
        doing::doing(self.interval(piece), self.places.kernel(piece.place))
    }

    /// The program's own function that it was in.
    pub(super) fn called_from(&self, piece: &Piece) -> Option<&'a str> {
        program::called_from(self.places.user(piece.place))
    }

    /// The program's own functions that asked for pieces of time, two at most: those that did not do so before the
    /// freeze come first, then the longest.
    pub(super) fn functions(&self, chosen: impl Fn(&Piece) -> bool) -> Vec<&'a str> {
        let mut functions: HashMap<&str, (bool, u64)> = HashMap::new();
        let mut all_ns: u64 = 0;
        for (piece, ns) in self.frozen_pieces().filter(|(piece, _)| chosen(piece)) {
            all_ns = all_ns.saturating_add(ns);
            let Some(function) = self.called_from(piece) else { continue };
            let known = functions.entry(function).or_insert((true, 0));
            *known = (known.0 && self.is_new(piece), known.1.saturating_add(ns));
        }
        let mut functions: Vec<_> = functions.into_iter().filter(|(_, (_, ns))| *ns >= all_ns / 10).collect();
        functions.sort_by_key(|(function, rank)| (std::cmp::Reverse(*rank), *function));
        functions.into_iter().take(FUNCTIONS_MAX).map(|(function, _)| function).collect()
    }

    /// The threads that some pieces are of, by index.
    pub(super) fn threads_of(&self, indexes: &HashSet<usize>) -> Vec<&Thread> {
        let mut all: Vec<&Thread> = indexes.iter().map(|index| &self.threads[*index]).collect();
        all.sort_unstable_by_key(|thread| (thread.pid, thread.tid));
        all
    }
}
