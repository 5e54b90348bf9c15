//! The memory of a program, as the governor sees it: chunks and rooms with a state each, and no memory behind them.
//!
//! Invariant, asserted on every call: only cold or retired memory is taken out of use, nothing is taken twice, what the
//! kernel is asked to purge or to fault in is out of use for just that, whole, and each piece is finished once.

extern crate std;

use core::ptr::NonNull;
use std::sync::{Mutex, MutexGuard};
use std::vec::Vec;

use super::memory::{Area, Chunks, Room, State};
use crate::governor::{Batch, KeptRoom, Piece, Retired, RoomName, Source};
use crate::limits::{BATCH_PIECES_MAX, CHUNK_BYTES};
use crate::os::Range;
use crate::units::Nanos;

pub(super) const CHUNK: u64 = CHUNK_BYTES as u64;
/// Addresses of the three areas, with the size of a room's address range.
const SMALL_BASE: usize = 1 << 40;
const BLOCKS_BASE: usize = 2 << 40;
const ROOMS_BASE: usize = 4 << 40;
const ROOM_SPAN: usize = 1 << 36;

/// A piece that is out of use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Flight {
    whose: Whose,
    /// The chunks of it, counted from the start of its area or room.
    from: u32,
    to: u32,
    warming: bool,
    /// Bytes that the kernel has purged or faulted in.
    done: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whose {
    Chunk(Area),
    Room(usize),
}

struct Inner {
    small: Chunks,
    blocks: Chunks,
    rooms: Vec<Room>,
    flights: [Option<Flight>; BATCH_PIECES_MAX],
    cold_claimed: u64,
    forecast: Option<u64>,
    /// The shortest time that anything was free before it was taken to be purged.
    shortest_free: Option<Nanos>,
    /// Called by the model's own clock: when pieces that stay resident are retired.
    now: Nanos,
}

/// The model.
pub(super) struct Model {
    inner: Mutex<Inner>,
}

impl Inner {
    fn area(&mut self, area: Area) -> &mut Chunks {
        match area {
            Area::Small => &mut self.small,
            Area::Blocks => &mut self.blocks,
        }
    }

    fn take_off(&mut self, whose: Whose, from: u32, to: u32, warming: bool) -> Piece {
        assert!(from < to, "a piece of nothing");
        let overlaps = |flight: &Flight| flight.whose == whose && flight.from < to && from < flight.to;
        assert!(!self.flights.iter().flatten().any(overlaps), "{whose:?} {from}..{to} is out of use already");
        let slot = self.flights.iter().position(Option::is_none).expect("more pieces than a batch has");
        self.flights[slot] = Some(Flight { whose, from, to, warming, done: 0 });
        let base = NonNull::new(core::ptr::without_provenance_mut(address(whose, from))).unwrap();
        Piece { base, bytes: (to - from) as usize * CHUNK_BYTES, huge: whose != Whose::Chunk(Area::Small), slot }
    }
}

fn address(whose: Whose, chunk: u32) -> usize {
    let base = match whose {
        Whose::Chunk(Area::Small) => SMALL_BASE,
        Whose::Chunk(Area::Blocks) => BLOCKS_BASE,
        Whose::Room(room) => ROOMS_BASE + room * ROOM_SPAN,
    };
    base + chunk as usize * CHUNK_BYTES
}

/// Whether an address lies in the area of small pages.
pub(super) fn is_small(range: Range) -> bool {
    range.base.addr().get() < BLOCKS_BASE
}

