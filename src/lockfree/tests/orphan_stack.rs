//! Tests of `lockfree::orphan_stack`.

use std::thread;
use std::vec::Vec;

use super::THREADS;
use crate::atomic::{AtomicU64, Ordering};
use crate::lockfree::orphan_stack::{OrphanStack, Record};

struct Stack {
    stack: OrphanStack,
    links: Vec<AtomicU64>,
    holders: Vec<AtomicU64>,
}

impl Stack {
    fn new(records: Record) -> Self {
        let words = || (0..=records).map(|_| AtomicU64::new(0)).collect();
        Stack { stack: OrphanStack::from_head(AtomicU64::new(0)), links: words(), holders: words() }
    }

    fn push(&self, record: Record) {
        self.stack.push(record, |next| self.links[record as usize].store(next, Ordering::Relaxed));
    }

    fn pop(&self) -> Option<Record> {
        self.stack.pop(|record| self.links[record as usize].load(Ordering::Relaxed))
    }
}

#[test]
fn the_last_in_comes_out_first() {
    let stack = Stack::new(3);
    assert!(stack.stack.is_empty());
    assert_eq!(stack.pop(), None);
    (1..=3).for_each(|record| stack.push(record));
    assert!(!stack.stack.is_empty());
    assert_eq!([stack.pop(), stack.pop()], [Some(3), Some(2)]);
    stack.push(3);
    assert_eq!([stack.pop(), stack.pop(), stack.pop()], [Some(3), Some(1), None]);
    assert!(stack.stack.is_empty());
}

#[test]
fn the_highest_address_is_a_record_like_any_other() {
    let stack = OrphanStack::from_head(AtomicU64::new(0));
    // The last record of 48 bits of address space, the widest that programs have without asking for more.
    let [high, low] = [(1 << 48) / 128 - 1, 1];
    stack.push(low, |next| assert_eq!(next, 0));
    stack.push(high, |next| assert_eq!(next, low));
    assert_eq!(stack.pop(|record| if record == high { low } else { 0 }), Some(high));
    assert_eq!(stack.pop(|_| 0), Some(low));
    assert!(stack.is_empty());
}

#[test]
fn the_tag_wraps_without_harm() {
    // More pops than the tag has values, and the record still comes out.
    let stack = Stack::new(1);
    for _ in 0..(1_u32 << 23) + 2 {
        stack.push(1);
        assert_eq!(stack.pop(), Some(1));
    }
    assert_eq!(stack.pop(), None);
}

#[test]
fn a_record_has_one_holder_at_a_time() {
    const RECORDS: Record = 3;
    let stack = Stack::new(RECORDS);
    (1..=RECORDS).for_each(|record| stack.push(record));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    // Two at a time, and put back in the order in which they came: the pattern of ABA.
                    let popped = [stack.pop(), stack.pop()];
                    for record in popped.into_iter().flatten() {
                        assert_eq!(stack.holders[record as usize].fetch_add(1, Ordering::Relaxed), 0);
                    }
                    for record in popped.into_iter().flatten() {
                        stack.holders[record as usize].fetch_sub(1, Ordering::Relaxed);
                        stack.push(record);
                    }
                }
            });
        }
    });
    let mut left: Vec<_> = core::iter::from_fn(|| stack.pop()).take(RECORDS as usize + 1).collect();
    left.sort_unstable();
    assert_eq!(left, [1, 2, 3]);
}
