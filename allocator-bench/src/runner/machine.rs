//! What the measurements were taken on: processor, kernel, huge-page mode, commit, memory available.

use std::fmt;
use std::fs;
use std::process::Command;

use allocator_bench::peak_rss::find_kib;

const UNKNOWN: &str = "unknown";

/// The machine and the state of the sources; what cannot be found out is `unknown`.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Name of the processor.
    pub cpu: String,
    /// Release of the running kernel.
    pub kernel: String,
    /// Mode of transparent huge pages.
    pub thp: String,
    /// Short hash of the commit.
    pub commit: String,
    /// Memory that can be used without swapping, within the limit of the control group.
    pub available_kib: u64,
}

impl Machine {
    /// Looks everything up.
    pub fn read() -> Self {
        Self {
            cpu: cpu_name(&read("/proc/cpuinfo")).unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            kernel: non_empty(read("/proc/sys/kernel/osrelease").trim()),
            thp: non_empty(selected(&read("/sys/kernel/mm/transparent_hugepage/enabled")).unwrap_or_default()),
            commit: commit().unwrap_or_else(|| UNKNOWN.to_owned()),
            available_kib: available_kib(
                &read("/proc/meminfo"),
                &read("/sys/fs/cgroup/memory.max"),
                &read("/sys/fs/cgroup/memory.current"),
            ),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = std::thread::available_parallelism().map_or(0, |count| count.get());
        write!(
            formatter,
            "{} ({cores} cores), Linux {}, THP {}, {} MiB available, commit {}",
            self.cpu,
            self.kernel,
            self.thp,
            self.available_kib / 1024,
            self.commit
        )
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn non_empty(text: &str) -> String {
    if text.is_empty() { UNKNOWN.to_owned() } else { text.to_owned() }
}

fn cpu_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The word in brackets.
fn selected(choices: &str) -> Option<&str> {
    Some(choices.split_once('[')?.1.split_once(']')?.0)
}

fn commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let hash = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !hash.trim().is_empty()).then(|| hash.trim().to_owned())
}

/// The smaller of what the kernel has and what the control group leaves; a control group without a limit says `max`.
fn available_kib(meminfo: &str, group_max_bytes: &str, group_current_bytes: &str) -> u64 {
    let free_kib = find_kib(meminfo.as_bytes(), b"MemAvailable:").unwrap_or(0);
    match (group_max_bytes.trim().parse::<u64>(), group_current_bytes.trim().parse::<u64>()) {
        (Ok(max_bytes), Ok(current_bytes)) => free_kib.min(max_bytes.saturating_sub(current_bytes) / 1024),
        _ => free_kib,
    }
}

#[cfg(test)]
mod tests {
    use super::{available_kib, cpu_name, selected};

    #[test]
    fn proc_files_are_understood() {
        assert_eq!(cpu_name("processor : 0\nmodel name\t: Some CPU, 2 GHz\n").as_deref(), Some("Some CPU, 2 GHz"));
        assert_eq!(cpu_name("Features : fp"), None);
        assert_eq!(selected("always [madvise] never\n"), Some("madvise"));
        assert_eq!(selected(""), None);
    }

    #[test]
    fn control_group_limits_memory() {
        let meminfo = "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n";
        assert_eq!(available_kib(meminfo, "max\n", "1024\n"), 8000);
        assert_eq!(available_kib(meminfo, "", ""), 8000);
        assert_eq!(available_kib(meminfo, "2097152\n", "1048576\n"), 1024);
        assert_eq!(available_kib("", "max", "0"), 0);
    }
}
