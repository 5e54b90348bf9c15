//! Who held mmap_lock while others waited for it. A writer waits for all that hold it; a reader waits for a writer that
//! holds it, and also for a writer that is queued, because the kernel lets no reader overtake that one: then the reader
//! that the writer waits for is the culprit, and both are told.

use std::collections::{HashMap, HashSet};

use lock_trace::Mode;

use super::case::Case;
use super::holders::{by_holder, costliest, keep_costliest, keep_first};
use super::pieces::{Timed, make_disjoint, overlap_ns};
use super::{doing, program};
use crate::event::{Interval, Kind, Thread};
use crate::freeze::{Cause, Holder, Pair, Stack};

/// The longest waits that are looked at; shorter ones do not change who is to blame.
const WAITS_MAX: usize = 4_000;
/// The longest holds, likewise.
const HOLDS_MAX: usize = 4_000;
/// The longest waits of writers that are looked at for one wait of a reader.
const WRITERS_MAX: usize = 64;

/// The pairs that are kept, and as many of the culprit: thousands of threads make millions.
const BLAMES_MAX: usize = 500;

/// One thread in the way of another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Blame {
    pub(super) pair: Pair,
    /// The writer that was queued between them, if the waiter would not have had to wait otherwise.
    pub(super) behind: Option<Queued>,
    /// The longest time for which the holder had it while the waiter waited.
    pub(super) held: (u64, u64),
}

/// A writer that waited as well.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Queued {
    pub(super) thread: Thread,
    /// What it wanted the lock for.
    pub(super) doing: String,
}

/// A hold or a wait.
#[derive(Clone, Copy)]
struct Use<'a> {
    interval: &'a Interval,
    mode: Mode,
    start_ns: u64,
    end_ns: u64,
}

impl Timed for Use<'_> {
    fn times(&self) -> (u64, u64) {
        (self.start_ns, self.end_ns)
    }

    fn with_times(self, start_ns: u64, end_ns: u64) -> Self {
        Use { start_ns, end_ns, ..self }
    }
}

impl Use<'_> {
    fn key(&self) -> (i32, i32) {
        self.interval.thread.key()
    }

    fn length_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }

    /// Whether both are about the same lock, and of two threads.
    fn meets(&self, other: &Use) -> bool {
        self.interval.owner_pid == other.interval.owner_pid && self.key() != other.key()
    }
}

/// Holds or waits in the frozen time, those of one thread without overlap; not more than `count_max`, the longest
/// first.
fn uses<'a>(case: &Case<'a>, is_hold: bool, count_max: usize) -> Vec<Use<'a>> {
    let mut by_thread: HashMap<(i32, i32, i32), Vec<Use>> = HashMap::new();
    for interval in case.observed.intervals {
        let mode = match interval.kind {
            Kind::Hold { mode } if is_hold => mode,
            Kind::Wait { mode } if !is_hold => mode,
            _ => continue,
        };
        let (start_ns, end_ns) = (interval.start_ns.max(case.frozen.0), interval.end_ns.min(case.frozen.1));
        let key = (interval.thread.pid, interval.thread.tid, interval.owner_pid);
        by_thread.entry(key).or_default().push(Use { interval, mode, start_ns, end_ns });
    }
    by_thread.values_mut().for_each(make_disjoint);
    let mut all: Vec<Use> = by_thread.into_values().flatten().collect();
    all.sort_by_key(|one| (std::cmp::Reverse(one.length_ns()), one.start_ns, one.key()));
    all.truncate(count_max);
    all
}

/// Holder, waiter, and how the holder held the lock.
type SumKey = ((i32, i32), (i32, i32), Mode);

