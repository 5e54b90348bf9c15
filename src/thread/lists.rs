//! The lists of free blocks that a heap hands out from, one for each class. Called by `thread::heap`.
//!
//! A list that has run out is filled from one slab. From then on it takes back blocks that the thread frees, of
//! whatever slab of the heap, while it is shorter than a limit, and what came last goes out first: that is in the
//! processor's caches (jemalloc and tcmalloc keep such caches in front of their slabs). What exceeds the limit goes to
//! the slabs, as all does in mimalloc: a program that frees many blocks at once gets them back slab by slab, where they
//! lie side by side.
//!
//! Invariant: the blocks on a list are free, marked, and count as used in their slabs. A list that is over its limit,
//! and one whose blocks read as zeroes, is as it was filled: of one slab, the one that the heap allocates from.

use core::cell::Cell;

use crate::limits::{LISTED_BLOCK_BYTES_MAX, LISTED_BLOCKS_MAX, LISTED_BYTES_MAX};
use crate::span::size_class::Class;
use crate::span::slab::{
    FreeBlocks, LIST_COUNT, ListIndex, NO_BLOCKS, Secret, clear_mark, is_end, prefetch, read_link, write_link,
};

/// The limit of a list that takes no blocks, because those that it was filled with read as zeroes.
const LIMIT_OF_ZEROED: i32 = i32::MIN / 2;

/// The lists of one heap.
pub(super) struct Lists {
    /// First block, or the end mark.
    heads: [Cell<usize>; LIST_COUNT],
    /// How many blocks a list is below its limit; negative for a list that is over it.
    rooms: [Cell<i32>; LIST_COUNT],
}

/// Up to how many blocks a list of the class takes back what is freed.
fn limit(class: Class, zeroed: bool) -> i32 {
    let block_bytes = class.shape().block_bytes as usize;
    if zeroed {
        return LIMIT_OF_ZEROED;
    }
    if block_bytes > LISTED_BLOCK_BYTES_MAX {
        return 0;
    }
    LISTED_BLOCKS_MAX.min(LISTED_BYTES_MAX / block_bytes) as i32
}

impl Lists {
    /// Empty, and closed until they are filled.
    pub(super) const fn new() -> Self {
        Lists { heads: [const { Cell::new(NO_BLOCKS) }; LIST_COUNT], rooms: [const { Cell::new(0) }; LIST_COUNT] }
    }

    /// Makes zeroed memory what [`Lists::new`] gives.
    pub(super) fn set_up(&self) {
        for head in &self.heads {
            head.set(NO_BLOCKS);
        }
    }

    #[inline(always)]
    fn head_cell(&self, list: ListIndex) -> &Cell<usize> {
        // SAFETY: the number is always below LIST_COUNT, the length of the array.
        unsafe { self.heads.get_unchecked(list.index()) }
    }

    #[inline(always)]
    fn room(&self, list: ListIndex) -> &Cell<i32> {
        // SAFETY: the number is always below LIST_COUNT, the length of the array.
        unsafe { self.rooms.get_unchecked(list.index()) }
    }

    /// Takes the first block; `None` if there is none. Its second word is zero, so that a later free does not take it
    /// for a free block; the first is of no use.
    #[inline(always)]
    pub(super) fn pop(&self, class: Class) -> Option<usize> {
        let head = self.head_cell(ListIndex::of(class));
        let block = head.get();
        if is_end(block) {
            return None;
        }
        // SAFETY: blocks on the list are free and this thread's alone.
        unsafe {
            let next = read_link(block);
            // The next request of this class would wait for it.
            prefetch(next);
            head.set(next);
            clear_mark(block);
        }
        let room = self.room(ListIndex::of(class));
        room.set(room.get() + 1);
        Some(block)
    }

    /// Puts a block in front, if the list is below its limit. The one that is of no class always is at it.
    /// # Safety
    /// `block` is of the list's class, counts as used in its slab, and nobody uses it.
    #[inline(always)]
    pub(super) unsafe fn push(&self, list: ListIndex, block: usize, secret: Secret) -> bool {
        let room = self.room(list);
        if room.get() <= 0 {
            return false;
        }
        room.set(room.get() - 1);
        let head = self.head_cell(list);
        // SAFETY: the caller's promise.
        unsafe { write_link(block, head.get(), secret) };
        head.set(block);
        true
    }

    /// Makes an empty list one of these blocks.
    pub(super) fn fill(&self, class: Class, blocks: FreeBlocks) {
        self.head_cell(ListIndex::of(class)).set(blocks.head);
        self.room(ListIndex::of(class)).set(limit(class, blocks.zeroed) - blocks.count as i32);
    }

    /// Takes all blocks, and closes the list until it is filled again.
    pub(super) fn close(&self, class: Class) -> FreeBlocks {
        let zeroed = self.pops_zeroed(class);
        let head = self.head_cell(ListIndex::of(class)).replace(NO_BLOCKS);
        let room = self.room(ListIndex::of(class)).replace(0);
        let count = if is_end(head) { 0 } else { limit(class, zeroed) - room };
        FreeBlocks { head, count: count as u32, zeroed }
    }

