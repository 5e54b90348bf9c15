//! How long tasks have stalled for want of memory (PSI: Documentation/accounting/psi). Called by `governor`.

use core::ffi::CStr;

use super::{Os, text_scan};

/// Where the kernel tells of the whole machine.
pub(crate) const MACHINE_STALLS: &CStr = c"/proc/pressure/memory";

/// Time stalled since the start of the machine or the cgroup, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Stalls {
    /// Time in which some task waited for memory.
    pub(crate) some_us: u64,
    /// Time in which all tasks that were not idle waited for memory.
    pub(crate) full_us: u64,
}

impl Stalls {
    /// What the pressure file at `path` says; `None` if there is none or it cannot be read.
    pub(crate) fn read(os: &impl Os, path: &CStr) -> Option<Self> {
        let mut buffer = [0; 256];
        Self::parse(os.read_file(path, &mut buffer).ok()?)
    }

    /// Lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=12`.
    fn parse(text: &[u8]) -> Option<Self> {
        let total = |kind: &[u8]| {
            let mut lines = text.split(|byte| *byte == b'\n').map(text_scan::words);
            let line = lines.find_map(|mut line| (line.next()? == kind).then_some(line));
            line?.find_map(|word| text_scan::number(word.strip_prefix(b"total=")?))
        };
        Some(Stalls { some_us: total(b"some")?, full_us: total(b"full")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::fake::FakeOs;

    #[test]
    fn totals_are_read_and_garbled_files_are_none() {
        let os = FakeOs::new();
        let read = || Stalls::read(&os, MACHINE_STALLS);
        assert_eq!(read(), None);
        for (text, expected) in [
            (
                "some avg10=1.00 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n",
                Some(Stalls { some_us: 12, full_us: 3 }),
            ),
            ("some total=12\n", None),
            ("some total=12\nfull total=\n", None),
            ("some total=99999999999999999999\nfull total=1\n", None),
            ("", None),
        ] {
            os.files.set("/proc/pressure/memory", text);
            assert_eq!(read(), expected, "{text}");
        }
    }
}
