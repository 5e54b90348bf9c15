//! One measurement of one run: printed by a child as a single line, read back by the runner.

use crate::figures::figures;

figures! {
    /// What one run of a workload cost.
    Sample {
        /// Wall time of the workload alone.
        wall_ns,
        /// Processor time outside of the kernel, of all threads.
        user_ns,
        /// Processor time in the kernel, of all threads.
        system_ns,
        /// High-water mark of the whole process.
        peak_rss_kib,
        /// Resident memory when the workload has returned.
        final_rss_kib,
        /// Page faults served without I/O during the workload.
        minor_faults,
        /// Page faults that needed I/O during the workload.
        major_faults,
        /// How often a thread gave its processor away to wait.
        voluntary_switches,
        /// How often a thread had its processor taken away.
        involuntary_switches,
        /// What the workload computed; the same under every allocator.
        checksum,
    }
}
