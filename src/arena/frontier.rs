//! Where the used part of a block space ends, in each of its two regions, and that all below is committed. Called by
//! `arena::space`.
//!
//! Invariant: chunks below a frontier have been handed out at some time; they and their headers are committed. Chunks
//! at or above one were never touched. Frontiers only move up, each by one exchange.

use core::ops::Range;
use core::ptr::NonNull;

use super::prefix::Prefix;
use super::space::HEADER_BYTES;
use crate::atomic::{AtomicU32, Ordering};
use crate::limits::{CHUNK_BYTES, SLICE_BYTES, SLICES_PER_CHUNK};
use crate::os::{Kernel, Os};
use crate::stats::counters::By;
use crate::units::ChunkIndex;

/// Bytes of headers of one chunk.
const CHUNK_HEADER_BYTES: usize = SLICES_PER_CHUNK as usize * HEADER_BYTES;

/// The frontiers of one block space.
pub(crate) struct Frontier {
    base: NonNull<u8>,
    /// Chunks in all, the gap with them.
    chunk_count: u32,
    /// Chunks in small pages at the start; the chunk after them is a gap. Zero if there are none.
    first_count: u32,
    /// First chunk never used, below and above the gap. Any thread, only grow.
    first: AtomicU32,
    blocks: AtomicU32,
    first_prefix: Prefix,
    /// Begins a slice before the first chunk above the gap.
    blocks_prefix: Prefix,
    headers_prefix: Prefix,
}

impl Frontier {
    /// Nothing used of `chunk_count` chunks at `base`, of which the first `first_count` are in small pages.
    pub(crate) const fn new(
        base: NonNull<u8>,
        chunk_count: u32,
        first_count: u32,
        [first_prefix, blocks_prefix, headers_prefix]: [Prefix; 3],
    ) -> Self {
        Frontier {
            base,
            chunk_count,
            first_count,
            first: AtomicU32::new(0),
            blocks: AtomicU32::new(if first_count == 0 { 0 } else { first_count + 1 }),
            first_prefix,
            blocks_prefix,
            headers_prefix,
        }
    }

    /// First chunk of the region in hugepages.
    pub(crate) fn blocks_start(&self) -> u32 {
        if self.first_count == 0 { 0 } else { self.first_count + 1 }
    }

    /// Whether hugepages back the chunk.
    pub(crate) fn is_huge_backed(&self, chunk: ChunkIndex) -> bool {
        chunk.0 >= self.blocks_start()
    }

    /// Whether the chunk is the gap between small pages and hugepages, which is never used.
    pub(crate) fn is_gap(&self, chunk: ChunkIndex) -> bool {
        self.first_count > 0 && chunk.0 == self.first_count
    }

    /// Chunks in small pages, and how many of them were ever used.
    pub(crate) fn first_chunks(&self) -> [u32; 2] {
        // Relaxed: a hint that steers placement. Chunks below the frontier stay committed.
        [self.first_count, self.first.load(Ordering::Relaxed)]
    }

    /// The first chunk in hugepages that was never used.
    pub(crate) fn blocks(&self) -> u32 {
        // Relaxed: a hint; who moves the frontier learns by the exchange what it was. Chunks below it stay committed.
        self.blocks.load(Ordering::Relaxed)
    }

    /// Chunks that have been in use at some time: below each frontier.
    pub(crate) fn used_chunks(&self) -> impl Iterator<Item = ChunkIndex> {
        let [_, first] = self.first_chunks();
        (0..first).chain(self.blocks_start()..self.blocks()).map(ChunkIndex)
    }

    /// Bytes that are readable and writable: first blocks, blocks, headers.
    pub(crate) fn committed_bytes(&self) -> [usize; 3] {
        [&self.first_prefix, &self.blocks_prefix, &self.headers_prefix].map(Prefix::committed_bytes)
    }

    /// Bytes of headers of chunks that were used at some time.
    pub(crate) fn used_header_bytes(&self) -> usize {
        self.used_chunks().count() * CHUNK_HEADER_BYTES
    }

