//! Plays a scenario with mimalloc as the global allocator; started by the harness.

use std::process::ExitCode;

use stress::hooks::Peer;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    stress::child::main(&Peer { name: "mimalloc", crate_name: "mimalloc" })
}
