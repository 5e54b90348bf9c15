//! Mailboxes, one for each thread, into which other threads put batches of blocks to be freed. Used by `rptest`.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::block::Block;

/// Batches that may wait in one mailbox: beyond that, its thread is too slow or has ended.
const MAX_WAITING: usize = 16;

pub(super) type Batch = Vec<Block>;

pub(super) struct Mailboxes {
    boxes: Vec<Mutex<VecDeque<Batch>>>,
}

impl Mailboxes {
    pub(super) fn new(threads: usize) -> Self {
        Self { boxes: (0..threads).map(|_| Mutex::new(VecDeque::with_capacity(MAX_WAITING))).collect() }
    }

    fn lock(&self, thread: usize) -> MutexGuard<'_, VecDeque<Batch>> {
        self.boxes[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a batch into the mailbox of `thread`. From a full one it takes the oldest in exchange: that one is the
    /// caller's to free, so that nobody waits and memory stays bounded.
    #[must_use]
    pub(super) fn put(&self, thread: usize, batch: Batch) -> Option<Batch> {
        let mut waiting = self.lock(thread);
        let oldest = if waiting.len() == MAX_WAITING { waiting.pop_front() } else { None };
        waiting.push_back(batch);
        oldest
    }

    /// The oldest batch in the mailbox of `thread`.
    pub(super) fn take(&self, thread: usize) -> Option<Batch> {
        self.lock(thread).pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, MAX_WAITING, Mailboxes};

    #[test]
    fn full_mailbox_gives_back_the_oldest() {
        let mailboxes = Mailboxes::new(2);
        for count in 1..=MAX_WAITING {
            assert!(mailboxes.put(1, (0..count).map(|_| Block::new(8)).collect()).is_none());
        }
        assert_eq!(mailboxes.put(1, Vec::new()).expect("it was full").len(), 1);
        assert_eq!(mailboxes.take(1).expect("the second one is next").len(), 2);
        assert!(mailboxes.take(0).is_none());
    }
}
