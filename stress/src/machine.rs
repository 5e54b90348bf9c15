//! The machine a result was measured on. The harness reads it once, [`report`](crate::report) prints it.

#[cfg(target_env = "gnu")]
use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::thread;

use serde::{Deserialize, Serialize};

use crate::memory;

/// Facts without which the numbers of a run cannot be compared with those of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub cpu_model: String,
    /// Processors this process may run on.
    pub cpu_count: usize,
    /// The mode of transparent huge pages: `always`, `madvise` or `never`.
    pub thp_mode: String,
    /// When a page fault compacts memory to find a hugepage: the chosen word of `defrag`.
    pub thp_defrag: String,
    /// The C library and its version.
    pub c_library: String,
    /// The compiler of this build.
    pub rustc: String,
    /// Memory of the machine.
    pub memory_kib: u64,
    /// What was available of it to the run, control groups included.
    pub available_kib: u64,
}

impl Machine {
    /// Reads the facts; what a kernel does not tell is `unknown`.
    pub fn read(available_bytes: u64) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        Self {
            kernel: if kernel.is_empty() { unknown() } else { kernel },
            cpu_model: cpu_model(&read("/proc/cpuinfo")).unwrap_or_else(unknown),
            cpu_count: thread::available_parallelism().map_or(1, usize::from),
            thp_mode: chosen_mode(&read("/sys/kernel/mm/transparent_hugepage/enabled")).unwrap_or_else(unknown),
            thp_defrag: chosen_mode(&read("/sys/kernel/mm/transparent_hugepage/defrag")).unwrap_or_else(unknown),
            c_library: c_library().unwrap_or_else(unknown),
            rustc: env!("STRESS_RUSTC").to_owned(),
            memory_kib: memory::field_kib(&read("/proc/meminfo"), "MemTotal").unwrap_or(0),
            available_kib: available_bytes / 1024,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Linux {}, {} x {}, transparent huge pages: {} (defrag: {}), memory {} MiB ({} MiB available), {}, {}",
            self.kernel,
            self.cpu_count,
            self.cpu_model,
            self.thp_mode,
            self.thp_defrag,
            self.memory_kib / 1024,
            self.available_kib / 1024,
            self.c_library,
            self.rustc
        )
    }
}

/// The C library and its version, if it tells.
#[cfg(target_env = "gnu")]
pub fn c_library() -> Option<String> {
    // SAFETY: it takes nothing and gives a C string that is there as long as the process.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    Some(format!("glibc {}", version.to_str().ok()?))
}

/// The C library and its version, if it tells.
#[cfg(not(target_env = "gnu"))]
pub fn c_library() -> Option<String> {
    None
}

/// The first processor's `model name` in the text of `/proc/cpuinfo` (not every architecture has one).
fn cpu_model(cpuinfo: &str) -> Option<String> {
    let value = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'))?.1.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// The word in brackets of `always [madvise] never`.
fn chosen_mode(modes: &str) -> Option<String> {
    let (_, rest) = modes.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_the_first_processors() {
        let text = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: Some CPU 3000 @ 2 GHz\nmodel name\t: Other\n";
        assert_eq!(cpu_model(text).as_deref(), Some("Some CPU 3000 @ 2 GHz"));
        assert_eq!(cpu_model("processor : 0\nCPU implementer : 0x41\n"), None);
    }

    #[test]
    fn the_mode_is_the_word_in_brackets() {
        assert_eq!(chosen_mode("always [madvise] never\n").as_deref(), Some("madvise"));
        assert_eq!(chosen_mode("always"), None);
    }

    #[test]
    fn the_facts_are_one_line() {
        let machine = Machine::read(1 << 30);
        assert!(machine.cpu_count >= 1);
        assert_eq!(machine.available_kib, 1 << 20);
        assert_eq!(machine.to_string().lines().count(), 1);
    }
}
