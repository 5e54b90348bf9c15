//! The rooms of a reservation: address ranges with head-room, one for each huge block. Called by `arena::registry`.
//!
//! Invariant: a room is claimed, grown and released by one exchange on its word. A block starts at the start of its
//! room. Rooms come in tiers, each a quarter as large as the one before. While at least half of the larger rooms are
//! free, every block gets the largest, so that what grows never moves; after that the smallest that fits.

use core::ptr::NonNull;

use super::layout::Region;
use super::prefix::next_step;
use super::refusal::Refusal;
use crate::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::limits::{
    CHUNK_SHIFT, HUGE_BYTES_MIN, RESERVATION_ALIGN_BYTES, STEP_BYTES_MIN, STEP_GROWTH, STEPPED_ROOMS_MAX,
};
use crate::lockfree::room_word::{Piece, RoomState, RoomWord};
use crate::os::{Kernel, Os};
use crate::stats::counters::By;
use crate::units::Chunks;

/// Kinds of room.
pub(crate) const TIERS: usize = 5;

/// One kind of room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tier {
    /// log2 of the bytes in a room.
    pub(crate) room_shift: u32,
    /// How many there are.
    pub(crate) count: u32,
}

impl Tier {
    /// No rooms.
    pub(crate) const NONE: Tier = Tier { room_shift: 0, count: 0 };

    /// The tiers of a wide reservation, whose `unit` is the machine's memory rounded up to a power of two. Each tier
    /// spans 3 to 12 units, so that blocks of its own size alone exhaust the memory before the rooms.
    pub(crate) fn all(unit: usize) -> [Tier; TIERS] {
        let tier = |divisor: usize, count| {
            let bytes = unit / divisor;
            if bytes < HUGE_BYTES_MIN { Tier::NONE } else { Tier { room_shift: bytes.ilog2(), count } }
        };
        [tier(1, 12), tier(4, 16), tier(16, 64), tier(64, 256), tier(256, 768)]
    }

    /// Bytes in one room; zero if there are none.
    pub(crate) const fn room_bytes(self) -> usize {
        if self.count == 0 { 0 } else { 1 << self.room_shift }
    }

    /// Bytes in all rooms of the tier.
    pub(crate) const fn bytes(self) -> usize {
        self.room_bytes() * self.count as usize
    }
}

/// Where a tier lies in its region.
#[derive(Clone, Copy)]
struct Place {
    tier: Tier,
    /// Index of its first room.
    first: u32,
    /// Bytes from the base of the region to its first room.
    offset: usize,
}

/// The record of one room.
pub(crate) struct Room {
    word: RoomWord,
    /// Stepped mode: chunks committed from the start. Written by the owner, read by any thread.
    committed: AtomicU32,
    /// Coarse milliseconds of the moment chunks of it became free. Any thread, the last one wins.
    pub(crate) retired_ms: AtomicU32,
    /// Whether it is in the queue of retired ranges. Any thread.
    pub(crate) queued: AtomicBool,
}

/// Bytes of a room's record.
pub(crate) const ROOM_RECORD_BYTES: usize = size_of::<Room>();

/// Which room of a reservation, in address order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RoomIndex(pub(crate) u32);

/// A claimed room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimed {
    pub(crate) base: NonNull<u8>,
    /// Chunks from the start that may hold old data; the rest reads as zeroes.
    pub(crate) warm: Chunks,
}

/// Why a room was not to be had.
enum Refused {
    /// Another thread was faster, or a purge runs in it.
    Taken,
    /// The kernel did not commit its memory.
    ByKernel,
}

/// The huge region of a reservation.
pub(crate) struct Rooms {
    base: NonNull<u8>,
    /// Largest rooms first.
    places: [Place; TIERS],
    rooms: &'static [Room],
    /// Rooms in use, by tier. Any thread.
    in_use: [AtomicU32; TIERS],
    /// One more than the highest room ever used, by tier, counted in the tier: bounds searches. Any thread, only grows.
    reached: [AtomicU32; TIERS],
    /// Whether rooms are committed as they are used; otherwise the whole region is.
    stepped: bool,
    refusal: Refusal,
}

impl Rooms {
    /// The rooms in `region` of a reservation based at `base`; records must be zeroed memory.
    pub(crate) fn new(
        base: NonNull<u8>,
        region: Region,
        tiers: [Tier; TIERS],
        rooms: &'static [Room],
        stepped: bool,
    ) -> Self {
        let (mut first, mut offset) = (0, 0);
        let places = tiers.map(|tier| {
            let place = Place { tier, first, offset };
            first += tier.count;
            offset += tier.bytes();
            place
        });
        Rooms {
            // SAFETY: the region lies within the reservation, by its layout.
            base: unsafe { base.byte_add(region.start) },
            places,
            rooms,
            in_use: [const { AtomicU32::new(0) }; TIERS],
            reached: [const { AtomicU32::new(0) }; TIERS],
            stepped,
            refusal: Refusal::new(),
        }
    }

