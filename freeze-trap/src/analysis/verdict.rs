//! Weighs the causes against each other: the one for which threads were blocked the longest in all, beyond what they
//! were before the freeze, wins, if it explains anything; otherwise somebody was busy, or all had nothing to do.

use std::collections::{HashMap, HashSet};

use super::case::Case;
use super::class::Class;
use super::pieces::Piece;
use super::tables::is_blocked;
use crate::event::Thread;
use crate::freeze::{Cause, Pair};

/// A cause that blocked no thread for this part of the frozen time explains nothing, in hundredths.
const BLOCKED_MIN_PERCENT: u64 = 5;
/// A thread with less time at a place than this part of the longest one's is not told of, in hundredths.
const THREAD_MIN_PERCENT: u64 = 10;
/// A thread on a processor for this part of the time was busy, in hundredths.
const BUSY_MIN_PERCENT: u64 = 90;
/// What is more than before is to be at least this part of it, or it is taken for the usual, in hundredths.
const NEW_MIN_PERCENT: u64 = 20;
/// If no thread was blocked for this part of the frozen time, one that was busy is the better answer, in hundredths.
const BLOCKED_MOST_PERCENT: u64 = 50;

/// One cause.
pub(super) struct Tally<'a> {
    pub(super) cause: Cause,
    /// All threads together.
    pub(super) total_ns: u64,
    /// What of that is more than in as much time before the freeze; all of it if it is all as usual.
    pub(super) weight_ns: u64,
    /// Threads were blocked on it before the freeze for almost as long.
    pub(super) is_usual: bool,
    /// The longest piece, and how long it is in the frozen time.
    pub(super) longest: (&'a Piece, u64),
    /// Threads, by index, that it is worth telling of.
    pub(super) threads: HashSet<usize>,
    /// The thread that was blocked the longest in all: for how long.
    pub(super) worst_ns: u64,
}

/// What it comes to.
pub(super) struct Verdict<'a> {
    /// Causes that explain something, the one with the most weight first.
    pub(super) causes: Vec<Tally<'a>>,
    /// Threads that were on a processor all the time.
    pub(super) busy: Vec<&'a Thread>,
    /// They are the answer.
    pub(super) is_busy: bool,
}

fn percent(of_ns: u64, percent: u64) -> u64 {
    (u128::from(of_ns) * u128::from(percent) / 100) as u64
}

/// Weighs them; a cause that is known to have been seen comes first. A thread that was in the way of others according
/// to `pairs` is told of with what it had, not as busy.
pub(super) fn weigh<'a>(case: &'a Case, pairs: &[&Pair], seen: Option<Cause>) -> Verdict<'a> {
    let least_ns = percent(case.frozen_ns(), BLOCKED_MIN_PERCENT).max(1);
    let mut causes = tallies(case);
    causes.retain(|tally| tally.worst_ns >= least_ns);
    causes.sort_by_key(|tally| seen != Some(tally.cause));
    let mut busy = busy(case);
    let in_the_way = pairs.iter().filter(|pair| pair.overlap_ns >= least_ns).map(|pair| &pair.holder);
    let in_the_way: HashSet<(i32, i32)> = in_the_way.map(|holder| (holder.pid, holder.tid)).collect();
    busy.retain(|thread| !in_the_way.contains(&(thread.pid, thread.tid)));
    let most_ns = causes.iter().map(|tally| tally.worst_ns).max().unwrap_or(0);
    let is_seen = causes.first().is_some_and(|tally| seen == Some(tally.cause));
    let is_busy = !is_seen && !busy.is_empty() && most_ns < percent(case.frozen_ns(), BLOCKED_MOST_PERCENT);
    Verdict { causes, busy, is_busy }
}

fn tallies<'a>(case: &'a Case) -> Vec<Tally<'a>> {
    struct Sum<'a> {
        threads: HashMap<usize, u64>,
        longest: (&'a Piece, u64),
    }
    let mut sums: HashMap<Cause, Sum> = HashMap::new();
    for (piece, ns) in case.frozen_pieces().filter(|(piece, _)| is_blocked(piece.cause)) {
        let sum = sums.entry(piece.cause).or_insert(Sum { threads: HashMap::new(), longest: (piece, ns) });
        *sum.threads.entry(piece.thread).or_default() += ns;
        if ns > sum.longest.1 {
            sum.longest = (piece, ns);
        }
    }
    let usual = case.usual();
    let tally = |(cause, Sum { threads, longest }): (Cause, Sum<'a>)| {
        let worst_ns = threads.values().copied().max().unwrap_or(0);
        let total_ns = threads.values().fold(0, |sum: u64, ns| sum.saturating_add(*ns));
        let told = threads.iter().filter(|(_, ns)| **ns >= percent(worst_ns, THREAD_MIN_PERCENT));
        let more_ns = total_ns.saturating_sub(usual.get(&cause).copied().unwrap_or(0));
        let is_usual = more_ns < percent(total_ns, NEW_MIN_PERCENT);
        let weight_ns = if is_usual { total_ns } else { more_ns };
        let threads = told.map(|(thread, _)| *thread).collect();
        Tally { cause, total_ns, weight_ns, is_usual, longest, worst_ns, threads }
    };
    let mut tallies: Vec<Tally> = sums.into_iter().map(tally).collect();
    tallies.sort_by_key(|tally| (tally.is_usual, std::cmp::Reverse(tally.weight_ns), tally.cause as usize));
    tallies
}

