//! Times each call of one workload under mimalloc; started by the `allocator-bench` runner.

use allocator_bench::probe::Probe;

#[global_allocator]
static ALLOCATOR: Probe<mimalloc::MiMalloc> = Probe::new(mimalloc::MiMalloc);

fn main() -> std::process::ExitCode {
    allocator_bench::child::probe_main()
}
