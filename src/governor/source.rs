//! What the governor asks of the layers above: where retired memory is, which cold memory can be made warm, what else
//! there is to do. Implemented by `thread::engine` with `arena`; by a model in the tests of the governor.

use super::batch::{Batch, Piece};
use crate::units::Nanos;

/// A room, as the source names it: always by the same name; never 0.
pub(crate) type RoomName = u64;

/// Memory that is free and warm, by where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Retired {
    /// Bytes of whole chunks in small pages.
    pub(crate) small: u64,
    /// Bytes of whole chunks that hugepages should back.
    pub(crate) blocks: u64,
    /// Bytes in rooms, without what is kept there.
    pub(crate) rooms: u64,
}

impl Retired {
    /// All of it.
    pub(crate) fn bytes(self) -> u64 {
        self.small + self.blocks + self.rooms
    }
}

/// What there is to know of a room that is kept warm for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeptRoom {
    /// Whether it is still kept: not claimed by a block since.
    pub(crate) is_kept: bool,
    /// Bytes from its start that are warm.
    pub(crate) warm_bytes: u64,
}

/// Where memory to give back and to make warm comes from. All of these are called by the governor alone.
pub(crate) trait Source {
    /// Does chores that are due at `now`; says in how long the next one is.
    fn chores(&self, now: Nanos) -> Option<Nanos>;

    /// What is free and warm at about this moment.
    fn retired(&self) -> Retired;

    /// Takes retired ranges out of use and puts them in `batch`, the longest free first, all of one kind, of
    /// `bytes_max` together (but at least one chunk); of chunks that hugepages back at most `blocks_max` bytes. None
    /// that was freed less than `linger` ago: says how long until the next one was. A room comes alone.
    fn take(&self, now: Nanos, linger: Nanos, bytes_max: usize, blocks_max: u64, batch: &mut Batch) -> Option<Nanos>;

    /// Puts a piece that this source gave back in use; it is `resident` now, or reads as zeroes. Pieces of one room are
    /// finished before the next is taken.
    fn finish(&self, slot: usize, resident: bool);

    /// Bytes of cold memory that the program has taken in its life.
    fn cold_claimed_bytes(&self) -> u64;

    /// Commits ahead of need where memory is committed in steps. Says whether a call was made.
    fn commit_ahead(&self) -> bool;

    /// Takes a cold chunk of small blocks' memory out of use, to be made warm.
    fn take_cold_chunk(&self) -> Option<Piece>;

    /// Picks a free room for a block of `bytes`, commits it, and keeps as much of it from being purged or given to
    /// smaller blocks, as long as there is another place for them.
    fn keep_room(&self, bytes: u64) -> Option<RoomName>;

    /// Ends [`keep_room`](Self::keep_room): what is warm there is retired.
    fn drop_room(&self, room: RoomName);

    /// How a kept room fares.
    fn kept_room(&self, room: RoomName) -> KeptRoom;

    /// Takes up to `bytes_max` cold bytes of a kept room out of use, to be made warm.
    fn take_cold_in_room(&self, room: RoomName, bytes_max: usize) -> Option<Piece>;

    /// Takes up to `bytes_max` warm bytes of a free room out of use, to be purged before their turn.
    fn take_warm_in_room(&self, room: RoomName, bytes_max: usize) -> Option<Piece>;

    /// Bytes of the block that the program is expected to ask for next, by the doubling that it has just done; once.
    fn forecast_bytes(&self) -> Option<u64>;
}