/// What was found for one of these.
struct Sum<'a> {
    overlap_ns: u64,
    waiter: &'a Thread,
    /// The hold with the longest overlap, and that.
    hold: (&'a Interval, u64),
    /// From when to when that overlap is.
    held: (u64, u64),
    /// The queued writer with the longest overlap, and that; without one, for how long the hold alone was in the way.
    behind: (Option<&'a Interval>, u64),
}

/// Who is to blame for what.
pub(super) struct Blames {
    /// The pairs with the longest overlap, that first.
    pub(super) all: Vec<Blame>,
    /// How many pairs were found among the longest waits and holds, those included that are not kept.
    pub(super) pairs: usize,
    /// Those of each thread that held the lock, by how, in all; that which cost the most first.
    pub(super) sums: Vec<Holder>,
    /// How many of these there are, those included that are not kept.
    pub(super) holders_found: usize,
    /// The process and number of the thread that held the lock for the longest time in all while others waited.
    pub(super) culprit: Option<(i32, i32)>,
    /// For how long that is.
    pub(super) culprit_ns: u64,
    /// For how long all did.
    pub(super) held_ns: u64,
    /// How many did for a tenth of that time or longer.
    pub(super) holders: usize,
    /// How long the threads of the watched processes waited, all together.
    pub(super) waited_ns: u64,
}

/// Looks at all holds and waits of the frozen time.
pub(super) fn blames(case: &Case) -> Blames {
    let mut holds = uses(case, true, HOLDS_MAX);
    holds.sort_by_key(|hold| hold.start_ns);
    let waits = uses(case, false, WAITS_MAX);
    let writers: Vec<&Use> = waits.iter().filter(|wait| wait.mode == Mode::Write).collect();
    let mut sums: HashMap<SumKey, Sum> = HashMap::new();
    for wait in waits.iter().filter(|wait| !wait.interval.is_outsider()) {
        let meet = writers.iter().filter(|writer| writer.meets(wait) && overlap_ns(writer.times(), wait.times()) > 0);
        let queue: Vec<&Use> = meet.take(WRITERS_MAX).copied().collect();
        let near = holds.partition_point(|hold| hold.start_ns < wait.end_ns);
        for hold in holds[..near].iter().filter(|hold| hold.end_ns > wait.start_ns && hold.meets(wait)) {
            let (overlap_ns, behind) = if hold.mode == Mode::Write || wait.mode == Mode::Write {
                (overlap_ns(hold.times(), wait.times()), None)
            } else {
                let Some((overlap_ns, writer)) = queued(&queue, hold, wait) else { continue };
                (overlap_ns, Some(writer))
            };
            let sum = sums.entry((hold.key(), wait.key(), hold.mode)).or_insert(Sum {
                overlap_ns: 0,
                waiter: &wait.interval.thread,
                hold: (hold.interval, 0),
                held: (hold.start_ns, hold.start_ns),
                behind: (None, 0),
            });
            sum.overlap_ns += overlap_ns;
            if overlap_ns > sum.hold.1 {
                sum.hold = (hold.interval, overlap_ns);
                sum.held = (hold.start_ns.max(wait.start_ns), hold.end_ns.min(wait.end_ns));
            }
            if overlap_ns > sum.behind.1 {
                sum.behind = (behind, overlap_ns);
            }
        }
    }
    let own_waits = waits.iter().filter(|wait| !wait.interval.is_outsider());
    let waited_ns = own_waits.fold(0, |sum: u64, wait| sum.saturating_add(wait.length_ns()));
    let totals = totals(&sums);
    let (culprit, culprit_ns) = costliest(&totals).map_or((None, 0), |(holder, ns)| (Some(holder), ns));
    let held_ns = totals.values().fold(0, |sum: u64, ns| sum.saturating_add(*ns));
    let holders = totals.values().filter(|ns| **ns >= culprit_ns / 10).count();
    let mut sums: Vec<(SumKey, Sum)> = sums.into_iter().collect();
    sums.sort_by_key(|(key, sum)| (std::cmp::Reverse(sum.overlap_ns), *key));
    let pairs = sums.len();
    let mut groups = by_holder(sums.iter().map(|((holder, _, mode), sum)| ((*holder, *mode), sum.overlap_ns)));
    let holders_found = groups.len();
    keep_costliest(&mut groups, |group| group.overlap_ns);
    let at_least = waits.len() == WAITS_MAX || holds.len() == HOLDS_MAX;
    let whole = groups.iter().map(|group| {
        let ((.., mode), sum) = &sums[group.longest];
        let longest = blame(case, *mode, sum).pair;
        Holder { longest, waiters: group.waiters, overlap_ns: group.overlap_ns, at_least }
    });
    let whole = whole.collect();
    keep_first(&mut sums, BLAMES_MAX, |((holder, ..), _)| Some(*holder) == culprit);
    let all = sums.into_iter().map(|((_, _, mode), sum)| blame(case, mode, &sum)).collect();
    Blames { all, pairs, sums: whole, holders_found, culprit, culprit_ns, held_ns, holders, waited_ns }
}

/// How long each holder was in the way of others, all together.
fn totals(sums: &HashMap<SumKey, Sum>) -> HashMap<(i32, i32), u64> {
    let mut totals: HashMap<(i32, i32), u64> = HashMap::new();
    for ((holder, ..), sum) in sums {
        let total_ns = totals.entry(*holder).or_default();
        *total_ns = total_ns.saturating_add(sum.overlap_ns);
    }
    totals
}

/// The writer that waited the longest of the time in which one thread held the lock for reading and another one waited
/// for that.
fn queued<'a>(queue: &[&Use<'a>], hold: &Use, wait: &Use) -> Option<(u64, &'a Interval)> {
    let both = (hold.start_ns.max(wait.start_ns), hold.end_ns.min(wait.end_ns));
    let others = queue.iter().filter(|writer| writer.meets(hold));
    let longest = others.map(|writer| (overlap_ns(writer.times(), both), *writer)).max_by_key(|(ns, _)| *ns);
    longest.filter(|(ns, _)| *ns > 0).map(|(ns, writer)| (ns, writer.interval))
}

