//! What the runner and its children share: the workloads, the way a child measures itself, and the line it reports.
//!
//! * [`child`] is the whole program of every `bench-*` binary; each adds nothing but its `#[global_allocator]`.
//! * [`workload`] holds the workloads, one file each, built on [`block`] and [`rng`].
//! * [`sample`] is the measurement that a child prints and the runner reads back.
//! * [`peak_rss`] reads a process's own high-water mark; [`summary`] reduces many samples to one figure.
//!
//! The runner itself lives in the `allocator-bench` binary, so that the children carry none of its dependencies.

pub mod block;
pub mod child;
pub mod peak_rss;
pub mod rng;
pub mod sample;
pub mod summary;
pub mod workload;
