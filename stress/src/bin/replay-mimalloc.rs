//! The incident replay with mimalloc as the global allocator; started by the harness.

use std::process::ExitCode;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct OfMimalloc;

impl stress::hooks::Hooks for OfMimalloc {
    fn name(&self) -> &'static str {
        "mimalloc"
    }
}

fn main() -> ExitCode {
    stress::child::main(&OfMimalloc)
}
