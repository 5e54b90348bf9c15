//! Set of small numbers with a fast "lowest member": which chunks are worth a look. Called by `arena::space`.
//!
//! Invariant: a number that was inserted and not removed since is found, whatever other threads do to other numbers.
//! Members are hints: the caller checks what it finds, because the thing behind the number may change at any moment.
//!
//! Shape: `leaf[n / 64]` bit `n % 64`; `middle` has a bit for each word of `leaf` that is not zero, `top` one for each
//! word of `middle`. A summary bit may be set too often, never too seldom, once the calls in flight have returned.

use crate::atomic::{AtomicU64, Ordering};

const BITS: usize = 64;

/// A set of the numbers below `64 * leaf.len()`, kept in words that the caller provides, zeroed at first.
#[derive(Clone, Copy)]
pub(crate) struct HintSet<'a> {
    leaf: &'a [AtomicU64],
    middle: &'a [AtomicU64],
    top: &'a [AtomicU64],
}

/// Words that a set of `count` numbers needs: leaf, middle, top.
pub(crate) const fn words(count: usize) -> [usize; 3] {
    let leaf = count.div_ceil(BITS);
    let middle = leaf.div_ceil(BITS);
    [leaf, middle, middle.div_ceil(BITS)]
}

/// Sets bit `n`.
fn set(words: &[AtomicU64], n: usize) {
    if let Some(word) = words.get(n / BITS) {
        // AcqRel: see `HintSet::remove`.
        word.fetch_or(1 << (n % BITS), Ordering::AcqRel);
    }
}

/// Clears bit `n` and says whether the word is zero now.
fn clear(words: &[AtomicU64], n: usize) -> bool {
    let Some(word) = words.get(n / BITS) else { return false };
    let bit = 1 << (n % BITS);
    // AcqRel: see `HintSet::remove`.
    word.fetch_and(!bit, Ordering::AcqRel) & !bit == 0
}

/// Whether the word that holds bit `n` has any bit set.
fn any(words: &[AtomicU64], n: usize) -> bool {
    // Acquire: see `HintSet::remove`.
    words.get(n / BITS).is_some_and(|word| word.load(Ordering::Acquire) != 0)
}

impl<'a> HintSet<'a> {
    /// A set in the given words; [`words`] says how many each takes.
    pub(crate) const fn from_words(leaf: &'a [AtomicU64], middle: &'a [AtomicU64], top: &'a [AtomicU64]) -> Self {
        HintSet { leaf, middle, top }
    }

    /// Puts `n` in.
    pub(crate) fn insert(&self, n: usize) {
        set(self.leaf, n);
        set(self.middle, n / BITS);
        set(self.top, n / BITS / BITS);
    }

    /// Takes `n` out.
    ///
    /// A summary bit is cleared after the word below became zero, and set again if by then it no longer is. That finds
    /// every insertion: insertions set the summary bit unconditionally, so either theirs comes after our clearing and
    /// stands, or it comes before, and then our clearing (a read-modify-write of the same word, AcqRel) has read their
    /// bit or a later one, so that our second look at the word below (Acquire) sees what they inserted.
    pub(crate) fn remove(&self, n: usize) {
        if !clear(self.leaf, n) {
            return;
        }
        let middle_empty = clear(self.middle, n / BITS);
        if any(self.leaf, n) {
            set(self.middle, n / BITS);
            set(self.top, n / BITS / BITS);
        } else if middle_empty {
            clear(self.top, n / BITS / BITS);
            if any(self.middle, n / BITS) {
                set(self.top, n / BITS / BITS);
            }
        }
    }

    /// How many members are at least `from`, at about this moment. Cost: a look at each word that has members.
    pub(crate) fn count_from(&self, from: usize) -> usize {
        let mut count = 0;
        let mut n = from;
        while let Some(word) = next_bit_far(self.middle, self.top, n / BITS) {
            n = n.max(word * BITS);
            // Relaxed: a number; nobody goes by it to what the members stand for.
            let members =
                self.leaf.get(n / BITS).map_or(0, |word| word.load(Ordering::Relaxed)) & (u64::MAX << (n % BITS));
            count += members.count_ones() as usize;
            n = (n / BITS + 1) * BITS;
        }
        count
    }

    /// The lowest member that is at least `from`. Summaries are read first, so that an empty set costs no look at its
    /// leaf words, which may never have been touched.
    pub(crate) fn first_from(&self, from: usize) -> Option<usize> {
        let mut n = from;
        loop {
            let word = next_bit_far(self.middle, self.top, n / BITS)?;
            n = n.max(word * BITS);
            if let Some(found) = next_bit(self.leaf, n) {
                return Some(found);
            }
            n = (word + 1) * BITS;
        }
    }
}

/// The lowest set bit at or after `n` within the word that holds `n`.
fn next_bit(words: &[AtomicU64], n: usize) -> Option<usize> {
    // Acquire: pairs with the AcqRel of `set`.
    let word = words.get(n / BITS)?.load(Ordering::Acquire) & (u64::MAX << (n % BITS));
    (word != 0).then(|| n / BITS * BITS + word.trailing_zeros() as usize)
}

/// The lowest set bit at or after `n` in `words`, skipping by `summary`.
fn next_bit_far(words: &[AtomicU64], summary: &[AtomicU64], n: usize) -> Option<usize> {
    if let Some(found) = next_bit(words, n) {
        return Some(found);
    }
    let mut word = n / BITS + 1;
    while word / BITS < summary.len() {
        match next_bit(summary, word) {
            Some(candidate) => {
                if let Some(found) = next_bit(words, candidate * BITS) {
                    return Some(found);
                }
                word = candidate + 1;
            }
            None => word = (word / BITS + 1) * BITS,
        }
    }
    None
}