fn blame(case: &Case, mode: Mode, sum: &Sum) -> Blame {
    let stacks = case.observed.stacks;
    let hold = sum.hold.0;
    let stack = if stacks.user(hold.stack).is_empty() { stack_of_hold(case, hold) } else { stacks.stack(hold.stack) };
    let pair = Pair {
        holder: hold.thread.clone(),
        outsider: hold.is_outsider(),
        waiter: sum.waiter.clone(),
        on: Cause::MmapLock,
        mode: Some(mode),
        doing: doing::doing(hold, stacks.kernel(hold.stack)),
        called_from: program::called_from(&stack.user).map(str::to_owned),
        overlap_ns: sum.overlap_ns,
        stack,
    };
    let queued = |writer: &Interval| {
        let doing = doing::doing(writer, stacks.kernel(writer.stack));
        Queued { thread: writer.thread.clone(), doing }
    };
    Blame { pair, behind: sum.behind.0.map(queued), held: sum.held }
}

/// The stack of a hold that has none, as its source takes it when the lock is let go of, and that is not over: the
/// holder slept in the hold, or it has held the lock in the same system call before, from one function only.
fn stack_of_hold(case: &Case, hold: &Interval) -> Stack {
    let slept = case.pieces_of(&hold.thread).iter().filter(|piece| !case.places.user(piece.place).is_empty());
    let slept = slept.filter(|piece| overlap_ns(piece.time(), (hold.start_ns, hold.end_ns)) > 0);
    if let Some(piece) = slept.max_by_key(|piece| overlap_ns(piece.time(), (hold.start_ns, hold.end_ns))) {
        return case.places.stack(piece.place);
    }
    let stacks = case.observed.stacks;
    let number = |one: &Interval| one.call.map(|call| call.number);
    let mut others = case.observed.intervals.iter().filter(|other| {
        let is_hold = matches!(other.kind, Kind::Hold { .. }) && !stacks.user(other.stack).is_empty();
        is_hold && other.thread == hold.thread && number(other).is_some() && number(other) == number(hold)
    });
    let functions = others.clone().map(|other| program::called_from(stacks.user(other.stack)));
    let functions: HashSet<Option<&str>> = functions.collect();
    match others.next_back() {
        Some(last) if functions.len() == 1 => stacks.stack(last.stack),
        _ => stacks.stack(hold.stack),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{MS, Sample, call, thread};
    use super::*;
    use crate::event::Sleep;
    use crate::stack::StackPair;

    /// Holder, waiter, milliseconds, and the writer between them.
    fn told(sample: &Sample) -> Vec<(i32, i32, u64, Option<i32>)> {
        let observed = sample.observed();
        let all = blames(&Case::new(&observed)).all;
        let numbers = |blame: &Blame| {
            let pair = &blame.pair;
            (
                pair.holder.tid,
                pair.waiter.tid,
                pair.overlap_ns / MS,
                blame.behind.as_ref().map(|writer| writer.thread.tid),
            )
        };
        all.iter().map(numbers).collect()
    }

    const NONE: StackPair = StackPair { kernel: None, user: None };

    #[test]
    fn a_wait_is_blamed_on_holds_that_exclude_it() {
        let mut sample = Sample::new();
        sample.hold(7, Mode::Write, (10_000, 11_000), NONE);
        sample.hold(8, Mode::Read, (10_500, 11_500), NONE);
        sample.wait(2, Mode::Read, (10_200, 10_900), NONE);
        sample.wait(3, Mode::Write, (10_900, 11_200), NONE);
        let expected = [(7, 2, 700, None), (8, 3, 300, None), (8, 2, 0, None), (7, 3, 100, None)];
        let told = told(&sample);
        assert!(!told.contains(&expected[2]), "readers do not exclude each other");
        assert_eq!(told, [expected[0], expected[1], expected[3]]);
    }

    /// More threads than pairs are kept.
    #[test]
    fn a_holder_has_all_that_waited_for_it() {
        let mut sample = Sample::new();
        sample.hold(7, Mode::Write, (10_000, 11_000), NONE);
        sample.hold(8, Mode::Write, (11_000, 11_300), NONE);
        for tid in 1000..2000 {
            sample.wait(tid, Mode::Read, (10_500, 11_100), NONE);
        }
        let findings = super::super::find(&sample.observed());
        let told = |holder: &Holder| (holder.longest.holder.tid, holder.waiters, holder.overlap_ns, holder.at_least);
        let told: Vec<_> = findings.holders.iter().map(told).collect();
        assert_eq!(told, [(7, 1000, 500_000 * MS, false), (8, 1000, 100_000 * MS, false)]);
        for tid in 2000..2000 + WAITS_MAX as i32 {
            sample.wait(tid, Mode::Read, (10_500, 11_100), NONE);
        }
        let findings = super::super::find(&sample.observed());
        assert!(findings.holders.len() == 2 && findings.holders.iter().all(|holder| holder.at_least));
    }

    #[test]
    fn a_reader_behind_a_writer_is_blamed_on_the_reader_that_holds() {
        let mut sample = Sample::new();
        sample.hold(7, Mode::Read, (10_000, 12_000), NONE);
        sample.wait(9, Mode::Write, (10_100, 12_000), NONE);
        sample.wait(2, Mode::Read, (10_300, 12_000), NONE);
        assert_eq!(told(&sample), [(7, 9, 1900, None), (7, 2, 1700, Some(9))]);
    }

    #[test]
    fn several_holds_of_one_thread_add_up_and_the_longest_is_shown() {
        let mut sample = Sample::new();
        for (start, end, bytes) in [(10_000, 10_100, 5), (10_200, 10_600, 1_000_000), (10_700, 10_800, 7)] {
            sample.hold(7, Mode::Write, (start, end), NONE).call = call(libc::SYS_munmap, &[0, bytes]);
        }
        sample.wait(2, Mode::Write, (9_000, 12_000), NONE);
        let observed = sample.observed();
        let all = blames(&Case::new(&observed)).all;
        assert_eq!((all.len(), all[0].pair.overlap_ns, all[0].pair.doing.as_str()), (1, 600 * MS, "munmap of 1.0 MB"));
    }

    #[test]
    fn a_hold_that_is_not_over_has_the_stack_of_the_sleep_in_it_or_of_the_ones_before() {
        let function = |sample: &Sample| {
            let observed = sample.observed();
            blames(&Case::new(&observed)).all[0].pair.called_from.clone()
        };
        let munmap = call(libc::SYS_munmap, &[0, 5]);
        let mut sample = Sample::new();
        sample.wait(2, Mode::Write, (10_000, 12_000), NONE);
        sample.hold(7, Mode::Write, (10_000, 12_000), NONE).call = munmap;
        assert_eq!(function(&sample), None);
        let [grow, shrink] = ["index::grow", "index::shrink"].map(|name| sample.stack("", &format!("{name}@app")));
        sample.hold(7, Mode::Write, (5_000, 5_100), shrink).call = call(libc::SYS_mmap, &[0, 5]);
        assert_eq!(function(&sample), None, "another call");
        sample.hold(7, Mode::Write, (5_200, 5_300), grow).call = munmap;
        assert_eq!(function(&sample).as_deref(), Some("index::grow"));
        sample.hold(7, Mode::Write, (5_400, 5_500), shrink).call = munmap;
        assert_eq!(function(&sample), None, "two functions");
        sample.sleep(7, Sleep::Runnable, (11_000, 11_100), grow);
        assert_eq!(function(&sample).as_deref(), Some("index::grow"));
    }

    #[test]
    fn other_address_spaces_and_the_waiter_itself_are_not_in_the_way() {
        let mut sample = Sample::new();
        sample.hold(7, Mode::Write, (10_000, 11_000), NONE).owner_pid = 5;
        sample.hold(2, Mode::Write, (10_000, 11_000), NONE);
        sample.wait(2, Mode::Write, (10_000, 11_000), NONE);
        assert_eq!(told(&sample), []);
        let outsider = Thread { pid: 812, tid: 812, name: "node_exporter".into() };
        sample.hold(7, Mode::Read, (10_000, 11_000), NONE).thread = outsider;
        let observed = sample.observed();
        let all = blames(&Case::new(&observed)).all;
        assert!(all.len() == 1 && all[0].pair.outsider && all[0].pair.waiter == thread(2));
    }
}
