//! Catches a freeze of a service while it happens: who blocked whom in the kernel, with stacks.

pub mod analysis;
pub mod check;
pub mod clock;
pub mod event;
pub mod freeze;
pub mod probe;
pub mod quantity;
pub mod recorder;
pub mod report;
pub mod rights;
pub mod source;
pub mod stack;
pub mod symbols;
pub mod target;
pub mod trigger;
pub mod watch;
