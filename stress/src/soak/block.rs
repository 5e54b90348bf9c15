//! One block of the allocator under test, and what must be true of its memory.
//!
//! A block's contents follow from its tag. Small blocks are written and checked whole, large ones at both ends and at
//! regular places between, as often as keeps a soak moving.

use std::alloc::Layout;
use std::hint::black_box;
use std::ptr::NonNull;

const PAGE_BYTES: usize = 4096;
/// Blocks up to this size are written and checked whole.
const WHOLE_BYTES_MOST: usize = 16 << 10;
/// Blocks up to this size are written in each page.
const EACH_PAGE_BYTES_MOST: usize = 1 << 20;
/// Bytes at each end of a larger block.
const END_BYTES: usize = 64;
/// The distance of the places in a block larger than that.
const SPARSE_BYTES: usize = 16 * PAGE_BYTES;
/// Zeroed blocks up to this size are read whole, and of the larger ones every fourth.
const ZEROED_WHOLE_BYTES_MOST: usize = 256 << 10;

/// A live block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its first byte.
    pub base: NonNull<u8>,
    /// What was asked for.
    pub layout: Layout,
    /// What its contents follow from; no two live blocks have the same.
    pub tag: u64,
}

// SAFETY: a block belongs to whoever holds the record, on any thread.
unsafe impl Send for Block {}

/// Eight bytes, or fewer at the end, that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where in the block.
    pub offset: usize,
    /// What was written there.
    pub expected: [u8; 8],
    /// What is there.
    pub seen: [u8; 8],
    /// How many bytes of both count.
    pub length: usize,
}

impl Block {
    /// The record of what the allocator has just given out.
    ///
    /// The compiler knows allocators: it believes that a new block is aligned, zeroed and apart from all others, and
    /// would leave out checks of just that. So it does not get to see where the address comes from.
    pub fn new(base: *mut u8, layout: Layout, tag: u64) -> Option<Self> {
        Some(Self { base: NonNull::new(black_box(base))?, layout, tag })
    }

    /// The address of its first byte.
    pub fn start(&self) -> usize {
        self.base.addr().get()
    }

    /// The address after its last byte. A lie may wrap around.
    pub fn end(&self) -> usize {
        self.start().saturating_add(self.layout.size())
    }

    /// Whether the address is as asked for.
    pub fn is_aligned(&self) -> bool {
        self.start().is_multiple_of(self.layout.align())
    }

    /// Writes the contents that the tag stands for.
    pub fn fill(&self) {
        for (offset, length) in places(self.layout.size()) {
            let word = contents(self.tag, offset);
            // SAFETY: `offset + length` is at most the size of the block, which the caller holds.
            unsafe { self.base.add(offset).copy_from_nonoverlapping(NonNull::from(&word).cast(), length) };
        }
        // The contents must be in memory when the allocator gets to see the block.
        black_box(self.base);
    }

    /// Checks the contents, which `fill` has written.
    pub fn check(&self) -> Result<(), Difference> {
        self.check_part(self.layout.size())
    }

    /// Checks what is left in the first `kept` bytes of contents that `fill` has written, all or in part: `filled`
    /// bytes were written then.
    pub fn check_kept(&self, filled: usize) -> Result<(), Difference> {
        Self { layout: resized(self.layout, filled), ..*self }.check_part(self.layout.size().min(filled))
    }

    fn check_part(&self, kept: usize) -> Result<(), Difference> {
        let base = black_box(self.base);
        for (offset, length) in places(self.layout.size()).filter(|(offset, length)| offset + length <= kept) {
            let mut seen = [0; 8];
            // SAFETY: as in `fill`.
            unsafe { NonNull::from(&mut seen).cast::<u8>().copy_from_nonoverlapping(base.add(offset), length) };
            let expected = contents(self.tag, offset);
            if seen[..length] != expected[..length] {
                return Err(Difference { offset, expected, seen, length });
            }
        }
        Ok(())
    }

    /// Checks that a block nobody has written yet is zero.
    pub fn check_zeroed(&self) -> Result<(), Difference> {
        let bytes = self.layout.size();
        if bytes <= ZEROED_WHOLE_BYTES_MOST || self.tag.is_multiple_of(4) {
            return self.check_zeroed_range(0, bytes);
        }
        // What smaller blocks left lies anywhere: the beginning of each page, and another place in some.
        let mut places = (0..bytes - END_BYTES).step_by(PAGE_BYTES).enumerate();
        places.try_for_each(|(number, page)| {
            let within = (self.tag as usize).wrapping_add(number).wrapping_mul(0x9e3_779b) % PAGE_BYTES;
            self.check_zeroed_range(page, END_BYTES)?;
            self.check_zeroed_range((page + within).min(bytes - END_BYTES), END_BYTES)
        })?;
        self.check_zeroed_range(bytes - END_BYTES, END_BYTES)
    }

