//! Plays one workload under snmalloc; started by the `allocator-bench` runner.

#[global_allocator]
static ALLOCATOR: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

fn main() -> std::process::ExitCode {
    allocator_bench::child::main()
}
