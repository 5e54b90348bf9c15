//! Counts where memory is: what the program holds, what is free and warm, what the allocator itself uses. Called by
//! `front::introspect`.
//!
//! Invariant: reads atomics only, one after the other while the program runs; every number is right for some moment of
//! the walk, and sums of several are off by what happened meanwhile. Writes nothing but the caller's struct.

use super::slab::{Kind, Slab};
use crate::arena::{Arena, Reservation};
use crate::limits::SLICES_PER_CHUNK;
use crate::os::Os;
use crate::stats::MemoryStats;
use crate::units::{ChunkIndex, Chunks, Slices};

/// Where memory is now. Cost: a look at each chunk that was ever used, and at each slice in use: some ms for each 10
/// GiB of small blocks.
pub(crate) fn take<O: Os>(arena: &Arena<O>) -> MemoryStats {
    let mut memory = MemoryStats::default();
    for reservation in arena.reservations() {
        let [reserved, committed, metadata] = reservation.footprint_bytes();
        memory.reserved += reserved as u64;
        memory.committed += committed as u64;
        memory.metadata += metadata as u64;
        for chunk in reservation.space.used_chunks() {
            count_chunk(reservation, chunk, &mut memory);
        }
        for room in reservation.rooms.used_rooms() {
            let Some(state) = reservation.rooms.state(room) else { continue };
            let [live, warm] = [state.live(), state.warm()].map(|chunks| Chunks(chunks).in_bytes() as u64);
            memory.allocated += live;
            memory.active += live;
            memory.warm += warm.saturating_sub(live);
        }
    }
    memory.resident = memory.active + memory.warm + memory.metadata;
    memory.retained = memory.reserved.saturating_sub(memory.resident);
    memory
}

fn count_chunk(reservation: &'static Reservation, index: ChunkIndex, memory: &mut MemoryStats) {
    let Some(state) = reservation.space.chunk_state(index) else { return };
    let used = SLICES_PER_CHUNK - state.free_count();
    memory.active += Slices(used).in_bytes() as u64;
    memory.warm += Slices(state.free_dirty_count()).in_bytes() as u64;
    if used == 0 || reservation.space.frontier().is_gap(index) {
        return;
    }
    for place in (0..SLICES_PER_CHUNK).filter(|place| state.is_used(*place)) {
        let slab = Slab::of_slice(reservation, index.slice(place));
        memory.allocated += match slab.kind() {
            Kind::Slab => slab.held_bytes() as u64,
            Kind::Large => slab.slices().in_bytes() as u64,
            Kind::SlabRest | Kind::Free => 0,
        };
    }
}
