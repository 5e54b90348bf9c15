//! The rights that this process takes up. Called by `main`, before there is another thread: rights are a thread's.

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Those that the trap has a use for.
const USED: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYSLOG)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::IPC_LOCK);

/// Puts those into force that are permitted. The program of an image has them so: the kernel does not start one whose
/// rights have to be in force from its first instruction where the container lacks one of them, and nobody would be
/// told which.
pub fn take_up() {
    let Ok(own) = capabilities(None) else { return };
    let taken = rustix::thread::CapabilitySets { effective: own.effective | own.permitted & USED, ..own };
    // Whatever is refused is missing later, and told then.
    let _ = set_capabilities(None, taken);
}
