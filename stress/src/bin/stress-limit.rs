//! Plays a scenario on hugepages that were faulted in beforehand, under an allocator that only counts upwards: what no
//! allocator can undercut. Started by the harness.

use std::process::ExitCode;

use stress::hooks::Hooks;
use stress::limit::Limit;

#[global_allocator]
static GLOBAL: Limit = Limit::new();

struct OfLimit;

impl Hooks for OfLimit {
    fn name(&self) -> &'static str {
        "limit"
    }

    fn faults_in(&self) -> bool {
        true
    }

    fn fault_in(&self, bytes: u64) -> Result<(), String> {
        GLOBAL.fault_in(bytes)
    }
}

fn main() -> ExitCode {
    stress::child::main(&OfLimit)
}
