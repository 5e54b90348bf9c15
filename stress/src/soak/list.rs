//! A list of bounded length on pages of its own.

use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;

use super::pages::Pages;

/// What `Vec` would be if it asked no allocator. It never grows beyond what it was made for.
#[derive(Debug)]
pub struct List<T> {
    entries: Pages<MaybeUninit<T>>,
    length: usize,
}

impl<T: Copy> List<T> {
    /// An empty list with room for `capacity` entries.
    pub fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self { entries: Pages::uninit(capacity)?, length: 0 })
    }

    /// Whether another entry finds room.
    pub fn has_room(&self) -> bool {
        self.length < self.entries.len()
    }

    /// Adds an entry at the end.
    ///
    /// # Panics
    ///
    /// If there is no room.
    pub fn push(&mut self, entry: T) {
        self.insert(self.length, entry);
    }

    /// Adds an entry before the one at `place`.
    ///
    /// # Panics
    ///
    /// If there is no room, or no such place.
    pub fn insert(&mut self, place: usize, entry: T) {
        assert!(self.has_room(), "a list of {} entries is full", self.length);
        self.entries.copy_within(place..self.length, place + 1);
        self.entries[place].write(entry);
        self.length += 1;
    }

    /// Takes out the entry at `place`; those behind it move up.
    ///
    /// # Panics
    ///
    /// If there is no such entry.
    pub fn remove(&mut self, place: usize) -> T {
        let entry = self[place];
        self.entries.copy_within(place + 1..self.length, place);
        self.length -= 1;
        entry
    }

    /// Takes out the last entry.
    pub fn pop(&mut self) -> Option<T> {
        (self.length > 0).then(|| self.remove(self.length - 1))
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let written = &self.entries[..self.length];
        // SAFETY: these entries were written, by `insert`, and have the layout of what was written to them.
        unsafe { std::slice::from_raw_parts(written.as_ptr().cast(), written.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_inserted_and_removed_in_order() {
        let mut list = List::new(4).unwrap();
        for (place, entry) in [(0, 'b'), (0, 'a'), (2, 'd'), (2, 'c')] {
            list.insert(place, entry);
        }
        assert_eq!(*list, ['a', 'b', 'c', 'd']);
        assert!(!list.has_room());
        assert_eq!(list.remove(1), 'b');
        assert_eq!(list.pop(), Some('d'));
        list.push('e');
        assert_eq!(*list, ['a', 'c', 'e']);
    }

    #[test]
    #[should_panic(expected = "a list of 1 entries is full")]
    fn a_full_list_takes_no_more() {
        let mut list = List::new(1).unwrap();
        list.push(1);
        list.push(2);
    }
}
