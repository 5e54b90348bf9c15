//! The incident replay with the C library's allocator as the global allocator; started by the harness.

use std::alloc::System;
use std::process::ExitCode;

#[global_allocator]
static GLOBAL: System = System;

struct OfSystem;

impl stress::hooks::Hooks for OfSystem {
    fn name(&self) -> &'static str {
        "system"
    }
}

fn main() -> ExitCode {
    stress::child::main(&OfSystem)
}
