//! What can be given back: free chunks and warm rooms, queued until the governor takes them. Called by
//! `arena::registry` to queue and by `governor::worker` to take.
//!
//! Invariant: every range that became free while dirty is in the queue, or held by the worker, or found by a scan after
//! the queue overflowed. A range is checked again, by an exchange on its word, at the moment it is taken: a request
//! that came first keeps it.

use super::registry::Arena;
use super::reservation::Reservation;
use super::rooms::RoomIndex;
use super::space::Retire;
use crate::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::governor::{Next, Piece, Source};
use crate::limits::{CHUNK_BYTES, LINGER_MS, PURGE_PIECE_IN_USE_BYTES, RESERVATION_COUNT_MAX, RETIRED_ENTRIES};
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

/// A queued range of one reservation, as a word:
///
/// | bits | meaning |
/// |---|---|
/// | 0..32 | index of the chunk or room |
/// | 32..38 | number of the reservation |
/// | 38..62 | milliseconds of the moment it was queued, modulo 4.6 hours |
/// | 62 | always set |
/// | 63 | a room |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    reservation: usize,
    range: Range,
    queued_ms: u32,
}

const RESERVATION_MASK: u64 = (1 << 6) - 1;
static_assertions::const_assert!(RESERVATION_COUNT_MAX <= RESERVATION_MASK as usize + 1);
const STAMP_SHIFT: u32 = 38;
const STAMP_BITS: u32 = 24;
const STAMP_MASK: u32 = (1 << STAMP_BITS) - 1;
const PRESENT: u64 = 1 << 62;
const ROOM: u64 = 1 << 63;

impl Entry {
    fn to_word(self) -> u64 {
        let stamp = u64::from(self.queued_ms & STAMP_MASK) << STAMP_SHIFT;
        let place = PRESENT | stamp | (self.reservation as u64 & RESERVATION_MASK) << 32;
        match self.range {
            Range::Chunk(chunk) => place | u64::from(chunk.0),
            Range::Room(room) => place | ROOM | u64::from(room.0),
        }
    }

    fn from_word(word: u64) -> Option<Self> {
        let index = word as u32;
        let range = if word & ROOM == 0 { Range::Chunk(ChunkIndex(index)) } else { Range::Room(RoomIndex(index)) };
        (word & PRESENT != 0).then_some(Entry {
            reservation: (word >> 32 & RESERVATION_MASK) as usize,
            range,
            queued_ms: (word >> STAMP_SHIFT) as u32 & STAMP_MASK,
        })
    }
}

/// Milliseconds from one reading of the clock to a later one, of which 24 bits are known. A reading from a moment
/// ahead, which another thread has just taken, counts as now.
fn age_ms(now_ms: u32, then_ms: u32) -> u64 {
    let age = now_ms.wrapping_sub(then_ms) & STAMP_MASK;
    if age > STAMP_MASK / 2 { 0 } else { u64::from(age) }
}

/// What both kinds of range have in their records for the queue.
struct Ticket<'a> {
    queued: &'a AtomicBool,
    retired_ms: &'a AtomicU32,
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
        // Relaxed: a hint.
        self.ring.is_empty() && self.held.load(Ordering::Relaxed) == 0 && !self.overflowed.load(Ordering::Relaxed)
    }

    /// Queues an entry unless it is queued already.
    fn queue(&self, entry: Entry, ticket: &Ticket<'_>) {
        // Relaxed: an age, not an order.
        ticket.retired_ms.store(entry.queued_ms, Ordering::Relaxed);
        // AcqRel: pairs with the exchange in `Arena::drop_entry`. Whichever comes second reads the first: either we
        // queue the entry, or the worker, which clears the flag before it looks at the range once more, sees it free.
        if !ticket.queued.swap(true, Ordering::AcqRel) {
            self.push(entry, ticket);
        }
    }

    /// Puts an entry whose flag is set in the ring.
    fn push(&self, entry: Entry, ticket: &Ticket<'_>) {
        if !self.ring.push(entry.to_word()) {
            // AcqRel: passes on what threads published that found the flag set. Release: pairs with the Acquire in
            // `take_entry`; the scan finds the range not queued.
            ticket.queued.swap(false, Ordering::AcqRel);
            self.overflowed.store(true, Ordering::Release);
        }
    }
}

fn millis(now: Nanos) -> u32 {
    // Wraps after 49 days; ages are differences.
    (now.0 / 1_000_000) as u32
}

