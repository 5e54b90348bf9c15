//! Plays a scenario with the C library's allocator as the global allocator; started by the harness.

use std::alloc::System;
use std::process::ExitCode;

use stress::hooks::Hooks;

#[global_allocator]
static GLOBAL: System = System;

struct OfSystem;

impl Hooks for OfSystem {
    fn name(&self) -> &'static str {
        "system"
    }

    fn version(&self) -> String {
        stress::machine::c_library().unwrap_or_default()
    }
}

fn main() -> ExitCode {
    stress::child::main(&OfSystem)
}
