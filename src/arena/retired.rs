//! What can be given back: free chunks and warm rooms, queued until the governor takes them. Called by
//! `arena::registry` to queue and by `governor::worker` to take.
//!
//! Invariant: every range that became free while dirty is in the queue, or held by the worker, or found by a scan after
//! the queue overflowed. A range is checked again, by an exchange on its word, at the moment it is taken: a request
//! that came first keeps it.

use core::ptr::NonNull;

use super::registry::Arena;
use super::reservation::Reservation;
use super::rooms::RoomIndex;
use super::space::Retire;
use crate::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::governor::{Batch, KeptRoom, Piece, Retired, RoomName};
use crate::limits::{
    BATCH_PIECES_MAX, CHUNK_BYTES, HUGE_BYTES_MIN, PURGE_PIECE_IN_USE_BYTES, RESERVATION_COUNT_MAX, RETIRED_ENTRIES,
};
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

/// By how much a reading of the clock may be ahead of another thread's, in milliseconds.
const AHEAD_MS_MAX: u32 = 60_000;

/// Milliseconds from one reading of the clock to a later one, of which 24 bits are known. A reading from a moment
/// ahead, which another thread has just taken, counts as now.
fn age_ms(now_ms: u32, then_ms: u32) -> u64 {
    let age = now_ms.wrapping_sub(then_ms) & STAMP_MASK;
    if age > STAMP_MASK - AHEAD_MS_MAX { 0 } else { u64::from(age) }
}

/// What both kinds of range have in their records for the queue.
struct Ticket<'a> {
    queued: &'a AtomicBool,
    retired_ms: &'a AtomicU32,
}

/// The queue and the governor's place in it.
pub(crate) struct RetiredQueue {
    ring: RangeRing<RETIRED_ENTRIES>,
    /// Set when the ring was full: the governor then looks at every chunk. Any thread.
    overflowed: AtomicBool,
    /// The entry that the governor took and has not done with. Governor; a forked child's takes over.
    held: AtomicU64,
    /// The entries whose ranges are out of use for the governor, 0 for none. Governor; a forked child's first thread.
    in_flight: [AtomicU64; BATCH_PIECES_MAX],
    /// The piece of one of them, if it is a room: chunk counts from and to, 32 bits each.
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
            in_flight: [const { AtomicU64::new(0) }; BATCH_PIECES_MAX],
            in_flight_piece: AtomicU64::new(0),
        }
    }

    /// Whether nothing waits. A hint, but for what the calling thread knows to have been queued.
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

