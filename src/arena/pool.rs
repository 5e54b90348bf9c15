//! The explicit hugepage pool: pages that the administrator has set aside and that the process took at start, as a
//! block space of its own for huge blocks. Called by `arena::registry` at start, and by `span::large`.
//!
//! Invariant: only blocks of [`HUGE_BYTES_MIN`](crate::limits::HUGE_BYTES_MIN) and more are placed here, and its chunks
//! are never retired, purged or warmed: a page of the pool that is given back is not set aside any more, and a later
//! touch could end the process. A forked child, for which nothing is set aside, places nothing here.

use super::registry::Arena;
use super::reservation::Reservation;
use super::retired::Sink;
use super::space::Run;
use crate::limits::CHUNK_BYTES;
use crate::os::{Os, hugetlb};
use crate::units::{Chunks, Slices};

impl<O: Os> Arena<O> {
    /// At start: takes up to `wanted` bytes of the pool, as many as the kernel gives; maybe none.
    pub(super) fn take_pool(&self, wanted: usize) {
        let whole = |bytes: usize| bytes / CHUNK_BYTES * CHUNK_BYTES;
        let mut bytes = whole(wanted);
        let mut asked_for_free = false;
        while bytes > 0 {
            if let Some(reservation) = Reservation::create_pool(self.kernel(), bytes, !self.is_stepped()) {
                self.publish(reservation);
                return;
            }
            // What is free, at once; if that is refused as well, ever less.
            let free = if asked_for_free { usize::MAX } else { hugetlb::free_bytes(self.kernel().os()) };
            asked_for_free = true;
            bytes = if free > 0 && free < bytes { whole(free) } else { whole(bytes / 2) };
        }
    }

    /// Bytes that were taken of the pool.
    pub(crate) fn pool_bytes(&self) -> usize {
        self.pools().map(|reservation| reservation.space.bytes()).sum()
    }

    fn pools(&self) -> impl Iterator<Item = &'static Reservation> {
        self.reservations().filter(|reservation| reservation.space.is_pool())
    }

    /// Whether a room is kept warm, or is being warmed, for a block of about `chunks`.
    pub(crate) fn keeps_room_for(&self, chunks: Chunks) -> bool {
        self.reservations().any(|reservation| reservation.rooms.keeps_for(chunks))
    }

    /// Claims a run of `count` slices in the pool, at least a chunk of them, at a multiple of `align_bytes`.
    pub(crate) fn allocate_in_pool(
        &self,
        count: Slices,
        align_bytes: usize,
        zeroed: bool,
    ) -> Option<(&'static Reservation, Run)> {
        self.pools().find_map(|reservation| {
            let sink = Sink { arena: self, reservation };
            let run = reservation.space.allocate(self.kernel(), count, align_bytes, zeroed, &sink)?;
            Some((reservation, run))
        })
    }
}
