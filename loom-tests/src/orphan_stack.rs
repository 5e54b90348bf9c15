//! Models of `lockfree::orphan_stack`: two or three threads pop records and push them back.
//!
//! Links are atomics of the caller, Relaxed, as in `span::pool`; what else a record holds is memory of who popped it.
//! In every interleaving each record is on the stack or with one thread, and its holder sees what the last one wrote.
//! The case that the tag is there for is among them: the top record is popped, the one below it too, and the first is
//! pushed again, while another thread is about to exchange the top for the link that it read at the start.

use std::sync::Arc;

use crate::atomic::{AtomicU64, Ordering};
use crate::explore::{Memory, explore, join, spawn};

#[allow(dead_code, reason = "models call what threads call at the same time")]
#[path = "../../src/lockfree/orphan_stack.rs"]
mod subject;
use subject::{OrphanStack, Record};

struct Stack {
    stack: OrphanStack,
    links: [AtomicU64; 3],
    /// How often each record was popped.
    contents: [Memory<u32>; 3],
}

impl Stack {
    /// With records 1 to `count`, the last on top.
    fn with(count: Record) -> Arc<Self> {
        let stack = Stack {
            stack: OrphanStack::from_head(AtomicU64::new(0)),
            links: std::array::from_fn(|_| AtomicU64::new(0)),
            contents: std::array::from_fn(|_| Memory::new(0)),
        };
        (1..=count).for_each(|record| stack.push(record));
        Arc::new(stack)
    }

    fn push(&self, record: Record) {
        self.stack.push(record, |next| self.links[record as usize].store(next, Ordering::Relaxed));
    }

    fn pop(&self) -> Option<Record> {
        let record = self.stack.pop(|record| self.links[record as usize].load(Ordering::Relaxed))?;
        let content = &self.contents[record as usize];
        content.set(content.get() + 1);
        Some(record)
    }

    /// After the threads have ended: all of the stack.
    fn drain(&self) -> Vec<Record> {
        let drained: Vec<_> = std::iter::from_fn(|| self.pop()).take(4).collect();
        assert!(self.stack.is_empty());
        drained
    }
}

#[test]
fn a_record_popped_and_pushed_again_meanwhile_is_not_mistaken() {
    explore(|| {
        let stack = Stack::with(2);
        let slow = spawn(&stack, |stack| stack.pop());
        let top = stack.pop();
        let below = stack.pop();
        if let Some(top) = top {
            stack.push(top);
        }
        let popped = slow.join().unwrap();
        let mut records: Vec<_> = popped.into_iter().chain(below).chain(stack.drain()).collect();
        records.sort_unstable();
        assert_eq!(records, [1, 2], "each record is in one place");
    });
}

#[test]
fn a_record_is_seen_as_its_last_holder_left_it() {
    explore(|| {
        let stack = Stack::with(1);
        let threads = [(), ()].map(|()| {
            spawn(&stack, |stack| {
                let popped = stack.pop();
                if let Some(record) = popped {
                    stack.push(record);
                }
                u32::from(popped.is_some())
            })
        });
        let pops: u32 = join(threads).iter().sum();
        assert_eq!(stack.drain(), [1]);
        assert_eq!(stack.contents[1].get(), pops + 1);
    });
}

#[test]
fn records_pushed_by_two_threads_are_all_there() {
    explore(|| {
        let stack = Stack::with(0);
        let pushers = [1, 2].map(|record| {
            spawn(&stack, move |stack| {
                stack.contents[record as usize].set(10);
                stack.push(record);
            })
        });
        let mut records: Vec<_> = stack.pop().into_iter().collect();
        join(pushers);
        records.extend(stack.drain());
        records.sort_unstable();
        assert_eq!(records, [1, 2]);
        assert_eq!([1, 2].map(|record| stack.contents[record].get()), [11, 11]);
    });
}
