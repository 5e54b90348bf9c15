//! What has come of the start: mode, size and rooms, for people. Filled by `arena::registry`, printed by `front`.
//!
//! Invariant: no decision is taken from it.

use super::reservation::Reservation;
use super::rooms::Availability;

/// Why memory is committed in steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum WhyStepped {
    /// An option says so.
    Asked,
    /// The process may lock all of the reservation into memory.
    Lockable,
    /// The kernel did not commit all of it at once.
    Refused,
}

impl WhyStepped {
    /// From the number that stands for it.
    pub(super) fn of(number: usize) -> Self {
        let all = [WhyStepped::Asked, WhyStepped::Lockable, WhyStepped::Refused];
        all.into_iter().find(|why| *why as usize == number).unwrap_or(WhyStepped::Asked)
    }
}

/// How memory is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Commitment {
    Ready,
    Stepped(WhyStepped),
}

/// The address space of the allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    /// `None` before the start.
    pub(crate) commitment: Option<Commitment>,
    /// Bytes that the first reservation should have had.
    pub(crate) wanted_bytes: usize,
    /// Bytes that it has, without gaps at its end.
    pub(crate) first_bytes: usize,
    /// How many reservations there are.
    pub(crate) count: usize,
    /// Bytes of address space in all of them, and bytes that are readable and writable.
    pub(crate) reserved_bytes: usize,
    pub(crate) committed_bytes: usize,
    /// Whether the next huge block can have a room in any of them.
    pub(crate) rooms: Availability,
    /// Whether the governor's thread was refused when it was last wanted.
    pub(crate) thread_refused: bool,
}

impl Standing {
    /// Nothing reserved.
    pub(crate) const fn new(commitment: Option<Commitment>, wanted_bytes: usize) -> Self {
        Standing {
            commitment,
            wanted_bytes,
            first_bytes: 0,
            count: 0,
            reserved_bytes: 0,
            committed_bytes: 0,
            rooms: Availability::None,
            thread_refused: false,
        }
    }

    /// Takes one more reservation in, oldest first.
    pub(super) fn add(&mut self, reservation: &Reservation) {
        let [reserved, committed, _] = reservation.footprint_bytes();
        if self.count == 0 {
            self.first_bytes = reserved;
        }
        self.count += 1;
        self.reserved_bytes += reserved;
        self.committed_bytes += committed;
        self.rooms = match (self.rooms, reservation.rooms.availability()) {
            (Availability::None, found) | (found, Availability::None) => found,
            (Availability::Left, _) | (_, Availability::Left) => Availability::Left,
            _ => Availability::Exhausted,
        };
    }
}

#[cfg(test)]
mod tests {
    use core::ffi::c_void;
    use core::ptr::null_mut;
    use std::boxed::Box;

    use super::*;
    use crate::arena::Arena;
    use crate::limits::{HUGE_BYTES_MIN, STEPPED_ROOMS_MAX};
    use crate::options::{Commit, Options};
    use crate::os::fake::FakeOs;
    use crate::units::{Chunks, Nanos};

    fn started(os: FakeOs, commit: Commit) -> &'static Arena<FakeOs> {
        let arena: &'static Arena<FakeOs> = Box::leak(Box::new(Arena::new(os)));
        let mut options = Options::new();
        options.commit = commit;
        assert!(arena.start(&options));
        arena
    }

    #[test]
    fn it_keeps_why_memory_is_committed_in_steps() {
        let lockable = || {
            let mut os = FakeOs::new();
            os.facts.lockable_bytes = usize::MAX;
            os
        };
        // Reserving works, the two flags as well, and then nothing can be committed at first.
        let refusing = || FakeOs::new().failing(3, 1);
        for (os, commit, expected) in [
            (FakeOs::new(), Commit::Auto, Commitment::Ready),
            (lockable(), Commit::Ready, Commitment::Ready),
            (lockable(), Commit::Auto, Commitment::Stepped(WhyStepped::Lockable)),
            (lockable(), Commit::Stepped, Commitment::Stepped(WhyStepped::Asked)),
            (refusing(), Commit::Ready, Commitment::Stepped(WhyStepped::Refused)),
            (refusing(), Commit::Auto, Commitment::Stepped(WhyStepped::Refused)),
        ] {
            assert_eq!(started(os, commit).standing().commitment, Some(expected), "{commit:?}");
        }
    }

    #[test]
    fn rooms_are_missing_left_or_exhausted() {
        let narrow = started(FakeOs::new().narrow(1 << 30), Commit::Ready);
        assert_eq!(narrow.standing().rooms, Availability::None);
        let arena = started(FakeOs::new(), Commit::Stepped);
        let chunks = Chunks::holding(HUGE_BYTES_MIN).unwrap();
        for _ in 0..STEPPED_ROOMS_MAX {
            assert_eq!(arena.standing().rooms, Availability::Left);
            assert!(arena.allocate_room(chunks, 1, false).is_some());
        }
        assert_eq!(arena.standing().rooms, Availability::Exhausted);
        assert!(arena.allocate_room(chunks, 1, false).is_none());
    }

    #[test]
    fn a_refused_thread_is_told_until_one_has_started() {
        extern "C" fn main(_: *mut c_void) -> *mut c_void {
            null_mut()
        }
        let arena = started(FakeOs::new(), Commit::Ready);
        arena.set_worker(main, null_mut());
        let os = arena.kernel().os();
        os.fail_next(1);
        arena.notify_governor(true);
        assert!(arena.standing().thread_refused);
        os.advance(Nanos::from_millis(2_000));
        arena.notify_governor(true);
        assert!(!arena.standing().thread_refused && os.threads() == 1);
    }
}
