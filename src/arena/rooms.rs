//! The rooms of a reservation: address ranges with head-room, one for each huge block. Called by `arena::registry`.
//!
//! Invariant: a room is claimed, grown and released by one exchange on its word. A block starts at the start of its
//! room, behind its lead: a few chunks that are never used, their number another one in each of the next rooms (see
//! [`ROOM_LEADS`](crate::limits::ROOM_LEADS)). Rooms come in tiers, each a quarter as large as the one before. While at
//! least half of the larger rooms are free, every block gets the largest, so that what grows never moves; after that
//! the smallest that fits. A room may be kept warm for a block to come: blocks of less than half that size get another
//! one, as long as there is any.

mod kept;

use core::ptr::NonNull;

use super::layout::Region;
use super::locking::Locking;
use super::prefix::{next_step, smaller_step, wants_step};
use super::refusal::Refusal;
use super::tiers::{TIERS, Tier};
use crate::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::limits::{CHUNK_SHIFT, STEP_BYTES_MIN, STEP_GROWTH, STEPPED_ROOMS_MAX};
use crate::lockfree::room_word::{Piece, RoomState, RoomWord};
use crate::os::{Kernel, Os};
use crate::stats::counters::By;
use crate::units::Chunks;

/// Where a tier lies in its region.
#[derive(Clone, Copy)]
struct Place {
    tier: Tier,
    /// Index of its first room.
    first: u32,
    /// Bytes from the base of the region to its first room.
    offset: usize,
}

/// Where blocks of one room lie.
#[derive(Clone, Copy)]
struct Site {
    /// The start of every block in it.
    base: NonNull<u8>,
    /// The most bytes that a block can have.
    bytes: usize,
    /// The number of its tier.
    tier: usize,
}

impl Site {
    /// Whether a block of `chunks` at a multiple of `align_bytes` fits.
    fn fits(self, chunks: u32, align_bytes: usize) -> bool {
        Chunks(chunks).in_bytes() <= self.bytes && self.base.addr().get().is_multiple_of(align_bytes)
    }
}

/// The record of one room.
pub(crate) struct Room {
    word: RoomWord,
    /// Stepped mode: chunks committed from the start. Written by the owner, read by any thread.
    committed: AtomicU32,
    /// Coarse milliseconds of the moment chunks of it became free. Any thread, the last one wins.
    pub(crate) retired_ms: AtomicU32,
    /// Chunks from the start that are kept warm for a block to come; 0 for none. Set by the governor, cleared by who
    /// claims the room.
    keep: AtomicU32,
    /// Whether it is in the queue of retired ranges. Any thread.
    pub(crate) queued: AtomicBool,
    /// Stepped mode: whether its block has grown in it, so that the next step is worth taking ahead of need. Any
    /// thread.
    grown: AtomicBool,
}

/// Bytes of a room's record.
pub(crate) const ROOM_RECORD_BYTES: usize = size_of::<Room>();

/// Which room of a reservation, in address order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RoomIndex(pub(crate) u32);

/// A claimed room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimed {
    pub(crate) room: RoomIndex,
    pub(crate) base: NonNull<u8>,
    /// Chunks from the start that may hold old data; the rest reads as zeroes.
    pub(crate) dirty: Chunks,
    /// Whether warm chunks above the block were kept until now and are to be retired.
    pub(crate) leaves_kept: bool,
}

/// Whether a huge block can have a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Availability {
    /// The reservation is too narrow for rooms.
    None,
    /// All that may be used are in use.
    Exhausted,
    /// There is one.
    Left,
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
    /// Stepped mode: whether some room's block has grown. Any thread sets it, the governor clears it.
    grown: AtomicBool,
    /// Chunks that blocks were given while they were cold. Any thread.
    cold_claims: AtomicU64,
    /// One more than the room in which the governor makes a piece warm; 0 for none. Governor, read by any thread.
    warming: AtomicU32,
    refusal: Refusal,
    locking: &'static Locking,
}