impl<O: Os> Arena<O> {
    fn now_ms(&self) -> u32 {
        millis(self.kernel().os().coarse_now())
    }

    /// What the record of a range has for the queue.
    fn ticket(reservation: &Reservation, range: Range) -> Option<Ticket<'_>> {
        match range {
            Range::Chunk(chunk) => reservation
                .space
                .chunk(chunk)
                .map(|record| Ticket { queued: &record.queued, retired_ms: &record.retired_ms }),
            Range::Room(room) => reservation
                .rooms
                .room(room)
                .map(|record| Ticket { queued: &record.queued, retired_ms: &record.retired_ms }),
        }
    }

    /// Whether a range has something to give back now.
    fn is_retired(reservation: &Reservation, range: Range) -> bool {
        match range {
            Range::Chunk(chunk) => reservation.space.is_retired(chunk),
            Range::Room(room) => reservation.rooms.state(room).is_some_and(|state| state.has_retired()),
        }
    }

    fn queue_range(&self, reservation: &Reservation, range: Range) {
        // Relaxed: set before the reservation was published.
        let number = reservation.number.load(Ordering::Relaxed);
        let entry = Entry { reservation: number, range, queued_ms: self.now_ms() & STAMP_MASK };
        if let Some(ticket) = Self::ticket(reservation, range) {
            self.retired().queue(entry, &ticket);
        }
        self.notify_governor();
    }

    /// Queues a room that has become free or smaller.
    pub(crate) fn retire_room(&self, reservation: &Reservation, room: RoomIndex) {
        self.queue_range(reservation, Range::Room(room));
    }

    /// Lets a room's free part linger anew: its block is growing.
    pub(crate) fn keep_room_warm(&self, reservation: &Reservation, room: RoomIndex) {
        if let Some(ticket) = Self::ticket(reservation, Range::Room(room)) {
            // Relaxed: an age, not an order.
            ticket.retired_ms.store(self.now_ms() & STAMP_MASK, Ordering::Relaxed);
        }
    }

    /// The entry to look at next: the held one, the ring's first, or what a scan finds after an overflow.
    fn take_entry(&self) -> Option<Entry> {
        let queue = self.retired();
        // Relaxed: written by the worker alone.
        let held = queue.held.swap(0, Ordering::Relaxed);
        if let Some(entry) = Entry::from_word(held).or_else(|| queue.ring.pop().and_then(Entry::from_word)) {
            return Some(entry);
        }
        // Acquire: pairs with the Release in `RetiredQueue::push`; the scan sees what did not fit.
        if !queue.overflowed.swap(false, Ordering::Acquire) {
            return None;
        }
        let queued_ms = self.now_ms() & STAMP_MASK;
        for reservation in self.reservations() {
            // Relaxed: set before the reservation was published.
            let number = reservation.number.load(Ordering::Relaxed);
            let chunks = reservation.space.used_chunks().map(Range::Chunk);
            let rooms = reservation.rooms.used_rooms().map(Range::Room);
            for range in chunks.chain(rooms).filter(|range| Self::is_retired(reservation, *range)) {
                if let Some(ticket) = Self::ticket(reservation, range) {
                    queue.queue(Entry { reservation: number, range, queued_ms }, &ticket);
                }
            }
        }
        queue.ring.pop().and_then(Entry::from_word)
    }

    /// Takes an entry out of the queue whose range is in use. It is queued again if it became free in this very moment.
    fn drop_entry(&self, entry: Entry, reservation: &Reservation, ticket: &Ticket<'_>) {
        // AcqRel: pairs with the exchange in `RetiredQueue::queue`.
        ticket.queued.swap(false, Ordering::AcqRel);
        if Self::is_retired(reservation, entry.range) {
            self.retired().queue(Entry { queued_ms: self.now_ms() & STAMP_MASK, ..entry }, ticket);
        }
    }

    /// Takes the range of a due entry out of use.
    fn begin_purge(&self, entry: Entry, reservation: &Reservation, huge_bytes_max: usize) -> Option<Piece> {
        let queue = self.retired();
        match entry.range {
            Range::Chunk(chunk) => {
                // A fork between the two lines leaves the chunk claimed in the child: lost there, never used twice.
                // Relaxed, here and below: the worker's own.
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
                let in_use = reservation.rooms.state(room).is_some_and(|state| state.is_in_use());
                let bytes_max = if in_use { huge_bytes_max.min(PURGE_PIECE_IN_USE_BYTES) } else { huge_bytes_max };
                let most = Chunks((bytes_max / CHUNK_BYTES).max(1) as u32);
                let (piece, base) = reservation.rooms.begin_purge(room, most)?;
                let words = u64::from(piece.from) << 32 | u64::from(piece.to);
                // Relaxed: the worker's own.
                queue.in_flight_piece.store(words, Ordering::Relaxed);
                queue.in_flight.store(entry.to_word(), Ordering::Relaxed);
                Some(Piece { base, bytes: Chunks(piece.to - piece.from).in_bytes(), huge: true })
            }
        }
    }
}

