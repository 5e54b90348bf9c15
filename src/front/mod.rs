//! Layer 6: what a program sees. The global allocator, options, and questions about it.
//!
//! Invariant: no unwinding leaves here; null means out of memory and nothing else.

#[cfg(target_os = "linux")]
mod allocate;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod global;
#[cfg(all(test, target_os = "linux"))]
mod tests;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Antifreeze, Commit, Governor, stats, usable_size};
#[cfg(target_os = "linux")]
pub use global::{Antifreeze, stats, usable_size};
