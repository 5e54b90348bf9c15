//! The soak: seeded random work against a shadow model of every live block, with faults injected by the kernel, for
//! whatever allocator is the process's global allocator. A candidate's binary calls [`run::soak`].
//!
//! Each thread follows a script of its own, which depends on the seed and on nothing that happens, so that a failure
//! can be replayed with the seed and the number of steps. What the soak itself needs it takes from mappings of its own
//! ([`pages`]) before the work begins: it allocates nothing from the allocator under test, which could hide a failure
//! or fall over an injected one.
//!
//! - [`plan`]: what a soak is told, and [`report`]: what it tells;
//! - [`pages`], [`list`]: memory that is not the allocator's;
//! - [`script`]: the steps of one thread;
//! - [`block`]: one block, and what must be true of its memory;
//! - [`shadow`]: the addresses of all live blocks;
//! - [`client`]: allocating, changing and freeing one block, with all checks;
//! - [`violation`]: what the allocator did wrong; [`verdict`]: the first of these, told by any thread or forked child;
//! - [`tally`]: what was done, counted;
//! - [`world`]: what the threads share, and [`mailbox`]: blocks on their way to one of them;
//! - [`place`]: one thread after the other, taking the steps of one script;
//! - [`forked`]: what a forked child does;
//! - [`filter`], [`schedule`], [`faults`]: system calls that the kernel is told to refuse, and [`limits`]: resource
//!   limits that are low for a while; [`weather`]: when;
//! - [`run`]: a soak from beginning to end.

pub mod block;
pub mod client;
pub mod faults;
pub mod filter;
pub mod forked;
pub mod limits;
pub mod list;
pub mod mailbox;
pub mod pages;
pub mod place;
pub mod plan;
pub mod report;
pub mod run;
pub mod schedule;
pub mod script;
pub mod shadow;
pub mod tally;
pub mod verdict;
pub mod violation;
pub mod weather;
pub mod world;

#[cfg(test)]
mod liars;
