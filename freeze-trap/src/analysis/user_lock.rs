//! Who had a lock of the program while others slept in futex(2) for it. The kernel does not know; but who ends such a
//! sleep is the one that unlocks. If that one had itself slept for the lock, it had it only since then, and the time
//! before is that of the one that woke it, and so on. Time for which nobody is known to have had it is nobody's.

use std::collections::HashMap;

use super::case::Case;
use super::class::{Class, Futex};
use super::history::{History, Root, keep_longest};
use super::holders::{by_holder, costliest, keep_costliest, keep_first};
use super::pieces::Piece;
use super::{program, waker};
use crate::event::{Thread, ThreadKey, Waker};
use crate::freeze::{Cause, Holder, Pair, Stack};

/// How many times a lock may have been passed on until the search is given up; who had it before that is known from
/// those that were woken earlier.
const PASSED_ON_MAX: usize = 64;
/// Sleeps that are looked at for one wait.
const STEPS_MAX: usize = 1000;
/// Of those who had it before that, the longest that are told as pairs.
const EARLIER_MAX: usize = 8;
/// And those that are passed on to whoever was woken later: of many that had it in turn, a few would not be most of it.
const KNOWN_MAX: usize = 64;
/// Sleeps, the longest, of which is looked for who those were.
const SLEPT_MAX: usize = 8;
/// The pairs that are kept, and as many of the holder that cost the most: thousands of threads make millions.
const HELD_MAX: usize = 500;

/// What the holder did with the lock, most of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// It slept.
    Slept,
    /// It wanted to run.
    Wanted,
    /// It waited for mmap_lock.
    WaitedForMmapLock,
    /// It was on a processor.
    Ran,
}

/// One thread that had what another one waited for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    pub(super) pair: Pair,
    pub(super) activity: Activity,
    /// What the waiter waited for.
    pub(super) wanted: Futex,
}

/// All of them.
pub(super) struct Holders {
    /// The pairs with the longest overlap, that first.
    pub(super) all: Vec<Held>,
    /// How many pairs were found, those included that are not kept. Of those who had a lock before one that is looked
    /// for, only the longest are pairs; the others have their part of `totals`.
    pub(super) pairs: usize,
    /// For how long each thread had what others waited for, all waiters together; by process and number.
    pub(super) totals: HashMap<ThreadKey, u64>,
    /// The pairs of each in all, those of the one that cost the most first.
    pub(super) sums: Vec<Holder>,
}

impl Holders {
    /// Who had it for the longest time in all, and for how long.
    pub(super) fn longest(&self) -> Option<(ThreadKey, u64)> {
        costliest(&self.totals)
    }
}

/// A lock, by its process and address.
type Address = (i32, u64);
/// A lock that was slept for, and when.
type Slept = (Address, (u64, u64));

/// The search for those who had what one thread waited for.
struct Search<'a, 'b> {
    case: &'b Case<'a>,
    /// Threads from the waiter on, each of which waited for the next one.
    path: Vec<&'b Thread>,
    steps: usize,
    found: Vec<Root<'b>>,
    /// Sleeps for a lock that it was not searched for who had it.
    left: Vec<Slept>,
}

