//! The block space of a reservation: chunks cut into slices, handed out as runs. Called by `arena::registry`.
//!
//! Invariant: a run has one owner from the exchange that claimed its bits to the one that gives them back. Which chunks
//! are worth a look is kept in seven buckets by free slices; they are hints, repaired by whoever finds one wrong.
//! Chunks at or above a frontier have never been used and are in no bucket.

use core::ptr::NonNull;

use super::layout::BUCKETS;
use super::prefix::Prefix;
use crate::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::limits::{CHUNK_BYTES, FIRST_WIDE_CHUNKS, SLICE_BYTES, SLICES_PER_CHUNK};
use crate::lockfree::hint_set::HintSet;
use crate::lockfree::slice_bitmap::{ChunkState, SliceBitmap};
use crate::os::{Kernel, Os};
use crate::units::{ChunkIndex, SliceIndex, Slices};

/// Bytes of the header that each slice has in the headers region. Two cache lines: the first for the owner, the second
/// for everybody.
pub(crate) const HEADER_BYTES: usize = 128;

/// Candidates that one search tries in a bucket before it goes on to an emptier one: keeps a search short where chunks
/// are fragmented.
const TRIES_PER_BUCKET: u32 = 16;

/// Free chunks that one search for a longer run tries before it takes chunks that were never used.
const TRIES_FOR_CHUNKS: u32 = 64;

/// Bucket of chunks that are free and hold old data.
const FREE_DIRTY: usize = 5;
/// Bucket of chunks that are free and zero.
const FREE_ZERO: usize = 6;

/// The record of one chunk.
pub(crate) struct Chunk {
    bitmap: SliceBitmap,
    /// Whether the chunk is in the queue of retired ranges. Any thread.
    pub(crate) queued: AtomicBool,
    /// Coarse milliseconds of the moment it became free. Any thread, the last one wins.
    pub(crate) retired_ms: AtomicU32,
}

/// Bytes of a chunk's record.
pub(crate) const CHUNK_RECORD_BYTES: usize = size_of::<Chunk>();
static_assertions::const_assert_eq!(CHUNK_RECORD_BYTES, 16);

/// A claimed run of slices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) start: SliceIndex,
    pub(crate) count: Slices,
    /// Whether all of it reads as zeroes.
    pub(crate) zeroed: bool,
}

/// Told of each chunk that has become free and holds old data.
pub(crate) trait Retire {
    fn retire_chunk(&self, chunk: ChunkIndex);
}

/// One block space.
pub(crate) struct Space {
    base: NonNull<u8>,
    headers: NonNull<u8>,
    /// Chunks in small pages at the start; the chunk after them is a gap. Zero if there are none.
    first_count: u32,
    chunks: &'static [Chunk],
    buckets: [HintSet<'static>; BUCKETS],
    /// First chunk never used, below and above the gap. Any thread, only grow.
    first_frontier: AtomicU32,
    frontier: AtomicU32,
    first_prefix: Prefix,
    blocks_prefix: Prefix,
    headers_prefix: Prefix,
}

/// The parts that a space is made of.
pub(crate) struct SpaceParts {
    pub(crate) base: NonNull<u8>,
    pub(crate) headers: NonNull<u8>,
    pub(crate) first_count: u32,
    pub(crate) chunks: &'static [Chunk],
    pub(crate) buckets: [HintSet<'static>; BUCKETS],
    pub(crate) first_prefix: Prefix,
    pub(crate) blocks_prefix: Prefix,
    pub(crate) headers_prefix: Prefix,
}

fn bucket_of(state: ChunkState) -> Option<usize> {
    match state.free_count() {
        0 => None,
        1..=2 => Some(0),
        3..=4 => Some(1),
        5..=8 => Some(2),
        9..=16 => Some(3),
        17..SLICES_PER_CHUNK => Some(4),
        _ if state.is_dirty() => Some(FREE_DIRTY),
        _ => Some(FREE_ZERO),
    }
}

/// The fullest bucket that can have `count` free slices.
fn first_bucket(count: u32) -> usize {
    match count {
        0..=2 => 0,
        3..=4 => 1,
        5..=8 => 2,
        9..=16 => 3,
        17..SLICES_PER_CHUNK => 4,
        _ => FREE_DIRTY,
    }
}

impl Space {
    pub(crate) fn new(parts: SpaceParts) -> Self {
        let blocks_start = if parts.first_count == 0 { 0 } else { parts.first_count + 1 };
        Space {
            base: parts.base,
            headers: parts.headers,
            first_count: parts.first_count,
            chunks: parts.chunks,
            buckets: parts.buckets,
            first_frontier: AtomicU32::new(0),
            frontier: AtomicU32::new(blocks_start),
            first_prefix: parts.first_prefix,
            blocks_prefix: parts.blocks_prefix,
            headers_prefix: parts.headers_prefix,
        }
    }