impl Rooms {
    /// The rooms in `region` of a reservation based at `base`; records must be zeroed memory.
    pub(crate) fn new(
        base: NonNull<u8>,
        region: Region,
        tiers: [Tier; TIERS],
        rooms: &'static [Room],
        stepped: bool,
        locking: &'static Locking,
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
            grown: AtomicBool::new(false),
            cold_claims: AtomicU64::new(0),
            warming: AtomicU32::new(0),
            refusal: Refusal::new(),
            locking,
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

    /// Stepped mode: bytes of all rooms that are readable and writable.
    pub(crate) fn committed_bytes(&self) -> usize {
        self.used_rooms().map(|room| Chunks(self.committed(room)).in_bytes()).sum()
    }

    fn committed(&self, room: RoomIndex) -> u32 {
        // Relaxed: a hint; whoever claims the room looks again.
        self.room(room).map_or(0, |record| record.committed.load(Ordering::Relaxed))
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

    /// The room that holds `offset` bytes from the base, and the offset from the start of its block. `None` where no
    /// block can be.
    pub(crate) fn at_offset(&self, offset: usize) -> Option<(RoomIndex, usize)> {
        self.places.iter().find_map(|place| {
            let inside = offset.checked_sub(place.offset).filter(|inside| *inside < place.tier.bytes())?;
            let room = RoomIndex(place.first + (inside >> place.tier.room_shift) as u32);
            let offset = inside & (place.tier.room_bytes() - 1);
            Some((room, offset.checked_sub(place.tier.lead_bytes(room.0))?))
        })
    }

    fn site(&self, room: RoomIndex) -> Option<Site> {
        self.places.iter().enumerate().find_map(|(number, place)| {
            let in_tier = room.0.checked_sub(place.first).filter(|in_tier| *in_tier < place.tier.count)?;
            let lead_bytes = place.tier.lead_bytes(room.0);
            let offset = place.offset + ((in_tier as usize) << place.tier.room_shift) + lead_bytes;
            // SAFETY: the room lies within the region, and its lead within the room.
            let base = unsafe { self.base.byte_add(offset) };
            Some(Site { base, bytes: place.tier.room_bytes() - lead_bytes, tier: number })
        })
    }

    /// Rooms of a tier that are in use. A hint that spreads blocks over the tiers.
    fn in_use(&self, number: usize) -> u32 {
        // Relaxed: a hint.
        self.in_use.get(number).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Claims a room for a block of `chunks` at a multiple of `align_bytes`. A warm one if there is one that fits: the
    /// one with the least warm memory that covers the block, else the warmest. For a block that must be zero (`zeroed`)
    /// one without old data: that would have to be written, and a program that asks for zeroes may never touch most of
    /// them.
    pub(crate) fn allocate<O: Os>(
        &self,
        kernel: &Kernel<O>,
        chunks: Chunks,
        align_bytes: usize,
        zeroed: bool,
    ) -> Option<Claimed> {
        let wish = Wish { chunks: chunks.0, align_bytes, zeroed, kept: false, committed: false };
        self.claim_best_used(kernel, wish)
            .or_else(|| self.unused(chunks.0, align_bytes).find_map(|room| self.claim(kernel, room, chunks).ok()))
            // Before this gives up: what is kept for another block.
            .or_else(|| self.claim_best_used(kernel, Wish { kept: true, zeroed: false, ..wish }))
    }

    fn claim_best_used<O: Os>(&self, kernel: &Kernel<O>, mut wish: Wish) -> Option<Claimed> {
        while let Some(room) = self.best_used(wish) {
            match self.claim(kernel, room, Chunks(wish.chunks)) {
                Ok(claimed) => return Some(claimed),
                Err(Refused::Taken) => {}
                Err(Refused::ByKernel) if wish.committed => return None,
                // One that is less warm may do without the kernel.
                Err(Refused::ByKernel) => wish.committed = true,
            }
        }
        None
    }

    /// Rooms for a block of `chunks` at a multiple of `align_bytes` that were never used, in the order in which they
    /// are to be used.
    fn unused(&self, chunks: u32, align_bytes: usize) -> impl Iterator<Item = RoomIndex> {
        let half_free =
            |number: &usize| self.places.get(*number).is_some_and(|place| self.in_use(*number) < place.tier.count / 2);
        // Relaxed: a hint that keeps commits few.
        let reached = || self.reached.iter().map(|reached| reached.load(Ordering::Relaxed)).sum::<u32>();
        let exhausted = self.stepped && reached() >= STEPPED_ROOMS_MAX;
        let tiers = (0..TIERS).filter(half_free).chain((0..TIERS).rev()).take(if exhausted { 0 } else { 2 * TIERS });
        tiers
            .filter_map(|number| self.places.get(number).zip(self.reached.get(number)))
            .filter(move |(place, _)| Chunks(chunks).in_bytes() <= place.tier.room_bytes())
            // Relaxed: a hint.
            .flat_map(|(place, reached)| {
                (reached.load(Ordering::Relaxed)..place.tier.count).map(|room| place.first + room)
            })
            .map(RoomIndex)
            .filter(move |room| self.site(*room).is_some_and(|site| site.fits(chunks, align_bytes)))
    }

    /// The free room, of those that were used before, that suits a wish best.
    fn best_used(&self, wish: Wish) -> Option<RoomIndex> {
        let mut best: Option<(RoomIndex, u32)> = None;
        for room in self.used_rooms() {
            let Some(state) = self.state(room).filter(|state| state.is_available(wish.chunks)) else { continue };
            if !self.site(room).is_some_and(|site| site.fits(wish.chunks, wish.align_bytes))
                || wish.committed && self.committed(room) < wish.chunks
                || !wish.kept && self.keep(room) > wish.chunks.saturating_mul(2)
                || wish.zeroed && state.dirty() > 0 && !self.is_kept_for(room, Chunks(wish.chunks))
            {
                continue;
            }
            let warm = state.warm();
            let better = best
                .is_none_or(|(_, had)| if had >= wish.chunks { warm >= wish.chunks && warm < had } else { warm > had });
            if better {
                best = Some((room, warm));
            }
        }
        best.map(|(room, _)| room)
    }

    /// Whether there are rooms, and whether one of them is left for the next huge block.
    pub(crate) fn availability(&self) -> Availability {
        if self.rooms.is_empty() {
            return Availability::None;
        }
        let is_left = |room| self.state(room).is_some_and(|state| !state.is_in_use());
        let left = self.used_rooms().any(is_left) || self.unused(0, 1).next().is_some();
        if left { Availability::Left } else { Availability::Exhausted }
    }

    fn claim<O: Os>(&self, kernel: &Kernel<O>, room: RoomIndex, chunks: Chunks) -> Result<Claimed, Refused> {
        let (site, record) = self.site(room).zip(self.room(room)).ok_or(Refused::Taken)?;
        let before = record.word.claim(chunks.0).ok_or(Refused::Taken)?;
        if !self.ensure_committed(kernel, room, chunks, By::Application) {
            record.word.cancel(before);
            return Err(Refused::ByKernel);
        }
        // Relaxed, here and below: hints. That the room was kept tells the governor who looks for it.
        let kept = record.keep.swap(0, Ordering::Relaxed);
        record.grown.store(false, Ordering::Relaxed);
        if let Some(in_use) = self.in_use.get(site.tier) {
            in_use.fetch_add(1, Ordering::Relaxed);
        }
        self.note_reached(room);
        self.note_cold(chunks.0, before.warm());
        let base = site.base;
        Ok(Claimed { room, base, dirty: Chunks(before.dirty()), leaves_kept: kept > 0 && before.warm() > chunks.0 })
    }

    fn note_cold(&self, chunks: u32, warm: u32) {
        if chunks > warm {
            // Relaxed: a sum.
            self.cold_claims.fetch_add(u64::from(chunks - warm), Ordering::Relaxed);
        }
    }

    /// Chunks that blocks were given while they were cold, so far.
    pub(crate) fn cold_claims(&self) -> u64 {
        // Relaxed: a sum.
        self.cold_claims.load(Ordering::Relaxed)
    }

    fn note_reached(&self, room: RoomIndex) {
        let Some(Site { tier, .. }) = self.site(room) else { return };
        if let Some((place, reached)) = self.places.get(tier).zip(self.reached.get(tier)) {
            // Relaxed: a bound for scans; a room is visible to them once this is.
            reached.fetch_max(room.0 - place.first + 1, Ordering::Relaxed);
        }
    }

    /// Chunks from the start of a room that are kept warm.
    fn keep(&self, room: RoomIndex) -> u32 {
        // Relaxed: a hint.
        self.room(room).map_or(0, |record| record.keep.load(Ordering::Relaxed))
    }

    /// Warm chunks of a room that neither a block covers nor is kept.
    pub(crate) fn retired(&self, room: RoomIndex) -> u32 {
        self.state(room).map_or(0, |state| state.retired(self.keep(room)))
    }

    /// Stepped mode: makes sure that the owner of the room, or the governor for one to come, can use its first
    /// `chunks`.
    fn ensure_committed<O: Os>(&self, kernel: &Kernel<O>, room: RoomIndex, chunks: Chunks, by: By) -> bool {
        if !self.stepped {
            return true;
        }
        let (Some(record), Some(site)) = (self.room(room), self.site(room)) else { return false };
        // Acquire: pairs with the Release in `take_step`, by an earlier owner.
        let have = record.committed.load(Ordering::Acquire);
        if chunks.0 <= have {
            return true;
        }
        let ample = step_from(have, site.bytes).max(chunks.0);
        let allowed = self.locking.allows_step(kernel, &self.refusal, Chunks(ample - have).in_bytes(), by);
        self.take_step(kernel, room, have, if allowed { ample } else { chunks.0 }, chunks.0, by)
    }

    /// Commits the first `step` chunks of a room of which `have` are committed, or less if that is refused, but at
    /// least `least`. `have < least <= step`, and the room has as many.
    fn take_step<O: Os>(&self, kernel: &Kernel<O>, room: RoomIndex, have: u32, step: u32, least: u32, by: By) -> bool {
        let (Some(record), Some(Site { base, .. })) = (self.room(room), self.site(room)) else { return false };
        let now = kernel.os().coarse_now();
        let missing_bytes = |target: u32| Chunks(target - have).in_bytes();
        let mut next = Some(step as usize);
        while let Some(target) = next.map(|target| target as u32) {
            next = smaller_step(have as usize, target as usize, least as usize);
            if self.refusal.covers(now, missing_bytes(target)) {
                continue;
            }
            // SAFETY: 1. `have < least <= target <= step`: the range lies in the room.
            //         2. The range is untouched, or was committed by another thread meanwhile: that does no harm.
            let worked = unsafe {
                let start = base.byte_add(Chunks(have).in_bytes());
                self.locking.commit(kernel, start, missing_bytes(target), by)
            };
            if worked.is_ok() {
                // Release: pairs with the Acquire in `ensure_committed`.
                record.committed.fetch_max(target, Ordering::Release);
                return true;
            }
            self.refusal.note(now, missing_bytes(target));
        }
        false
    }

    /// Whether a block of `chunks` fits into a room.
    pub(crate) fn fits(&self, room: RoomIndex, chunks: Chunks) -> bool {
        self.site(room).is_some_and(|site| site.fits(chunks.0, 1))
    }

    /// Forked child: ends the work of the parent's governor on a room, of which nothing is known but that it is under
    /// way. All that the room may hold counts as warm.
    pub(crate) fn recover(&self, room: RoomIndex) {
        let Some((site, record)) = self.site(room).zip(self.room(room)) else { return };
        let room_chunks = (site.bytes >> CHUNK_SHIFT) as u32;
        // Relaxed: the child has one thread.
        let committed = if self.stepped { record.committed.load(Ordering::Relaxed) } else { room_chunks };
        record.word.recover(committed);
    }

    /// Owner: makes the block cover `chunks` in place. `None` if the room is too small, a purge runs in it, or the
    /// kernel refuses: the block is as before. Says whether chunks became free.
    pub(crate) fn resize<O: Os>(&self, kernel: &Kernel<O>, room: RoomIndex, chunks: Chunks) -> Option<bool> {
        if !self.fits(room, chunks) || !self.ensure_committed(kernel, room, chunks, By::Application) {
            return None;
        }
        let record = self.room(room)?;
        let before = record.word.resize(chunks.0)?;
        self.note_cold(chunks.0, before.warm());
        if self.stepped && chunks.0 > before.live() {
            // Relaxed: hints for the governor, which is rung for.
            record.grown.store(true, Ordering::Relaxed);
            if self.wants_step(record) {
                self.grown.store(true, Ordering::Relaxed);
            }
        }
        Some(chunks.0 < before.live())
    }

    fn wants_step(&self, record: &Room) -> bool {
        // Relaxed: hints.
        let committed = Chunks(record.committed.load(Ordering::Relaxed)).in_bytes();
        let live = Chunks(record.word.state().live()).in_bytes();
        record.grown.load(Ordering::Relaxed) && wants_step(live, committed)
    }

    /// Whether some room wants its next step.
    pub(crate) fn wants_commit(&self) -> bool {
        // Relaxed: a hint.
        self.grown.load(Ordering::Relaxed)
    }

    /// Governor: commits the next step of a room whose block has grown, whole or not at all. Says whether it did.
    pub(crate) fn commit_ahead<O: Os>(&self, kernel: &Kernel<O>) -> bool {
        // Relaxed: a hint; a block that grows on sets it again.
        if !self.grown.swap(false, Ordering::Relaxed) {
            return false;
        }
        let wanting = self.used_rooms().find_map(|room| {
            let record = self.room(room)?;
            let site = self.site(room)?;
            // Relaxed: a hint.
            let committed = record.committed.load(Ordering::Relaxed);
            let wants = self.wants_step(record) && Chunks(committed).in_bytes() < site.bytes;
            let step = step_from(committed, site.bytes);
            wants.then_some((room, committed, step))
        });
        let stepped = wanting.is_some_and(|(room, have, step)| {
            let missing_bytes = Chunks(step.saturating_sub(have)).in_bytes();
            self.locking.allows_step(kernel, &self.refusal, missing_bytes, By::Governor)
                && self.take_step(kernel, room, have, step, step, By::Governor)
        });
        if stepped {
            // Relaxed: as above. There may be another.
            self.grown.store(true, Ordering::Relaxed);
        }
        stepped
    }

    /// Owner: gives the room back. `None` if it was not in use. Says whether it holds memory.
    pub(crate) fn release(&self, room: RoomIndex) -> Option<bool> {
        let site = self.site(room)?;
        let before = self.room(room)?.word.release()?;
        if let Some(in_use) = self.in_use.get(site.tier) {
            // Relaxed: as in `claim`.
            in_use.fetch_sub(1, Ordering::Relaxed);
        }
        Some(before.warm() > 0)
    }

    /// The state of a room.
    pub(crate) fn state(&self, room: RoomIndex) -> Option<RoomState> {
        self.room(room).map(|record| record.word.state())
    }

    /// Governor: takes up to `chunks_max` warm chunks above the block in a room, or of a free one above those that are
    /// kept, out of use for a purge.
    pub(crate) fn begin_purge(&self, room: RoomIndex, chunks_max: Chunks) -> Option<(Piece, NonNull<u8>)> {
        self.place(room, self.room(room)?.word.begin_purge(chunks_max.0, self.keep(room))?)
    }

    fn place(&self, room: RoomIndex, piece: Piece) -> Option<(Piece, NonNull<u8>)> {
        let base = self.site(room)?.base;
        // SAFETY: the piece lies in the room.
        Some((piece, unsafe { base.byte_add(Chunks(piece.from).in_bytes()) }))
    }

    /// Governor: ends what one of these began.
    pub(crate) fn finish(&self, room: RoomIndex, piece: Piece, resident: bool) {
        if let Some(record) = self.room(room) {
            record.word.finish(piece, resident);
            // Relaxed: a hint.
            self.warming.store(0, Ordering::Relaxed);
        }
    }
}

/// Chunks of a room to commit in all, where `have` are committed and its blocks can have `bytes_max`.
fn step_from(have: u32, bytes_max: usize) -> u32 {
    let step_bytes = next_step(Chunks(have).in_bytes(), STEP_BYTES_MIN, STEP_GROWTH).min(bytes_max);
    (step_bytes >> CHUNK_SHIFT) as u32
}

/// What a request wants of a room.
#[derive(Clone, Copy)]
struct Wish {
    chunks: u32,
    /// What the block's address must be a multiple of.
    align_bytes: usize,
    /// Whether it must hold no old data.
    zeroed: bool,
    /// Whether one that is kept for a much larger block will do.
    kept: bool,
    /// Stepped mode: whether it must be committed as far as the block goes.
    committed: bool,
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::atomic::AtomicU64;

    #[test]
    fn a_room_that_a_block_took_in_the_moment_in_which_it_was_picked_is_not_kept() {
        let record = || Room {
            word: RoomWord::from_word(AtomicU64::new(0)),
            committed: AtomicU32::new(0),
            retired_ms: AtomicU32::new(0),
            keep: AtomicU32::new(0),
            queued: AtomicBool::new(false),
            grown: AtomicBool::new(false),
        };
        let records: Vec<Room> = (0..2).map(|_| record()).collect();
        let base = NonNull::new(core::ptr::without_provenance_mut(1 << 40)).unwrap();
        let tier = Tier { room_shift: 30, count: 2 };
        let region = Region { start: 0, bytes: 2 << 30 };
        let tiers = [tier, Tier::NONE, Tier::NONE, Tier::NONE, Tier::NONE];
        let locking = std::boxed::Box::leak(std::boxed::Box::new(Locking::none()));
        let rooms = Rooms::new(base, region, tiers, records.leak(), false, locking);
        let (room, record) = (RoomIndex(0), rooms.room(RoomIndex(0)).unwrap());
        record.keep.store(20, Ordering::Relaxed);
        assert_eq!(rooms.kept(room), (true, Chunks(0)));
        // The block's thread had looked whether the room is kept before it was.
        assert!(record.word.claim(20).is_some());
        assert_eq!(rooms.kept(room), (false, Chunks(20)));
        assert!(rooms.begin_warm(room, Chunks(1)).is_none());
    }
}
