#![doc = include_str!("../README.md")]
#![no_std]
#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

#[cfg(test)]
extern crate std;

// Modules in layer order: each may use those above it.
#[cfg(target_os = "linux")]
mod atomic;
mod choices;
#[cfg(target_os = "linux")]
mod fatal;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod number;
mod stats;
mod text;
#[cfg(target_os = "linux")]
mod units;

#[cfg(target_os = "linux")]
mod lockfree;
#[cfg(target_os = "linux")]
mod os;

#[cfg(target_os = "linux")]
mod governor;
#[cfg(target_os = "linux")]
mod options;

#[cfg(target_os = "linux")]
mod arena;
#[cfg(target_os = "linux")]
mod span;
#[cfg(target_os = "linux")]
mod thread;

mod front;

pub use choices::{Commit, Governor};
#[cfg(all(feature = "c-abi", target_os = "linux"))]
pub use front::c_abi;
#[cfg(all(feature = "bench-internals", target_os = "linux"))]
#[doc(hidden)]
pub use front::internals;
#[cfg(feature = "metrics")]
pub use front::record_metrics;
#[cfg(feature = "metrics-http")]
pub use front::serve_metrics;
pub use front::{
    Antifreeze, Prewarm, counters, explain, options, prewarm, prewarm_blocks, purge, stats, tick, usable_size,
};
pub use stats::{
    BufferTooSmall, CallCounts, CallStats, GovernorStats, Histogram, MemoryStats, PrewarmProgress, PrewarmState, Stats,
};
