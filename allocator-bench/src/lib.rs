//! What the runner and its children share: the workloads, the way a child measures itself, and the lines it reports.
//!
//! * [`child`] is the whole program of every `bench-*` and `probe-*` binary; each adds nothing but its
//!   `#[global_allocator]`, that of the latter inside a [`probe`].
//! * [`contender`] names the allocators and their binaries.
//! * [`workload`] holds the workloads, one file each, built on [`block`] and [`rng`]; [`operation`] what valgrind
//!   counts.
//! * [`sample`], [`counts`] and [`latency`] are what a child prints and the runner reads back, made of
//!   [`figures`](mod@figures).
//! * [`resident`] reads a process's own memory; [`summary`] reduces many samples to one figure.
//!
//! The runner itself lives in the `allocator-bench` binary, so that the children carry none of its dependencies.

pub mod block;
pub mod child;
pub mod contender;
pub mod counts;
pub mod figures;
pub mod latency;
pub mod operation;
pub mod probe;
pub mod resident;
pub mod rng;
pub mod sample;
pub mod summary;
pub mod workload;
