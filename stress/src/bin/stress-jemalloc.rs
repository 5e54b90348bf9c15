//! Plays a scenario with jemalloc as the global allocator, with its defaults; started by the harness.

use std::process::ExitCode;

use stress::hooks::Peer;

#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    stress::child::main(&Peer { name: "jemalloc", crate_name: "tikv-jemalloc-sys" })
}
