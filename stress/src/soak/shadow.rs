//! The addresses of all live blocks of all threads: no two may share a byte.
//!
//! A block is cut at the borders of regions of 1 MiB; the pieces of one region are kept in the shard of that region,
//! each under a lock of its own, so that threads seldom wait for each other. A shard is a sorted array, which suits the
//! few thousand blocks of a soak.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::block::Block;
use super::list::List;
use super::pages::Pages;
use super::violation::{Defect, DefectKind};

const REGION_BYTES: usize = 1 << 20;
const SHARDS: usize = 64;

/// A piece of a block: address of its first byte, and address after its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    start: usize,
    end: usize,
}

/// The map of live blocks.
#[derive(Debug)]
pub struct Shadow {
    shards: Pages<Mutex<List<Piece>>>,
    live_bytes: AtomicU64,
    peak_bytes: AtomicU64,
}

impl Shadow {
    /// A map with room for `blocks` blocks that have `bytes` together.
    pub fn new(blocks: usize, bytes: u64) -> io::Result<Self> {
        // Each block adds at most one border that its size does not explain.
        let pieces = 2 * blocks + bytes as usize / REGION_BYTES + 1;
        let shards = Pages::from_fn(SHARDS, |_| Ok(Mutex::new(List::new(pieces)?)))?;
        Ok(Self { shards, live_bytes: AtomicU64::new(0), peak_bytes: AtomicU64::new(0) })
    }

    /// Notes a block that the allocator has just given out.
    pub fn enter(&self, block: &Block) -> Result<(), Defect> {
        if !block.is_aligned() {
            return Err(Defect::of(block, DefectKind::Misaligned));
        }
        for piece in pieces(block) {
            let mut shard = self.shard(piece);
            let place = shard.partition_point(|other| other.end <= piece.start);
            match shard.get(place) {
                Some(other) if other.start < piece.end => {
                    let twice = other.start == block.start();
                    let other = (other.start, other.end);
                    let kind = if twice { DefectKind::HandedOutTwice } else { DefectKind::Overlap { other } };
                    return Err(Defect::of(block, kind));
                }
                _ => shard.insert(place, piece),
            }
        }
        let bytes = block.layout.size() as u64;
        let live_bytes = self.live_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak_bytes.fetch_max(live_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets a block, before the allocator gets it back.
    pub fn leave(&self, block: &Block) -> Result<(), Defect> {
        for piece in pieces(block) {
            let mut shard = self.shard(piece);
            let place = shard.binary_search_by_key(&piece.start, |other| other.start);
            match place {
                Ok(place) if shard[place] == piece => drop(shard.remove(place)),
                _ => return Err(Defect::of(block, DefectKind::Unknown)),
            }
        }
        self.live_bytes.fetch_sub(block.layout.size() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes in live blocks.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }

    /// The most bytes that live blocks had together.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes.load(Ordering::Relaxed)
    }

    /// Whether no block is live.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| lock(shard).is_empty())
    }

    fn shard(&self, piece: Piece) -> MutexGuard<'_, List<Piece>> {
        lock(&self.shards[piece.start / REGION_BYTES % SHARDS])
    }
}

fn lock(shard: &Mutex<List<Piece>>) -> MutexGuard<'_, List<Piece>> {
    shard.lock().expect("no thread panics while it holds a shard")
}

fn pieces(block: &Block) -> impl Iterator<Item = Piece> + use<> {
    let (start, end) = (block.start(), block.end());
    let mut from = start;
    std::iter::from_fn(move || {
        let to = (from / REGION_BYTES + 1).saturating_mul(REGION_BYTES).min(end);
        (from < end).then(|| Piece { start: std::mem::replace(&mut from, to), end: to })
    })
}

#[cfg(test)]
mod tests {
    use std::alloc::Layout;
    use std::ptr::without_provenance_mut;

    use super::*;

    fn block(start: usize, bytes: usize) -> Block {
        Block::new(without_provenance_mut(start), Layout::from_size_align(bytes, 1).unwrap(), 0).unwrap()
    }

    #[test]
    fn neighbours_are_apart_and_overlaps_are_not() {
        let shadow = Shadow::new(100, 1 << 30).unwrap();
        let live = block(0x20_0010, 5 << 20);
        shadow.enter(&live).unwrap();
        shadow.enter(&block(0x20_000f, 1)).unwrap();
        shadow.enter(&block(live.end(), 1)).unwrap();
        for (start, bytes) in
            [(0x20_000f, 1), (0x20_0011, 1), (live.end() - 1, 5), (0x1f_0000, 64 << 20), (0x40_0000, 1)]
        {
            let defect = shadow.enter(&block(start, bytes)).unwrap_err();
            assert!(matches!(defect.kind, DefectKind::Overlap { .. } | DefectKind::HandedOutTwice), "{defect}");
        }
        assert_eq!(shadow.enter(&live).unwrap_err().kind, DefectKind::HandedOutTwice);
    }

    #[test]
    fn what_has_left_may_be_given_out_again() {
        let shadow = Shadow::new(100, 1 << 30).unwrap();
        let live = block(0x30_0000 - 8, 3 << 20);
        shadow.enter(&live).unwrap();
        assert!(!shadow.is_empty());
        shadow.leave(&live).unwrap();
        assert!(shadow.is_empty());
        assert_eq!((shadow.live_bytes(), shadow.peak_bytes()), (0, 3 << 20));
        assert_eq!(shadow.leave(&live).unwrap_err().kind, DefectKind::Unknown);
        shadow.enter(&live).unwrap();
    }

    #[test]
    fn a_wrong_alignment_is_found() {
        let shadow = Shadow::new(1, 1 << 20).unwrap();
        let layout = Layout::from_size_align(32, 32).unwrap();
        let block = Block::new(without_provenance_mut(0x1010), layout, 0).unwrap();
        assert_eq!(shadow.enter(&block).unwrap_err().kind, DefectKind::Misaligned);
    }
}
