//! Plays a scenario with snmalloc as the global allocator; started by the harness.

use std::process::ExitCode;

use stress::hooks::Peer;

#[global_allocator]
static GLOBAL: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

fn main() -> ExitCode {
    stress::child::main(&Peer { name: "snmalloc", crate_name: "snmalloc-rs" })
}
