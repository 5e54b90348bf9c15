//! Layer 6: what a program sees. The global allocator, options, and questions about it.
//!
//! Invariant: no unwinding leaves here; null means out of memory and nothing else.

#[cfg(target_os = "linux")]
mod allocate;
#[cfg(all(feature = "c-abi", target_os = "linux"))]
pub mod c_abi;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod explain;
#[cfg(target_os = "linux")]
mod global;
#[cfg(all(feature = "bench-internals", target_os = "linux"))]
pub mod internals;
#[cfg(target_os = "linux")]
mod introspect;
#[cfg(feature = "metrics")]
mod metrics_facade;
#[cfg(feature = "metrics-http")]
mod metrics_http;
#[cfg(target_os = "linux")]
mod prewarm;
#[cfg(all(test, target_os = "linux"))]
mod tests;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{
    Antifreeze, Prewarm, counters, explain, options, prewarm, prewarm_blocks, purge, stats, tick, usable_size,
};
#[cfg(target_os = "linux")]
pub use explain::explain;
#[cfg(target_os = "linux")]
pub use global::{Antifreeze, usable_size};
#[cfg(target_os = "linux")]
pub use introspect::{counters, options, purge, stats, tick};
#[cfg(feature = "metrics")]
pub use metrics_facade::record_metrics;
#[cfg(feature = "metrics-http")]
pub use metrics_http::serve_metrics;
#[cfg(target_os = "linux")]
pub use prewarm::{Prewarm, prewarm, prewarm_blocks};