impl<O: Os> Source for Arena<O> {
    fn next(&self, now: Nanos, huge_bytes_max: usize) -> Next {
        let now_ms = millis(now);
        while let Some(entry) = self.take_entry() {
            let Some(reservation) = self.reservation(entry.reservation) else { continue };
            let Some(ticket) = Self::ticket(reservation, entry.range) else { continue };
            // The queue is first in, first out: nothing behind an entry is due before it.
            let queued_ms = age_ms(now_ms, entry.queued_ms);
            if queued_ms < LINGER_MS {
                // Relaxed: the worker's own.
                self.retired().held.store(entry.to_word(), Ordering::Relaxed);
                return Next::Wait(Nanos::from_millis(LINGER_MS - queued_ms));
            }
            // The range may have been in use again since then: freed anew, it lingers anew, at the end of the queue.
            // Relaxed: an age, not an order.
            let retired_ms = ticket.retired_ms.load(Ordering::Relaxed);
            if !Self::is_retired(reservation, entry.range) {
                self.drop_entry(entry, reservation, &ticket);
            } else if age_ms(now_ms, retired_ms) < LINGER_MS {
                self.retired().push(Entry { queued_ms: retired_ms & STAMP_MASK, ..entry }, &ticket);
            } else {
                // AcqRel: as in `drop_entry`.
                ticket.queued.swap(false, Ordering::AcqRel);
                if let Some(piece) = self.begin_purge(entry, reservation, huge_bytes_max) {
                    return Next::Piece(piece);
                }
            }
        }
        Next::Nothing
    }

    fn finish(&self, purged: bool) {
        let queue = self.retired();
        // Relaxed, here and below: the worker's own.
        let Some(entry) = Entry::from_word(queue.in_flight.swap(0, Ordering::Relaxed)) else { return };
        let Some(reservation) = self.reservation(entry.reservation) else { return };
        match entry.range {
            Range::Chunk(chunk) => reservation.space.finish_purge(chunk, purged),
            Range::Room(room) => {
                // Relaxed: the worker's own.
                let words = queue.in_flight_piece.load(Ordering::Relaxed);
                let piece = room_word::Piece { from: (words >> 32) as u32, to: words as u32 };
                reservation.rooms.finish_purge(room, piece, purged);
            }
        }
        let Some(ticket) = Self::ticket(reservation, entry.range) else { return };
        if !Self::is_retired(reservation, entry.range) {
            return;
        }
        if !purged {
            // What the kernel refused lingers again.
            queue.queue(Entry { queued_ms: self.now_ms() & STAMP_MASK, ..entry }, &ticket);
        // AcqRel: as in `RetiredQueue::queue`.
        } else if !ticket.queued.swap(true, Ordering::AcqRel) {
            // The rest of a room is next. Relaxed: the worker's own.
            queue.held.store(entry.to_word(), Ordering::Relaxed);
        }
    }
}

/// Forked child: gives back what the parent's worker was purging at the moment of the fork. Not purged, as far as the
/// child knows: its copy of the pages may be whole. The ring may have stopped in the middle of another thread's push,
/// so the child starts with an empty one, and a scan finds what was queued.
pub(crate) fn start_anew_after_fork<O: Os>(arena: &Arena<O>) {
    let queue = arena.retired();
    // Relaxed throughout: the child has one thread.
    queue.ring.clear();
    queue.held.store(0, Ordering::Relaxed);
    for reservation in arena.reservations() {
        let chunks = reservation.space.used_chunks().map(Range::Chunk);
        let rooms = reservation.rooms.used_rooms().map(Range::Room);
        for range in chunks.chain(rooms) {
            if let Some(ticket) = Arena::<O>::ticket(reservation, range) {
                // Relaxed: as above.
                ticket.queued.store(false, Ordering::Relaxed);
            }
        }
    }
    // Relaxed: as above.
    queue.overflowed.store(true, Ordering::Relaxed);
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
