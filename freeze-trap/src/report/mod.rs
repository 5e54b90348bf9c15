//! What a captured freeze looks like: on a terminal, as JSON, folded stacks, a pprof profile, flame graphs, and one
//! HTML page. Each is a function of a [`Freeze`](crate::freeze::Freeze) and of nothing else.
//!
//! Invariant: names of threads, functions and files are the watched program's, and may be anything. None of them can
//! give a terminal orders, end a line of a format that is read by lines, or become markup.

mod flame;
mod folded;
mod json;
mod page;
mod pprof;
pub mod profile;
mod say;
mod tally;
mod text;

pub use flame::{Kind, flame};
pub use folded::folded;
pub use json::{ReadError, SCHEMA, json, read_json};
pub use page::page;
pub use pprof::pprof;
pub use text::text;
