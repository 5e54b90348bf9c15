//! Who had one lock of the program when, as those tell that were woken: so whoever is woken after them need not be
//! searched for all that had it before. Called by `user_lock`.
//!
//! Invariant: takes time and memory in proportion to what is learned and asked, but for a factor of
//! [`LONGEST_MAX`] simple steps for each question.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::pieces::{Timed, make_disjoint, overlap_ns};
use crate::event::{Thread, ThreadKey};
use crate::stack::StackPair;

/// Of one lock, the longest times that can be told with who had it; of the others it is known how long they were.
const LONGEST_MAX: usize = 1000;
/// The longest times that are learned from one that was woken: each thread may sleep at an address of its own, and
/// thousands do.
const LEARNED_MAX: usize = 128;

/// A thread that had the lock, when, and where it was when it unlocked.
#[derive(Clone, Copy)]
pub(super) struct Root<'a> {
    pub(super) holder: &'a Thread,
    pub(super) time: (u64, u64),
    pub(super) unlocked_at: StackPair,
}

impl Root<'_> {
    pub(super) fn length_ns(&self) -> u64 {
        self.time.1 - self.time.0
    }

    /// The longest first, without a tie between times that do not overlap.
    fn rank(&self) -> (Reverse<u64>, (u64, u64)) {
        (Reverse(self.length_ns()), self.time)
    }
}

impl Timed for Root<'_> {
    fn times(&self) -> (u64, u64) {
        self.time
    }

    fn with_times(self, start_ns: u64, end_ns: u64) -> Self {
        Root { time: (start_ns, end_ns), ..self }
    }
}

/// Keeps the longest, in that order.
pub(super) fn keep_longest(roots: &mut Vec<Root>, count_max: usize) {
    if roots.len() > count_max {
        roots.select_nth_unstable_by_key(count_max, Root::rank);
        roots.truncate(count_max);
    }
    roots.sort_unstable_by_key(Root::rank);
}

/// Who had one lock from when to when, as far as is known.
#[derive(Default)]
pub(super) struct History<'a> {
    /// From when to when anything is known.
    known: Option<(u64, u64)>,
    /// The longest times, and up to as many more, without overlap, in no order.
    longest: Vec<Root<'a>>,
    /// The others.
    shorter: Vec<(ThreadKey, (u64, u64))>,
    /// Who waited for those that had it, and when.
    asked: Vec<(ThreadKey, (u64, u64))>,
}

impl<'a> History<'a> {
    /// Takes in what lies before and after what is known.
    pub(super) fn learn(&mut self, mut roots: Vec<Root<'a>>) {
        make_disjoint(&mut roots);
        let (first_ns, last_ns) = self.known.unwrap_or((u64::MAX, u64::MAX));
        let outside = |root: Root<'a>| {
            let (start_ns, end_ns) = root.time;
            [(start_ns, end_ns.min(first_ns)), (start_ns.max(last_ns), end_ns)].map(|time| Root { time, ..root })
        };
        let mut new: Vec<Root> = roots.into_iter().flat_map(outside).filter(|root| root.time.0 < root.time.1).collect();
        keep_longest(&mut new, LEARNED_MAX);
        for root in &new {
            let (start_ns, end_ns) = self.known.unwrap_or(root.time);
            self.known = Some((start_ns.min(root.time.0), end_ns.max(root.time.1)));
        }
        self.longest.extend(new);
        if self.longest.len() > 2 * LONGEST_MAX {
            self.longest.sort_unstable_by_key(Root::rank);
            self.shorter.extend(self.longest.drain(LONGEST_MAX..).map(|root| (root.holder.key(), root.time)));
        }
    }

    /// Notes that a thread waited for whoever had it in a time, for [`History::totals`].
    pub(super) fn ask(&mut self, waiter: &Thread, time: (u64, u64)) {
        self.asked.push((waiter.key(), time));
    }

    /// The longest that are known to have had it in a time, but for one thread.
    pub(super) fn within(&self, time: (u64, u64), waiter: &Thread, count_max: usize) -> Vec<Root<'a>> {
        let is_told = |root: &&Root| overlap_ns(root.time, time) > 0 && root.holder.key() != waiter.key();
        let inside = |root: &Root<'a>| Root { time: (root.time.0.max(time.0), root.time.1.min(time.1)), ..*root };
        let mut roots: Vec<Root> = self.longest.iter().filter(is_told).map(inside).collect();
        keep_longest(&mut roots, count_max);
        roots
    }

    /// For how long each had it while those waited that asked, all of them together: of all that is known by now.
    pub(super) fn totals(&self) -> HashMap<ThreadKey, u64> {
        let waited = Waited::new(self.asked.iter().map(|(_, time)| *time));
        let mut times: HashMap<ThreadKey, Vec<(u64, u64)>> = HashMap::new();
        let longest = self.longest.iter().map(|root| (root.holder.key(), root.time));
        longest
            .chain(self.shorter.iter().copied())
            .for_each(|(holder, time)| times.entry(holder).or_default().push(time));
        times.values_mut().for_each(|times| times.sort_unstable());
        let mut totals: HashMap<ThreadKey, u128> = HashMap::new();
        for (holder, times) in &times {
            totals.insert(*holder, times.iter().map(|time| waited.within_ns(*time)).sum());
        }
        // Nobody waits for itself.
        for (waiter, time) in &self.asked {
            let (Some(own), Some(total_ns)) = (times.get(waiter), totals.get_mut(waiter)) else { continue };
            let first = own.partition_point(|one| one.1 <= time.0);
            let inside = own[first..].iter().take_while(|one| one.0 < time.1);
            *total_ns -= inside.map(|one| u128::from(overlap_ns(*one, *time))).sum::<u128>();
        }
        let told = totals.into_iter().filter(|(_, ns)| *ns > 0);
        told.map(|(holder, ns)| (holder, u64::try_from(ns).unwrap_or(u64::MAX))).collect()
    }
}

