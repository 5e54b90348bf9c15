//! Stack of records that no thread owns: slabs given up by their threads, and free heap records. Any thread pushes and
//! pops. Called by `span::pool` and `thread::heaps`.
//!
//! Invariant: a record is on at most one stack once; who popped it owns it. Records are never unmapped, so reading the
//! link of a record that another thread pops at the same moment is harmless: the tag makes the exchange fail.
//!
//! The head is one word, so that no double-width exchange is needed:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..41 | the record: its address divided by 128, 0 for an empty stack; user addresses have 48 bits at most |
//! | 41..64 | tag, one more with each pop (against ABA: Treiber's stack with a counted head, IBM RJ 5118, 1986) |

use crate::atomic::{AtomicU64, Ordering};

const RECORD_BITS: u32 = 41;
const RECORD_MASK: u64 = (1 << RECORD_BITS) - 1;

/// The name of a record: its address divided by its alignment of 128. Never zero.
pub(crate) type Record = u64;

/// A lock-free stack of records, linked through words that the caller keeps in them.
pub(crate) struct OrphanStack {
    head: AtomicU64,
}

impl OrphanStack {
    /// An empty stack; `head` must hold 0.
    pub(crate) const fn from_head(head: AtomicU64) -> Self {
        OrphanStack { head }
    }

    /// Whether the stack held nothing at the moment of the call. A hint: other threads go on.
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: a hint, nothing is read through it.
        self.head.load(Ordering::Relaxed) & RECORD_MASK == 0
    }

    /// Puts `record` on top. `link(next)` must store `next` in the record; it may be called more than once.
    pub(crate) fn push(&self, record: Record, link: impl Fn(Record)) {
        // Relaxed: the value is only compared; a stale one fails the exchange.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link(head & RECORD_MASK);
            let new = (head & !RECORD_MASK) | record;
            // Release: pairs with the Acquire in `pop`; the popper sees the link and the record's contents.
            match self.head.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes the top record. `next_of(record)` must read the link that the last push of `record` stored; what it reads
    /// may be stale and is then thrown away.
    pub(crate) fn pop(&self, next_of: impl Fn(Record) -> Record) -> Option<Record> {
        // Acquire: pairs with the Release in `push`; `next_of` reads the link that was stored before it.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let record = head & RECORD_MASK;
            if record == 0 {
                return None;
            }
            let tag = (head >> RECORD_BITS).wrapping_add(1);
            let new = (tag << RECORD_BITS) | (next_of(record) & RECORD_MASK);
            // Acquire on success and failure: pairs with the Release in `push`, as above.
            match self.head.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(record),
                Err(now) => head = now,
            }
        }
    }
}
