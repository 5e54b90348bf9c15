//! Unmodified programs on the allocator, by `LD_PRELOAD`.
//!
//! Method: each test has a program do the same work twice, on its own allocator and on this one, and compares what it
//! prints. On this one the library must be in the process, the process must have blocks of it, and nothing may be said
//! of pointers that are not its own. Each side's time and peak memory are printed, and judged by nobody. A program that
//! is not installed is skipped; one that hangs is killed, and the test fails.

#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
mod compilers;
mod harness;
mod interpreters;
mod services;
mod tools;
