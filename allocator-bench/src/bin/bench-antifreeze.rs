//! Plays one workload under antifreeze; started by the `allocator-bench` runner.

#[global_allocator]
static ALLOCATOR: antifreeze::Antifreeze = antifreeze::Antifreeze::new();

fn main() -> std::process::ExitCode {
    allocator_bench::child::main()
}
