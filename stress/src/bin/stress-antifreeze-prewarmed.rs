//! Plays a scenario with `antifreeze` as the global allocator, asked for memory before it is needed; started by the
//! harness.

use std::process::ExitCode;

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

fn main() -> ExitCode {
    stress::child::main(&stress::hooks::Antifreeze { name: "antifreeze-prewarmed", prewarms: true })
}
