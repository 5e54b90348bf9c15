//! The buffer of the SmartHeap benchmarks, used by `sh6` and `sh8`: blocks are put into its slots in turn; when it is
//! full, the blocks of the lower part are freed oldest first, those of the upper part newest first, and a fifth in
//! between is kept until the next time, when the kept part has moved on.

use std::ops::Range;

use crate::block::Block;

const KEPT_PARTS: usize = 5;

pub(super) struct Ring {
    slots: Vec<Option<Block>>,
    next: usize,
    /// The slots that are not freed this time.
    kept: Range<usize>,
    freed_bytes: u64,
}

impl Ring {
    pub(super) fn new(slots: usize) -> Self {
        let slots: Vec<_> = (0..slots.max(KEPT_PARTS)).map(|_| None).collect();
        Self { next: 0, kept: slots.len()..slots.len(), slots, freed_bytes: 0 }
    }

    /// Puts a block into the next slot, and frees as told when that was the last one.
    pub(super) fn push(&mut self, block: Block) {
        let free = self.slots[self.next].replace(block).is_none();
        assert!(free, "slot {} was still in use", self.next);
        self.next += 1;
        if self.next == self.kept.start {
            self.next = self.kept.end;
        }
        if self.next >= self.slots.len() {
            self.turn();
        }
    }

    fn turn(&mut self) {
        let start = if self.kept.end < self.slots.len() { self.kept.end } else { 0 };
        self.kept = start..(start + self.slots.len() / KEPT_PARTS).min(self.slots.len());
        let (lower, upper) = (0..self.kept.start, self.kept.end..self.slots.len());
        for slot in lower.chain(upper.rev()) {
            self.free(slot);
        }
        self.next = if start == 0 { self.kept.end } else { 0 };
    }

    fn free(&mut self, slot: usize) {
        self.freed_bytes += self.slots[slot].take().map_or(0, |block| block.size_bytes() as u64);
    }

    /// Frees what is left; gives the bytes of all blocks that were ever put in.
    pub(super) fn free_all(mut self) -> u64 {
        (0..self.slots.len()).for_each(|slot| self.free(slot));
        self.freed_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, Ring};

    fn filled(ring: &Ring) -> Vec<usize> {
        (0..ring.slots.len()).filter(|&slot| ring.slots[slot].is_some()).collect()
    }

    #[test]
    fn fifth_is_kept_and_moves_on() {
        let mut ring = Ring::new(10);
        let mut push = |blocks| {
            (0..blocks).for_each(|_| ring.push(Block::new(8)));
            filled(&ring)
        };
        assert_eq!(push(9), (0..9).collect::<Vec<_>>());
        assert_eq!(push(1), [0, 1]);
        assert_eq!(push(8), [2, 3]);
        assert_eq!(push(2), [0, 1, 2, 3]);
        assert_eq!(push(6), [4, 5]);
        assert_eq!(push(8), [6, 7]);
        assert_eq!(push(8), [8, 9]);
        assert_eq!(push(8), [0, 1]);
        assert_eq!(ring.free_all(), 50 * 8);
    }
}
