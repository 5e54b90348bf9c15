//! Plays one workload under rpmalloc; started by the `allocator-bench` runner.

#[global_allocator]
static ALLOCATOR: rpmalloc::RpMalloc = rpmalloc::RpMalloc;

fn main() -> std::process::ExitCode {
    allocator_bench::child::main()
}
