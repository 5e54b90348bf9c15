//! Times each call of one workload under tcmalloc; started by the `allocator-bench` runner.

use allocator_bench::probe::Probe;

#[global_allocator]
static ALLOCATOR: Probe<tcmalloc_better::TCMalloc> = Probe::new(tcmalloc_better::TCMalloc);

fn main() -> std::process::ExitCode {
    allocator_bench::child::probe_main()
}