    /// The lowest address.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes from the base to the end of the last chunk.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES
    }

    /// The headers: one of [`HEADER_BYTES`] for each slice.
    pub(crate) fn headers(&self) -> NonNull<u8> {
        self.headers
    }

    /// Bytes from the base whose slices have committed headers.
    pub(crate) fn reached_bytes(&self) -> usize {
        let headers = self.headers_prefix.committed_bytes() / HEADER_BYTES;
        headers.saturating_mul(SLICE_BYTES).min(self.bytes())
    }

    /// The record of a chunk.
    pub(crate) fn chunk(&self, chunk: ChunkIndex) -> Option<&Chunk> {
        self.chunks.get(chunk.0 as usize)
    }

    /// The first byte of a slice.
    pub(crate) fn address(&self, slice: SliceIndex) -> NonNull<u8> {
        debug_assert!(slice.offset_bytes() <= self.bytes());
        // SAFETY: slices come from runs of this space, so the offset is at most its size.
        unsafe { self.base.byte_add(slice.offset_bytes()) }
    }

    /// First chunk of the region in hugepages.
    fn blocks_start(&self) -> u32 {
        if self.first_count == 0 { 0 } else { self.first_count + 1 }
    }

    /// Whether hugepages back the chunk.
    pub(crate) fn is_huge_backed(&self, chunk: ChunkIndex) -> bool {
        chunk.0 >= self.blocks_start()
    }

    /// Chunks that have been in use at some time: below each frontier.
    pub(crate) fn used_chunks(&self) -> impl Iterator<Item = ChunkIndex> {
        // Relaxed: a hint for a scan.
        let first = self.first_frontier.load(Ordering::Relaxed);
        let blocks = self.frontier.load(Ordering::Relaxed);
        (0..first).chain(self.blocks_start()..blocks).map(ChunkIndex)
    }

    /// Claims `count` slices at a multiple of `align_bytes`, a power of two. Prefers the fullest chunk that fits; more
    /// than a chunk takes whole chunks and the start of the next, such without old data if it must be `zeroed`.
    pub(crate) fn allocate<O: Os>(
        &self,
        kernel: &Kernel<O>,
        count: Slices,
        align_bytes: usize,
        zeroed: bool,
        sink: &impl Retire,
    ) -> Option<Run> {
        if count.0 <= SLICES_PER_CHUNK && align_bytes <= CHUNK_BYTES {
            let align = (align_bytes / SLICE_BYTES).max(1) as u32;
            self.allocate_in_chunk(kernel, count, align)
        } else {
            self.allocate_chunks(kernel, count, align_bytes.max(CHUNK_BYTES), zeroed, sink)
        }
    }

    fn allocate_in_chunk<O: Os>(&self, kernel: &Kernel<O>, count: Slices, align: u32) -> Option<Run> {
        // Relaxed: a hint that steers placement.
        let small_program = self.first_frontier.load(Ordering::Relaxed) < FIRST_WIDE_CHUNKS.min(self.first_count);
        let in_first = count.0 == 1 || small_program;
        let lowest = if in_first { 0 } else { self.blocks_start() as usize };
        self.search(lowest, TRIES_PER_BUCKET, count, align)
            .or_else(|| self.claim_fresh(kernel, in_first, count, align))
            // Before this space gives up: every chunk, wherever it lies.
            .or_else(|| self.search(0, u32::MAX, count, align))
            .or_else(|| self.claim_fresh(kernel, true, count, align))
    }

    /// Claims a run in the fullest chunk that fits, among the first `tries` candidates of each bucket from chunk
    /// `lowest`.
    fn search(&self, lowest: usize, tries: u32, count: Slices, align: u32) -> Option<Run> {
        for (number, bucket) in self.buckets.iter().enumerate().skip(first_bucket(count.0)) {
            let mut from = lowest;
            for _ in 0..tries {
                let Some(found) = bucket.first_from(from) else { break };
                let chunk = ChunkIndex(found as u32);
                if let Some(run) = self.claim_in(chunk, count, align) {
                    return Some(run);
                }
                self.repair(chunk, number);
                from = found + 1;
            }
        }
        None
    }

