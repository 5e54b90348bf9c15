//! Plays one workload under mimalloc; started by the `allocator-bench` runner.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    allocator_bench::child::main()
}