impl<'a: 'b, 'b> Search<'a, 'b> {
    fn charge(&mut self, waker: &'b Waker, start_ns: u64, end_ns: u64) {
        if start_ns < end_ns {
            let (holder, time) = (&waker.thread, (start_ns, end_ns));
            self.found.push(Root { holder, time, unlocked_at: waker.stack });
        }
    }

    /// Finds them for a part of a sleep.
    fn follow(&mut self, piece: &'b Piece, time: (u64, u64)) {
        let case = self.case;
        let Some(waker) = waker::of(case.interval(piece), case) else { return };
        let lock = address(case, piece);
        let is_wait = |own: &&Piece| own.cause == Cause::UserLock && own.overlap_ns(time) > 0;
        let mut until_ns = time.1;
        // From the last time on that it slept for the same lock, it had that; before, it had not.
        let mut has_it = true;
        self.path.push(case.thread(piece));
        for own in case.pieces_of(&waker.thread).iter().rev().filter(is_wait) {
            let is_same_lock = address(case, own) == lock;
            if !has_it && !is_same_lock {
                continue;
            }
            let (start_ns, end_ns) = (own.start_ns.max(time.0), own.end_ns.min(time.1));
            self.steps += 1;
            let next = waker::of(case.interval(own), case).filter(|next| !self.is_on_path(&next.thread));
            if next.is_none() {
                // In a circle nobody is the first; the one that unlocked is as good as any.
                continue;
            }
            if has_it {
                self.charge(waker, end_ns, until_ns);
            }
            if self.path.len() > PASSED_ON_MAX || self.steps > STEPS_MAX {
                self.left.extend(address(case, own).map(|address| (address, (start_ns, end_ns))));
            } else {
                self.follow(own, (start_ns, end_ns));
            }
            until_ns = start_ns;
            has_it &= !is_same_lock;
        }
        if has_it {
            self.charge(waker, time.0, until_ns);
        }
        self.path.pop();
    }

    fn is_on_path(&self, thread: &Thread) -> bool {
        self.path.iter().any(|on_path| on_path.key() == thread.key())
    }
}

/// The process and the address of the lock that a thread slept for.
fn address(case: &Case, piece: &Piece) -> Option<Address> {
    let interval = case.interval(piece);
    let call = interval.call.filter(|call| call.number == libc::SYS_futex as u64)?;
    Some((interval.owner_pid, call.arguments[0]))
}

/// For how long one thread had what another one waited for, and when that was the longest.
struct Sum<'a> {
    overlap_ns: u64,
    longest: (Root<'a>, &'a Piece),
}

/// What was found so far.
#[derive(Default)]
struct Sums<'a> {
    /// By holder and waiter, the latter by its index.
    pairs: HashMap<(ThreadKey, usize), Sum<'a>>,
    totals: HashMap<ThreadKey, u64>,
    histories: HashMap<Address, History<'a>>,
}

impl<'a> Sums<'a> {
    fn add_total(&mut self, holder: ThreadKey, ns: u64) {
        let total_ns = self.totals.entry(holder).or_default();
        *total_ns = total_ns.saturating_add(ns);
    }

    fn add_pair(&mut self, piece: &'a Piece, root: Root<'a>) {
        let new = Sum { overlap_ns: 0, longest: (root, piece) };
        let sum = self.pairs.entry((root.holder.key(), piece.thread)).or_insert(new);
        sum.overlap_ns = sum.overlap_ns.saturating_add(root.length_ns());
        if root.length_ns() > sum.longest.0.length_ns() {
            sum.longest = (root, piece);
        }
    }

