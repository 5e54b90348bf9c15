//! The block space of a reservation: chunks cut into slices, handed out as runs. Called by `arena::registry`.
//!
//! Invariant: a run has one owner from the exchange that claimed its bits to the one that gives them back. Which chunks
//! are worth a look is kept in seven buckets by free slices; they are hints, repaired by whoever finds one wrong.
//! Chunks at or above a frontier (`arena::frontier`) have never been used and are in no bucket.

use core::ptr::NonNull;

use super::frontier::Frontier;
use super::layout::BUCKETS;
use crate::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::limits::{CHUNK_BYTES, SLICE_BYTES, SLICES_PER_CHUNK};
use crate::lockfree::hint_set::HintSet;
use crate::lockfree::slice_bitmap::{ChunkState, Claim, SliceBitmap};
use crate::os::{Kernel, Os};
use crate::stats::counters::By;
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
    chunks: &'static [Chunk],
    buckets: [HintSet<'static>; BUCKETS],
    frontier: Frontier,
    /// Whether chunks are pages of the explicit pool, which stay for ever: purged, they would not be set aside any
    /// more.
    is_pool: bool,
    /// Whether nothing more is handed out. Any thread.
    closed: AtomicBool,
    /// Chunks that hugepages back, handed out while they were cold. Any thread.
    cold_claims: AtomicU64,
}

/// The parts that a space is made of.
pub(crate) struct SpaceParts {
    pub(crate) base: NonNull<u8>,
    pub(crate) headers: NonNull<u8>,
    pub(crate) chunks: &'static [Chunk],
    pub(crate) buckets: [HintSet<'static>; BUCKETS],
    pub(crate) frontier: Frontier,
    pub(crate) is_pool: bool,
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
        Space {
            base: parts.base,
            headers: parts.headers,
            chunks: parts.chunks,
            buckets: parts.buckets,
            frontier: parts.frontier,
            is_pool: parts.is_pool,
            closed: AtomicBool::new(false),
            cold_claims: AtomicU64::new(0),
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
        let [.., headers] = self.frontier.committed_bytes();
        (headers / HEADER_BYTES).saturating_mul(SLICE_BYTES).min(self.bytes())
    }

    /// The record of a chunk.
    pub(crate) fn chunk(&self, chunk: ChunkIndex) -> Option<&Chunk> {
        self.chunks.get(chunk.0 as usize)
    }

    /// The state of a chunk at this moment.
    pub(crate) fn chunk_state(&self, chunk: ChunkIndex) -> Option<ChunkState> {
        self.chunk(chunk).map(|record| record.bitmap.state())
    }

    /// Whether chunks are pages of the explicit pool.
    pub(crate) fn is_pool(&self) -> bool {
        self.is_pool
    }

    /// Hands nothing more out.
    pub(crate) fn close(&self) {
        // Relaxed: a forked child has one thread.
        self.closed.store(true, Ordering::Relaxed);
    }

    fn is_closed(&self) -> bool {
        // Relaxed: as above.
        self.closed.load(Ordering::Relaxed)
    }

    /// Where the used part ends.
    pub(crate) fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Chunks that have been in use at some time.
    pub(crate) fn used_chunks(&self) -> impl Iterator<Item = ChunkIndex> {
        self.frontier.used_chunks()
    }

    /// The first byte of a slice.
    pub(crate) fn address(&self, slice: SliceIndex) -> NonNull<u8> {
        debug_assert!(slice.offset_bytes() <= self.bytes());
        // SAFETY: slices come from runs of this space, so the offset is at most its size.
        unsafe { self.base.byte_add(slice.offset_bytes()) }
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
        if self.is_closed() {
            None
        } else if count.0 <= SLICES_PER_CHUNK && align_bytes <= CHUNK_BYTES {
            let align = (align_bytes / SLICE_BYTES).max(1) as u32;
            self.allocate_in_chunk(kernel, count, align)
        } else {
            self.allocate_chunks(kernel, count, align_bytes.max(CHUNK_BYTES), zeroed, sink)
        }
    }

    /// Claims exactly the run at `start`, or nothing. Not in a chunk that is free as a whole: that is to be purged,
    /// or for runs that need one.
    pub(crate) fn claim_again(&self, start: SliceIndex, count: Slices, sink: &impl Retire) -> Option<Run> {
        if self.is_closed() || self.is_free(start.chunk().0, false) {
            return None;
        }
        let zeroed = self.claim_exactly(start, count, sink)?;
        Some(Run { start, count, zeroed })
    }

    fn allocate_in_chunk<O: Os>(&self, kernel: &Kernel<O>, count: Slices, align: u32) -> Option<Run> {
        let [first_count, first_used] = self.frontier.first_chunks();
        // A program that has used all of the small pages is no longer small: what is free among them is for slabs of
        // one slice, which make up a chunk's rest best.
        let in_first = count.0 == 1 || first_used < first_count;
        let lowest = if in_first { 0 } else { self.frontier.blocks_start() as usize };
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
            let fresh_first = if in_first { self.frontier.take_first(kernel) } else { None };
            let fresh = fresh_first.or_else(|| self.take_fresh(kernel, 1, CHUNK_BYTES, By::Application))?;
            // A fresh chunk is in no bucket yet. If a neighbour has grown into it, what is left of it is for others.
            let claim = self.chunk(fresh)?.bitmap.claim_run(count.0, align);
            self.note_cold(fresh, claim);
            self.moved(fresh, None, claim.map_or(Some(FREE_ZERO), |claim| bucket_of(claim.after)));
            if let Some(claim) = claim {
                return Some(Run { start: fresh.slice(claim.start), count, zeroed: claim.zeroed });
            }
        }
    }