    /// Whether the block that [`pop`](Self::pop) gave last reads as zeroes after its first word.
    #[inline(always)]
    pub(super) fn pops_zeroed(&self, class: Class) -> bool {
        self.room(ListIndex::of(class)).get() <= LIMIT_OF_ZEROED
    }

    /// Whether there may be blocks of several slabs on the list.
    pub(super) fn is_mixed(&self, class: Class) -> bool {
        self.room(ListIndex::of(class)).get() >= 0
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    const SECRET: Secret = Secret::new(0x5eed);
    const BLOCK_BYTES: usize = 64;

    /// Memory for blocks of 64 bytes, and their addresses.
    fn blocks(count: usize) -> (Vec<[u128; BLOCK_BYTES / 16]>, Vec<usize>) {
        let mut memory = std::vec![[0; BLOCK_BYTES / 16]; count];
        let addresses = memory.iter_mut().map(|block| (&raw mut *block).expose_provenance()).collect();
        (memory, addresses)
    }

    fn class() -> Class {
        Class::holding(BLOCK_BYTES).unwrap()
    }

    /// Links the blocks up.
    fn free_blocks(blocks: &[usize], zeroed: bool) -> FreeBlocks {
        let mut head = NO_BLOCKS;
        for &block in blocks.iter().rev() {
            // SAFETY: the blocks are the test's memory.
            unsafe { write_link(block, head, SECRET) };
            head = block;
        }
        FreeBlocks { head, count: blocks.len() as u32, zeroed }
    }

    fn push(lists: &Lists, block: usize) -> bool {
        // SAFETY: the block is the test's memory, and nobody uses it.
        unsafe { lists.push(ListIndex::of(class()), block, SECRET) }
    }

    #[test]
    fn what_came_last_goes_out_first_up_to_the_limit() {
        let (_memory, all) = blocks(200);
        let lists = Lists::new();
        lists.fill(class(), free_blocks(&all[..10], false));
        assert!(lists.is_mixed(class()));
        let taken = all[10..].iter().take_while(|block| push(&lists, **block)).count();
        assert_eq!(taken, LISTED_BLOCKS_MAX - 10);
        let out: Vec<_> = core::iter::from_fn(|| lists.pop(class())).collect();
        let expected: Vec<_> = all[10..10 + taken].iter().rev().chain(&all[..10]).copied().collect();
        assert_eq!(out, expected);
    }

    #[test]
    fn a_list_over_its_limit_takes_none_until_it_is_shorter() {
        let (_memory, all) = blocks(LISTED_BLOCKS_MAX + 5);
        let lists = Lists::new();
        lists.fill(class(), free_blocks(&all, false));
        for _ in 0..5 {
            assert!(!lists.is_mixed(class()));
            let block = lists.pop(class()).unwrap();
            assert!(!push(&lists, block), "it is as it was filled");
        }
        let block = lists.pop(class()).unwrap();
        assert!(push(&lists, block) && !push(&lists, all[0]));
    }

    #[test]
    fn blocks_that_read_as_zeroes_are_not_mixed_with_others() {
        let (_memory, all) = blocks(20);
        let lists = Lists::new();
        lists.fill(class(), free_blocks(&all[..10], true));
        for _ in 0..10 {
            let block = lists.pop(class()).unwrap();
            assert!(lists.pops_zeroed(class()) && !lists.is_mixed(class()) && !push(&lists, block));
        }
        assert_eq!(lists.pop(class()), None);
        lists.fill(class(), free_blocks(&all[10..], false));
        assert!(lists.pop(class()).is_some() && !lists.pops_zeroed(class()));
    }

    #[test]
    fn a_closed_list_takes_nothing() {
        let (_memory, all) = blocks(10);
        let lists = Lists::new();
        assert!(!push(&lists, all[0]), "never filled");
        lists.fill(class(), free_blocks(&all[1..], false));
        let blocks = lists.close(class());
        assert_eq!((blocks.head, blocks.count, blocks.zeroed), (all[1], 9, false));
        assert!(!push(&lists, all[0]) && lists.pop(class()).is_none());
    }

    #[test]
    fn what_is_left_of_a_list_is_counted() {
        let (_memory, all) = blocks(100);
        let lists = Lists::new();
        for (zeroed, count, popped) in [(true, 100, 1), (false, 100, 99), (true, 3, 0), (false, 3, 3), (true, 3, 3)] {
            lists.fill(class(), free_blocks(&all[..count], zeroed));
            assert!((0..popped).all(|_| lists.pop(class()).is_some()));
            let left = lists.close(class());
            assert_eq!((left.count as usize, left.zeroed), (count - popped, zeroed));
            assert_eq!(is_end(left.head), count == popped);
        }
    }

    #[test]
    fn lists_of_large_blocks_take_nothing() {
        let (_memory, all) = blocks(3);
        let lists = Lists::new();
        let class = Class::holding(LISTED_BLOCK_BYTES_MAX + 1).unwrap();
        lists.fill(class, free_blocks(&all, false));
        for _ in 0..3 {
            let block = lists.pop(class).unwrap();
            // SAFETY: the block is the test's memory, and nobody uses it.
            assert!(!unsafe { lists.push(ListIndex::of(class), block, SECRET) });
        }
    }
}
