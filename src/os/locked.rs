//! How much of the process's address space is locked into memory. Called by `arena::locking`.

use super::{Os, lines, text_scan};

/// Bytes of addresses that are locked (`VmLck` of `/proc/self/status`), touched or not; `None` if the kernel does not
/// tell. Five system calls, some 30 µs, none of which takes mmap_lock.
pub(crate) fn locked_bytes(os: &impl Os) -> Option<u64> {
    let mut locked = None;
    let mut buffer = [0; 512];
    // Lines that do not fit are those of lists of groups and processors.
    let read = lines::for_each(os, c"/proc/self/status", &mut buffer, |line| {
        locked = locked.or(text_scan::value_in_line(line, b"VmLck"));
    });
    read.ok().and(locked).and_then(|kib| kib.checked_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Linux;
    use crate::os::fake::FakeOs;

    #[test]
    fn the_line_is_found_and_its_absence_is_not_zero() {
        let os = FakeOs::new();
        assert_eq!(locked_bytes(&os), None);
        os.files.set("/proc/self/status", "Name:\tprogram\nVmPeak:\t 5 kB\nVmLck:\t      64 kB\nVmPin:\t 7 kB\n");
        assert_eq!(locked_bytes(&os), Some(64 << 10));
        os.files.set("/proc/self/status", "Name:\tprogram\n");
        assert_eq!(locked_bytes(&os), None);
        assert!(locked_bytes(&Linux).is_some_and(|bytes| bytes < 1 << 40));
    }
}
