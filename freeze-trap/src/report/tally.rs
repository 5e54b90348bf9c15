//! What several outputs count from a freeze: who held things in all, where threads slept, memory before and after.

use std::collections::HashSet;

use lock_trace::Mode;

use crate::event::Thread;
use crate::freeze::{self, Cause, Freeze, MemoryPoint, OffCpuStack, Pair, SpanKind, Stack};

/// A thread that had what others wanted.
pub(super) struct Holder<'a> {
    /// The one of its pairs that overlaps the longest.
    pub(super) pair: &'a Pair,
    /// How many threads waited for it.
    pub(super) waiters: u64,
    /// How long they waited for it, each for itself, in all.
    pub(super) overlap_ns: u64,
    /// How long one of them did at most.
    pub(super) longest_ns: u64,
    /// There may have been more of them, for longer.
    pub(super) at_least: bool,
}

/// Those who held something that others wanted, the one that cost the most first.
pub(super) fn holders(freeze: &Freeze) -> Vec<Holder<'_>> {
    if freeze.holders.is_empty() {
        return holders_of_pairs(freeze);
    }
    let told = freeze.holders.iter().map(|holder| Holder {
        pair: &holder.longest,
        waiters: holder.waiters,
        overlap_ns: holder.overlap_ns,
        longest_ns: holder.longest.overlap_ns,
        at_least: holder.at_least,
    });
    told.collect()
}

/// Whether there may have been more pairs than were counted.
pub(super) fn has_more_pairs(freeze: &Freeze) -> bool {
    freeze.left_out.pairs > 0 || freeze.holders.iter().any(|holder| holder.at_least)
}

/// How long others waited for a holder, its pairs set aside.
pub(super) fn besides_pairs_ns(freeze: &Freeze, holder: &freeze::Holder) -> u64 {
    fn key(pair: &Pair) -> (&Thread, Cause, Option<Mode>) {
        (&pair.holder, pair.on, pair.mode)
    }
    let own = freeze.pairs.iter().filter(|pair| key(pair) == key(&holder.longest));
    own.fold(holder.overlap_ns, |rest_ns, pair| rest_ns.saturating_sub(pair.overlap_ns))
}

/// The same from the pairs alone, each doing one thing: for captures without holders.
fn holders_of_pairs(freeze: &Freeze) -> Vec<Holder<'_>> {
    fn key(pair: &Pair) -> (&Thread, Cause, Option<Mode>, &str) {
        (&pair.holder, pair.on, pair.mode, &pair.doing)
    }
    let at_least = freeze.left_out.pairs > 0;
    let mut holders: Vec<(Holder<'_>, HashSet<&Thread>)> = Vec::new();
    for pair in &freeze.pairs {
        let known = holders.iter().position(|(holder, _)| key(holder.pair) == key(pair)).unwrap_or_else(|| {
            holders.push((Holder { pair, waiters: 0, overlap_ns: 0, longest_ns: 0, at_least }, HashSet::new()));
            holders.len() - 1
        });
        let (holder, waiters) = &mut holders[known];
        waiters.insert(&pair.waiter);
        holder.waiters = waiters.len() as u64;
        holder.overlap_ns = holder.overlap_ns.saturating_add(pair.overlap_ns);
        holder.longest_ns = holder.longest_ns.max(pair.overlap_ns);
    }
    let mut holders: Vec<_> = holders.into_iter().map(|(holder, _)| holder).collect();
    holders.sort_by_key(|holder| std::cmp::Reverse(holder.overlap_ns));
    holders
}

/// Time off the processor at one place by threads of one name, in the frozen time.
pub(super) struct Sample<'a> {
    /// The threads' name.
    pub(super) thread: &'a str,
    /// Where.
    pub(super) stack: &'a Stack,
    /// Which of the stacks of the freeze that is.
    pub(super) index: usize,
    /// How long in all.
    pub(super) ns: u64,
    /// How often.
    pub(super) count: u64,
}