/// For how long several waited, all together. Each that began by a moment has waited since, but for those that ended.
struct Waited {
    starts: Moments,
    ends: Moments,
}

impl Waited {
    fn new(times: impl Iterator<Item = (u64, u64)>) -> Waited {
        let (starts, ends) = times.unzip();
        Waited { starts: Moments::new(starts), ends: Moments::new(ends) }
    }

    fn within_ns(&self, time: (u64, u64)) -> u128 {
        let until_ns = |at_ns| self.starts.since_ns(at_ns) - self.ends.since_ns(at_ns);
        until_ns(time.1) - until_ns(time.0)
    }
}

/// Moments in order, and the sum of the first so many.
struct Moments {
    all: Vec<u64>,
    sums: Vec<u128>,
}

impl Moments {
    fn new(mut all: Vec<u64>) -> Moments {
        all.sort_unstable();
        let sum_so_far = |sum: &mut u128, at_ns: &u64| {
            *sum += u128::from(*at_ns);
            Some(*sum)
        };
        let sums = std::iter::once(0).chain(all.iter().scan(0, sum_so_far)).collect();
        Moments { all, sums }
    }

    /// The time since each of them that is over, all together.
    fn since_ns(&self, at_ns: u64) -> u128 {
        let count = self.all.partition_point(|one| *one < at_ns);
        count as u128 * u128::from(at_ns) - self.sums[count]
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::thread;
    use super::*;

    fn root(holder: &Thread, time: (u64, u64)) -> Root<'_> {
        Root { holder, time, unlocked_at: StackPair::default() }
    }

    fn told(history: &History, time: (u64, u64), waiter: i32) -> Vec<(i32, (u64, u64))> {
        let roots = history.within(time, &thread(waiter), 3);
        roots.iter().map(|root| (root.holder.tid, root.time)).collect()
    }

    #[test]
    fn only_what_lies_before_and_after_is_learned() {
        let [two, three] = [2, 3].map(thread);
        let mut history = History::default();
        history.learn(vec![root(&two, (10, 20)), root(&two, (30, 40))]);
        history.learn(vec![root(&three, (5, 45))]);
        assert_eq!(told(&history, (0, 100), 9), [(2, (10, 20)), (2, (30, 40)), (3, (5, 10))]);
        assert_eq!(told(&history, (42, 100), 9), [(3, (42, 45))]);
        assert_eq!(told(&history, (0, 100), 2), [(3, (5, 10)), (3, (40, 45))]);
    }

    /// However many had it in turn, a question looks at the longest only, and yet each has its time.
    #[test]
    fn totals_are_exact_where_only_the_longest_are_told() {
        let (long, waiters) = (thread(41), [7, 8, 100].map(thread));
        let holders: Vec<Thread> = (100..10_100).map(thread).collect();
        let mut history = History::default();
        history.learn(vec![root(&long, (0, 500))]);
        for (number, holder) in holders.iter().enumerate() {
            let start_ns = 500 + 10 * number as u64;
            history.learn(vec![root(holder, (start_ns, start_ns + 10))]);
        }
        assert!(history.longest.len() <= 2 * LONGEST_MAX, "{}", history.longest.len());
        let asked = [(100, 1_005), (0, 600), (400, 600)];
        waiters.iter().zip(asked).for_each(|(waiter, time)| history.ask(waiter, time));
        assert_eq!(told(&history, asked[0], 7)[0], (41, (100, 500)));
        let totals = history.totals();
        let mut expected = HashMap::from([((1, 41), 400 + 500 + 100)]);
        for (number, holder) in holders.iter().enumerate().take(51) {
            let ns = if number == 0 {
                20
            } else if number < 10 {
                30
            } else if number < 50 {
                10
            } else {
                5
            };
            expected.insert(holder.key(), ns);
        }
        assert_eq!(totals, expected);
    }

    #[test]
    fn of_one_that_was_woken_the_longest_are_learned() {
        let holder = thread(2);
        let mut history = History::default();
        let end_ns = |number: u64| number * 100 + number % 90;
        history.learn((1..1_000).map(|number| root(&holder, (number * 100, end_ns(number)))).collect());
        assert_eq!(history.longest.len(), LEARNED_MAX);
        assert!(history.longest.iter().all(|root| root.length_ns() >= 78));
    }
}
