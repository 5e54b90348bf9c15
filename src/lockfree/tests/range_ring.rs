//! Tests of `lockfree::range_ring`.

use std::collections::VecDeque;
use std::thread;
use std::vec::Vec;

use super::{Numbers, THREADS};
use crate::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::lockfree::range_ring::{Cell, RangeRing};

fn ring<const N: usize>() -> RangeRing<N> {
    let cells = core::array::from_fn(|_| Cell::from_words(AtomicU64::new(0), AtomicU64::new(0)));
    RangeRing::from_parts(AtomicU64::new(0), AtomicU64::new(0), cells)
}

#[test]
fn entries_come_out_in_order_over_many_laps() {
    let ring = ring::<8>();
    for entry in 0..100 {
        assert!(ring.is_empty());
        assert!(ring.push(entry));
        assert!(!ring.is_empty());
        assert_eq!(ring.pop(), Some(entry));
        assert_eq!(ring.pop(), None);
    }
}

#[test]
fn a_full_ring_refuses_and_keeps_what_it_has() {
    let ring = ring::<4>();
    for lap in 0..10 {
        assert!((0..4).all(|entry| ring.push(lap * 4 + entry)));
        assert!(!ring.push(99) && !ring.push(99));
        assert!((0..4).all(|entry| ring.pop() == Some(lap * 4 + entry)));
        assert_eq!(ring.pop(), None);
    }
}

#[test]
fn a_ring_of_one_place_works() {
    let ring = ring::<1>();
    for entry in 0..10 {
        assert!(ring.push(entry) && !ring.push(99));
        assert_eq!([ring.pop(), ring.pop()], [Some(entry), None]);
    }
}

#[test]
fn a_cleared_ring_is_like_a_new_one() {
    let ring = ring::<4>();
    ring.clear();
    for pops in 0..=4 {
        assert!((0..4).all(|entry| ring.push(entry)));
        assert!((0..pops).all(|entry| ring.pop() == Some(entry)));
        ring.clear();
        assert!(ring.is_empty());
        assert_eq!(ring.pop(), None);
    }
    assert!((0..4).all(|entry| ring.push(entry)) && !ring.push(4));
}

#[test]
fn a_ring_that_a_fork_caught_in_the_middle_of_a_push_is_cleared_too() {
    // What the child finds: a place that was claimed and never filled, and one behind it that was.
    let words = |turn| Cell::from_words(AtomicU64::new(turn), AtomicU64::new(7));
    let ring = RangeRing::from_parts(AtomicU64::new(0), AtomicU64::new(2), [words(0), words(1)]);
    assert_eq!(ring.pop(), None);
    ring.clear();
    assert!(ring.push(1) && ring.push(2));
    assert_eq!([ring.pop(), ring.pop(), ring.pop()], [Some(1), Some(2), None]);
}

#[test]
fn it_agrees_with_a_deque() {
    let ring = ring::<16>();
    let mut deque = VecDeque::new();
    let mut numbers = Numbers::new(16);
    for entry in 0..10_000 {
        // Slow turns between mostly full and mostly empty.
        if numbers.below(8) < 2 + entry / 500 % 5 {
            assert_eq!(ring.push(entry), deque.len() < 16);
            if deque.len() < 16 {
                deque.push_back(entry);
            }
        } else {
            assert_eq!(ring.pop(), deque.pop_front());
        }
        assert_eq!(ring.is_empty(), deque.is_empty());
    }
}

#[test]
fn what_many_threads_put_in_one_takes_out() {
    const EACH: u64 = 20_000;
    let ring = ring::<64>();
    let at_work = AtomicUsize::new(THREADS);
    let (accepted, taken) = thread::scope(|scope| {
        let producers: Vec<_> = (0..THREADS as u64)
            .map(|thread| {
                let (ring, at_work) = (&ring, &at_work);
                scope.spawn(move || {
                    let entries = (0..EACH).map(|number| thread << 32 | number);
                    let accepted: Vec<_> = entries.filter(|entry| ring.push(*entry)).collect();
                    at_work.fetch_sub(1, Ordering::Release);
                    accepted
                })
            })
            .collect();
        let mut taken = Vec::new();
        loop {
            // Before the look: an empty ring after the last producer ended is empty for good.
            let ended = at_work.load(Ordering::Acquire) == 0;
            match ring.pop() {
                Some(entry) => taken.push(entry),
                None if ended => break,
                None => thread::yield_now(),
            }
        }
        let accepted: Vec<_> = producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect();
        (accepted, taken)
    });
    assert!(taken.len() >= 64);
    for thread in 0..THREADS as u64 {
        let of_thread =
            |entries: &[u64]| entries.iter().copied().filter(|entry| entry >> 32 == thread).collect::<Vec<_>>();
        assert_eq!(of_thread(&taken), of_thread(&accepted), "each producer's entries, once and in order");
    }
}
