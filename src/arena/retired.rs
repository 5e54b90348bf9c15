//! What can be given back: free chunks and warm rooms, queued until the governor takes them. Called by `arena::registry` to
//! queue and by `governor::worker` to take.
//!
//! Invariant: every range that became free while dirty is in the queue, or held by the worker, or found by a scan after
//! the queue overflowed. A range is checked again, by an exchange on its word, at the moment it is taken: a request that
//! came first keeps it.

use super::registry::Arena;
use super::reservation::Reservation;
use super::rooms::RoomIndex;
use super::space::Retire;
use crate::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::governor::{Next, Piece, Source};
use crate::limits::{CHUNK_BYTES, LINGER_MS, RETIRED_ENTRIES};
use crate::lockfree::range_ring::{Cell, RangeRing};
use crate::lockfree::room_word;
use crate::os::Os;
use crate::units::{ChunkIndex, Chunks, Nanos};

/// What is queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Range {
    Chunk(ChunkIndex),
    Room(RoomIndex),
}

/// A queued range of one reservation, as a word: bits 0..32 index, 32..48 reservation, 62 always set, 63 room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    reservation: usize,
    range: Range,
}

const PRESENT: u64 = 1 << 62;
const ROOM: u64 = 1 << 63;

impl Entry {
    fn to_word(self) -> u64 {
        let place = PRESENT | (self.reservation as u64) << 32;
        match self.range {
            Range::Chunk(chunk) => place | u64::from(chunk.0),
            Range::Room(room) => place | ROOM | u64::from(room.0),
        }
    }

    fn from_word(word: u64) -> Option<Self> {
        let index = word as u32;
        let range = if word & ROOM == 0 { Range::Chunk(ChunkIndex(index)) } else { Range::Room(RoomIndex(index)) };
        (word & PRESENT != 0).then_some(Entry { reservation: (word >> 32 & 0xffff) as usize, range })
    }
}

/// The queue and the worker's place in it.
pub(crate) struct RetiredQueue {
    ring: RangeRing<RETIRED_ENTRIES>,
    /// Set when the ring was full: the worker then looks at every chunk. Any thread.
    overflowed: AtomicBool,
    /// The entry that the worker took but found not due. Worker; a forked child's worker takes over.
    held: AtomicU64,
    /// The entry whose range the worker is purging. Worker; a forked child's first thread.
    in_flight: AtomicU64,
    /// The piece of it, if it is a room: chunk counts from and to, 32 bits each.
    in_flight_piece: AtomicU64,
}

impl RetiredQueue {
    /// Empty.
    pub(crate) const fn new() -> Self {
        RetiredQueue {
            ring: RangeRing::from_parts(
                AtomicU64::new(0),
                AtomicU64::new(0),
                [const { Cell::from_words(AtomicU64::new(0), AtomicU64::new(0)) }; RETIRED_ENTRIES],
            ),
            overflowed: AtomicBool::new(false),
            held: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            in_flight_piece: AtomicU64::new(0),
        }
    }

    /// Whether nothing waits. A hint.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty() && self.held.load(Ordering::Relaxed) == 0 && !self.overflowed.load(Ordering::Relaxed)
    }

    /// Queues an entry unless it is queued already.
    fn queue(&self, entry: Entry, queued: &AtomicBool, retired_ms: &AtomicU32, now_ms: u32) {
        // Relaxed: an age, not an order.
        retired_ms.store(now_ms, Ordering::Relaxed);
        // AcqRel: pairs with the exchange in `take`. Whichever comes second reads the first: either we queue the entry, or
        // the worker, which clears the flag before it looks at the range, sees it free.
        if queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if !self.ring.push(entry.to_word()) {
            queued.store(false, Ordering::Release);
            // Release: pairs with the Acquire in `take`.
            self.overflowed.store(true, Ordering::Release);
        }
    }
}

fn millis(now: Nanos) -> u32 {
    // Wraps after 49 days; ages are differences.
    (now.0 / 1_000_000) as u32
}

impl<O: Os> Arena<O> {
    fn queue_range(&self, reservation: &Reservation, range: Range) {
        let now_ms = millis(self.kernel().os().coarse_now());
        // Relaxed: set before the reservation was published.
        let entry = Entry { reservation: reservation.number.load(Ordering::Relaxed), range };
        match range {
            Range::Chunk(chunk) => {
                if let Some(record) = reservation.space.chunk(chunk) {
                    self.retired().queue(entry, &record.queued, &record.retired_ms, now_ms);
                }
            }
            Range::Room(room) => {
                if let Some(record) = reservation.rooms.room(room) {
                    self.retired().queue(entry, &record.queued, &record.retired_ms, now_ms);
                }
            }
        }
        self.notify_governor();
    }

    /// Queues a room that has become free or smaller.
    pub(crate) fn retire_room(&self, reservation: &Reservation, room: RoomIndex) {
        self.queue_range(reservation, Range::Room(room));
    }

