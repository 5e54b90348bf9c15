//! The incident replay with `antifreeze` as the global allocator, asked for the doubled table before the map doubles;
//! started by the harness.

use std::process::ExitCode;

#[global_allocator]
static GLOBAL: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

fn main() -> ExitCode {
    stress::child::main(&stress::hooks::Antifreeze { name: "antifreeze-prewarmed", prewarms: true })
}