/// The time off the processor in the frozen time by stack and name; that of a stack sums up to the stack's.
pub(super) fn samples(freeze: &Freeze) -> Vec<Sample<'_>> {
    let mut samples = Vec::new();
    for (index, place) in freeze.off_cpu.iter().enumerate().filter(|(_, place)| place.frozen_ns > 0) {
        let mut names = names(place);
        if names.is_empty() {
            names.push(("?", place.frozen_ns));
        }
        let weights: Vec<u64> = names.iter().map(|(_, ns)| *ns).collect();
        for ((thread, ns), count) in names.into_iter().zip(split(place.count, &weights)) {
            samples.push(Sample { thread, stack: &place.stack, index, ns, count });
        }
    }
    samples
}

/// The names of the threads of a stack, each with its part of the frozen time.
pub(super) fn names(place: &OffCpuStack) -> Vec<(&str, u64)> {
    let weights: Vec<u64> = place.threads.iter().map(|(_, ns)| *ns).collect();
    let parts = split(place.frozen_ns, &weights);
    place.threads.iter().zip(parts).map(|((name, _), ns)| (name.as_str(), ns)).collect()
}

/// Splits a whole in proportion to weights; the first part gets what cannot be split.
fn split(whole: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let part = |weight: &u64| (u128::from(whole) * u128::from(*weight) / sum.max(1)) as u64;
    let mut parts: Vec<u64> = weights.iter().map(part).collect();
    let rest = whole - parts.iter().sum::<u64>();
    if let Some(first) = parts.first_mut() {
        *first += rest;
    }
    parts
}

/// The watched processes, at most so many of them by name.
pub(super) fn processes(freeze: &Freeze, most: usize) -> String {
    let all = &freeze.target.processes;
    let mut named: Vec<_> = all.iter().take(most).map(|(pid, name)| format!("{name} {pid}")).collect();
    match all.len().checked_sub(most) {
        Some(more @ 1..) => named.push(format!("and {more} more")),
        _ if all.is_empty() => named.push("no process".to_owned()),
        _ => {}
    }
    named.join(", ")
}

/// How many a histogram counts in all.
pub(super) fn counted(buckets: &[u64]) -> u64 {
    buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

/// Where a bucket of a histogram by powers of two ends.
pub(super) fn bucket_end_ns(power: usize) -> u64 {
    u32::try_from(power + 1).ok().and_then(|power| 1_u64.checked_shl(power)).unwrap_or(u64::MAX)
}

/// The first and the last of the memory's points.
pub(super) fn memory(freeze: &Freeze) -> Option<(MemoryPoint, MemoryPoint)> {
    Some((*freeze.memory.first()?, *freeze.memory.last()?))
}

/// Threads of other processes that took the lock: each with how often it held it, the longest of it, and what it was
/// doing then; the longest first.
pub(super) fn outsiders(freeze: &Freeze) -> Vec<(&Thread, u64, u64, &str)> {
    let mut outsiders: Vec<(&Thread, u64, u64, &str)> = Vec::new();
    let holds = freeze.intervals.iter().filter(|span| span.outsider && matches!(span.what, SpanKind::Hold(_)));
    let held = holds.map(|span| (&span.thread, 1, span.end_ns.saturating_sub(span.start_ns), span.doing.as_str()));
    // Who is known from its pairs only: its holds were not among the longest intervals.
    let blamed = freeze.pairs.iter().filter(|pair| pair.outsider);
    let blamed = blamed.map(|pair| (&pair.holder, 0, pair.overlap_ns, pair.doing.as_str()));
    for (thread, times, longest_ns, doing) in held.chain(blamed) {
        match outsiders.iter_mut().find(|known| known.0 == thread) {
            None => outsiders.push((thread, times, longest_ns, doing)),
            Some(known) => {
                known.1 += times;
                if longest_ns > known.2 {
                    (known.2, known.3) = (longest_ns, doing);
                }
            }
        }
    }
    outsiders.sort_by_key(|outsider| std::cmp::Reverse(outsider.2));
    outsiders
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::split;

    proptest! {
        #[test]
        fn parts_sum_up_to_the_whole(whole: u64, weights in prop::collection::vec(any::<u64>(), 1..9)) {
            let parts = split(whole, &weights);
            prop_assert_eq!(parts.iter().map(|part| u128::from(*part)).sum::<u128>(), u128::from(whole));
            prop_assert_eq!(parts.len(), weights.len());
        }
    }

    #[test]
    fn parts_are_in_proportion() {
        assert_eq!(split(100, &[1, 3]), [25, 75]);
        assert_eq!(split(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(split(10, &[0, 0]), [10, 0]);
    }
}
