//! Sums of pairs by holder, before most of the pairs are left out. Called by `mmap_lock` and `user_lock`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;

use crate::event::ThreadKey;

/// Holders that a report has.
pub(super) const HOLDERS_MAX: usize = 60;

/// Keeps those that cost the most, the one that cost the most first.
pub(super) fn keep_costliest<T>(all: &mut Vec<T>, overlap_ns: impl Fn(&T) -> u64) {
    all.sort_by_key(|one| Reverse(overlap_ns(one)));
    all.truncate(HOLDERS_MAX);
}

/// Which holder cost the most in all, and how much.
pub(super) fn costliest(totals: &HashMap<ThreadKey, u64>) -> Option<(ThreadKey, u64)> {
    let costliest = totals.iter().max_by_key(|(holder, ns)| (**ns, Reverse(**holder)));
    costliest.map(|(holder, ns)| (*holder, *ns))
}

/// Keeps so many of the first pairs, and as many of one holder.
pub(super) fn keep_first<T>(pairs: &mut Vec<T>, count_max: usize, of_holder: impl Fn(&T) -> bool) {
    let (mut kept, mut of_its) = (0, 0);
    pairs.retain(|pair| {
        let is_its = of_holder(pair);
        kept += 1;
        of_its += usize::from(is_its);
        kept <= count_max || is_its && of_its <= count_max
    });
}

/// All pairs of one holder.
pub(super) struct Group<K> {
    pub(super) holder: K,
    /// The index of the pair with the longest overlap.
    pub(super) longest: usize,
    pub(super) waiters: u64,
    pub(super) overlap_ns: u64,
}

/// The groups of pairs, of which each has another holder or waiter and the longest overlap comes first.
pub(super) fn by_holder<K: Copy + Eq + Hash>(pairs: impl Iterator<Item = (K, u64)>) -> Vec<Group<K>> {
    let mut groups: Vec<Group<K>> = Vec::new();
    let mut known: HashMap<K, usize> = HashMap::new();
    for (longest, (holder, overlap_ns)) in pairs.enumerate() {
        let index = *known.entry(holder).or_insert_with(|| {
            groups.push(Group { holder, longest, waiters: 0, overlap_ns: 0 });
            groups.len() - 1
        });
        groups[index].waiters += 1;
        groups[index].overlap_ns = groups[index].overlap_ns.saturating_add(overlap_ns);
    }
    groups
}
