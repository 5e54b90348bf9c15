//! Plays one workload under tcmalloc; started by the `allocator-bench` runner.

#[global_allocator]
static ALLOCATOR: tcmalloc_better::TCMalloc = tcmalloc_better::TCMalloc;

fn main() -> std::process::ExitCode {
    allocator_bench::child::main()
}
