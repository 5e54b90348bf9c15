//! Layer 2: gives memory back, and makes memory warm, off the application's threads.
//!
//! | file | what it decides |
//! |---|---|
//! | `decay` | how much should be gone by now |
//! | `budget` | how fast |
//! | `step` | how much one call may cover |
//! | `pace` | the three together |
//! | `batch` | which ranges one call covers |
//! | `pressure` | how short memory is |
//! | `reserve` | how much is kept warm ahead of need |
//! | `requests`, `warm`, `site` | what was asked to be warm, making it so, and what becomes of it |
//! | `source` | what is asked of the layers above |
//! | `worker` | when, and on which thread |
//!
//! Invariant: the only code that purges. It never blocks an allocating thread, holds nothing of ours across a system
//! call, and covers a bounded piece per call. Time and the kernel are arguments throughout.

mod batch;
mod budget;
mod decay;
mod head_room;
mod pace;
mod pressure;
mod pressure_source;
mod requests;
mod reserve;
mod site;
mod source;
mod step;
#[cfg(test)]
mod tests;
mod warm;
mod watch;
mod worker;

pub(crate) use batch::{Batch, Piece};
pub(crate) use requests::{Purpose, Ticket};
pub(crate) use source::{KeptRoom, Retired, RoomName, Source};
pub(crate) use worker::{After, Governor, ThreadMain};
