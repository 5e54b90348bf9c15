//! Times each call of one workload under jemalloc; started by the `allocator-bench` runner.

use allocator_bench::probe::Probe;

#[global_allocator]
static ALLOCATOR: Probe<tikv_jemallocator::Jemalloc> = Probe::new(tikv_jemallocator::Jemalloc);

fn main() -> std::process::ExitCode {
    allocator_bench::child::probe_main()
}
