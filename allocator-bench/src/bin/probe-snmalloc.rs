//! Times each call of one workload under snmalloc; started by the `allocator-bench` runner.

use allocator_bench::probe::Probe;

#[global_allocator]
static ALLOCATOR: Probe<snmalloc_rs::SnMalloc> = Probe::new(snmalloc_rs::SnMalloc);

fn main() -> std::process::ExitCode {
    allocator_bench::child::probe_main()
}
