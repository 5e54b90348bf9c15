//! The sizes of rooms, and how many of each a reservation has: pure arithmetic. Called by `arena::layout` and
//! `arena::rooms`.

use crate::limits::HUGE_BYTES_MIN;

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