    /// The lowest address.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes in all rooms.
    pub(crate) fn bytes(&self) -> usize {
        self.places.iter().map(|place| place.tier.bytes()).sum()
    }

    /// The record of a room.
    pub(crate) fn room(&self, room: RoomIndex) -> Option<&Room> {
        self.rooms.get(room.0 as usize)
    }

    /// Every room that was in use at some time.
    pub(crate) fn used_rooms(&self) -> impl Iterator<Item = RoomIndex> {
        self.places.iter().zip(&self.reached).flat_map(|(place, reached)| {
            // Relaxed: a hint for a scan.
            (place.first..place.first + reached.load(Ordering::Relaxed)).map(RoomIndex)
        })
    }

    /// The room that holds `offset` bytes from the base, and the offset from its start.
    pub(crate) fn at_offset(&self, offset: usize) -> Option<(RoomIndex, usize)> {
        self.places.iter().find_map(|place| {
            let inside = offset.checked_sub(place.offset).filter(|inside| *inside < place.tier.bytes())?;
            let room = RoomIndex(place.first + (inside >> place.tier.room_shift) as u32);
            Some((room, inside & (place.tier.room_bytes() - 1)))
        })
    }

    /// The first byte of a room, its tier and the tier's number.
    fn place_of(&self, room: RoomIndex) -> Option<(NonNull<u8>, Tier, usize)> {
        self.places.iter().enumerate().find_map(|(number, place)| {
            let in_tier = room.0.checked_sub(place.first).filter(|in_tier| *in_tier < place.tier.count)?;
            // SAFETY: the room lies within the region, so its offset does.
            let base = unsafe { self.base.byte_add(place.offset + ((in_tier as usize) << place.tier.room_shift)) };
            Some((base, place.tier, number))
        })
    }

