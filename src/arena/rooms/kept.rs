//! Rooms that are kept warm for a block to come. Called by the governor, by way of `arena::retired`, and by requests
//! that look whether there is one for them.
//!
//! Invariant: the governor sets the mark on a room that is free, and who claims the room clears it; on a room in use a
//! mark means nothing.

use core::ptr::NonNull;

use super::{RoomIndex, Rooms};
use crate::atomic::Ordering;
use crate::lockfree::room_word::{Piece, RoomState};
use crate::os::{Kernel, Os};
use crate::stats::counters::By;
use crate::units::Chunks;

impl Rooms {
    /// Whether a room is kept for a block of about `chunks`.
    pub(crate) fn keeps_for(&self, chunks: Chunks) -> bool {
        self.used_rooms().any(|room| self.is_kept_for(room, chunks))
    }

    pub(super) fn is_kept_for(&self, room: RoomIndex, chunks: Chunks) -> bool {
        let keep = self.keep(room);
        let suits = keep > 0 && keep <= chunks.0.saturating_mul(2) && keep >= chunks.0 / 2;
        suits && self.fits(room, chunks)
    }

    /// Whether a room is kept for a block of about `chunks`, and the governor just makes a piece of it warm: a request
    /// waits for the end of the piece, which is the memory that it would have to fault in itself. Never for a purge.
    pub(crate) fn is_being_warmed_for(&self, chunks: Chunks) -> bool {
        // Relaxed: a hint.
        let Some(room) = self.warming.load(Ordering::Relaxed).checked_sub(1).map(RoomIndex) else { return false };
        let waits = |state: RoomState| !state.is_in_use() && !state.is_available(chunks.0);
        self.is_kept_for(room, chunks) && self.state(room).is_some_and(waits)
    }

    /// Governor: picks a free room for a block of `chunks` to come, the warmest that is not kept already, and keeps it.
    pub(crate) fn keep_one<O: Os>(&self, kernel: &Kernel<O>, chunks: Chunks) -> Option<RoomIndex> {
        // A purge or a piece to warm may be under way in no room: both are the caller's.
        let used = self.used_rooms().filter(|room| {
            self.keep(*room) == 0
                && self.fits(*room, chunks)
                && self.state(*room).is_some_and(|state| state.is_available(chunks.0))
        });
        let warmest = used.max_by_key(|room| self.state(*room).map_or(0, RoomState::warm));
        let room = warmest.or_else(|| self.unused(chunks.0, 1).next())?;
        if !self.ensure_committed(kernel, room, chunks, By::Governor) {
            return None;
        }
        // Relaxed: a hint.
        self.room(room)?.keep.store(chunks.0, Ordering::Relaxed);
        self.note_reached(room);
        Some(room)
    }

    /// Governor: ends `keep_one`. Says whether it was kept until now.
    pub(crate) fn drop_kept(&self, room: RoomIndex) -> bool {
        // Relaxed: a hint.
        self.room(room).is_some_and(|record| record.keep.swap(0, Ordering::Relaxed) > 0)
    }

    /// Whether a room is still kept, and how many of its chunks are warm. One that a block took in the very moment in
    /// which it was picked is not.
    pub(crate) fn kept(&self, room: RoomIndex) -> (bool, Chunks) {
        let Some(state) = self.state(room) else { return (false, Chunks(0)) };
        (self.keep(room) > 0 && !state.is_in_use(), Chunks(state.warm()))
    }

    /// Governor: takes up to `chunks_max` warm chunks of a room out of use for a purge, though they are kept.
    pub(crate) fn begin_purge_of_kept(&self, room: RoomIndex, chunks_max: Chunks) -> Option<(Piece, NonNull<u8>)> {
        self.place(room, self.room(room)?.word.begin_purge(chunks_max.0, 0)?)
    }

    /// Governor: takes up to `chunks_max` cold chunks of a room that is kept out of use, to make them warm.
    pub(crate) fn begin_warm(&self, room: RoomIndex, chunks_max: Chunks) -> Option<(Piece, NonNull<u8>)> {
        let piece = self.room(room)?.word.begin_warm(chunks_max.0, self.keep(room))?;
        // Relaxed: a hint.
        self.warming.store(room.0 + 1, Ordering::Relaxed);
        self.place(room, piece)
    }
}
