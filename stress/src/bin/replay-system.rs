//! The incident replay with the C library's allocator as the global allocator; started by the harness.

use std::alloc::System;
use std::process::ExitCode;

#[global_allocator]
static GLOBAL: System = System;

fn main() -> ExitCode {
    stress::child::main("system", || None)
}