    fn claim_in(&self, chunk: ChunkIndex, count: Slices, align: u32) -> Option<Run> {
        let claim = self.chunk(chunk)?.bitmap.claim_run(count.0, align)?;
        self.note_cold(chunk, Some(claim));
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
        let mut from = self.frontier.blocks_start();
        for _ in 0..tries {
            let dirty = if zeroed { None } else { dirty.first_from(from as usize) };
            let next = match (dirty, zero.first_from(from as usize)) {
                (Some(one), Some(other)) => one.min(other),
                (one, other) => one.or(other)?,
            };
            let start = self.frontier.align(next as u32, align_bytes)?;
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
            let first = self.take_fresh(kernel, chunks, align_bytes, By::Application)?;
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

    /// The next `count` chunks in hugepages that were never used. What is passed over for their alignment is for
    /// others.
    fn take_fresh<O: Os>(&self, kernel: &Kernel<O>, count: u32, align_bytes: usize, by: By) -> Option<ChunkIndex> {
        let (passed_over, first) = self.frontier.take(kernel, count, align_bytes, by)?;
        for chunk in passed_over {
            self.moved(ChunkIndex(chunk), None, Some(FREE_ZERO));
        }
        Some(first)
    }

    /// Whether a chunk below the frontier is free, and holds no old data if it must be `zeroed`.
    fn is_free(&self, chunk: u32, zeroed: bool) -> bool {
        // A hint, the claim decides.
        chunk < self.frontier.blocks()
            && self.chunk(ChunkIndex(chunk)).is_some_and(|record| {
                let state = record.bitmap.state();
                state.is_unused() && !(zeroed && state.is_dirty())
            })
    }

    /// Claims exactly the run at `start`, or nothing. Says whether it reads as zeroes.
    fn claim_exactly(&self, start: SliceIndex, count: Slices, sink: &impl Retire) -> Option<bool> {
        // Cheap refusal first: a chunk that was claimed and given back counts as used, and would be purged for nothing.
        let is_taken = |part: &Run| {
            let mut places = part.start.in_chunk()..part.start.in_chunk() + part.count.0;
            let state = self.chunk(part.start.chunk()).map(|chunk| chunk.bitmap.state());
            state.is_none_or(|state| places.any(|place| state.is_used(place)))
        };
        if parts(start, count).any(|(part, _)| is_taken(&part)) {
            return None;
        }
        let mut zeroed = true;
        for (part, done) in parts(start, count) {
            let claim =
                self.chunk(part.start.chunk()).and_then(|c| c.bitmap.claim_at(part.start.in_chunk(), part.count.0));
            match claim {
                Some(claim) => {
                    zeroed &= claim.zeroed;
                    self.note_cold(part.start.chunk(), Some(claim));
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
        let [_, first_used] = self.frontier.first_chunks();
        if self.is_closed() {
            return None;
        }
        if !self.frontier.is_huge_backed(start.chunk()) && last.0 >= first_used {
            return None;
        }
        // A stale value makes `advance` fail.
        let fresh = self.frontier.blocks();
        if self.frontier.is_huge_backed(start.chunk()) && last.0 >= fresh {
            let missing = last.0 + 1 - fresh;
            // Cheap refusal first: what lies below the frontier must be free.
            if (start.chunk().0 + 1..fresh).any(|chunk| !self.is_free(chunk, false)) {
                return None;
            }
            self.frontier.advance(kernel, fresh, missing, By::Application)?;
            for chunk in fresh..=last.0 {
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
            if after.is_unused() && after.is_dirty() && !self.is_pool {
                sink.retire_chunk(index);
            }
        }
        true
    }

    /// Counts a claim of a chunk that was cold: the program will have to find memory for it.
    fn note_cold(&self, chunk: ChunkIndex, claim: Option<Claim>) {
        let was_cold = claim.is_some_and(|claim| claim.before.is_unused() && !claim.before.is_dirty());
        if was_cold && !self.is_pool && self.frontier.is_huge_backed(chunk) {
            // Relaxed: a sum.
            self.cold_claims.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Chunks that hugepages back, handed out while they were cold, so far.
    pub(crate) fn cold_claims(&self) -> u64 {
        // Relaxed: a sum.
        self.cold_claims.load(Ordering::Relaxed)
    }

    /// Chunks that are free and hold old data: in small pages, and in hugepages. Hints, counted one by one.
    pub(crate) fn retired_chunks(&self) -> [usize; 2] {
        if self.is_pool {
            return [0, 0];
        }
        let count = |from| self.buckets.get(FREE_DIRTY).map_or(0, |bucket| bucket.count_from(from));
        let huge = count(self.frontier.blocks_start() as usize);
        [count(0).saturating_sub(huge), huge]
    }

    /// Takes the hint that a chunk is retired away, as the removal of a neighbour does for a moment.
    #[cfg(test)]
    pub(crate) fn hide_retired(&self, chunk: ChunkIndex) {
        self.buckets[FREE_DIRTY].remove(chunk.0 as usize);
    }

    /// Governor: takes a cold chunk that hugepages back out of use, to make it warm: one that was purged, else one that
    /// was never used.
    pub(crate) fn begin_warm<O: Os>(&self, kernel: &Kernel<O>, sink: &impl Retire) -> Option<ChunkIndex> {
        if self.is_pool {
            return None;
        }
        let mut from = self.frontier.blocks_start() as usize;
        for _ in 0..TRIES_PER_BUCKET {
            let Some(found) = self.buckets.get(FREE_ZERO).and_then(|bucket| bucket.first_from(from)) else { break };
            if self.take_cold(ChunkIndex(found as u32), sink) {
                return Some(ChunkIndex(found as u32));
            }
            self.repair(ChunkIndex(found as u32), FREE_ZERO);
            from = found + 1;
        }
        let fresh = self.take_fresh(kernel, 1, CHUNK_BYTES, By::Governor)?;
        let taken = self.take_cold(fresh, sink);
        if !taken {
            // A neighbour has grown into it: what is left of it is for others.
            self.moved(fresh, None, Some(FREE_ZERO));
        }
        taken.then_some(fresh)
    }

    fn take_cold(&self, index: ChunkIndex, sink: &impl Retire) -> bool {
        if !self.is_free(index.0, true) {
            return false;
        }
        let Some(claim) = self.chunk(index).and_then(|chunk| chunk.bitmap.claim_at(0, SLICES_PER_CHUNK)) else {
            return false;
        };
        self.moved(index, bucket_of(claim.before), None);
        if !claim.zeroed {
            // It was used in this very moment.
            self.free(index.slice(0), Slices(SLICES_PER_CHUNK), sink);
        }
        claim.zeroed
    }

    /// Takes a free dirty chunk out of use for a purge.
    pub(crate) fn begin_purge(&self, chunk: ChunkIndex) -> bool {
        let taken = self.chunk(chunk).is_some_and(|record| record.bitmap.begin_purge());
        if taken {
            self.moved(chunk, Some(FREE_DIRTY), None);
        }
        taken
    }

    /// Ends what `begin_purge` or `begin_warm` began: the chunk is free, and `resident` or zero.
    pub(crate) fn finish(&self, chunk: ChunkIndex, resident: bool) {
        if let Some(record) = self.chunk(chunk) {
            let state = record.bitmap.finish_purge(!resident);
            self.moved(chunk, None, bucket_of(state));
        }
    }

    /// Whether the chunk is free, holds old data, and is to be given back.
    pub(crate) fn is_retired(&self, chunk: ChunkIndex) -> bool {
        self.chunk(chunk).is_some_and(|record| {
            let state = record.bitmap.state();
            state.is_unused() && state.is_dirty() && !self.is_pool
        })
    }

    /// Slices in use.
    #[cfg(test)]
    pub(crate) fn used_slices(&self) -> u32 {
        let used = |chunk| self.chunk(chunk).map_or(0, |c: &Chunk| SLICES_PER_CHUNK - c.bitmap.state().free_count());
        self.frontier.used_chunks().map(used).sum()
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
