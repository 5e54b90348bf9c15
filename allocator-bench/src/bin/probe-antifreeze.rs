//! Times each call of one workload under antifreeze; started by the `allocator-bench` runner.

use allocator_bench::probe::Probe;

#[global_allocator]
static ALLOCATOR: Probe<antifreeze::Antifreeze> = Probe::new(antifreeze::Antifreeze::new());

fn main() -> std::process::ExitCode {
    allocator_bench::child::probe_main()
}