    /// Claims a run in a chunk that was never used.
    fn claim_fresh<O: Os>(&self, kernel: &Kernel<O>, in_first: bool, count: Slices, align: u32) -> Option<Run> {
        loop {
            let fresh_first = if in_first { self.take_fresh_first(kernel) } else { None };
            let fresh = fresh_first.or_else(|| self.take_fresh(kernel, 1, CHUNK_BYTES))?;
            // A fresh chunk is in no bucket yet. If a neighbour has grown into it, what is left of it is for others.
            let claim = self.chunk(fresh)?.bitmap.claim_run(count.0, align);
            self.moved(fresh, None, claim.map_or(Some(FREE_ZERO), |claim| bucket_of(claim.after)));
            if let Some(claim) = claim {
                return Some(Run { start: fresh.slice(claim.start), count, zeroed: claim.zeroed });
            }
        }
    }

    fn claim_in(&self, chunk: ChunkIndex, count: Slices, align: u32) -> Option<Run> {
        let claim = self.chunk(chunk)?.bitmap.claim_run(count.0, align)?;
        self.moved(chunk, bucket_of(claim.before), bucket_of(claim.after));
        Some(Run { start: chunk.slice(claim.start), count, zeroed: claim.zeroed })
    }

    /// Claims whole chunks and the start of the last one, for a run longer or more aligned than a chunk.
    fn allocate_chunks<O: Os>(
        &self,
        kernel: &Kernel<O>,
        count: Slices,
        align_bytes: usize,
        zeroed: bool,
        sink: &impl Retire,
    ) -> Option<Run> {
        self.search_chunks(TRIES_FOR_CHUNKS, count, align_bytes, zeroed, sink)
            .or_else(|| self.claim_fresh_chunks(kernel, count, align_bytes, sink))
            // Before this space gives up: every free chunk.
            .or_else(|| self.search_chunks(u32::MAX, count, align_bytes, false, sink))
    }

    /// Claims a run that starts in one of the first `tries` free chunks that are worth a look.
    fn search_chunks(
        &self,
        tries: u32,
        count: Slices,
        align_bytes: usize,
        zeroed: bool,
        sink: &impl Retire,
    ) -> Option<Run> {
        let chunks = count.0.div_ceil(SLICES_PER_CHUNK);
        let [dirty, zero] = [self.buckets.get(FREE_DIRTY)?, self.buckets.get(FREE_ZERO)?];
        let mut from = self.blocks_start();
        for _ in 0..tries {
            let dirty = if zeroed { None } else { dirty.first_from(from as usize) };
            let next = match (dirty, zero.first_from(from as usize)) {
                (Some(one), Some(other)) => one.min(other),
                (one, other) => one.or(other)?,
            };
            let start = self.align_chunk(next as u32, align_bytes)?;
            let obstacle = (start..start.saturating_add(chunks)).find(|chunk| !self.is_free(*chunk, zeroed));
            let claimed = match obstacle {
                Some(_) => None,
                None => self.claim_exactly(ChunkIndex(start).slice(0), count, sink),
            };
            if let Some(zeroed) = claimed {
                return Some(Run { start: ChunkIndex(start).slice(0), count, zeroed });
            }
            from = obstacle.unwrap_or(start) + 1;
        }
        None
    }

    /// Claims a run in chunks that were never used.
    fn claim_fresh_chunks<O: Os>(
        &self,
        kernel: &Kernel<O>,
        count: Slices,
        align_bytes: usize,
        sink: &impl Retire,
    ) -> Option<Run> {
        let chunks = count.0.div_ceil(SLICES_PER_CHUNK);
        loop {
            let first = self.take_fresh(kernel, chunks, align_bytes)?;
            let start = first.slice(0);
            if let Some(zeroed) = self.claim_exactly(start, count, sink) {
                return Some(Run { start, count, zeroed });
            }
            // A neighbour has grown into them: what it left is for others.
            for chunk in first.0..first.0 + chunks {
                self.moved(ChunkIndex(chunk), None, Some(FREE_ZERO));
            }
        }
    }

