//! The parts of the stress run: a replay of the incident in which a service froze for seconds because a hash map of
//! 58.7 million entries doubled.
//!
//! `main.rs` is the harness a person starts (`cargo run --release -p stress`); each binary in `src/bin` is one
//! allocator's child process, a few lines around [`child::main`]. The modules, in the order in which a run uses them:
//!
//! - [`table`]: the sizes a run may have, the map itself and the checks of its contents;
//! - [`memory`]: how much memory there is, how much is resident, and making the host back it;
//! - [`machine`]: what machine the numbers come from;
//! - [`harness`]: building, finding and running the children;
//! - [`process`]: a process that is watched, and killed when it should stop;
//! - [`child`]: what a child does and the line it reports;
//! - [`phase`]: what the child's main thread is doing right now;
//! - [`canary`]: the threads that feel a freeze;
//! - [`summary`]: the medians of all rounds;
//! - [`report`]: tables, JSON and the reading in plain words.

pub mod canary;
pub mod child;
pub mod harness;
pub mod machine;
pub mod memory;
pub mod phase;
pub mod process;
pub mod report;
pub mod summary;
pub mod table;
