//! Tests of `lockfree::hint_set`.

use std::collections::BTreeSet;
use std::thread;
use std::vec::Vec;

use super::{Numbers, THREADS};
use crate::atomic::AtomicU64;
use crate::lockfree::hint_set::{HintSet, words};

struct Words([Vec<AtomicU64>; 3]);

impl Words {
    fn new(count: usize) -> Self {
        Words(words(count).map(|words| (0..words).map(|_| AtomicU64::new(0)).collect()))
    }

    fn set(&self) -> HintSet<'_> {
        let [leaf, middle, top] = &self.0;
        HintSet::from_words(leaf, middle, top)
    }
}

fn members(set: &HintSet<'_>) -> Vec<usize> {
    let mut next = 0;
    core::iter::from_fn(|| {
        let found = set.first_from(next)?;
        next = found + 1;
        Some(found)
    })
    .collect()
}

#[test]
fn words_cover_every_number() {
    assert_eq!(words(0), [0, 0, 0]);
    assert_eq!(words(1), [1, 1, 1]);
    assert_eq!(words(64), [1, 1, 1]);
    assert_eq!(words(65), [2, 1, 1]);
    assert_eq!(words(64 * 64 + 1), [65, 2, 1]);
    assert_eq!(words(64 * 64 * 64 + 1), [4097, 65, 2]);
}

#[test]
fn an_empty_set_has_no_first_number() {
    for count in [0, 1, 64, 300_000] {
        let words = Words::new(count);
        assert_eq!(words.set().first_from(0), None);
        assert_eq!(words.set().first_from(count), None);
        assert_eq!([0, count].map(|from| words.set().count_from(from)), [0, 0]);
    }
}

#[test]
fn numbers_beyond_the_words_are_ignored() {
    let words = Words::new(64);
    words.set().insert(64);
    words.set().remove(64);
    assert_eq!(words.set().first_from(0), None);
    assert_eq!(words.set().first_from(usize::MAX - 64), None);
    assert_eq!([0, 64, usize::MAX].map(|from| words.set().count_from(from)), [0; 3]);
}

#[test]
fn single_numbers_are_found_from_everywhere_before_them() {
    // At the edges of words of all three levels.
    let edges = [0, 1, 63, 64, 65, 4095, 4096, 4097, 262_143, 262_144, 299_999];
    let words = Words::new(300_000);
    for number in edges {
        words.set().insert(number);
        for from in edges {
            let expected = (from <= number).then_some(number);
            assert_eq!(words.set().first_from(from), expected, "{number} from {from}");
            assert_eq!(words.set().count_from(from), usize::from(from <= number), "{number} from {from}");
        }
        words.set().remove(number);
        assert_eq!(words.set().first_from(0), None);
    }
}

#[test]
fn a_full_set_is_counted_from_everywhere() {
    let count = 64 * 64 + 70;
    let words = Words::new(count);
    (0..count).for_each(|number| words.set().insert(number));
    for from in (0..count + 200).step_by(7).chain([1, 63, 64, 65, 4095, 4096, 4097]) {
        assert_eq!(words.set().count_from(from), count.saturating_sub(from), "from {from}");
    }
}

#[test]
fn it_agrees_with_a_tree() {
    // Dense, and so sparse that most words are empty.
    for (count, limit) in [(200, 200), (5_000, 5_000), (600_000, 600_000), (600_000, 40)] {
        let words = Words::new(count);
        let set = words.set();
        let mut tree = BTreeSet::new();
        let mut numbers = Numbers::new(count as u64 + limit);
        let stretch = count / limit as usize;
        for round in 0..4_000 {
            let number = numbers.below(limit) as usize * stretch;
            // Some bits of the same number decide, so that members come and go in clusters.
            if numbers.below(2) == 0 {
                set.insert(number);
                tree.insert(number);
            } else {
                set.remove(number);
                tree.remove(&number);
            }
            let from = numbers.below(count as u64 + 10) as usize;
            assert_eq!(set.first_from(from), tree.range(from..).next().copied(), "round {round}");
            assert_eq!(set.count_from(from), tree.range(from..).count(), "round {round}");
        }
        assert_eq!(members(&set), Vec::from_iter(tree));
    }
}

#[test]
fn what_each_thread_leaves_in_is_found() {
    const COUNT: usize = 64 * 64 * 3;
    let words = Words::new(COUNT);
    let kept: BTreeSet<usize> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let set = words.set();
                scope.spawn(move || {
                    let mut numbers = Numbers::new(thread as u64);
                    let mut mine = BTreeSet::new();
                    for _ in 0..20_000 {
                        // Few numbers, of words that all threads share.
                        let number = numbers.below(40) as usize * (COUNT / 40 / 64 * 64) + thread;
                        if mine.insert(number) {
                            set.insert(number);
                        } else {
                            mine.remove(&number);
                            set.remove(number);
                        }
                    }
                    mine
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(words.set().count_from(0), kept.len());
    assert_eq!(members(&words.set()), Vec::from_iter(kept));
}
