//! Explains a freeze: from what a source saw to the cause, the sentence, and the tables of a report. Pure: the same
//! input gives the same answer, and nothing is asked of the machine.
//!
//! In order: `pieces` cuts the threads' time into pieces that do not overlap, `class` tells what each sleep is for,
//! `case` compares them with the time before, `mmap_lock` and `user_lock` (by `history`) find who was in the way of
//! whom, `holders` sums that up, `verdict` weighs the causes, `sentence` and `processor` tell them, `tables` lists the
//! rest.
//!
//! Invariant: no thread is blocked for longer than the frozen time, in all rows together; no overlap is longer than
//! either of the times that overlap.

mod case;
mod class;
mod doing;
mod history;
mod holders;
mod mmap_lock;
mod pieces;
mod places;
mod processor;
mod program;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod samples;
mod sentence;
mod tables;
#[cfg(test)]
mod tests;
mod text;
mod user_lock;
mod verdict;
mod waker;

pub(crate) use self::program::library_part;

use self::case::Case;
use self::sentence::Answer;
use crate::event::{Interval, Thread};
use crate::freeze::{
    Blocked, Cause, Freeze, Holder, LeftOut, LockTimes, Machine, MemoryPoint, OffCpuStack, Pair, ProbeLine, Seen, Span,
    Target, Trigger, Window,
};
use crate::source::Totals;
use crate::symbols::{NamedStacks, is_unknown};

/// Pairs that a report has.
const PAIRS_MAX: usize = 200;

/// Processor time of one thread, from a file that takes no lock: `/proc/PID/task/TID/schedstat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The thread.
    pub thread: Thread,
    /// How long it was on a processor.
    pub cpu_ns: u64,
    /// Within how long a time, which should be in the frozen time.
    pub over_ns: u64,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// All intervals of the window, those that were not over at its end included.
    pub intervals: &'a [Interval],
    /// Their stacks.
    pub stacks: &'a NamedStacks,
    /// When.
    pub window: &'a Window,
    /// From when on no probe failed until the freeze.
    pub calm_ns: u64,
    /// The source's totals at the window's start, or when the trap went off, and at its end.
    pub totals: Option<(&'a Totals, &'a Totals)>,
    /// Processor time that the cgroup was refused in the frozen time, if it has a quota.
    pub throttled_ns: Option<u64>,
    /// How many processors are on line.
    pub cpus: usize,
    /// Processor time of the threads, if it was measured. Without it, a busy thread is one that is known to live and
    /// was never off the processor for long.
    pub running: &'a [Running],
}

/// From when on no probe failed until the freeze: the end of the last failed answer that ended before it; 0 if there
/// was none.
#[must_use]
pub fn calm_ns(probes: &[ProbeLine], window: &Window) -> u64 {
    let failed = probes.iter().flat_map(|probe| &probe.points).filter(|(_, _, failure)| failure.is_some());
    let ends_ns = failed.map(|(began_ns, took_ns, _)| began_ns.saturating_add(*took_ns));
    ends_ns.filter(|end_ns| *end_ns <= window.frozen_ns).max().unwrap_or(0)
}

/// What analysis finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// What kind of thing stood in the way.
    pub cause: Cause,
    /// The answer in one sentence, without a full stop.
    pub sentence: String,
    /// Threads that were blocked, the longest first; one row for each thing that a thread was blocked on.
    pub blocked: Vec<Blocked>,
    /// Who was in whose way, the longest overlap first.
    pub pairs: Vec<Pair>,
    /// Who had what others wanted, the one that cost the most first.
    pub holders: Vec<Holder>,
    /// How many of these are left out.
    pub left_out: LeftOut,
    /// mmap_lock in the window.
    pub lock: Option<LockTimes>,
    /// Time off the processor by stack.
    pub off_cpu: Vec<OffCpuStack>,
    /// The longest intervals.
    pub intervals: Vec<Span>,
}

/// The rest of a report, which is no matter of analysis.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// What was watched.
    pub target: Target,
    /// What set the trap off.
    pub trigger: Trigger,
    /// The memory.
    pub memory: Vec<MemoryPoint>,
    /// What the probes saw.
    pub probes: Vec<ProbeLine>,
    /// How it was seen; `unknown_frames` is filled in here.
    pub seen: Seen,
    /// The machine.
    pub machine: Machine,
}

/// Finds out what happened. Takes time and memory in proportion to the intervals, and to the number of waits for
/// mmap_lock times that of holds, of which the longest few thousand are looked at.
#[must_use]
pub fn find(observed: &Observed) -> Findings {
    find_first(observed, None)
}

/// The same, where what set the trap off has seen a cause itself: that is told first, if it explains anything.
fn find_first(observed: &Observed, seen: Option<Cause>) -> Findings {
    let case = Case::new(observed);
    let (blames, held) = (mmap_lock::blames(&case), user_lock::held(&case));
    let pairs = blames.all.iter().map(|blame| &blame.pair).chain(held.all.iter().map(|held| &held.pair));
    let verdict = verdict::weigh(&case, &pairs.collect::<Vec<_>>(), seen);
    let (cause, sentence) = Answer { case: &case, verdict: &verdict, blames: &blames, held: &held }.tell();
    let (found, holders_found) = (blames.pairs + held.pairs, blames.holders_found + held.totals.len());
    let mut holders = [blames.sums, held.sums].concat();
    holders::keep_costliest(&mut holders, |holder| holder.overlap_ns);
    let mut pairs: Vec<Pair> = blames.all.into_iter().map(|blame| blame.pair).collect();
    pairs.extend(held.all.into_iter().map(|held| held.pair));
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.overlap_ns));
    pairs.truncate(PAIRS_MAX);
    let (blocked, blocked_left_out) = tables::blocked(&case);
    let left_out = LeftOut {
        blocked: blocked_left_out,
        pairs: (found - pairs.len()) as u64,
        holders: (holders_found - holders.len()) as u64,
    };
    let involved = holders.iter().map(|holder| &holder.longest).chain(&pairs).map(|pair| &pair.holder);
    Findings {
        cause,
        sentence,
        lock: observed.totals.map(|(start, end)| tables::lock_times(start, end)),
        off_cpu: tables::off_cpu(&case),
        intervals: tables::spans(&case, &blocked, involved),
        blocked,
        pairs,
        holders,
        left_out,
    }
}

/// The whole report.
#[must_use]
pub fn explain(observed: &Observed, circumstances: Circumstances) -> Freeze {
    let is_of_lock = ["lock-hold", "lock-wait"].iter().any(|kind| circumstances.trigger.probe.starts_with(kind));
    let seen = is_of_lock.then_some(Cause::MmapLock);
    let Findings { cause, sentence, blocked, pairs, holders, left_out, lock, off_cpu, intervals } =
        find_first(observed, seen);
    let Circumstances { target, trigger, memory, probes, seen, machine } = circumstances;
    let stacks = off_cpu.iter().map(|place| &place.stack).chain(pairs.iter().map(|pair| &pair.stack));
    let frames = stacks.flat_map(|stack| stack.kernel.iter().chain(&stack.user));
    let unknown_frames = frames.fold((0, 0), |(unknown, all), frame| (unknown + u64::from(is_unknown(frame)), all + 1));
    Freeze {
        sentence,
        cause,
        target,
        trigger,
        window: observed.window.clone(),
        blocked,
        pairs,
        holders,
        left_out,
        lock,
        off_cpu,
        intervals,
        memory,
        throttled_ns: observed.throttled_ns,
        probes,
        seen: Seen { unknown_frames, ..seen },
        machine,
    }
}
