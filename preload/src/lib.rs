//! The C interface: the `malloc` family and C++'s `operator new`, on antifreeze. Built as `libantifreeze.so`, for
//! `LD_PRELOAD` or for linking, and as `libantifreeze.a`.
//!
//! | file | what |
//! |---|---|
//! | `family` | malloc, free and their kin, as in glibc 2.41 |
//! | `operators` | C++'s operators `new` and `delete` |
//! | `introspect` | mallinfo, malloc_stats, mallopt, malloc_trim and the like |
//! | `extension` | what `include/antifreeze.h` declares |
//! | `runtime` | the operators as the process sees them, and the C++ runtime |
//! | `report` | lines on standard error, and what is done with pointers of others |
//! | `start` | what `ANTIFREEZE_EXPLAIN` and `ANTIFREEZE_STATS` ask for |
//!
//! Invariant: nothing else is exported; no function allocates by way of itself, locks, or panics.

#![cfg(target_os = "linux")]

mod extension;
mod family;
mod introspect;
mod operators;
mod report;
mod runtime;
mod start;
