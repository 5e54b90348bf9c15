//! Models of `lockfree::hint_set`: numbers that share a word, or only a summary bit, are put in and taken out at the
//! same time.
//!
//! In every interleaving, once the calls have returned, what was put in and not taken out is found by a search that
//! has to go through every summary. Who finds a number sees what was written before it was put in, as a chunk found
//! in a bucket must be committed. And a thing that moves from set to set, as chunks do in `arena::space`, ends in the
//! right one: that is why the sets' exchanges are both Acquire and Release.

use std::sync::Arc;

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::explore::{Memory, explore, explore_bounded, join, spawn};

#[allow(dead_code, reason = "models call what threads call at the same time")]
#[path = "../../src/lockfree/hint_set.rs"]
mod subject;
use subject::HintSet;

struct Words {
    leaf: Vec<AtomicU64>,
    middle: Vec<AtomicU64>,
    top: Vec<AtomicU64>,
}

impl Words {
    /// Words for a set of `count` numbers.
    fn new(count: usize) -> Self {
        let [leaf, middle, top] = subject::words(count).map(|count| (0..count).map(|_| AtomicU64::new(0)).collect());
        Words { leaf, middle, top }
    }

    fn set(&self) -> HintSet<'_> {
        HintSet::from_words(&self.leaf, &self.middle, &self.top)
    }
}

/// The first number that a search from 0 finds only through the top.
const FAR: usize = 64 * 64;

/// `leaving` is taken out by a thread each while another puts `coming` in.
fn coming_is_found<const N: usize>(leaving: [usize; N], coming: usize) {
    let words = Arc::new(Words::new(FAR + 128));
    leaving.iter().for_each(|number| words.set().insert(*number));
    let removers = leaving.map(|number| spawn(&words, move |words| words.set().remove(number)));
    words.set().insert(coming);
    join(removers);
    assert_eq!(words.set().first_from(0), Some(coming));
    assert_eq!(words.set().first_from(coming + 1), None);
}

#[test]
fn a_number_put_in_while_its_neighbour_leaves_is_found() {
    explore(|| coming_is_found([FAR], FAR + 1));
}

#[test]
fn a_number_put_in_while_the_next_word_empties_is_found() {
    explore(|| coming_is_found([FAR], FAR + 64));
}

#[test]
fn a_number_put_in_while_both_words_empty_is_found() {
    explore(|| coming_is_found([FAR, FAR + 64], FAR + 65));
}

#[test]
fn a_set_that_was_emptied_and_filled_again_is_searched() {
    explore(|| {
        let words = Arc::new(Words::new(FAR + 64));
        words.set().insert(FAR);
        let other = spawn(&words, |words| words.set().remove(FAR));
        words.set().remove(FAR);
        words.set().insert(FAR + 1);
        other.join().unwrap();
        assert_eq!(words.set().first_from(0), Some(FAR + 1));
    });
}

#[test]
fn who_finds_a_number_sees_what_was_written_before_it_was_put_in() {
    explore(|| {
        let shared = Arc::new((Words::new(64), Memory::new(false)));
        let filler = spawn(&shared, |(words, written)| {
            written.set(true);
            words.set().insert(0);
        });
        let (words, written) = &*shared;
        if words.set().first_from(0).is_some() {
            assert!(written.get());
        }
        filler.join().unwrap();
    });
}

/// A thing with a state that counts up, and one set for each of the states of which it is to be a member then.
struct Moving<const STATES: usize> {
    state: AtomicU32,
    /// Which set belongs to a state.
    bucket_of: [Option<usize>; STATES],
    buckets: [Words; 3],
}

impl<const STATES: usize> Moving<STATES> {
    fn new(bucket_of: [Option<usize>; STATES]) -> Arc<Self> {
        let moving = Moving { state: AtomicU32::new(0), bucket_of, buckets: std::array::from_fn(|_| Words::new(64)) };
        if let Some(bucket) = bucket_of[0] {
            moving.buckets[bucket].set().insert(0);
        }
        Arc::new(moving)
    }

    /// As `arena::space::Space::moved` does it. The state itself orders nothing.
    fn step(&self) {
        let before = self.state.fetch_add(1, Ordering::Relaxed) as usize;
        let [mut from, mut to] = [before, before + 1].map(|state| self.bucket_of[state]);
        while from != to {
            if let Some(bucket) = from {
                self.buckets[bucket].set().remove(0);
            }
            if let Some(bucket) = to {
                self.buckets[bucket].set().insert(0);
            }
            from = to;
            to = self.bucket_of[self.state.load(Ordering::Relaxed) as usize];
        }
    }

    fn check(&self) {
        let members: Vec<_> = (0..3).filter(|bucket| self.buckets[*bucket].set().first_from(0).is_some()).collect();
        assert_eq!(
            members,
            Vec::from_iter(self.bucket_of[STATES - 1]),
            "it is in the set of its state, and in no other"
        );
    }
}

#[test]
fn a_chunk_that_two_threads_move_ends_in_the_right_bucket() {
    explore_bounded(5, || {
        let chunk = Moving::new([Some(0), Some(1), Some(2)]);
        let other = spawn(&chunk, |chunk| chunk.step());
        chunk.step();
        other.join().unwrap();
        chunk.check();
    });
}

#[test]
fn a_chunk_that_fills_up_and_empties_again_ends_in_the_right_bucket() {
    explore(|| {
        let chunk = Moving::new([Some(0), None, Some(0)]);
        let other = spawn(&chunk, |chunk| chunk.step());
        chunk.step();
        other.join().unwrap();
        chunk.check();
    });
}
