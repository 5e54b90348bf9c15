//! The sizes of rooms, and how many of each a reservation has: pure arithmetic. Called by `arena::layout` and
//! `arena::rooms`.

use crate::limits::{CHUNK_BYTES, HUGE_BYTES_MIN, ROOM_LEADS};

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

    /// Bytes at the start of room number `room` of the reservation that no block uses, at most an eighth of it.
    pub(crate) const fn lead_bytes(self, room: u32) -> usize {
        let most = self.room_bytes() / CHUNK_BYTES / 8;
        let leads = if most < ROOM_LEADS { most + 1 } else { ROOM_LEADS };
        room as usize % leads * CHUNK_BYTES
    }

    /// Bytes in all rooms of the tier.
    pub(crate) const fn bytes(self) -> usize {
        self.room_bytes() * self.count as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_differ_from_room_to_room_and_leave_place_for_a_huge_block() {
        for unit_shift in 31..=40 {
            for tier in Tier::all(1 << unit_shift).into_iter().filter(|tier| tier.count > 0) {
                let leads = (0..1000).map(|room| tier.lead_bytes(room));
                assert!(leads.clone().zip(leads.clone().skip(1)).all(|(one, next)| one != next), "{tier:?}");
                assert!(leads.clone().all(|lead| lead.is_multiple_of(CHUNK_BYTES) && lead <= tier.room_bytes() / 8));
                assert!(leads.clone().any(|lead| tier.room_bytes() - lead >= HUGE_BYTES_MIN));
            }
        }
        assert_eq!(Tier { room_shift: 35, count: 12 }.lead_bytes(15), 15 * CHUNK_BYTES);
    }
}
