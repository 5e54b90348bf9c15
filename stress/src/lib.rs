//! The parts of the stress run: scenarios that freeze services, first of all the incident in which a hash map of 58.7
//! million entries doubled, played under each allocator.
//!
//! `main.rs` is the harness a person starts (`cargo run --release -p stress`); each binary `stress-<allocator>` in
//! `src/bin` is one allocator's child process, a few lines around [`child::main`]. The modules, in the order in which a
//! run uses them:
//!
//! - [`command`]: the subcommands;
//! - [`scenario`]: what is done under each allocator, and what must come out;
//! - [`service`]: a server that keeps a big index, and its clients in another process;
//! - [`soak`]: seeded random work against a shadow model of every block, with faults injected;
//! - [`table`]: the hash map of the incident, its sizes and the checks of its contents;
//! - [`sizes`]: sizes as a person gives them, and whether they fit;
//! - [`block`]: a block of which every page is touched and checked;
//! - [`workers`]: threads that allocate and free blocks in bursts;
//! - [`memory`]: how much memory there is, how much is resident, and mappings of one's own;
//! - [`machine`], [`crates`]: what the numbers come from;
//! - [`candidates`]: the allocators, and building and finding their binaries;
//! - [`ballast`]: memory that the host backs, held for the children;
//! - [`harness`]: running the children in turns;
//! - [`clients`]: the process that puts load on a service;
//! - [`setting`], [`fragmentation`], [`memory_group`]: what a scenario needs around its children;
//! - [`killed`]: what is reported of a child that ran out of memory, where that is a result;
//! - [`process`]: a process that is watched, and killed when it should stop;
//! - [`observer`]: a child seen from outside: its memory, and its `mmap_lock` by the kernel's tracepoints;
//! - [`talk`]: what a child and the harness say to each other;
//! - [`child`], [`stage`]: what a child does, and what the scenario that it plays can use;
//! - [`hooks`]: what a child can ask of its allocator beyond allocating;
//! - [`limit`]: the allocator that cannot be undercut;
//! - [`phase`]: what the child's main thread is doing right now;
//! - [`canary`], [`latency`]: the threads that feel a freeze, and what they felt;
//! - [`idle`]: whether memory comes back while nothing happens;
//! - [`clock`]: the clock that all of them have in common;
//! - [`record`]: what a child reports;
//! - [`locks`]: what of `mmap_lock` the allocator has to answer for;
//! - [`summary`]: the medians of all rounds;
//! - [`targets`]: what an allocator that does not freeze has to reach, and who did;
//! - [`report`], [`text`], [`page`]: the whole result, and how a terminal and a browser show it;
//! - [`progress`], [`output`]: what is shown meanwhile, and the files that are written.

pub mod ballast;
pub mod block;
pub mod canary;
pub mod candidates;
pub mod child;
pub mod clients;
pub mod clock;
pub mod command;
pub mod crates;
pub mod fragmentation;
pub mod harness;
pub mod hooks;
pub mod idle;
pub mod killed;
pub mod latency;
pub mod limit;
pub mod locks;
pub mod machine;
pub mod memory;
pub mod memory_group;
pub mod observer;
pub mod output;
pub mod page;
pub mod phase;
pub mod process;
pub mod progress;
pub mod record;
pub mod report;
pub mod scenario;
pub mod service;
pub mod setting;
pub mod sizes;
pub mod soak;
pub mod stage;
pub mod summary;
pub mod table;
pub mod talk;
pub mod targets;
pub mod text;
pub mod workers;