    fn check_zeroed_range(&self, start: usize, length: usize) -> Result<(), Difference> {
        // SAFETY: the range is inside the block, which the caller holds, and initialised: with zeroes, or by whoever
        // had it before. The compiler does not know which.
        let range = unsafe { std::slice::from_raw_parts(black_box(self.base).add(start).as_ptr(), length) };
        let Some(dirty) = range.iter().position(|byte| *byte != 0) else { return Ok(()) };
        let length = (length - dirty).min(8);
        let mut seen = [0; 8];
        seen[..length].copy_from_slice(&range[dirty..dirty + length]);
        Err(Difference { offset: start + dirty, expected: [0; 8], seen, length })
    }
}

/// The layout with another size.
///
/// # Panics
///
/// If the size is beyond what a layout can have.
pub fn resized(layout: Layout, bytes: usize) -> Layout {
    Layout::from_size_align(bytes, layout.align()).expect("the script's sizes are far below the limit")
}

/// The eight bytes at an offset.
fn contents(tag: u64, offset: usize) -> [u8; 8] {
    let word = (tag ^ offset as u64).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (word ^ (word >> 29)).to_ne_bytes()
}

/// The places that are written and checked in a block of `bytes`: offset and length of each, eight bytes at most.
fn places(bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let words = |from: usize, to: usize| (from..to).step_by(8).map(move |offset| (offset, (to - offset).min(8)));
    let whole = bytes <= WHOLE_BYTES_MOST;
    let stride = if bytes <= EACH_PAGE_BYTES_MOST { PAGE_BYTES } else { SPARSE_BYTES };
    let head = words(0, if whole { bytes } else { END_BYTES });
    let between = (stride..if whole { 0 } else { bytes - END_BYTES }).step_by(stride).map(|offset| (offset, 8));
    // The tail starts at a multiple of eight, so that a word that belongs to two parts has one value.
    let tail = words(if whole { 0 } else { (bytes - END_BYTES) & !7 }, if whole { 0 } else { bytes });
    head.chain(between).chain(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(memory: &mut Vec<u8>, bytes: usize) -> Block {
        memory.resize(bytes, 0);
        Block::new(memory.as_mut_ptr(), Layout::from_size_align(bytes, 1).unwrap(), 77).unwrap()
    }

    #[test]
    fn what_was_filled_checks_at_every_size() {
        for bytes in
            (1..200).chain([4095, 4096, 4097, 16 << 10, (16 << 10) + 1, 99_999, 1 << 20, (1 << 20) + 3, 5 << 20])
        {
            let mut memory = Vec::new();
            let block = block(&mut memory, bytes);
            assert_eq!(block.check_zeroed(), Ok(()), "{bytes}");
            block.fill();
            assert_eq!(block.check(), Ok(()), "{bytes}");
            let grown = Block { layout: resized(block.layout, bytes + 1), ..block };
            assert_eq!(grown.check_kept(bytes), Ok(()), "{bytes}");
            let shrunk = Block { layout: resized(block.layout, bytes / 2 + 1), ..block };
            assert_eq!(shrunk.check_kept(bytes), Ok(()), "{bytes}");
        }
    }

    #[test]
    fn a_changed_byte_is_found_wherever_contents_were_written() {
        for (bytes, offset) in
            [(1, 0), (77, 76), (16 << 10, 5000), (300_000, 4096 * 3), (300_000, 299_999), (3 << 20, 65_536)]
        {
            let mut memory = Vec::new();
            let block = block(&mut memory, bytes);
            block.fill();
            memory[offset] ^= 1;
            let difference = block.check().unwrap_err();
            assert!((difference.offset..difference.offset + difference.length).contains(&offset), "{difference:?}");
        }
    }

    #[test]
    fn a_dirty_byte_is_found_in_zeroed_memory() {
        for (bytes, offset) in
            [(1, 0), (100_000, 99_999), (256 << 10, 12_345), (1 << 20, 4096 * 9 + 5), (1 << 20, (1 << 20) - 1)]
        {
            let mut memory = Vec::new();
            let block = block(&mut memory, bytes);
            memory[offset] = 3;
            let difference = block.check_zeroed().unwrap_err();
            assert_eq!((difference.offset, difference.seen[0]), (offset, 3));
        }
    }
}
