//! The parts of the stress run: a replay of the incident in which a service froze for seconds because a hash map of
//! 58.7 million entries doubled.
//!
//! `main.rs` is the harness a person starts (`cargo run --release -p stress`); each binary in `src/bin` is one
//! allocator's child process, a few lines around [`child::main`]. The modules, in the order in which a run uses them:
//!
//! - [`table`]: the sizes a run may have, the map itself and the checks of its contents;
//! - [`memory`]: how much memory there is, how much is resident, and mappings of one's own;
//! - [`machine`]: what machine the numbers come from;
//! - [`ballast`]: memory that the host backs, held for the children;
//! - [`harness`]: building, finding and running the children;
//! - [`process`]: a process that is watched, and killed when it should stop;
//! - [`talk`]: what a child and the harness say to each other;
//! - [`child`]: what a child does and what it reports;
//! - [`hooks`]: what a child can ask of its allocator beyond allocating;
//! - [`limit`]: the allocator that cannot be undercut;
//! - [`phase`]: what the child's main thread is doing right now;
//! - [`canary`]: the threads that feel a freeze;
//! - [`summary`]: the medians of all rounds;
//! - [`targets`]: what an allocator that does not freeze has to reach, and who did;
//! - [`report`]: tables, JSON and the reading in plain words.

pub mod ballast;
pub mod canary;
pub mod child;
pub mod harness;
pub mod hooks;
pub mod limit;
pub mod machine;
pub mod memory;
pub mod phase;
pub mod process;
pub mod report;
pub mod summary;
pub mod table;
pub mod talk;
pub mod targets;
