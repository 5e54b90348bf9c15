//! Plays one workload under jemalloc; started by the `allocator-bench` runner.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    allocator_bench::child::main()
}
