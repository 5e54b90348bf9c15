//! Layer 2: gives memory back, off the application's threads. For now a plain drain: one background thread takes
//! retired ranges from a queue, waits until they have lingered, and purges them piece by piece with a pause after each.
//!
//! Invariant: the only code that purges. It never blocks an allocating thread, holds nothing of ours across a system
//! call, and covers a bounded piece per call.

pub(crate) mod head_room;
#[cfg_attr(not(test), expect(dead_code, reason = "the worker does not ask for pressure yet"))]
pub(crate) mod pressure;
#[cfg_attr(not(test), expect(dead_code, reason = "the worker does not ask for pressure yet"))]
pub(crate) mod pressure_source;
mod step;
mod worker;

pub(crate) use worker::{Governor, Next, Piece, Source, ThreadMain};
