//! What the machine tells of its memory: what is left, and trouble with hugepages. Called by `governor`.

use super::{Os, lines, text_scan};

/// Memory of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Available {
    /// What can be had without swapping, by the kernel's estimate.
    pub(crate) available_bytes: u64,
    /// All that the kernel has.
    pub(crate) total_bytes: u64,
}

impl Available {
    /// From `/proc/meminfo`; `None` if it is missing or lacks a line. Four system calls.
    pub(crate) fn read(os: &impl Os) -> Option<Self> {
        // Both lines are among the first three.
        let mut buffer = [0; 512];
        let text = os.read_file(c"/proc/meminfo", &mut buffer).ok()?;
        let bytes = |key: &[u8]| text_scan::value(text, key)?.checked_mul(1024);
        Some(Available { available_bytes: bytes(b"MemAvailable")?, total_bytes: bytes(b"MemTotal")? })
    }
}

/// Counts, over the machine and since its start, of hugepages that could not be had easily.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct HugepageTrouble {
    /// Page faults that wanted a hugepage and got small pages.
    pub(crate) fault_fallback: u64,
    /// Times that a task had to compact memory itself before it got some.
    pub(crate) compact_stall: u64,
}

impl HugepageTrouble {
    /// From `/proc/vmstat`; counts that the kernel does not have stay zero, all of them if the file is missing.
    /// The kernel sums its counters over all processors for it: 27 µs on two of them.
    pub(crate) fn read(os: &impl Os) -> Self {
        let mut trouble = Self::default();
        let mut buffer = [0; 2048];
        // A file that cannot be read to its end has told what it could.
        let _ = lines::for_each(os, c"/proc/vmstat", &mut buffer, |line| {
            if let Some(count) = text_scan::value_in_line(line, b"thp_fault_fallback") {
                trouble.fault_fallback = count;
            } else if let Some(count) = text_scan::value_in_line(line, b"compact_stall") {
                trouble.compact_stall = count;
            }
        });
        trouble
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::String;

    use test_support::skip;

    use super::*;
    use crate::os::Linux;
    use crate::os::fake::FakeOs;

    #[test]
    fn available_memory_is_in_bytes_and_none_without_its_lines() {
        let os = FakeOs::new();
        assert_eq!(Available::read(&os), None);
        os.files.set("/proc/meminfo", "MemTotal:   8 kB\nMemFree:    1 kB\nMemAvailable:   3 kB\n");
        assert_eq!(Available::read(&os), Some(Available { available_bytes: 3 << 10, total_bytes: 8 << 10 }));
        for text in ["MemTotal:   8 kB\nMemFree:    1 kB\n", "MemTotal: x kB\nMemAvailable: 3 kB\n", "\0\0", ""] {
            os.files.set("/proc/meminfo", text);
            assert_eq!(Available::read(&os), None, "{text}");
        }
    }

    /// Both keys move over all the borders of the buffer.
    #[test]
    fn no_count_is_missed_in_a_long_file_wherever_it_stands() {
        let os = FakeOs::new();
        let expected = HugepageTrouble { fault_fallback: 123_456_789, compact_stall: 42 };
        let tail: String = (0..400).map(|number| format!("numa_something_{number} 12345\n")).collect();
        for padding in 1980..2090 {
            let head = format!("{} 1\n", "p".repeat(padding - 3));
            let middle: String = (0..320).map(|number| format!("zone_{number:03} 1\n")).collect();
            let text = format!(
                "{head}thp_fault_fallback_charge 7\nthp_fault_fallback 123456789\n{middle}compact_stall 42\n{tail}"
            );
            assert!(text.len() > 8192);
            os.files.set("/proc/vmstat", text);
            assert_eq!(HugepageTrouble::read(&os), expected, "{padding}");
        }
        os.files.read_at_most(100);
        assert_eq!(HugepageTrouble::read(&os), expected, "short reads");
    }

    #[test]
    fn missing_counts_are_zero() {
        let os = FakeOs::new();
        assert_eq!(HugepageTrouble::read(&os), HugepageTrouble::default());
        os.files.set("/proc/vmstat", "nr_free_pages 5\ncompact_stall x\n");
        assert_eq!(HugepageTrouble::read(&os), HugepageTrouble::default());
    }

    #[test]
    fn this_machine_tells_its_memory() {
        let Some(available) = Available::read(&Linux) else {
            skip("no /proc/meminfo");
            return;
        };
        let memory_bytes = Linux.facts().memory_bytes as u64;
        assert!(available.available_bytes <= available.total_bytes);
        assert!(available.total_bytes.abs_diff(memory_bytes) <= memory_bytes / 8, "{available:?} {memory_bytes}");
    }
}
