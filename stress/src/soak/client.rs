//! What is done with the allocator under test, each time with all checks that apply: the only place that calls it.

use std::alloc::{GlobalAlloc, Layout};

use super::block::{Block, resized};
use super::shadow::Shadow;
use super::violation::{Defect, DefectKind, When};

/// The process's global allocator, as the allocator under test.
#[derive(Clone, Copy, Debug)]
pub struct Global;

// SAFETY: the global allocator keeps the trait's promises, as far as it is sound; whether it is, is tested.
unsafe impl GlobalAlloc for Global {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        unsafe { std::alloc::alloc(layout) }
    }

    unsafe fn dealloc(&self, base: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { std::alloc::dealloc(base, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        unsafe { std::alloc::alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, base: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        unsafe { std::alloc::realloc(base, layout, bytes) }
    }
}

/// An allocator and the map in which its live blocks are noted. A forked child has no map: the locks of its copy may be
/// held by threads that it has not got.
#[derive(Debug)]
pub struct Client<'a, A> {
    allocator: &'a A,
    shadow: Option<&'a Shadow>,
}

impl<'a, A: GlobalAlloc> Client<'a, A> {
    /// A client that notes its blocks in `shadow`.
    pub const fn new(allocator: &'a A, shadow: Option<&'a Shadow>) -> Self {
        Self { allocator, shadow }
    }

    /// Allocates a block and fills it. `None` if the allocator has none.
    pub fn allocate(&self, layout: Layout, zeroed: bool, tag: u64) -> Result<Option<Block>, Defect> {
        // SAFETY: scripts ask for at least one byte.
        let base = unsafe { if zeroed { self.allocator.alloc_zeroed(layout) } else { self.allocator.alloc(layout) } };
        let Some(block) = Block::new(base, layout, tag) else { return Ok(None) };
        self.enter(&block)?;
        if zeroed {
            block.check_zeroed().map_err(|found| Defect::of(&block, DefectKind::NotZeroed(found)))?;
        }
        block.fill();
        Ok(Some(block))
    }

    /// Changes the size of a block, which keeps its contents. `None` if the allocator refuses: the block stays as it
    /// was.
    pub fn reallocate(&self, block: Block, bytes: usize) -> Result<Option<Block>, Defect> {
        self.check(&block, When::BeforeRealloc)?;
        self.leave(&block)?;
        // SAFETY: the block is the caller's, with this layout; the old place is used again only if it was refused.
        let base = unsafe { self.allocator.realloc(block.base.as_ptr(), block.layout, bytes) };
        let Some(changed) = Block::new(base, resized(block.layout, bytes), block.tag) else {
            self.enter(&block)?;
            self.check(&block, When::AfterRefusal)?;
            return Ok(None);
        };
        self.enter(&changed)?;
        let kept = changed.check_kept(block.layout.size());
        kept.map_err(|found| Defect::of(&changed, DefectKind::Changed(When::AfterRealloc, found)))?;
        changed.fill();
        Ok(Some(changed))
    }

    /// Checks the contents of a block.
    pub fn check(&self, block: &Block, when: When) -> Result<(), Defect> {
        block.check().map_err(|found| Defect::of(block, DefectKind::Changed(when, found)))
    }

    /// Checks a block and gives it back.
    pub fn free(&self, block: Block) -> Result<(), Defect> {
        self.check(&block, When::BeforeFree)?;
        self.leave(&block)?;
        // SAFETY: the block is the caller's, with this layout, and not used again.
        unsafe { self.allocator.dealloc(block.base.as_ptr(), block.layout) };
        Ok(())
    }

    fn enter(&self, block: &Block) -> Result<(), Defect> {
        match self.shadow {
            Some(shadow) => shadow.enter(block),
            None if block.is_aligned() => Ok(()),
            None => Err(Defect::of(block, DefectKind::Misaligned)),
        }
    }

    fn leave(&self, block: &Block) -> Result<(), Defect> {
        self.shadow.map_or(Ok(()), |shadow| shadow.leave(block))
    }
}