    /// What is known from those that were woken before of the locks that were slept for; gives the longest of it. The
    /// totals have all of it in the end.
    fn add_known(&mut self, waiter: &Thread, piece: &'a Piece, mut slept: Vec<Slept>) -> Vec<Root<'a>> {
        slept.sort_by_key(|(_, time)| (std::cmp::Reverse(time.1 - time.0), *time));
        let mut known = Vec::new();
        for (number, (address, time)) in slept.into_iter().enumerate() {
            let history = self.histories.entry(address).or_default();
            history.ask(waiter, time);
            if number < SLEPT_MAX {
                known.extend(history.within(time, waiter, KNOWN_MAX));
            }
        }
        keep_longest(&mut known, KNOWN_MAX);
        known.iter().take(EARLIER_MAX).for_each(|root| self.add_pair(piece, *root));
        known
    }
}

/// All pairs, the longest overlap first.
pub(super) fn held(case: &Case) -> Holders {
    let mut sums = Sums::default();
    let waits = case.frozen_pieces().filter(|(piece, _)| piece.cause == Cause::UserLock);
    let mut waits: Vec<&Piece> = waits.map(|(piece, _)| piece).collect();
    // Whoever was woken first tells of the longest time before.
    waits.sort_by_key(|piece| (piece.end_ns, piece.start_ns, piece.thread));
    for piece in &waits {
        let time = (piece.start_ns.max(case.frozen.0), piece.end_ns.min(case.frozen.1));
        let mut search = Search { case, path: Vec::new(), steps: 0, found: Vec::new(), left: Vec::new() };
        search.follow(piece, time);
        let Search { mut found, left, .. } = search;
        for root in &found {
            sums.add_pair(piece, *root);
            sums.add_total(root.holder.key(), root.length_ns());
        }
        // Each thread may sleep at an address of its own: then nobody but this one can tell those that come after it.
        found.extend(sums.add_known(case.thread(piece), piece, left));
        if let Some(address) = address(case, piece) {
            sums.histories.entry(address).or_default().learn(found);
        }
    }
    // Who still sleeps was woken by nobody, but others that slept for the same lock were.
    for piece in waits.into_iter().filter(|piece| waker::of(case.interval(piece), case).is_none()) {
        if let Some(address) = address(case, piece) {
            sums.add_known(case.thread(piece), piece, vec![(address, piece.time())]);
        }
    }
    let histories = std::mem::take(&mut sums.histories);
    let totals = histories.values().flat_map(History::totals);
    totals.for_each(|(holder, ns)| sums.add_total(holder, ns));
    let Sums { pairs, totals, .. } = sums;
    let mut holders = Holders { all: Vec::new(), pairs: pairs.len(), totals, sums: Vec::new() };
    let longest = holders.longest().map(|(holder, _)| holder);
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    let waiter = |index: usize| case.threads[index].key();
    pairs.sort_by_key(|((holder, index), sum)| (std::cmp::Reverse(sum.overlap_ns), *holder, waiter(*index)));
    let mut groups = by_holder(pairs.iter().map(|((holder, _), sum)| (*holder, sum.overlap_ns)));
    keep_costliest(&mut groups, |group| holders.totals[&group.holder]);
    let told = |sum: &Sum| {
        let mut held = explain(case, sum.longest.1, &sum.longest.0);
        held.pair.overlap_ns = sum.overlap_ns;
        held
    };
    let whole = groups.iter().map(|group| {
        let longest = told(&pairs[group.longest].1).pair;
        let overlap_ns = holders.totals[&group.holder];
        // Where more is known than the pairs say, some are no pairs.
        Holder { longest, waiters: group.waiters, overlap_ns, at_least: overlap_ns > group.overlap_ns }
    });
    holders.sums = whole.collect();
    keep_first(&mut pairs, HELD_MAX, |((holder, _), _)| Some(*holder) == longest);
    holders.all = pairs.iter().map(|(_, sum)| told(sum)).collect();
    holders
}

/// What the holder did, with an overlap of zero.
fn explain(case: &Case, piece: &Piece, root: &Root) -> Held {
    let stacks = case.observed.stacks;
    let unlocked_at = program::called_from(stacks.user(root.unlocked_at));
    let (activity, doing, called_from, stack): (_, _, _, Stack) = match case.mostly(root.holder, root.time) {
        Some(own) => {
            let activity = match own.class {
                Class::Runnable => Activity::Wanted,
                Class::MmapLock => Activity::WaitedForMmapLock,
                _ => Activity::Slept,
            };
            let doing = match activity {
                Activity::Slept => case.doing(own),
                Activity::WaitedForMmapLock => "wait for mmap_lock".to_owned(),
                _ => "wait for a processor".to_owned(),
            };
            (activity, doing, case.called_from(own).or(unlocked_at), case.places.stack(own.place))
        }
        None => (Activity::Ran, "computation".to_owned(), unlocked_at, stacks.stack(root.unlocked_at)),
    };
    let waiter = case.thread(piece);
    let pair = Pair {
        holder: root.holder.clone(),
        outsider: root.holder.pid != waiter.pid && !case.threads.iter().any(|own| own.pid == root.holder.pid),
        waiter: waiter.clone(),
        on: Cause::UserLock,
        mode: None,
        doing,
        called_from: called_from.map(str::to_owned),
        overlap_ns: 0,
        stack,
    };
    let wanted = if let Class::Futex(wanted) = piece.class { wanted } else { Futex::Unknown };
    Held { pair, activity, wanted }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{MS, Sample, call};
    use super::*;
    use crate::event::Sleep;

    const LOCK: &str = "syscall@libc.so.6; std::sys::sync::mutex::futex::Mutex::lock_contended@app; app::look_up@app";
    const WAKE: &str = "try_to_wake_up; futex_wake; do_futex";

    /// Holder, waiter, milliseconds, activity, doing, called from.
    fn told(sample: &Sample) -> Vec<(i32, i32, u64, Activity, String, Option<String>)> {
        let observed = sample.observed();
        let all = held(&Case::new(&observed)).all;
        let one = |held: Held| {
            let pair = held.pair;
            (pair.holder.tid, pair.waiter.tid, pair.overlap_ns / MS, held.activity, pair.doing, pair.called_from)
        };
        all.into_iter().map(one).collect()
    }

    #[test]
    fn who_unlocks_after_a_sleep_is_the_holder() {
        let mut sample = Sample::new();
        let lock = sample.stack("schedule; futex_wait", LOCK);
        let wake =
            sample.stack(WAKE, "syscall@libc.so.6; std::sys::sync::mutex::futex::Mutex::wake@app; app::reload@app");
        let nap =
            sample.stack("do_nanosleep", "clock_nanosleep@libc.so.6; std::thread::sleep@app; app::wait_a_bit@app");
        sample.lock(2, (10_000, 12_000), lock, Some((41, wake)));
        sample.sleep(41, Sleep::Interruptible, (9_900, 11_950), nap).call = call(libc::SYS_clock_nanosleep, &[]);
        let doing = "clock_nanosleep".to_owned();
        let from = Some("app::wait_a_bit".to_owned());
        assert_eq!(told(&sample), [(41, 2, 2000, Activity::Slept, doing, from)]);
    }

    /// So many threads wait for a lock that thread 41 keeps for two seconds, and each has it for some time after the
    /// one before it; at the same address, or each at one of its own.
    fn passed_on(waiters: i32, each_ns: u64, own_address: bool) -> Sample {
        let mut sample = Sample::new();
        let lock = sample.stack("schedule; futex_wait", LOCK);
        let wake = sample.stack(WAKE, "app::unlock@app");
        for number in 0..waiters {
            let waker = if number == 0 { 41 } else { 99 + number };
            sample.lock(100 + number, (10_000, 12_000), lock, Some((waker, wake)));
            let last = sample.intervals.last_mut().unwrap();
            last.end_ns += number as u64 * each_ns;
            if own_address {
                last.call = call(libc::SYS_futex, &[0x1000 + number as u64 * 64]);
            }
            if let crate::event::Kind::OffCpu { waker: Some(waker), .. } = &mut last.kind {
                waker.at_ns = last.end_ns;
            }
        }
        sample
    }

    /// Ten thousand threads that wait for one mutex get it one after the other, in microseconds; all waited for the one
    /// that had it before the first of them, and hardly any for the one from which it got it. Monitors and parking lots
    /// have an address for each thread.
    #[test]
    fn a_lock_that_is_passed_on_a_thousand_times_leads_to_the_one_that_kept_it() {
        const WAITERS: i32 = 1000;
        for own_address in [false, true] {
            let sample = passed_on(WAITERS, 1000, own_address);
            let observed = sample.observed();
            let holders = held(&Case::new(&observed));
            let (longest, ns) = holders.longest().unwrap();
            assert_eq!((longest.1, ns), (41, WAITERS as u64 * 2000 * MS), "{own_address}");
            assert!(holders.all.len() <= 2 * HELD_MAX && holders.pairs > holders.all.len(), "{}", holders.pairs);
            assert!(holders.all[0].pair.holder.tid == 41 && holders.all[0].pair.overlap_ns == 2000 * MS);
        }
    }

    /// Where thousands had it in turn, each has its time, though only a few of them are pairs of each waiter.
    #[test]
    fn thousands_that_have_a_lock_in_turn_have_their_time_each() {
        const WAITERS: i32 = 3000;
        const EACH_NS: u64 = 300_000;
        let sample = passed_on(WAITERS, EACH_NS, false);
        let observed = sample.observed();
        let holders = held(&Case::new(&observed));
        let after = |number: i32| (WAITERS - 1 - number) as u64;
        let totals = (0..WAITERS - 1).map(|number| ((1, 100 + number), after(number) * EACH_NS));
        let kept = ((1, 41), WAITERS as u64 * 2000 * MS);
        assert_eq!(holders.totals, totals.chain([kept]).collect());
        let pairs_max = WAITERS as usize * 80;
        assert!(holders.pairs <= pairs_max, "{} of {pairs_max}", holders.pairs);
        let findings = super::super::find(&observed);
        let told = |holder: &Holder| (holder.longest.holder.tid, holder.overlap_ns, holder.at_least);
        let told: Vec<_> = findings.holders.iter().map(told).collect();
        // The first few are told as pairs of all that waited.
        assert_eq!(told[..2], [(41, kept.1, false), (100, after(0) * EACH_NS, false)]);
        assert_eq!(told[20], (119, after(19) * EACH_NS, true));
        assert_eq!(findings.holders[0].waiters, WAITERS as u64);
        assert_eq!(findings.left_out.holders, WAITERS as u64 - told.len() as u64);
    }

    #[test]
    fn a_lock_that_is_passed_on_leads_to_the_one_that_kept_it() {
        let mut sample = Sample::new();
        let lock = sample.stack("schedule; futex_wait", LOCK);
        let wake = sample.stack(WAKE, "app::unlock@app");
        sample.lock(2, (10_000, 12_000), lock, Some((41, wake)));
        sample.lock(3, (10_010, 12_010), lock, Some((2, wake)));
        sample.lock(4, (10_020, 12_020), lock, Some((3, wake)));
        let told = told(&sample);
        let holders: Vec<_> = told.iter().map(|one| (one.0, one.1, one.2, one.3)).collect();
        let ran = Activity::Ran;
        let kept = [(41, 2, 2000, ran), (41, 3, 1990, ran), (41, 4, 1980, ran)];
        let passed_on = [(2, 3, 10, ran), (2, 4, 10, ran), (3, 4, 10, ran)];
        assert_eq!(holders, [&kept[..], &passed_on].concat());
        assert!(told.iter().all(|one| one.5.as_deref() == Some("app::unlock")));
    }

    #[test]
    fn each_of_several_holders_in_turn_had_it_for_its_own_time() {
        let mut sample = Sample::new();
        let lock = sample.stack("schedule; futex_wait", LOCK);
        let wake = sample.stack(WAKE, "app::unlock@app");
        sample.lock(9, (10_000, 12_000), lock, Some((4, wake)));
        sample.lock(4, (10_100, 11_400), lock, Some((3, wake)));
        sample.lock(3, (10_050, 10_700), lock, Some((2, wake)));
        // Thread 3 found it taken by thread 2 once before.
        sample.lock(3, (10_000, 10_049), lock, Some((1, wake)));
        let of_9: Vec<_> = told(&sample).iter().filter(|one| one.1 == 9).map(|one| (one.0, one.2)).collect();
        assert_eq!(of_9, [(3, 700), (2, 600), (4, 600)], "the tenth of a second before thread 4 came is nobody's");
    }

    #[test]
    fn a_holder_that_waits_for_another_lock_has_its_own_meanwhile() {
        let mut sample = Sample::new();
        let lock = sample.stack("schedule; futex_wait", LOCK);
        let wake = sample.stack(WAKE, "app::unlock@app");
        sample.lock(2, (10_000, 12_000), lock, Some((41, wake)));
        sample.lock(41, (11_500, 11_600), lock, Some((7, wake)));
        sample.intervals[1].call = call(libc::SYS_futex, &[0x2000]);
        let of_2: Vec<_> = told(&sample).iter().filter(|one| one.1 == 2).map(|one| (one.0, one.2)).collect();
        assert_eq!(of_2, [(41, 1900), (7, 100)]);
    }

    #[test]
    fn who_still_sleeps_waits_for_the_holder_of_the_same_lock() {
        let mut sample = Sample::new();
        let lock = sample.stack("schedule; futex_wait", LOCK);
        let wake = sample.stack(WAKE, "app::unlock@app");
        sample.lock(2, (10_000, 12_000), lock, Some((41, wake)));
        sample.lock(3, (10_500, 25_000), lock, None);
        sample.intervals[1].unfinished = true;
        let told = told(&sample);
        assert_eq!(told.iter().map(|one| (one.0, one.1, one.2)).collect::<Vec<_>>(), [(41, 2, 2000), (41, 3, 1500)]);
    }

    #[test]
    fn timers_and_the_idle_thread_unlock_nothing() {
        let mut sample = Sample::new();
        let lock = sample.stack("schedule; futex_wait", LOCK);
        let timer = sample.stack("try_to_wake_up; hrtimer_wakeup; asm_sysvec_apic_timer_interrupt", "app::run@app");
        let wake = sample.stack("", "syscall@libc.so.6; app::unlock@app");
        sample.lock(2, (10_000, 12_000), lock, Some((41, timer)));
        sample.lock(3, (10_000, 12_000), lock, Some((0, wake)));
        sample.lock(4, (10_000, 12_000), lock, Some((4, wake)));
        // An interrupt that came while the thread was about to sleep for a lock itself.
        let interrupt = "try_to_wake_up; hrtimer_wakeup; asm_sysvec_apic_timer_interrupt; futex_wait; do_futex";
        let in_futex = sample.stack(interrupt, "syscall@libc.so.6; app::run@app");
        sample.lock(5, (10_000, 12_000), lock, Some((41, in_futex)));
        // The kernel shows no names, and the thread that had the processor computed.
        let unknown = sample.stack("0xffffffff81000000", "app::run@app");
        sample.lock(6, (10_000, 12_000), lock, Some((41, unknown)));
        assert_eq!(told(&sample), []);
        let unlocks = sample.stack("0xffffffff81000000", "syscall@libc.so.6; app::unlock@app");
        sample.lock(7, (10_000, 12_000), lock, Some((41, unlocks)));
        let told = told(&sample);
        assert!(told.iter().any(|one| (one.0, one.1) == (41, 7)), "without names of the kernel, the call tells");
    }

    #[test]
    fn threads_that_wake_each_other_in_a_circle_end_the_search() {
        let mut sample = Sample::new();
        let lock = sample.stack("schedule; futex_wait", LOCK);
        let wake = sample.stack(WAKE, "app::unlock@app");
        sample.lock(2, (10_000, 12_000), lock, Some((3, wake)));
        sample.lock(3, (10_000, 12_000), lock, Some((2, wake)));
        let told = told(&sample);
        assert_eq!(told.iter().map(|one| (one.0, one.1)).collect::<Vec<_>>(), [(2, 3), (3, 2)]);
    }
}