/// All of a reservation that was ever used.
fn ranges(reservation: &Reservation) -> impl Iterator<Item = Range> {
    let chunks = reservation.space.used_chunks().map(Range::Chunk);
    chunks.chain(reservation.rooms.used_rooms().map(Range::Room))
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
            Range::Room(room) => reservation.rooms.retired(room) > 0,
        }
    }

    fn queue_range(&self, reservation: &Reservation, range: Range) {
        let entry = self.entry(reservation, range);
        if let Some(ticket) = Self::ticket(reservation, range) {
            self.retired().queue(entry, &ticket);
        }
        self.notify_governor(false);
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
        for reservation in self.reservations() {
            // Relaxed: set before the reservation was published.
            let number = reservation.number.load(Ordering::Relaxed);
            for range in ranges(reservation).filter(|range| Self::is_retired(reservation, *range)) {
                if let Some(ticket) = Self::ticket(reservation, range) {
                    // Relaxed: an age, not an order.
                    let queued_ms = ticket.retired_ms.load(Ordering::Relaxed) & STAMP_MASK;
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

    /// Notes that the range of an entry is out of use; gives its slot.
    fn take_off(&self, entry: Entry) -> Option<usize> {
        // Relaxed, here and below: the governor's own.
        let free = |slot: &&AtomicU64| slot.load(Ordering::Relaxed) == 0;
        let (slot, place) = self.retired().in_flight.iter().enumerate().find(|(_, slot)| free(slot))?;
        place.store(entry.to_word(), Ordering::Relaxed);
        Some(slot)
    }

    /// A chunk that was just taken out of use. A fork in between leaves it claimed in the child: lost there, never used
    /// twice.
    fn chunk_piece(&self, entry: Entry, reservation: &Reservation, chunk: ChunkIndex) -> Option<Piece> {
        Some(Piece {
            base: reservation.space.address(chunk.slice(0)),
            bytes: CHUNK_BYTES,
            huge: reservation.space.frontier().is_huge_backed(chunk),
            slot: self.take_off(entry)?,
        })
    }

    /// A piece of a room that was just taken out of use.
    fn room_piece(&self, entry: Entry, (piece, base): (room_word::Piece, NonNull<u8>)) -> Option<Piece> {
        let words = u64::from(piece.from) << 32 | u64::from(piece.to);
        // Relaxed: the governor's own.
        self.retired().in_flight_piece.store(words, Ordering::Relaxed);
        let slot = self.take_off(entry)?;
        Some(Piece { base, bytes: Chunks(piece.to - piece.from).in_bytes(), huge: true, slot })
    }

    /// See [`Source::take`](crate::governor::Source::take).
    pub(crate) fn take_retired(
        &self,
        now: Nanos,
        linger: Nanos,
        bytes_max: usize,
        blocks_max: u64,
        batch: &mut Batch,
    ) -> Option<Nanos> {
        let (now_ms, linger_ms) = (millis(now), linger.0 / 1_000_000);
        let mut blocks_left = blocks_max;
        // What is not to be had now is queued anew; seen a second time, it is not.
        let mut passed_over = 0;
        while passed_over <= RETIRED_ENTRIES {
            let Some(entry) = self.take_entry() else { break };
            let Some(reservation) = self.reservation(entry.reservation) else { continue };
            let Some(ticket) = Self::ticket(reservation, entry.range) else { continue };
            // Relaxed, here and below: the governor's own.
            let hold = || self.retired().held.store(entry.to_word(), Ordering::Relaxed);
            // The queue is first in, first out: nothing behind an entry is due before it.
            let queued_ms = age_ms(now_ms, entry.queued_ms);
            if queued_ms < linger_ms {
                hold();
                return Some(Nanos::from_millis(linger_ms - queued_ms));
            }
            if !Self::is_retired(reservation, entry.range) {
                self.drop_entry(entry, reservation, &ticket);
                continue;
            }
            // The range may have been in use again since then: freed anew, it lingers anew, at the end of the queue.
            // Relaxed: an age, not an order.
            let retired_ms = ticket.retired_ms.load(Ordering::Relaxed);
            if age_ms(now_ms, retired_ms) < linger_ms {
                self.retired().push(Entry { queued_ms: retired_ms & STAMP_MASK, ..entry }, &ticket);
                continue;
            }
            match entry.range {
                Range::Chunk(chunk) => {
                    let huge = reservation.space.frontier().is_huge_backed(chunk);
                    if !batch.takes(huge) || !batch.is_empty() && batch.bytes() + CHUNK_BYTES > bytes_max {
                        hold();
                        return None;
                    }
                    if huge && blocks_left < CHUNK_BYTES as u64 {
                        // Kept for the reserve.
                        self.retired().push(Entry { queued_ms: now_ms & STAMP_MASK, ..entry }, &ticket);
                        passed_over += 1;
                        continue;
                    }
                    // AcqRel: as in `drop_entry`.
                    ticket.queued.swap(false, Ordering::AcqRel);
                    if reservation.space.begin_purge(chunk)
                        && let Some(piece) = self.chunk_piece(entry, reservation, chunk)
                    {
                        blocks_left -= if huge { CHUNK_BYTES as u64 } else { 0 };
                        batch.push(piece);
                    }
                }
                Range::Room(room) => {
                    if !batch.is_empty() {
                        hold();
                        return None;
                    }
                    // AcqRel: as in `drop_entry`.
                    ticket.queued.swap(false, Ordering::AcqRel);
                    let in_use = reservation.rooms.state(room).is_some_and(|state| state.is_in_use());
                    let bytes_max = if in_use { bytes_max.min(PURGE_PIECE_IN_USE_BYTES) } else { bytes_max };
                    let most = Chunks((bytes_max / CHUNK_BYTES).max(1) as u32);
                    let begun = reservation.rooms.begin_purge(room, most);
                    if let Some(piece) = begun.and_then(|begun| self.room_piece(entry, begun)) {
                        batch.push(piece);
                        return None;
                    }
                }
            }
        }
        None
    }

    /// See [`Source::finish`](crate::governor::Source::finish).
    pub(crate) fn finish_piece(&self, slot: usize, resident: bool) {
        let queue = self.retired();
        let Some(place) = queue.in_flight.get(slot) else { return };
        // Relaxed, here and below: the governor's own.
        let Some(entry) = Entry::from_word(place.swap(0, Ordering::Relaxed)) else { return };
        let Some(reservation) = self.reservation(entry.reservation) else { return };
        match entry.range {
            Range::Chunk(chunk) => reservation.space.finish(chunk, resident),
            Range::Room(room) => {
                // Relaxed: the governor's own.
                let words = queue.in_flight_piece.load(Ordering::Relaxed);
                let piece = room_word::Piece { from: (words >> 32) as u32, to: words as u32 };
                reservation.rooms.finish(room, piece, resident);
            }
        }
        let Some(ticket) = Self::ticket(reservation, entry.range) else { return };
        if !Self::is_retired(reservation, entry.range) {
            return;
        }
        if resident {
            // What the kernel refused lingers again; what was made warm begins to.
            queue.queue(Entry { queued_ms: self.now_ms() & STAMP_MASK, ..entry }, &ticket);
        // AcqRel: as in `RetiredQueue::queue`.
        } else if !ticket.queued.swap(true, Ordering::AcqRel) {
            // The rest of a room is next. Relaxed: the governor's own.
            if queue.held.load(Ordering::Relaxed) == 0 {
                queue.held.store(entry.to_word(), Ordering::Relaxed);
            } else {
                queue.push(entry, &ticket);
            }
        }
    }

    /// See [`Source::retired`](crate::governor::Source::retired).
    pub(crate) fn count_retired(&self) -> Retired {
        let mut retired = Retired::default();
        for reservation in self.reservations() {
            let mut chunks = reservation.space.retired_chunks();
            if chunks == [0, 0] && !self.retired().is_empty() {
                // A hint may be missing for a moment, and nobody rings when it is there again.
                let retired = reservation.space.used_chunks().filter(|chunk| reservation.space.is_retired(*chunk));
                let is_huge = |chunk| usize::from(reservation.space.frontier().is_huge_backed(chunk));
                chunks = retired.map(is_huge).fold([0, 0], |[small, huge], one| [small + 1 - one, huge + one]);
            }
            let [small, huge] = chunks.map(|chunks| (chunks * CHUNK_BYTES) as u64);
            let rooms: usize =
                reservation.rooms.used_rooms().map(|room| Chunks(reservation.rooms.retired(room)).in_bytes()).sum();
            retired.small += small;
            retired.blocks += huge;
            retired.rooms += rooms as u64;
        }
        retired
    }

    /// See [`Source::take_cold_chunk`](crate::governor::Source::take_cold_chunk).
    pub(crate) fn take_cold_chunk(&self) -> Option<Piece> {
        self.reservations().find_map(|reservation| {
            let sink = Sink { arena: self, reservation };
            let chunk = reservation.space.begin_warm(self.kernel(), &sink)?;
            self.chunk_piece(self.entry(reservation, Range::Chunk(chunk)), reservation, chunk)
        })
    }

    fn entry(&self, reservation: &Reservation, range: Range) -> Entry {
        // Relaxed: set before the reservation was published.
        let number = reservation.number.load(Ordering::Relaxed);
        Entry { reservation: number, range, queued_ms: self.now_ms() & STAMP_MASK }
    }

    /// See [`Source::keep_room`](crate::governor::Source::keep_room).
    pub(crate) fn keep_room(&self, bytes: u64) -> Option<RoomName> {
        let chunks = Chunks::holding(usize::try_from(bytes).ok()?.max(HUGE_BYTES_MIN))?;
        self.reservations().find_map(|reservation| {
            let room = reservation.rooms.keep_one(self.kernel(), chunks)?;
            // A name says which room, and not when.
            Some(Entry { queued_ms: 0, ..self.entry(reservation, Range::Room(room)) }.to_word())
        })
    }

    /// The room of a name, and an entry for it.
    fn room_of(&self, name: RoomName) -> Option<(Entry, &'static Reservation, RoomIndex)> {
        let entry = Entry::from_word(name)?;
        let reservation = self.reservation(entry.reservation)?;
        match entry.range {
            Range::Room(room) => Some((self.entry(reservation, entry.range), reservation, room)),
            Range::Chunk(_) => None,
        }
    }

    /// See [`Source::drop_room`](crate::governor::Source::drop_room).
    pub(crate) fn drop_room(&self, name: RoomName) {
        if let Some((_, reservation, room)) = self.room_of(name)
            && reservation.rooms.drop_kept(room)
        {
            self.retire_room(reservation, room);
        }
    }

    /// See [`Source::kept_room`](crate::governor::Source::kept_room).
    pub(crate) fn kept_room(&self, name: RoomName) -> KeptRoom {
        let kept = self.room_of(name).map(|(_, reservation, room)| reservation.rooms.kept(room));
        let (is_kept, warm) = kept.unwrap_or((false, Chunks(0)));
        if !is_kept {
            self.drop_room(name);
        }
        KeptRoom { is_kept, warm_bytes: warm.in_bytes() as u64 }
    }

    /// See [`Source::take_cold_in_room`](crate::governor::Source::take_cold_in_room).
    pub(crate) fn take_cold_in_room(&self, name: RoomName, bytes_max: usize) -> Option<Piece> {
        let (entry, reservation, room) = self.room_of(name)?;
        let most = Chunks((bytes_max / CHUNK_BYTES).max(1) as u32);
        self.room_piece(entry, reservation.rooms.begin_warm(room, most)?)
    }

    /// See [`Source::take_warm_in_room`](crate::governor::Source::take_warm_in_room).
    pub(crate) fn take_warm_in_room(&self, name: RoomName, bytes_max: usize) -> Option<Piece> {
        let (entry, reservation, room) = self.room_of(name)?;
        let in_use = reservation.rooms.state(room).is_some_and(|state| state.is_in_use());
        let bytes_max = if in_use { bytes_max.min(PURGE_PIECE_IN_USE_BYTES) } else { bytes_max };
        let most = Chunks((bytes_max / CHUNK_BYTES).max(1) as u32);
        self.room_piece(entry, reservation.rooms.begin_purge_of_kept(room, most)?)
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
        if reservation.space.is_pool() {
            // The pages that are set aside are the parent's: the child may be killed where it touches a new one.
            reservation.space.close();
        }
        for range in ranges(reservation) {
            if let Some(ticket) = Arena::<O>::ticket(reservation, range) {
                // Relaxed: as above.
                ticket.queued.store(false, Ordering::Relaxed);
            }
            if let Range::Room(room) = range {
                // Requests for warm memory are the parent's.
                reservation.rooms.drop_kept(room);
            }
        }
    }
    // Relaxed: as above.
    queue.overflowed.store(true, Ordering::Relaxed);
    (0..BATCH_PIECES_MAX).for_each(|slot| arena.finish_piece(slot, true));
    // A room that was taken out of use and not noted yet.
    for reservation in arena.reservations() {
        reservation.rooms.used_rooms().for_each(|room| reservation.rooms.recover(room));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_words_and_back() {
        for range in [Range::Chunk(ChunkIndex(u32::MAX)), Range::Room(RoomIndex(0)), Range::Chunk(ChunkIndex(7))] {
            let entry = Entry { reservation: RESERVATION_COUNT_MAX - 1, range, queued_ms: STAMP_MASK };
            assert_eq!(Entry::from_word(entry.to_word()), Some(entry));
        }
        assert_eq!(Entry::from_word(0), None);
    }

    #[test]
    fn ages_are_right_for_hours_and_a_clock_ahead_counts_as_now() {
        const HOUR_MS: u32 = 3_600_000;
        for now in [0, 5, STAMP_MASK, STAMP_MASK + 1, u32::MAX] {
            for age in [0, 1, 500, HOUR_MS, 3 * HOUR_MS, 4 * HOUR_MS] {
                assert_eq!(age_ms(now, now.wrapping_sub(age) & STAMP_MASK), u64::from(age));
            }
            assert_eq!(age_ms(now, now.wrapping_add(AHEAD_MS_MAX - 1) & STAMP_MASK), 0);
        }
    }
}
