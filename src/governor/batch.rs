//! Ranges that are purged together: neighbours merged into one range. Pure. Filled by `arena::retired`, emptied by
//! `governor::worker`.
//!
//! Invariant: pieces are whole chunks of one kind of backing, each inside one mapping; regions are kept apart by gaps,
//! so that merged neighbours are inside one mapping as well.

use core::ptr::NonNull;

use crate::limits::BATCH_PIECES_MAX;
use crate::os::Range;

/// A range that the governor has taken out of use: nobody else uses it until it is finished.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) base: NonNull<u8>,
    pub(crate) bytes: usize,
    /// Whether hugepages should back it.
    pub(crate) huge: bool,
    /// By which number the source knows it.
    pub(crate) slot: usize,
}

impl Piece {
    fn start(&self) -> usize {
        self.base.addr().get()
    }
}

/// Some pieces.
pub(crate) struct Batch {
    pieces: [Option<Piece>; BATCH_PIECES_MAX],
    count: usize,
    bytes: usize,
}

impl Batch {
    /// No pieces.
    pub(crate) const fn new() -> Self {
        Batch { pieces: [None; BATCH_PIECES_MAX], count: 0, bytes: 0 }
    }

    /// Bytes of all pieces.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether hugepages should back the pieces.
    pub(crate) fn is_huge(&self) -> bool {
        self.pieces().next().is_some_and(|piece| piece.huge)
    }

    /// Whether another piece of this kind may be put in.
    pub(crate) fn takes(&self, huge: bool) -> bool {
        self.count < BATCH_PIECES_MAX && (self.is_empty() || self.is_huge() == huge)
    }

    /// Puts a piece in; only if [`takes`](Self::takes) says so.
    pub(crate) fn push(&mut self, piece: Piece) {
        debug_assert!(self.takes(piece.huge));
        if let Some(place) = self.pieces.get_mut(self.count) {
            *place = Some(piece);
            self.count += 1;
            self.bytes += piece.bytes;
        }
    }

    /// The pieces, in the order of addresses once sorted.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().take(self.count).flatten()
    }

    /// Puts the pieces in the order of their addresses.
    pub(crate) fn sort(&mut self) {
        if let Some(pieces) = self.pieces.get_mut(..self.count) {
            pieces.sort_unstable_by_key(|piece| piece.as_ref().map_or(usize::MAX, Piece::start));
        }
    }

    /// Of sorted pieces: the ranges that they make up, and how many pieces each takes.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (Range, usize)> {
        let mut pieces = self.pieces().peekable();
        core::iter::from_fn(move || {
            let first = pieces.next()?;
            let (mut bytes, mut count) = (first.bytes, 1);
            while let Some(next) = pieces.next_if(|next| next.start() == first.start() + bytes) {
                bytes += next.bytes;
                count += 1;
            }
            Some((Range { base: first.base, bytes }, count))
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::limits::CHUNK_BYTES;

    fn batch(chunks: &[(usize, usize)]) -> Batch {
        let mut batch = Batch::new();
        for (slot, (start, count)) in chunks.iter().enumerate() {
            let base = NonNull::new(core::ptr::without_provenance_mut((start + 1) * CHUNK_BYTES)).unwrap();
            batch.push(Piece { base, bytes: count * CHUNK_BYTES, huge: true, slot });
        }
        batch
    }

    /// Start and length in chunks, and how many pieces.
    fn merged(chunks: &[(usize, usize)]) -> Vec<(usize, usize, usize)> {
        let mut batch = batch(chunks);
        batch.sort();
        let in_chunks = |range: Range| (range.base.addr().get() / CHUNK_BYTES - 1, range.bytes / CHUNK_BYTES);
        batch.ranges().map(|(range, count)| (in_chunks(range).0, in_chunks(range).1, count)).collect()
    }

    #[test]
    fn neighbours_become_one_range_in_whatever_order_they_came() {
        assert_eq!(merged(&[]), []);
        assert_eq!(merged(&[(5, 1)]), [(5, 1, 1)]);
        assert_eq!(merged(&[(7, 1), (5, 2), (4, 1)]), [(4, 4, 3)]);
        assert_eq!(merged(&[(9, 1), (1, 1), (5, 2), (2, 1)]), [(1, 2, 2), (5, 2, 1), (9, 1, 1)]);
    }

    #[test]
    fn a_batch_takes_one_kind_and_a_bounded_number() {
        let mut batch = batch(&[(1, 1)]);
        assert!(batch.takes(true) && !batch.takes(false));
        for chunk in 1..BATCH_PIECES_MAX {
            assert!(batch.takes(true));
            let base = NonNull::new(core::ptr::without_provenance_mut((chunk + 9) * CHUNK_BYTES)).unwrap();
            batch.push(Piece { base, bytes: CHUNK_BYTES, huge: true, slot: chunk });
        }
        assert!(!batch.takes(true));
        assert_eq!(batch.bytes(), BATCH_PIECES_MAX * CHUNK_BYTES);
    }
}
