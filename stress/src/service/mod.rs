//! The service of the incident in small: an index behind a lock, served over TCP by a tokio runtime, and the clients
//! that notice when it stands still.
//!
//! The server runs in the process of the allocator under test; the load comes from another process, the binary
//! `stress-load`, so that what a freeze does to the server cannot keep the clients from noticing it. The modules:
//!
//! - [`protocol`]: the frames that client and server exchange;
//! - [`index`]: the maps behind a lock, filled so that one more entry makes them grow;
//! - [`server`], [`serving`]: serving an index, and the threads in which that is done;
//! - [`load`]: the load generator's command line, its run and its report;
//! - [`schedule`]: which request is due when;
//! - [`sender`]: the thread that sends each request when it is due;
//! - [`receiver`]: the threads that note when each reply came and whether it was right;
//! - [`load_report`]: latencies by phase and over time, from what was sent and received;
//! - [`visit`]: the time in which the clients are there.

pub mod index;
pub mod load;
pub mod load_report;
pub mod protocol;
pub mod receiver;
pub mod schedule;
pub mod sender;
pub mod server;
pub mod serving;
#[cfg(test)]
mod tests;
pub mod visit;

use std::hash::Hasher;

use crate::table::MixHasher;

/// Nanoseconds of a second.
const NS_PER_S: u64 = 1_000_000_000;
/// Nanoseconds of a millisecond.
const NS_PER_MS: u64 = 1_000_000;

/// The hash of some words, taken in turn: the same in every run and in every process.
fn mixed(words: impl IntoIterator<Item = u64>) -> u64 {
    let mut hasher = MixHasher::default();
    words.into_iter().for_each(|word| hasher.write_u64(word));
    hasher.finish()
}