    /// The entry to look at next: the held one, the ring's first, or what a scan finds after an overflow.
    fn take_entry(&self) -> Option<Entry> {
        let queue = self.retired();
        // Relaxed: written by the worker alone.
        let held = queue.held.swap(0, Ordering::Relaxed);
        if let Some(entry) = Entry::from_word(held).or_else(|| queue.ring.pop().and_then(Entry::from_word)) {
            return Some(entry);
        }
        // Acquire: pairs with the Release in `queue`; the scan sees what did not fit.
        if !queue.overflowed.swap(false, Ordering::Acquire) {
            return None;
        }
        let now_ms = millis(self.kernel().os().coarse_now());
        for reservation in self.reservations() {
            // Relaxed: set before the reservation was published.
            let number = reservation.number.load(Ordering::Relaxed);
            for chunk in reservation.space.used_chunks().filter(|chunk| reservation.space.is_retired(*chunk)) {
                if let Some(record) = reservation.space.chunk(chunk) {
                    let entry = Entry { reservation: number, range: Range::Chunk(chunk) };
                    queue.queue(entry, &record.queued, &record.retired_ms, now_ms);
                }
            }
            for room in reservation.rooms.used_rooms() {
                if let Some(record) = reservation.rooms.room(room)
                    && reservation.rooms.state(room).is_some_and(|state| state.has_retired())
                {
                    let entry = Entry { reservation: number, range: Range::Room(room) };
                    queue.queue(entry, &record.queued, &record.retired_ms, now_ms);
                }
            }
        }
        queue.ring.pop().and_then(Entry::from_word)
    }

    /// Takes the range of a due entry out of use.
    fn begin_purge(&self, entry: Entry, reservation: &Reservation, huge_bytes_max: usize) -> Option<Piece> {
        let queue = self.retired();
        match entry.range {
            Range::Chunk(chunk) => {
                // A fork between the two lines leaves the chunk claimed in the child: lost there, never used twice.
                reservation.space.begin_purge(chunk).then(|| {
                    queue.in_flight.store(entry.to_word(), Ordering::Relaxed);
                    Piece {
                        base: reservation.space.address(chunk.slice(0)),
                        bytes: CHUNK_BYTES,
                        huge: reservation.space.is_huge_backed(chunk),
                    }
                })
            }
            Range::Room(room) => {
                let most = Chunks((huge_bytes_max / CHUNK_BYTES).max(1) as u32);
                let (piece, base) = reservation.rooms.begin_purge(room, most)?;
                let words = u64::from(piece.from) << 32 | u64::from(piece.to);
                queue.in_flight_piece.store(words, Ordering::Relaxed);
                queue.in_flight.store(entry.to_word(), Ordering::Relaxed);
                Some(Piece { base, bytes: Chunks(piece.to - piece.from).in_bytes(), huge: true })
            }
        }
    }
}

impl<O: Os> Source for Arena<O> {
    fn next(&self, now: Nanos, huge_bytes_max: usize) -> Next {
        while let Some(entry) = self.take_entry() {
            let Some(reservation) = self.reservation(entry.reservation) else { continue };
            let (queued, retired_ms) = match entry.range {
                Range::Chunk(chunk) => match reservation.space.chunk(chunk) {
                    Some(record) => (&record.queued, &record.retired_ms),
                    None => continue,
                },
                Range::Room(room) => match reservation.rooms.room(room) {
                    Some(record) => (&record.queued, &record.retired_ms),
                    None => continue,
                },
            };
            let age_ms = u64::from(millis(now).wrapping_sub(retired_ms.load(Ordering::Relaxed)));
            if age_ms < LINGER_MS {
                self.retired().held.store(entry.to_word(), Ordering::Relaxed);
                return Next::Wait(Nanos::from_millis(LINGER_MS - age_ms));
            }
            // AcqRel: pairs with the exchange in `RetiredQueue::queue`.
            queued.swap(false, Ordering::AcqRel);
            if let Some(piece) = self.begin_purge(entry, reservation, huge_bytes_max) {
                return Next::Piece(piece);
            }
        }
        Next::Nothing
    }

    fn finish(&self, purged: bool) {
        let queue = self.retired();
        let Some(entry) = Entry::from_word(queue.in_flight.swap(0, Ordering::Relaxed)) else { return };
        let Some(reservation) = self.reservation(entry.reservation) else { return };
        let more = match entry.range {
            Range::Chunk(chunk) => {
                reservation.space.finish_purge(chunk, purged);
                !purged
            }
            Range::Room(room) => {
                let words = queue.in_flight_piece.load(Ordering::Relaxed);
                let piece = room_word::Piece { from: (words >> 32) as u32, to: words as u32 };
                reservation.rooms.finish_purge(room, piece, purged);
                reservation.rooms.state(room).is_some_and(|state| state.has_retired())
            }
        };
        if more {
            let now_ms = millis(self.kernel().os().coarse_now());
            // What is left of a room is due at once; what the kernel refused lingers again.
            let due_ms = if purged { now_ms.wrapping_sub(LINGER_MS as u32) } else { now_ms };
            match entry.range {
                Range::Chunk(chunk) => {
                    if let Some(record) = reservation.space.chunk(chunk) {
                        queue.queue(entry, &record.queued, &record.retired_ms, due_ms);
                    }
                }
                Range::Room(room) => {
                    if let Some(record) = reservation.rooms.room(room) {
                        queue.queue(entry, &record.queued, &record.retired_ms, due_ms);
                    }
                }
            }
        }
    }
}

/// Forked child: gives back what the parent's worker was purging at the moment of the fork. Not purged, as far as the
/// child knows: its copy of the pages may be whole.
pub(crate) fn release_purges_after_fork<O: Os>(arena: &Arena<O>) {
    arena.finish(false);
}

/// Passes chunks of one reservation on to the queue.
pub(crate) struct Sink<'a, O> {
    pub(crate) arena: &'a Arena<O>,
    pub(crate) reservation: &'a Reservation,
}

impl<O: Os> Retire for Sink<'_, O> {
    fn retire_chunk(&self, chunk: ChunkIndex) {
        self.arena.queue_range(self.reservation, Range::Chunk(chunk));
    }
}
