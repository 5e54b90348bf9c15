//! What the measurements were taken on and of what: processor, kernel, huge-page mode, commit, memory available, date,
//! versions of the allocators.

use std::fmt;
use std::fs;
use std::process::Command;

use allocator_bench::contender::Contender;
use allocator_bench::resident::find_kib;

const UNKNOWN: &str = "unknown";

/// The machine and the state of the sources; what cannot be found out is `unknown`.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Day of the measurement, UTC.
    pub date: String,
    /// Name of the processor.
    pub cpu: String,
    /// How many of its cores may be used.
    pub cores: usize,
    /// Release of the running kernel.
    pub kernel: String,
    /// Mode of transparent huge pages.
    pub thp: String,
    /// Short hash of the commit, with `-dirty` if files differ from it.
    pub commit: String,
    /// Memory that can be used without swapping, within the limit of the control group.
    pub available_kib: u64,
}

impl Machine {
    /// Looks everything up.
    pub fn read() -> Self {
        Self {
            date: time::OffsetDateTime::now_utc().date().to_string(),
            cores: std::thread::available_parallelism().map_or(0, |count| count.get()),
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

impl Machine {
    /// A name for the kind of machine that can stand in a path.
    pub fn slug(&self) -> String {
        let lower = self.cpu.to_lowercase();
        let words = lower.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        format!("{}-{}-cores", words.collect::<Vec<_>>().join("-"), self.cores)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, cpu, cores, kernel, thp, commit, available_kib: _ } = self;
        write!(formatter, "{cpu} ({cores} cores), Linux {kernel}, THP {thp}, commit {commit}, {date}")
    }
}

/// The version of an allocator: of the crate that brings it, or of the C library.
pub fn version_of(contender: Contender) -> String {
    const LOCK_FILE: &str = include_str!("../../../Cargo.lock");
    match contender.package() {
        Some(package) => locked_version(LOCK_FILE, package).map(str::to_owned),
        None => first_line("getconf", &["GNU_LIBC_VERSION"]),
    }
    .unwrap_or_else(|| UNKNOWN.to_owned())
}

/// The version of a package in the text of a `Cargo.lock`, without the commit that some name behind it.
fn locked_version<'a>(lock_file: &'a str, package: &str) -> Option<&'a str> {
    let (_, entry) = lock_file.split_once(&format!("name = \"{package}\"\n"))?;
    entry.lines().next()?.strip_prefix("version = \"")?.strip_suffix('"')?.split("-0-g").next()
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
    let hash = first_line("git", &["rev-parse", "--short=12", "HEAD"])?;
    let changed = first_line("git", &["status", "--porcelain", "--untracked-files=no"]).is_some();
    Some(if changed { format!("{hash}-dirty") } else { hash })
}

/// The first line that a program prints, if it succeeds and prints one.
fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
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
    use allocator_bench::contender::Contender;

    use super::{Machine, UNKNOWN, available_kib, cpu_name, locked_version, selected, version_of};

    #[test]
    fn slug_can_stand_in_a_path() {
        let cpu = "AMD EPYC 9R14 (2.6 GHz)/x".to_owned();
        assert_eq!(Machine { cpu, cores: 2, ..Machine::read() }.slug(), "amd-epyc-9r14-2-6-ghz-x-2-cores");
    }

    #[test]
    fn every_allocator_but_that_of_the_system_has_a_version_in_the_lock_file() {
        for contender in Contender::ALL.into_iter().filter(|&contender| contender != Contender::System) {
            assert_ne!(version_of(contender), UNKNOWN, "{contender}");
        }
        assert_eq!(
            locked_version("name = \"a-b\"\nversion = \"1\"\n\nname = \"b\"\nversion = \"2\"\n", "b"),
            Some("2")
        );
        assert_eq!(locked_version("name = \"c\"\nversion = \"1+5.3.1-0-g81034ce1\"\n", "c"), Some("1+5.3.1"));
        assert_eq!(locked_version("", "b"), None);
    }

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