    /// Rooms of a tier that are in use. A hint that spreads blocks over the tiers.
    fn in_use(&self, number: usize) -> u32 {
        // Relaxed: a hint.
        self.in_use.get(number).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Claims a room for a block of `chunks` at a multiple of `align_bytes`. A warm one if there is one that fits: the
    /// one with the least warm memory that covers the block, else the warmest. For a block that must be zero (`zeroed`)
    /// a cold one: what is warm would have to be written, and a program that asks for zeroes may never touch most of
    /// them.
    pub(crate) fn allocate<O: Os>(
        &self,
        kernel: &Kernel<O>,
        chunks: Chunks,
        align_bytes: usize,
        zeroed: bool,
    ) -> Option<Claimed> {
        // Rooms are as aligned as they are large, but no more than their region.
        if align_bytes > RESERVATION_ALIGN_BYTES {
            return None;
        }
        let least_bytes = chunks.in_bytes().max(align_bytes);
        while let Some(room) = self.best_used(chunks, least_bytes, zeroed) {
            match self.claim(kernel, room, chunks) {
                Ok(claimed) => return Some(claimed),
                Err(Refused::Taken) => {}
                Err(Refused::ByKernel) => return None,
            }
        }
        // Relaxed: a hint that keeps commits few.
        let reached = || self.reached.iter().map(|reached| reached.load(Ordering::Relaxed)).sum::<u32>();
        if self.stepped && reached() >= STEPPED_ROOMS_MAX {
            return None;
        }
        let half_free =
            |number: &usize| self.places.get(*number).is_some_and(|place| self.in_use(*number) < place.tier.count / 2);
        for number in (0..TIERS).filter(half_free).chain((0..TIERS).rev()) {
            let Some(place) = self.places.get(number).filter(|place| place.tier.room_bytes() >= least_bytes) else {
                continue;
            };
            for room in (place.first..place.first + place.tier.count).map(RoomIndex) {
                if !self.state(room).is_some_and(|state| state.is_available() && (!zeroed || state.warm() == 0)) {
                    continue;
                }
                match self.claim(kernel, room, chunks) {
                    Ok(claimed) => {
                        if let Some(reached) = self.reached.get(number) {
                            // Relaxed: a bound for scans; a room is visible to them once this is.
                            reached.fetch_max(room.0 - place.first + 1, Ordering::Relaxed);
                        }
                        return Some(claimed);
                    }
                    Err(Refused::Taken) => {}
                    Err(Refused::ByKernel) => return None,
                }
            }
        }
        None
    }

    /// The free room, of those of `least_bytes` or more that were used before, that suits a block of `chunks` best.
    fn best_used(&self, chunks: Chunks, least_bytes: usize, zeroed: bool) -> Option<RoomIndex> {
        let mut best: Option<(RoomIndex, u32)> = None;
        for (place, reached) in self.places.iter().zip(&self.reached) {
            if place.tier.room_bytes() < least_bytes {
                continue;
            }
            // Relaxed: a hint.
            for room in (place.first..place.first + reached.load(Ordering::Relaxed)).map(RoomIndex) {
                let Some(state) = self.state(room).filter(|state| state.is_available()) else { continue };
                let warm = state.warm();
                // In stepped mode a cold room that is committed already is worth having: no call is due.
                let wanted = if zeroed { warm == 0 && self.stepped } else { warm > 0 || self.stepped };
                let better = best.is_none_or(
                    |(_, had)| {
                        if had >= chunks.0 { warm >= chunks.0 && warm < had } else { warm > had }
                    },
                );
                if wanted && better {
                    best = Some((room, warm));
                }
            }
        }
        best.map(|(room, _)| room)
    }

    fn claim<O: Os>(&self, kernel: &Kernel<O>, room: RoomIndex, chunks: Chunks) -> Result<Claimed, Refused> {
        let ((base, _, number), record) = self.place_of(room).zip(self.room(room)).ok_or(Refused::Taken)?;
        let warm = record.word.claim(chunks.0).ok_or(Refused::Taken)?;
        if !self.ensure_committed(kernel, room, chunks) {
            record.word.cancel(warm);
            return Err(Refused::ByKernel);
        }
        if let Some(in_use) = self.in_use.get(number) {
            // Relaxed: a hint that spreads blocks over the tiers.
            in_use.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Claimed { base, warm: Chunks(warm) })
    }

    /// Stepped mode: makes sure that the owner of the room can use its first `chunks`.
    fn ensure_committed<O: Os>(&self, kernel: &Kernel<O>, room: RoomIndex, chunks: Chunks) -> bool {
        if !self.stepped {
            return true;
        }
        let (Some(record), Some((base, tier, _))) = (self.room(room), self.place_of(room)) else { return false };
        // Acquire: pairs with the Release below, by an earlier owner.
        let have = record.committed.load(Ordering::Acquire);
        if chunks.0 <= have {
            return true;
        }
        let now = kernel.os().coarse_now();
        let missing_bytes = Chunks(chunks.0 - have).in_bytes();
        if self.refusal.covers(now, missing_bytes) {
            return false;
        }
        let room_chunks = (tier.room_bytes() >> CHUNK_SHIFT) as u32;
        let step = next_step(Chunks(have).in_bytes(), STEP_BYTES_MIN, STEP_GROWTH) >> CHUNK_SHIFT;
        let step = (step as u32).max(chunks.0).min(room_chunks);
        for target in [step, chunks.0] {
            // SAFETY: 1. `have < chunks <= target <= room_chunks`: the range lies in the room.
            //         2. The caller owns the room, so nobody else commits it, and it is untouched from `have` on.
            let worked = unsafe {
                let start = base.byte_add(Chunks(have).in_bytes());
                kernel.commit(start, Chunks(target - have).in_bytes(), By::Application)
            };
            if worked.is_ok() {
                // Release: pairs with the Acquire above.
                record.committed.store(target, Ordering::Release);
                return true;
            }
        }
        self.refusal.note(now, missing_bytes);
        false
    }

    /// Owner: makes the block cover `chunks` in place. `None` if the room is too small, a purge runs in it, or the
    /// kernel refuses: the block is as before. Says whether chunks became free.
    pub(crate) fn resize<O: Os>(&self, kernel: &Kernel<O>, room: RoomIndex, chunks: Chunks) -> Option<bool> {
        let (_, tier, _) = self.place_of(room)?;
        if tier.room_bytes() < chunks.in_bytes() || !self.ensure_committed(kernel, room, chunks) {
            return None;
        }
        let before = self.room(room)?.word.resize(chunks.0)?;
        Some(chunks.0 < before.live())
    }

    /// Owner: gives the room back. `None` if it was not in use. Says whether it holds memory.
    pub(crate) fn release(&self, room: RoomIndex) -> Option<bool> {
        let (_, _, number) = self.place_of(room)?;
        let before = self.room(room)?.word.release()?;
        if let Some(in_use) = self.in_use.get(number) {
            // Relaxed: as in `claim`.
            in_use.fetch_sub(1, Ordering::Relaxed);
        }
        Some(before.warm() > 0)
    }

    /// The state of a room.
    pub(crate) fn state(&self, room: RoomIndex) -> Option<RoomState> {
        self.room(room).map(|record| record.word.state())
    }

    /// Takes up to `chunks_max` warm chunks above the block in a room, or of a free one, out of use for a purge.
    pub(crate) fn begin_purge(&self, room: RoomIndex, chunks_max: Chunks) -> Option<(Piece, NonNull<u8>)> {
        let (base, ..) = self.place_of(room)?;
        let piece = self.room(room)?.word.begin_purge(chunks_max.0)?;
        // SAFETY: the piece lies in the room.
        Some((piece, unsafe { base.byte_add(Chunks(piece.from).in_bytes()) }))
    }

    /// Ends what `begin_purge` started.
    pub(crate) fn finish_purge(&self, room: RoomIndex, piece: Piece, purged: bool) {
        if let Some(record) = self.room(room) {
            record.word.finish_purge(piece, purged);
        }
    }
}
