//! Layer 0: what the allocator has done, for people and tests. No decision is ever taken from these numbers.

pub(crate) mod counters;

pub use counters::{CallStats, Stats};