    /// The first chunk at or after `chunk` whose address is a multiple of `align_bytes`.
    fn align_chunk(&self, chunk: u32, align_bytes: usize) -> Option<u32> {
        let address = self.base.addr().get().checked_add(ChunkIndex(chunk).offset_bytes())?;
        let aligned = address.checked_next_multiple_of(align_bytes)?;
        u32::try_from((aligned - self.base.addr().get()) / CHUNK_BYTES).ok()
    }

    /// Whether a chunk below the frontier is free, and holds no old data if it must be `zeroed`.
    fn is_free(&self, chunk: u32, zeroed: bool) -> bool {
        // Relaxed: a hint, the claim decides.
        chunk < self.frontier.load(Ordering::Relaxed)
            && self.chunk(ChunkIndex(chunk)).is_some_and(|record| {
                let state = record.bitmap.state();
                state.is_unused() && !(zeroed && state.is_dirty())
            })
    }

    /// Claims exactly the run at `start`, or nothing. Says whether it reads as zeroes.
    fn claim_exactly(&self, start: SliceIndex, count: Slices, sink: &impl Retire) -> Option<bool> {
        let mut zeroed = true;
        for (part, done) in parts(start, count) {
            let claim =
                self.chunk(part.start.chunk()).and_then(|c| c.bitmap.claim_at(part.start.in_chunk(), part.count.0));
            match claim {
                Some(claim) => {
                    zeroed &= claim.zeroed;
                    self.moved(part.start.chunk(), bucket_of(claim.before), bucket_of(claim.after));
                }
                None => {
                    if done.0 > 0 {
                        self.free(start, done, sink);
                    }
                    return None;
                }
            }
        }
        Some(zeroed)
    }

    /// Makes the run that ends before `start` longer by `count` slices, in place. Says whether they read as zeroes.
    pub(crate) fn extend<O: Os>(
        &self,
        kernel: &Kernel<O>,
        start: SliceIndex,
        count: Slices,
        sink: &impl Retire,
    ) -> Option<bool> {
        let last = SliceIndex(start.0.checked_add(count.0)?.checked_sub(1)?).chunk();
        // Relaxed: chunks below the frontier stay committed.
        if !self.is_huge_backed(start.chunk()) && last.0 >= self.first_frontier.load(Ordering::Relaxed) {
            return None;
        }
        // Relaxed: a stale value makes the exchange below fail.
        let frontier = self.frontier.load(Ordering::Relaxed);
        if self.is_huge_backed(start.chunk()) && last.0 >= frontier {
            let missing = last.0 + 1 - frontier;
            // Cheap refusal first: what lies below the frontier must be free.
            if (start.chunk().0 + 1..frontier).any(|chunk| !self.is_free(chunk, false)) {
                return None;
            }
            self.advance(kernel, frontier, missing)?;
            for chunk in frontier..=last.0 {
                self.moved(ChunkIndex(chunk), None, Some(FREE_ZERO));
            }
        }
        self.claim_exactly(start, count, sink)
    }

    /// Gives a run back. `false` if some slice of it was not in use.
    pub(crate) fn free(&self, start: SliceIndex, count: Slices, sink: &impl Retire) -> bool {
        for (part, _) in parts(start, count) {
            let index = part.start.chunk();
            let Some(chunk) = self.chunk(index) else { return false };
            let Some((before, after)) = chunk.bitmap.release(part.start.in_chunk(), part.count.0) else { return false };
            self.moved(index, bucket_of(before), bucket_of(after));
            if after.is_unused() && after.is_dirty() {
                sink.retire_chunk(index);
            }
        }
        true
    }

    /// Takes a free dirty chunk out of use for a purge.
    pub(crate) fn begin_purge(&self, chunk: ChunkIndex) -> bool {
        let taken = self.chunk(chunk).is_some_and(|record| record.bitmap.begin_purge());
        if taken {
            self.moved(chunk, Some(FREE_DIRTY), None);
        }
        taken
    }

    /// Ends what `begin_purge` started.
    pub(crate) fn finish_purge(&self, chunk: ChunkIndex, purged: bool) {
        if let Some(record) = self.chunk(chunk) {
            let state = record.bitmap.finish_purge(purged);
            self.moved(chunk, None, bucket_of(state));
        }
    }

    /// Whether the chunk is free and holds old data.
    pub(crate) fn is_retired(&self, chunk: ChunkIndex) -> bool {
        self.chunk(chunk).is_some_and(|record| {
            let state = record.bitmap.state();
            state.is_unused() && state.is_dirty()
        })
    }

