//! Models of `lockfree::range_ring`: a ring of two places that up to two threads fill while a third empties it, over
//! more than one lap.
//!
//! An entry is a number, and what it stands for is memory that the producer wrote before it pushed it. In every
//! interleaving what was accepted comes out once, whole and in each producer's order; a ring is refused to nobody
//! while it has a free place.

use std::sync::Arc;

use crate::atomic::AtomicU64;
use crate::explore::{Memory, explore, explore_bounded, join, spawn};

#[allow(dead_code, reason = "models call what threads call at the same time")]
#[path = "../../src/lockfree/range_ring.rs"]
mod subject;
use subject::{Cell, RangeRing};

struct Queue {
    ring: RangeRing<2>,
    /// What the entries 1 to 4 stand for.
    ranges: [Memory<u64>; 5],
}

impl Queue {
    fn new() -> Arc<Self> {
        let cells = std::array::from_fn(|_| Cell::from_words(AtomicU64::new(0), AtomicU64::new(0)));
        Arc::new(Queue {
            ring: RangeRing::from_parts(AtomicU64::new(0), AtomicU64::new(0), cells),
            ranges: std::array::from_fn(|_| Memory::new(0)),
        })
    }

    fn push(&self, entry: u64) -> bool {
        self.ranges[entry as usize].set(entry);
        self.ring.push(entry)
    }

    fn pop(&self) -> Option<u64> {
        let entry = self.ring.pop()?;
        assert_eq!(self.ranges[entry as usize].get(), entry, "an entry and what it stands for arrive together");
        Some(entry)
    }

    /// After the threads have ended: all of the ring.
    fn drain(&self) -> Vec<u64> {
        let drained = std::iter::from_fn(|| self.pop()).take(3).collect();
        assert!(self.ring.is_empty());
        drained
    }
}

#[test]
fn entries_of_two_producers_come_out_once_each() {
    explore(|| {
        let queue = Queue::new();
        let producers = [1, 2].map(|entry| spawn(&queue, move |queue| assert!(queue.push(entry), "there is room")));
        let mut entries: Vec<_> = queue.pop().into_iter().collect();
        join(producers);
        entries.extend(queue.drain());
        entries.sort_unstable();
        assert_eq!(entries, [1, 2]);
    });
}

#[test]
fn a_producer_goes_on_where_the_consumer_made_room() {
    explore(|| {
        let queue = Queue::new();
        let producer = spawn(&queue, |queue| [1, 2, 3, 4].map(|entry| queue.push(entry)));
        let mut entries: Vec<_> = [(), ()].into_iter().filter_map(|()| queue.pop()).collect();
        let accepted = producer.join().unwrap();
        assert_eq!(accepted[..2], [true, true]);
        entries.extend(queue.drain());
        let expected: Vec<_> = (1..).zip(accepted).filter_map(|(entry, accepted)| accepted.then_some(entry)).collect();
        assert_eq!(entries, expected, "in the order in which they were pushed");
        assert!(queue.push(1) && queue.push(2) && !queue.push(3), "two places are free again, and no more");
    });
}

#[test]
fn two_producers_of_the_next_lap_do_not_take_the_same_place() {
    explore(|| {
        let queue = Queue::new();
        assert!(queue.push(1) && queue.push(2));
        let producers = [3, 4].map(|entry| spawn(&queue, move |queue| queue.push(entry).then_some(entry)));
        let mut entries = vec![queue.pop().unwrap()];
        let accepted = join(producers);
        entries.extend(queue.drain());
        entries.sort_unstable();
        let expected: Vec<_> = [Some(1), Some(2)].into_iter().chain(accepted).flatten().collect();
        assert!(expected.len() <= 3, "one place was free");
        assert_eq!(entries, expected);
    });
}

#[test]
fn two_consumers_never_get_the_same_entry() {
    explore_bounded(4, || {
        let queue = Queue::new();
        assert!(queue.push(1));
        let consumers = [(), ()].map(|()| spawn(&queue, |queue| queue.pop()));
        assert!(queue.push(2));
        let refused = !queue.push(3);
        let mut entries: Vec<_> = join(consumers).into_iter().flatten().collect();
        entries.extend(queue.drain());
        entries.sort_unstable();
        assert_eq!(entries, if refused { vec![1, 2] } else { vec![1, 2, 3] });
    });
}
