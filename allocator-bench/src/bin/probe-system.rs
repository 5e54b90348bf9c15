//! Times each call of one workload under the system's malloc; started by the `allocator-bench` runner.

use allocator_bench::probe::Probe;

#[global_allocator]
static ALLOCATOR: Probe<std::alloc::System> = Probe::new(std::alloc::System);

fn main() -> std::process::ExitCode {
    allocator_bench::child::probe_main()
}
