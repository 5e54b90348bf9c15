//! Reads the calling process's own resident memory, its peak and the present, without using the heap.
//!
//! Used by the children. The figure of `wait4` would not do: on `exec` Linux carries the high-water mark of the image
//! that called it over into the new process's `ru_maxrss`, so that a child could never show less than the runner.

use std::fs::File;
use std::io::{self, Read};

/// Room for `/proc/self/status`, which is about 1.5 KiB long.
const STATUS_BYTES: usize = 8192;

/// Resident memory of this process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resident {
    /// The most so far.
    pub peak_kib: u64,
    /// Now.
    pub now_kib: u64,
}

/// Resident memory of this process.
///
/// # Errors
/// If `/proc` is not readable or does not say it.
pub fn read() -> io::Result<Resident> {
    let mut file = File::open("/proc/self/status")?;
    let mut buffer = [0_u8; STATUS_BYTES];
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    let figure = |label: &str| {
        let missing = || io::Error::new(io::ErrorKind::InvalidData, format!("no {label} in /proc/self/status"));
        find_kib(&buffer[..filled], label.as_bytes()).ok_or_else(missing)
    };
    Ok(Resident { peak_kib: figure("VmHWM:")?, now_kib: figure("VmRSS:")? })
}

/// The number after `label` in the text of a `/proc` file that has one `Label: number kB` on each line.
pub fn find_kib(text: &[u8], label: &[u8]) -> Option<u64> {
    let line = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(label))?;
    let number = line.trim_ascii().split(|&byte| byte == b' ').next()?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::find_kib;

    #[test]
    fn label_is_found_at_a_line_start_only() {
        let text = b"Name:\tVmHWM: 5 kB\nVmPeak:\t 100 kB\nVmHWM:\t    2048 kB\n";
        assert_eq!(find_kib(text, b"VmHWM:"), Some(2048));
        assert_eq!(find_kib(text, b"VmRSS:"), None);
        assert_eq!(find_kib(b"VmHWM: many kB", b"VmHWM:"), None);
    }

    #[test]
    fn own_memory_is_plausible() {
        let resident = super::read().expect("/proc is mounted");
        assert!((100..100_000_000).contains(&resident.peak_kib));
        assert!((100..100_000_000).contains(&resident.now_kib));
    }
}