    /// Slices in use.
    #[cfg(test)]
    pub(crate) fn used_slices(&self) -> u32 {
        let used = |chunk| self.chunk(chunk).map_or(0, |c: &Chunk| SLICES_PER_CHUNK - c.bitmap.state().free_count());
        self.used_chunks().map(used).sum()
    }

    /// Moves a chunk to the bucket of its new state, and again if the state has changed meanwhile: whoever changed it
    /// last leaves it in the right place.
    fn moved(&self, chunk: ChunkIndex, before: Option<usize>, after: Option<usize>) {
        let [mut from, mut to] = [before, after];
        while from != to {
            if let Some(bucket) = from.and_then(|number| self.buckets.get(number)) {
                bucket.remove(chunk.0 as usize);
            }
            if let Some(bucket) = to.and_then(|number| self.buckets.get(number)) {
                bucket.insert(chunk.0 as usize);
            }
            from = to;
            to = self.chunk(chunk).and_then(|record| bucket_of(record.bitmap.state()));
        }
    }

    /// Takes a chunk out of a bucket where it was found but does not belong.
    fn repair(&self, chunk: ChunkIndex, bucket: usize) {
        let right = self.chunk(chunk).and_then(|record| bucket_of(record.bitmap.state()));
        if right != Some(bucket) {
            self.moved(chunk, Some(bucket), right);
        }
    }

    /// The next chunk in small pages that was never used.
    fn take_fresh_first<O: Os>(&self, kernel: &Kernel<O>) -> Option<ChunkIndex> {
        // Relaxed: the exchange below decides; memory below the frontier is committed, see `Prefix::ensure`.
        let mut at = self.first_frontier.load(Ordering::Relaxed);
        while at < self.first_count {
            if !self.first_prefix.ensure(kernel, ChunkIndex(at + 1).offset_bytes())
                || !self.ensure_headers(kernel, at + 1)
            {
                return None;
            }
            match self.first_frontier.compare_exchange_weak(at, at + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(ChunkIndex(at)),
                Err(now) => at = now,
            }
        }
        None
    }

    /// The next `count` chunks in hugepages that were never used, the first at a multiple of `align_bytes`.
    fn take_fresh<O: Os>(&self, kernel: &Kernel<O>, count: u32, align_bytes: usize) -> Option<ChunkIndex> {
        loop {
            // Relaxed: as above.
            let at = self.frontier.load(Ordering::Relaxed);
            let start = self.align_chunk(at, align_bytes)?;
            if start.checked_add(count)? as usize > self.chunks.len() {
                return None;
            }
            match self.advance(kernel, at, start - at + count) {
                Some(()) => {
                    for skipped in at..start {
                        self.moved(ChunkIndex(skipped), None, Some(FREE_ZERO));
                    }
                    return Some(ChunkIndex(start));
                }
                // Relaxed: the kernel refused, or another thread moved the frontier.
                None if self.frontier.load(Ordering::Relaxed) == at => return None,
                None => {}
            }
        }
    }

    /// Moves the frontier from `at` by `count` chunks, committing what that takes.
    fn advance<O: Os>(&self, kernel: &Kernel<O>, at: u32, count: u32) -> Option<()> {
        let end = at.checked_add(count).filter(|end| *end as usize <= self.chunks.len())?;
        let blocks_bytes = SLICE_BYTES + ChunkIndex(end - self.blocks_start()).offset_bytes();
        if !self.blocks_prefix.ensure(kernel, blocks_bytes) || !self.ensure_headers(kernel, end) {
            return None;
        }
        // Relaxed: claims the chunks only; their words are still zero.
        self.frontier.compare_exchange(at, end, Ordering::Relaxed, Ordering::Relaxed).ok().map(|_| ())
    }

    fn ensure_headers<O: Os>(&self, kernel: &Kernel<O>, chunks: u32) -> bool {
        self.headers_prefix.ensure(kernel, chunks as usize * SLICES_PER_CHUNK as usize * HEADER_BYTES)
    }
}

/// A run cut at chunk boundaries: each part, and how many slices come before it.
fn parts(start: SliceIndex, count: Slices) -> impl Iterator<Item = (Run, Slices)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let at = start.plus(Slices(done));
        let take = (count.0 - done).min(SLICES_PER_CHUNK - at.in_chunk());
        let part = (Run { start: at, count: Slices(take), zeroed: false }, Slices(done));
        done += take;
        (take > 0).then_some(part)
    })
}
