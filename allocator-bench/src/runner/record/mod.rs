//! The record of a comparison: a CSV file with one line for each run, below lines that say what was measured on what.
//! Tables and plots are made from it.
//!
//! Those lines begin with `#` and hold `name: value`; the names are those of [`HEADINGS`] and `version ALLOCATOR`.

mod columns;
mod read;
mod write;

pub use read::Record;
pub use write::RecordFile;

/// What is said about the machine and the sources, in this order.
const HEADINGS: [&str; 7] = ["date", "cpu", "cores", "kernel", "thp", "commit", "command"];
