//! Plays one workload under the system's malloc; started by the `allocator-bench` runner.

#[global_allocator]
static ALLOCATOR: std::alloc::System = std::alloc::System;

fn main() -> std::process::ExitCode {
    allocator_bench::child::main()
}
