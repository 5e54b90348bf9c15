//! Times each call of one workload under rpmalloc; started by the `allocator-bench` runner.

use allocator_bench::probe::Probe;

#[global_allocator]
static ALLOCATOR: Probe<rpmalloc::RpMalloc> = Probe::new(rpmalloc::RpMalloc);

fn main() -> std::process::ExitCode {
    allocator_bench::child::probe_main()
}