/// Threads that were on a processor all the time; of them, those that were not before, if there are any. Where their
/// processor time was measured, that tells; otherwise those that are known to live, and were never off the processor
/// for long.
fn busy<'a>(case: &'a Case) -> Vec<&'a Thread> {
    let observed = case.observed;
    if !observed.running.is_empty() {
        let is_busy = |ran_ns, over_ns| over_ns > 0 && ran_ns >= percent(over_ns, BUSY_MIN_PERCENT);
        let busy = observed.running.iter().filter(|running| is_busy(running.cpu_ns, running.over_ns));
        let busy: Vec<&Thread> = busy.map(|running| &running.thread).collect();
        let before = case.before();
        let has_rested = |thread: &&&Thread| {
            let off_ns: u64 = case.pieces_of(thread).iter().map(|piece| piece.overlap_ns(before)).sum();
            off_ns > percent(before.1.saturating_sub(before.0), 100 - BUSY_MIN_PERCENT)
        };
        let new: Vec<&Thread> = busy.iter().filter(has_rested).copied().collect();
        let busy = if new.is_empty() { busy } else { new };
        return busy.into_iter().map(|thread| case.known(thread)).collect();
    }
    let off_most_ns = percent(case.frozen_ns(), 100 - BUSY_MIN_PERCENT);
    let is_busy = |thread: &&Thread| {
        let pieces = case.pieces_of(thread);
        let off_ns: u64 = pieces.iter().map(|piece| piece.overlap_ns(case.frozen)).sum();
        let has_ended = pieces.iter().any(|piece| piece.class == Class::Ended);
        let is_seen = observed.window.recovered_ns.is_none()
            || observed.intervals.iter().any(|one| one.thread == **thread && one.end_ns > case.frozen.0);
        case.frozen_ns() > 0 && off_ns <= off_most_ns && !has_ended && is_seen
    };
    let mut busy: Vec<&Thread> = case.threads.iter().filter(is_busy).collect();
    busy.sort_unstable_by_key(|thread| (thread.pid, thread.tid));
    busy
}

#[cfg(test)]
mod tests {
    use super::super::Running;
    use super::super::samples::{MS, Sample, thread};
    use super::*;
    use crate::event::Sleep;
    use crate::stack::StackPair;

    fn busy_tids(sample: &Sample, running: &[Running]) -> Vec<i32> {
        let mut observed = sample.observed();
        observed.running = running;
        let case = Case::new(&observed);
        busy(&case).iter().map(|thread| thread.tid).collect()
    }

    #[test]
    fn a_thread_that_comes_back_to_sleep_after_the_freeze_was_busy_in_it() {
        let mut sample = Sample::new();
        let none = StackPair::default();
        sample.sleep(1, Sleep::Interruptible, (5_000, 9_999), none);
        sample.sleep(1, Sleep::Interruptible, (13_500, 14_000), none);
        sample.sleep(2, Sleep::Interruptible, (5_000, 9_999), none);
        sample.sleep(3, Sleep::Interruptible, (5_000, 25_000), none);
        assert_eq!(busy_tids(&sample, &[]), [1], "nobody knows whether thread 2 lives");
        sample.window.recovered_ns = None;
        sample.window.end_ns = 13_000 * MS;
        assert_eq!(busy_tids(&sample, &[]), [1, 2]);
    }

    #[test]
    fn measured_processor_time_is_better_than_a_guess() {
        let mut sample = Sample::new();
        sample.sleep(1, Sleep::Interruptible, (13_500, 14_000), StackPair::default());
        let of = |tid, cpu_ns| Running { thread: thread(tid), cpu_ns, over_ns: 1000 };
        assert_eq!(busy_tids(&sample, &[of(1, 20), of(7, 950)]), [7]);
    }

    #[test]
    fn a_thread_that_is_always_busy_is_not_told_beside_one_that_is_not() {
        let mut sample = Sample::new();
        sample.sleep(8, Sleep::Interruptible, (0, 9_000), StackPair::default());
        let of = |tid| Running { thread: thread(tid), cpu_ns: 999, over_ns: 1000 };
        assert_eq!(busy_tids(&sample, &[of(7), of(8)]), [8]);
        assert_eq!(busy_tids(&sample, &[of(7)]), [7], "nothing tells that it was busy before");
    }
}
