//! A block of memory of which every page is touched, as cheaply as that can be done, and checked.
//!
//! The [`scenario`](crate::scenario)s that allocate blocks of any size use it.

use std::hint::black_box;
use std::mem::MaybeUninit;

/// The smallest page there is: a write every so many bytes touches all of them.
const STEP_BYTES: usize = 4096;

/// A block from the global allocator.
#[derive(Debug)]
pub struct Block {
    memory: Vec<MaybeUninit<u8>>,
}

impl Block {
    /// Allocates `bytes` (at least one) and writes `mark` into each page; `None` if there is no memory.
    pub fn touched(bytes: usize, mark: u8) -> Option<Self> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(bytes.max(1)).ok()?;
        // SAFETY: there is room for as many, and what may be uninitialised need not be written.
        unsafe { memory.set_len(bytes.max(1)) };
        let mut block = Self { memory };
        block.write(mark);
        Some(block)
    }

    /// Writes `mark` into each page.
    pub fn write(&mut self, mark: u8) {
        for place in places(self.bytes()) {
            self.memory[place].write(mark);
        }
        // Nobody may read them, and they must be made all the same.
        black_box(self.memory.as_mut_ptr());
    }

    /// Writes `mark` into one page of every `step_bytes`, which are whole pages.
    pub fn write_every(&mut self, step_bytes: usize, mark: u8) {
        for place in (0..self.bytes()).step_by(step_bytes.next_multiple_of(STEP_BYTES)) {
            self.memory[place].write(mark);
        }
        black_box(self.memory.as_mut_ptr());
    }

    /// Whether `holds` says so of what is in each page, told its offset and the mark that was written last.
    pub fn is(&self, mut holds: impl FnMut(usize, u8) -> bool) -> bool {
        black_box(self.memory.as_ptr());
        // SAFETY: `touched` wrote at each of these places.
        places(self.bytes()).all(|place| holds(place, unsafe { self.memory[place].assume_init() }))
    }

    /// Whether `mark` is what is in each page.
    pub fn has(&self, mark: u8) -> bool {
        self.is(|_, found| found == mark)
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }
}

/// Where a block is written: once in each page, and at its end, which is in a further one unless the block is aligned.
fn places(bytes: usize) -> impl Iterator<Item = usize> {
    (0..bytes).step_by(STEP_BYTES).chain(bytes.checked_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_found_and_nothing_else() {
        for bytes in [1, 100, STEP_BYTES, 3 * STEP_BYTES + 1] {
            let mut block = Block::touched(bytes, 7).unwrap();
            assert!(block.bytes() == bytes && block.has(7) && !block.has(8));
            block.write(8);
            assert!(block.has(8));
            block.memory[bytes - 1].write(9);
            assert!(!block.has(8), "the end is looked at");
        }
    }

    #[test]
    fn some_pages_can_be_written() {
        let mut block = Block::touched(5 * STEP_BYTES, 1).unwrap();
        block.write_every(2 * STEP_BYTES, 2);
        assert!(block.is(|place, mark| mark == if place.is_multiple_of(2 * STEP_BYTES) { 2 } else { 1 }));
    }

    #[test]
    fn too_much_is_none() {
        assert!(Block::touched(isize::MAX as usize, 1).is_none());
    }
}