impl Model {
    /// A program with cold memory: chunks of small pages, chunks of hugepages, rooms.
    pub(super) fn new(small: u32, blocks: u32, rooms: usize) -> Self {
        Model {
            inner: Mutex::new(Inner {
                small: Chunks::new(small),
                blocks: Chunks::new(blocks),
                rooms: (0..rooms).map(|_| Room::default()).collect(),
                flights: [None; BATCH_PIECES_MAX],
                cold_claimed: 0,
                forecast: None,
                shortest_free: None,
                now: Nanos(0),
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// The program takes a chunk: the one that was freed last, else a cold one.
    pub(super) fn allocate_chunk(&self, area: Area) -> u32 {
        let mut inner = self.inner();
        let chunks = inner.area(area);
        let warm = chunks.take_youngest();
        let chunk = warm.or_else(|| chunks.cold.pop()).expect("the model has memory enough");
        chunks.states[chunk as usize] = State::Live;
        if warm.is_none() && area == Area::Blocks {
            inner.cold_claimed += CHUNK;
        }
        chunk
    }

    pub(super) fn free_chunk(&self, area: Area, chunk: u32, now: Nanos) {
        let mut inner = self.inner();
        let chunks = inner.area(area);
        assert_eq!(chunks.states[chunk as usize], State::Live);
        chunks.retire(chunk, now);
    }

    /// The program takes a room: the warmest that is free and not kept for a much larger block.
    pub(super) fn allocate_room(&self, chunks: u32) -> Option<usize> {
        let mut inner = self.inner();
        let suits = |room: &Room| !room.in_use && room.keep <= 2 * chunks;
        let free = inner.rooms.iter().enumerate().filter(|(_, room)| suits(room));
        let room = free.max_by_key(|(_, room)| room.warm)?.0;
        let taken = &mut inner.rooms[room];
        *taken = Room { in_use: true, live: chunks, warm: taken.warm.max(chunks), keep: 0, ..*taken };
        Some(room)
    }

    /// The program changes the size of the block in a room; zero frees it.
    pub(super) fn resize_room(&self, room: usize, chunks: u32, now: Nanos) {
        let mut inner = self.inner();
        let room = &mut inner.rooms[room];
        assert!(room.in_use);
        let warm = room.warm.max(chunks);
        *room = Room { in_use: chunks > 0, live: chunks, warm, freed_at: now, ..*room };
    }

    pub(super) fn foretell(&self, bytes: u64) {
        self.inner().forecast = Some(bytes);
    }

    /// The kernel purges a range.
    pub(super) fn check_purge(&self, range: Range) {
        self.note_call(range, false);
    }

    /// The kernel faults a range in.
    pub(super) fn check_fault_in(&self, range: Range) {
        self.note_call(range, true);
    }

    /// Neighbouring pieces may be purged together: each gets its share.
    fn note_call(&self, range: Range, warming: bool) {
        let mut inner = self.inner();
        let (start, mut left) = (range.base.addr().get(), range.bytes);
        for flight in inner.flights.iter_mut().flatten().filter(|flight| flight.warming == warming) {
            let [from, to] = [flight.from, flight.to].map(|chunk| address(flight.whose, chunk));
            let shared = to.min(start + range.bytes).saturating_sub(from.max(start));
            flight.done += shared;
            left -= shared;
        }
        assert_eq!(left, 0, "{range:?} is not out of use");
    }

    /// Chunks of small pages that the program can have.
    pub(super) fn small_chunks_left(&self) -> u64 {
        let inner = self.inner();
        inner.small.cold.len() as u64 + inner.small.retired / CHUNK
    }

    /// Warm bytes of a room.
    pub(super) fn room_bytes(&self, room: usize) -> u64 {
        u64::from(self.inner().rooms[room].warm) * CHUNK
    }

    /// Warm bytes of all other rooms.
    pub(super) fn room_bytes_other_than(&self, room: usize) -> u64 {
        let all: u64 = self.inner().rooms.iter().map(|room| u64::from(room.warm) * CHUNK).sum();
        all - self.room_bytes(room)
    }

    /// Bytes that are kept in rooms.
    pub(super) fn kept_room_bytes(&self) -> u64 {
        let kept = |room: &Room| if room.in_use { 0 } else { room.warm.min(room.keep) };
        self.inner().rooms.iter().map(|room| u64::from(kept(room)) * CHUNK).sum()
    }

    /// Forked child: no room is kept.
    pub(super) fn forget_kept_rooms(&self) {
        self.inner().rooms.iter_mut().for_each(|room| room.keep = 0);
    }

    /// The shortest time that anything was free before its turn to be purged came.
    pub(super) fn shortest_free(&self) -> Option<Nanos> {
        self.inner().shortest_free
    }

    /// Complains if anything is out of use.
    pub(super) fn assert_at_rest(&self) {
        assert_eq!(self.inner().flights, [None; BATCH_PIECES_MAX]);
    }

    /// Complains if anything is still warm, in use or kept.
    pub(super) fn assert_all_cold(&self) {
        self.assert_at_rest();
        let inner = self.inner();
        for state in inner.small.states.iter().chain(&inner.blocks.states) {
            assert_eq!(*state, State::Cold);
        }
        let cold = |room: &Room| !room.in_use && room.warm == 0 && room.keep == 0;
        assert!(inner.rooms.iter().all(cold), "{:?}", inner.rooms);
    }
}

impl Source for Model {
    fn chores(&self, now: Nanos) -> Option<Nanos> {
        self.inner().now = now;
        self.assert_at_rest();
        None
    }

    fn retired(&self) -> Retired {
        let inner = self.inner();
        let rooms = inner.rooms.iter().map(|room| u64::from(room.retired()) * CHUNK).sum();
        Retired { small: inner.small.retired, blocks: inner.blocks.retired, rooms }
    }

    fn take(&self, now: Nanos, linger: Nanos, bytes_max: usize, blocks_max: u64, batch: &mut Batch) -> Option<Nanos> {
        assert!(batch.is_empty());
        let mut inner = self.inner();
        let mut blocks_left = blocks_max;
        loop {
            let small = inner.small.oldest().map(|(since, _)| (since, Whose::Chunk(Area::Small)));
            let blocks = inner.blocks.oldest().filter(|_| blocks_left >= CHUNK);
            let blocks = blocks.map(|(since, _)| (since, Whose::Chunk(Area::Blocks)));
            let retired = inner.rooms.iter().enumerate().filter(|(_, room)| room.retired() > 0);
            let rooms = retired.map(|(number, room)| (room.freed_at, Whose::Room(number)));
            let oldest = rooms.chain(small).chain(blocks).min_by_key(|(since, _)| *since);
            let (since, whose) = oldest?;
            if now.since(since) < linger {
                return Some(Nanos(linger.0 - now.since(since).0));
            }
            let free = now.since(since);
            inner.shortest_free = Some(inner.shortest_free.map_or(free, |shortest| shortest.min(free)));
            match whose {
                Whose::Room(number) => {
                    if batch.is_empty() {
                        let most = (bytes_max / CHUNK_BYTES).max(1) as u32;
                        let room = &mut inner.rooms[number];
                        let to = room.warm;
                        room.warm -= room.retired().min(most);
                        let from = room.warm;
                        batch.push(inner.take_off(whose, from, to, false));
                    }
                    return None;
                }
                Whose::Chunk(area) => {
                    if !batch.takes(area == Area::Blocks)
                        || !batch.is_empty() && batch.bytes() + CHUNK_BYTES > bytes_max
                    {
                        return None;
                    }
                    let chunks = inner.area(area);
                    let (_, chunk) = chunks.queue.pop_front().expect("it was there");
                    chunks.states[chunk as usize] = State::Live;
                    chunks.retired -= CHUNK;
                    blocks_left -= if area == Area::Blocks { CHUNK } else { 0 };
                    batch.push(inner.take_off(whose, chunk, chunk + 1, false));
                }
            }
        }
    }

    fn finish(&self, slot: usize, resident: bool) {
        let mut inner = self.inner();
        let flight = inner.flights[slot].take().expect("finished once");
        assert!(!flight.warming || resident, "what was made warm is resident");
        if flight.warming || !resident {
            let bytes = (flight.to - flight.from) as usize * CHUNK_BYTES;
            assert!(flight.done >= bytes, "{flight:?} was said to be done");
            assert!(flight.warming || flight.done == bytes, "{flight:?} was purged more than once");
        }
        let now = inner.now;
        match flight.whose {
            Whose::Chunk(area) if resident => inner.area(area).retire(flight.from, now),
            Whose::Chunk(area) => {
                let chunks = inner.area(area);
                chunks.states[flight.from as usize] = State::Cold;
                chunks.cold.push(flight.from);
            }
            Whose::Room(number) if resident => {
                let room = &mut inner.rooms[number];
                room.warm = flight.to;
                room.freed_at = now;
            }
            Whose::Room(_) => {}
        }
    }

    fn cold_claimed_bytes(&self) -> u64 {
        self.inner().cold_claimed
    }

    fn commit_ahead(&self) -> bool {
        false
    }

    fn take_cold_chunk(&self) -> Option<Piece> {
        let mut inner = self.inner();
        let chunk = inner.blocks.cold.pop()?;
        inner.blocks.states[chunk as usize] = State::Live;
        Some(inner.take_off(Whose::Chunk(Area::Blocks), chunk, chunk + 1, true))
    }

    fn keep_room(&self, bytes: u64) -> Option<RoomName> {
        let mut inner = self.inner();
        let free = inner.rooms.iter().enumerate().filter(|(_, room)| !room.in_use && room.keep == 0);
        let number = free.max_by_key(|(_, room)| room.warm)?.0;
        inner.rooms[number].keep = bytes.div_ceil(CHUNK) as u32;
        Some(number as RoomName + 1)
    }

    fn drop_room(&self, room: RoomName) {
        let mut inner = self.inner();
        let now = inner.now;
        let room = &mut inner.rooms[room as usize - 1];
        if room.keep > 0 {
            *room = Room { keep: 0, freed_at: now, ..*room };
        }
    }

    fn kept_room(&self, room: RoomName) -> KeptRoom {
        let room = self.inner().rooms[room as usize - 1];
        KeptRoom { is_kept: room.keep > 0, warm_bytes: u64::from(room.warm) * CHUNK }
    }

    fn take_cold_in_room(&self, name: RoomName, bytes_max: usize) -> Option<Piece> {
        let mut inner = self.inner();
        let number = name as usize - 1;
        let room = inner.rooms[number];
        let to = (room.warm + (bytes_max / CHUNK_BYTES).max(1) as u32).min(room.keep);
        (!room.in_use && room.warm < to).then(|| inner.take_off(Whose::Room(number), room.warm, to, true))
    }

    fn take_warm_in_room(&self, name: RoomName, bytes_max: usize) -> Option<Piece> {
        let mut inner = self.inner();
        let number = name as usize - 1;
        let room = &mut inner.rooms[number];
        let to = room.warm;
        let most = (bytes_max / CHUNK_BYTES).max(1) as u32;
        room.warm -= room.warm.saturating_sub(room.live).min(most);
        let from = room.warm;
        (from < to).then(|| inner.take_off(Whose::Room(number), from, to, false))
    }

    fn forecast_bytes(&self) -> Option<u64> {
        self.inner().forecast.take()
    }
}