    /// The first chunk at or after `chunk` whose address is a multiple of `align_bytes`.
    pub(crate) fn align(&self, chunk: u32, align_bytes: usize) -> Option<u32> {
        let address = self.base.addr().get().checked_add(ChunkIndex(chunk).offset_bytes())?;
        let aligned = address.checked_next_multiple_of(align_bytes)?;
        u32::try_from((aligned - self.base.addr().get()) / CHUNK_BYTES).ok()
    }

    /// Stepped mode: whether a region wants its next step ahead of need.
    pub(crate) fn wants_commit(&self) -> bool {
        self.prefixes().iter().any(|(prefix, used)| prefix.wants_step(*used))
    }

    /// Governor: commits the next step of a region that wants it. Says whether that was done.
    pub(crate) fn commit_ahead<O: Os>(&self, kernel: &Kernel<O>) -> bool {
        self.prefixes().iter().any(|(prefix, used)| prefix.step_ahead(kernel, *used))
    }

    /// The committed prefixes, each with the bytes of it that are in use.
    fn prefixes(&self) -> [(&Prefix, usize); 3] {
        let ([_, first], all) = (self.first_chunks(), self.blocks());
        let blocks = all.saturating_sub(self.blocks_start());
        let last = if blocks > 0 { all } else { first };
        [
            (&self.first_prefix, ChunkIndex(first).offset_bytes()),
            (&self.blocks_prefix, ChunkIndex(blocks).offset_bytes()),
            (&self.headers_prefix, last as usize * CHUNK_HEADER_BYTES),
        ]
    }

    /// The next chunk in small pages that was never used.
    pub(crate) fn take_first<O: Os>(&self, kernel: &Kernel<O>) -> Option<ChunkIndex> {
        // Relaxed: the exchange below decides; memory below the frontier is committed, see `Prefix::ensure`.
        let mut at = self.first.load(Ordering::Relaxed);
        while at < self.first_count {
            let end_bytes = ChunkIndex(at + 1).offset_bytes();
            if !self.first_prefix.ensure(kernel, end_bytes, By::Application)
                || !self.ensure_headers(kernel, at + 1, By::Application)
            {
                return None;
            }
            match self.first.compare_exchange_weak(at, at + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(ChunkIndex(at)),
                Err(now) => at = now,
            }
        }
        None
    }

    /// The next `count` chunks in hugepages that were never used, the first at a multiple of `align_bytes`. Gives the
    /// chunks that were passed over for that, which are the caller's as well, and the first.
    pub(crate) fn take<O: Os>(
        &self,
        kernel: &Kernel<O>,
        count: u32,
        align_bytes: usize,
        by: By,
    ) -> Option<(Range<u32>, ChunkIndex)> {
        loop {
            let at = self.blocks();
            let start = self.align(at, align_bytes)?;
            match self.advance(kernel, at, (start - at).checked_add(count)?, by) {
                Some(()) => return Some((at..start, ChunkIndex(start))),
                // The kernel refused, or another thread moved the frontier.
                None if self.blocks() == at => return None,
                None => {}
            }
        }
    }

    /// Moves the frontier in hugepages from `at` by `count` chunks, committing what that takes.
    pub(crate) fn advance<O: Os>(&self, kernel: &Kernel<O>, at: u32, count: u32, by: By) -> Option<()> {
        let end = at.checked_add(count).filter(|end| *end <= self.chunk_count)?;
        let blocks_bytes = SLICE_BYTES + ChunkIndex(end - self.blocks_start()).offset_bytes();
        if !self.blocks_prefix.ensure(kernel, blocks_bytes, by) || !self.ensure_headers(kernel, end, by) {
            return None;
        }
        // Relaxed: claims the chunks only; their words are still zero.
        self.blocks.compare_exchange(at, end, Ordering::Relaxed, Ordering::Relaxed).ok().map(|_| ())
    }

    fn ensure_headers<O: Os>(&self, kernel: &Kernel<O>, chunks: u32, by: By) -> bool {
        self.headers_prefix.ensure(kernel, chunks as usize * CHUNK_HEADER_BYTES, by)
    }
}
