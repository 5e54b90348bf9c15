//! One block of heap memory, taken straight from the global allocator and marked, so that its loss is noticed.
//!
//! Used by the micro workloads. The mark is a word made from the block's own address and size: were the allocator to
//! hand the same memory out twice, or to move a block without its contents, the check on free would fail. A block that
//! is freed loses its mark, so that another one in the same place notices.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error, realloc};
use std::hint::black_box;
use std::ptr::NonNull;

/// The smallest block: it has to hold the mark.
pub const MIN_SIZE_BYTES: usize = size_of::<u64>();

/// The distance between the bytes that [`Block::touch_pages`] writes.
pub const PAGE_BYTES: usize = 4096;

/// The distance between the words that [`Block::zeroed`] looks at.
const ZERO_CHECK_STEP_BYTES: usize = 512;

const ALIGN_BYTES: usize = align_of::<u64>();

/// An owned block of `size_bytes` bytes; freed, and its mark checked, on drop.
#[derive(Debug)]
pub struct Block {
    address: NonNull<u8>,
    size_bytes: usize,
}

// SAFETY: a block owns its memory alone, and every global allocator accepts a free from any thread.
unsafe impl Send for Block {}

impl Block {
    /// Allocates a block of `size_bytes` (at least [`MIN_SIZE_BYTES`]) and marks it.
    ///
    /// # Panics
    /// If the size is too small.
    #[inline]
    pub fn new(size_bytes: usize) -> Self {
        let layout = layout_of(size_bytes);
        // SAFETY: `layout_of` refuses sizes below `MIN_SIZE_BYTES`, so the size is not zero.
        let raw = unsafe { alloc(layout) };
        Self::marked(raw, layout)
    }

    /// Allocates a zeroed block, checks at sampled places that it is zero, dirties those, and marks the block.
    ///
    /// # Panics
    /// If the size is too small, or the memory is not zero.
    #[inline]
    pub fn zeroed(size_bytes: usize) -> Self {
        let layout = layout_of(size_bytes);
        // SAFETY: `layout_of` refuses sizes below `MIN_SIZE_BYTES`, so the size is not zero.
        let raw = black_box(unsafe { alloc_zeroed(layout) });
        if raw.is_null() {
            handle_alloc_error(layout);
        }
        for offset in (0..size_bytes - MIN_SIZE_BYTES + 1).step_by(ZERO_CHECK_STEP_BYTES) {
            // SAFETY: `offset` is a multiple of the alignment and leaves room for a word inside the new block, which
            // `alloc_zeroed` initialised and nobody else uses.
            unsafe {
                let word = raw.add(offset).cast::<u64>();
                assert_eq!(word.read(), 0, "zeroed block of {size_bytes} bytes is dirty at offset {offset}");
                word.write(u64::MAX);
            }
        }
        // SAFETY: the last byte lies inside the block, which nobody else uses.
        unsafe {
            let last = raw.add(size_bytes - 1);
            assert!(matches!(last.read(), 0 | u8::MAX), "zeroed block of {size_bytes} bytes has a dirty last byte");
            last.write(u8::MAX);
        }
        Self::marked(raw, layout)
    }

    /// The size that was asked for.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Changes the size with `realloc`; the mark has to survive the move and is then renewed.
    ///
    /// # Panics
    /// If the mark was lost, or the new size is too small.
    #[inline]
    pub fn resize(&mut self, new_size_bytes: usize) {
        self.check();
        let mark = self.mark();
        let (old_layout, new_layout) = (layout_of(self.size_bytes), layout_of(new_size_bytes));
        // SAFETY: the block came from this allocator with `old_layout`, and `layout_of` vouches for the new size.
        let raw = black_box(unsafe { realloc(self.address.as_ptr(), old_layout, new_size_bytes) });
        let Some(address) = NonNull::new(raw) else { handle_alloc_error(new_layout) };
        // SAFETY: the block has room for a word, which `realloc` carried over.
        let carried = unsafe { address.cast::<u64>().read() };
        self.address = address;
        self.size_bytes = new_size_bytes;
        // The block is whole again before the assertion, whose unwinding would drop it.
        self.write_mark();
        assert_eq!(carried, mark, "realloc to {new_size_bytes} bytes lost the contents");
    }

