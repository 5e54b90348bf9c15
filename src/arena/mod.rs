//! Layer 3: the address space. Reservations, the chunks and slices of their block spaces, the rooms of their huge
//! regions, memory for the allocator's own records, and the queue of what can be given back.
//!
//! Invariants: a chunk, a slice and a room have exactly one state and one owner; freed ranges are queued, never purged
//! here; reserved address space is retained; no call takes mmap_lock for writing except to commit a step or to grow by
//! a further reservation, and nothing is held across it.

mod doublings;
mod frontier;
mod layout;
mod locking;
mod pool;
mod prefix;
mod refusal;
mod registry;
mod reservation;
mod retired;
mod rooms;
mod space;
mod standing;
mod starting;
mod tiers;

pub(crate) use registry::{Arena, BlockSpace, Found};
pub(crate) use reservation::Reservation;
pub(crate) use reservation::pointer_at;
pub(crate) use retired::start_anew_after_fork;
pub(crate) use rooms::{Availability, RoomIndex};
pub(crate) use space::{HEADER_BYTES, Run};
pub(crate) use standing::{Commitment, Standing, WhyStepped};
