//! An array of fixed length in a mapping of its own. All that the soak must remember lies in these.

use std::io;
use std::mem::{MaybeUninit, align_of, size_of};
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// An array that no allocator knows of. Pages that are never touched cost nothing.
#[derive(Debug)]
pub struct Pages<T> {
    start: NonNull<T>,
    length: usize,
    mapped_bytes: NonZeroUsize,
}

// SAFETY: the mapping belongs to this value alone, as a box's memory would.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: as above; shared access gives shared access to the entries only.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T> Pages<MaybeUninit<T>> {
    /// An array whose entries are not written yet.
    pub fn uninit(length: usize) -> io::Result<Self> {
        Self::map(length, MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE)
    }

    fn map(length: usize, flags: MapFlags) -> io::Result<Self> {
        let too_long = || io::Error::from(io::ErrorKind::OutOfMemory);
        let bytes = size_of::<T>().checked_mul(length).ok_or_else(too_long)?;
        let mapped_bytes = NonZeroUsize::new(bytes.max(1)).ok_or_else(too_long)?;
        assert!(align_of::<T>() <= 4096, "a mapping begins with a page");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe { mmap_anonymous(None, mapped_bytes, access, flags) }?;
        Ok(Self { start: start.cast(), length, mapped_bytes })
    }
}

impl<T> Pages<T> {
    /// An array of what `entry` makes for each place.
    pub fn from_fn(length: usize, entry: impl FnMut(usize) -> io::Result<T>) -> io::Result<Self> {
        Self::write(Pages::uninit(length)?, entry)
    }

    /// One entry in memory that forked children share.
    pub fn shared(entry: T) -> io::Result<Self> {
        let mut entry = Some(entry);
        Self::write(Pages::map(1, MapFlags::MAP_SHARED)?, |_| Ok(entry.take().expect("one entry is asked for")))
    }

    fn write(mut pages: Pages<MaybeUninit<T>>, mut entry: impl FnMut(usize) -> io::Result<T>) -> io::Result<Self> {
        for (place, slot) in pages.iter_mut().enumerate() {
            slot.write(entry(place)?);
        }
        let written = Self { start: pages.start.cast(), length: pages.length, mapped_bytes: pages.mapped_bytes };
        // The mapping belongs to `written` now.
        std::mem::forget(pages);
        Ok(written)
    }
}

impl<T> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `length` entries, all of which were written (or may stay unwritten, by their type).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        // SAFETY: the entries are valid and the mapping is ours; neither is used after this.
        let unmapped = unsafe {
            std::ptr::drop_in_place(&raw mut **self);
            munmap(self.start.cast(), self.mapped_bytes.get())
        };
        debug_assert!(unmapped.is_ok(), "munmap of a whole mapping: {unmapped:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_made_in_order_and_dropped_once() {
        let dropped = std::rc::Rc::new(());
        let pages = Pages::from_fn(5, |place| Ok((place, dropped.clone()))).unwrap();
        assert_eq!(pages.iter().map(|entry| entry.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(std::rc::Rc::strong_count(&dropped), 6);
        drop(pages);
        assert_eq!(std::rc::Rc::strong_count(&dropped), 1);
    }

    #[test]
    fn an_array_of_impossible_length_is_refused() {
        assert!(Pages::<MaybeUninit<u64>>::uninit(usize::MAX).is_err());
    }
}