    /// Writes one byte on every further page, and the last byte.
    #[inline]
    pub fn touch_pages(&mut self) {
        let value = self.page_value();
        // SAFETY: every offset is below the size of the block, which we own.
        unsafe {
            for offset in (PAGE_BYTES..self.size_bytes).step_by(PAGE_BYTES) {
                self.address.as_ptr().add(offset).write(value);
            }
            if self.size_bytes > MIN_SIZE_BYTES {
                self.address.as_ptr().add(self.size_bytes - 1).write(value);
            }
        }
        black_box(self.address);
    }

    /// Checks a page in the middle and the last byte, as [`touch_pages`](Self::touch_pages) left them.
    ///
    /// # Panics
    /// If one of them has changed.
    #[inline]
    pub fn check_pages(&self) {
        let value = self.page_value();
        let middle = self.size_bytes / 2 / PAGE_BYTES * PAGE_BYTES;
        for offset in [middle, self.size_bytes - 1] {
            if offset >= MIN_SIZE_BYTES {
                // SAFETY: the offset is below the size of the block, and `touch_pages` has initialised that byte.
                let found = unsafe { self.address.as_ptr().add(offset).read() };
                assert_eq!(found, value, "block of {} bytes has lost its byte at {offset}", self.size_bytes);
            }
        }
    }

    #[inline]
    fn marked(raw: *mut u8, layout: Layout) -> Self {
        let Some(address) = NonNull::new(black_box(raw)) else { handle_alloc_error(layout) };
        let mut block = Self { address, size_bytes: layout.size() };
        block.write_mark();
        block
    }

    #[inline]
    fn write_mark(&mut self) {
        // SAFETY: the block is ours, aligned for a word, and has room for one.
        unsafe { self.address.cast::<u64>().write(self.mark()) };
    }

    #[inline]
    fn mark(&self) -> u64 {
        self.address.as_ptr().addr() as u64 ^ (self.size_bytes as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[inline]
    fn page_value(&self) -> u8 {
        (self.mark() >> 56) as u8
    }

    #[inline]
    fn check(&self) {
        // SAFETY: the block is ours, aligned for a word, and `write_mark` has initialised it.
        let found = unsafe { self.address.cast::<u64>().read() };
        assert_eq!(found, self.mark(), "block of {} bytes has lost its mark", self.size_bytes);
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        self.check();
        // SAFETY: the block is ours, aligned for a word, and has room for one. Volatile, because the compiler knows
        // that nobody may read freed memory.
        unsafe { self.address.cast::<u64>().write_volatile(0) };
        // SAFETY: the block came from the global allocator with this very layout, and is not used again.
        unsafe { dealloc(self.address.as_ptr(), layout_of(self.size_bytes)) };
    }
}

#[inline]
fn layout_of(size_bytes: usize) -> Layout {
    assert!(size_bytes >= MIN_SIZE_BYTES, "a block needs room for its mark");
    Layout::from_size_align(size_bytes, ALIGN_BYTES).expect("a block is far smaller than the address space")
}

#[cfg(test)]
mod tests {
    use super::{Block, PAGE_BYTES};

    #[test]
    fn block_keeps_its_marks_through_resizing() {
        let mut block = Block::new(8);
        for size_bytes in [9, 100, 3 * PAGE_BYTES, PAGE_BYTES + 1, 16] {
            block.resize(size_bytes);
            block.touch_pages();
            block.check_pages();
            assert_eq!(block.size_bytes(), size_bytes);
        }
    }

    #[test]
    fn zeroed_block_of_any_size_is_accepted() {
        for size_bytes in [8, 9, 15, 16, 511, 512, 513, 519, 520, 521, 65_536] {
            assert_eq!(Block::zeroed(size_bytes).size_bytes(), size_bytes);
        }
    }

    #[test]
    fn overwritten_mark_is_noticed() {
        let caught = std::panic::catch_unwind(|| {
            let block = Block::new(32);
            // SAFETY: the block owns at least a word at its address.
            unsafe { block.address.cast::<u64>().write(0) };
        });
        assert!(caught.is_err());
    }
}
