//! What this machine and this process's rights permit, as facts to be printed: `choose` says with them why a better
//! source is not used, `freeze-trap check` shows all of them.

use std::fs;
use std::io;
use std::path::Path;

use lock_trace::events::Tracefs;
use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::btf::KernelTypes;

/// The number of the initial process-id namespace, PROC_PID_INIT_INO of the kernel.
const INITIAL_PIDS: &str = "pid:[4026531836]";

/// Rights that matter, and their numbers in linux/capability.h.
const CAPABILITIES: [(&str, u32); 7] = [
    ("CAP_BPF", 39),
    ("CAP_PERFMON", 38),
    ("CAP_SYSLOG", 34),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_IPC_LOCK", 14),
    ("CAP_SYS_RESOURCE", 24),
];

/// One thing that matters to the trap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is about.
    pub name: String,
    /// How it is.
    pub found: String,
    /// What would give more, if it is not as good as it can be.
    pub help: Option<String>,
}

impl Fact {
    fn new(name: &str, found: impl Into<String>, help: Option<&str>) -> Self {
        Fact { name: name.into(), found: found.into(), help: help.map(String::from) }
    }
}

/// Everything that is known to matter. Takes some milliseconds, the half of it for the kernel's types.
#[must_use]
pub fn permits() -> Vec<Fact> {
    let known = KernelTypes::read();
    let mut facts = vec![kernel(), types(), helper(known.as_ref()), tracepoint(known.as_ref())];
    drop(known);
    facts.push(capabilities());
    facts.extend([tracefs(), paranoid(), addresses(), lockdown(), filter()]);
    facts.extend([pressure(), cgroups(), systemd(), pids(), memlock()]);
    facts
}

fn kernel() -> Fact {
    Fact::new("kernel", setting("osrelease").unwrap_or_else(|| "unknown".into()), None)
}

fn types() -> Fact {
    let path = "/sys/kernel/btf/vmlinux";
    match fs::metadata(path) {
        Ok(found) => Fact::new("type information", format!("{path}, {} bytes", found.len()), None),
        Err(error) => {
            let help = "BPF takes a kernel with CONFIG_DEBUG_INFO_BTF";
            Fact::new("type information", format!("{path}: {error}"), Some(help))
        }
    }
}

/// The newest of the functions that the BPF programs call.
pub(super) const HELPER: &str = "task_pt_regs";
/// The first kernel that has it.
pub(super) const HELPER_SINCE: &str = "Linux 5.15";

fn helper(types: Option<&KernelTypes>) -> Fact {
    let name = format!("function bpf_{HELPER} of BPF");
    match types.map(|types| types.has_helper(HELPER)) {
        Some(true) => Fact::new(&name, "there", None),
        Some(false) => Fact::new(&name, "none", Some(&format!("BPF takes {HELPER_SINCE}"))),
        None => Fact::new(&name, "not known without type information", None),
    }
}

fn tracepoint(types: Option<&KernelTypes>) -> Fact {
    let name = "tracepoints of mmap_lock";
    match types.map(|types| types.tracepoint_arguments("mmap_lock_released")) {
        Some(Some(count)) => Fact::new(name, format!("there, with {count} arguments"), None),
        Some(None) => Fact::new(name, "none", Some("they take Linux 5.11 with CONFIG_TRACEPOINTS")),
        None => Fact::new(name, "not known without type information", None),
    }
}

/// Whether this thread has the right of this name.
pub(crate) fn has(capability: &str) -> bool {
    let mask = own_mask("CapEff:").unwrap_or(0);
    CAPABILITIES.iter().any(|(name, bit)| *name == capability && mask >> bit & 1 == 1)
}

/// A line of bits, or a number below ten, of this thread's status, such as `CapEff:`; `None` where the kernel does not
/// tell.
pub(crate) fn own_mask(key: &str) -> Option<u64> {
    // Rights are a thread's.
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix(key))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

fn capabilities() -> Fact {
    let (have, lack): (Vec<&str>, Vec<&str>) = CAPABILITIES.iter().map(|(name, _)| *name).partition(|name| has(name));
    let gives = |name: &&str| match *name {
        "CAP_BPF" | "CAP_PERFMON" if has("CAP_SYS_ADMIN") => None,
        "CAP_BPF" => Some("CAP_BPF, with CAP_PERFMON, gives BPF"),
        "CAP_PERFMON" => Some("CAP_PERFMON gives perf events, with CAP_BPF also BPF"),
        "CAP_SYSLOG" => Some("CAP_SYSLOG gives the names of the kernel's functions"),
        "CAP_SYS_PTRACE" => Some(
            "CAP_SYS_PTRACE gives the functions of other users' programs, since Linux 6.15 only of those in containers",
        ),
        "CAP_IPC_LOCK" => Some("CAP_IPC_LOCK gives larger rings and locked memory"),
        // Of the others nothing depends on.
        _ => None,
    };
    let helps: Vec<&str> = lack.iter().filter_map(gives).collect();
    let found = if have.is_empty() { String::from("none") } else { have.join(", ") };
    Fact { name: "capabilities".into(), found, help: (!helps.is_empty()).then(|| helps.join("; ")) }
}

fn tracefs() -> Fact {
    match Tracefs::open() {
        Ok(_) => Fact::new("tracefs", "can be read", None),
        Err(missing) => Fact::new("tracefs", "cannot be read", Some(&format!("for perf events: {missing}"))),
    }
}

/// A setting below `/proc/sys/kernel`.
fn setting(name: &str) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().to_owned())
}

fn paranoid() -> Fact {
    let name = "kernel.perf_event_paranoid";
    let Some(found) = setting("perf_event_paranoid") else {
        return Fact::new(name, "none", Some("perf events take CONFIG_PERF_EVENTS"));
    };
    let level: i64 = found.parse().unwrap_or(i64::MAX);
    let help = if has("CAP_SYS_ADMIN") { None } else { paranoid_help(level, has("CAP_PERFMON")) };
    Fact::new(name, found, help)
}

/// What gives perf events at a level to whoever is not root. Levels above 2 are distributions' own: Debian's kernels
/// refuse perf events there to all without CAP_SYS_ADMIN (seen with Linux 6.1, where the default is 3).
fn paranoid_help(level: i64, has_perfmon: bool) -> Option<&'static str> {
    match (level, has_perfmon) {
        (..0, _) | (..=2, true) => None,
        (..=2, false) => Some("-1 gives perf events without CAP_PERFMON"),
        (_, true) => Some("2 or less gives perf events with CAP_PERFMON; BPF does not depend on it"),
        (_, false) => Some("-1 gives perf events without CAP_PERFMON, 2 or less with it; BPF does not depend on it"),
    }
}

/// Whether addresses are told. Before Linux 6.15 the first symbols really are at 0 and just above: variables of each
/// processor.
fn shows_addresses(symbols: &str) -> bool {
    symbols.lines().any(|line| line.split(' ').next().is_some_and(|address| address.bytes().any(|digit| digit != b'0')))
}

fn addresses() -> Fact {
    let name = "kernel.kptr_restrict";
    let found = setting("kptr_restrict").unwrap_or_else(|| "unknown".into());
    let shown = fs::read_to_string("/proc/kallsyms").is_ok_and(|text| shows_addresses(&text));
    let help = "CAP_SYSLOG (with 2 not even that), or 0 with kernel.perf_event_paranoid=1, gives the names of the \
                kernel's functions";
    Fact::new(name, found, (!shown).then_some(help))
}

fn lockdown() -> Fact {
    let name = "kernel lockdown";
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    // The mode in brackets is the one that is in force.
    let mode = text.split(['[', ']']).nth(1).unwrap_or("none");
    let help = "BPF and perf events take the mode none or integrity (lockdown= on the kernel's command line)";
    Fact::new(name, mode, (mode == "confidentiality").then_some(help))
}

/// Whether a container may refuse system calls.
pub(super) fn is_filtered() -> bool {
    own_mask("Seccomp:").is_some_and(|mode| mode != 0)
}

fn filter() -> Fact {
    let is_filtered = is_filtered();
    let found = if is_filtered { "some may be refused (seccomp)" } else { "not filtered" };
    let help = "where a source is refused in spite of all rights, let the container's profile permit bpf and \
                perf_event_open";
    Fact::new("system calls", found, is_filtered.then_some(help))
}

fn systemd() -> Fact {
    let is_there = Path::new("/run/systemd/system").exists();
    let help = "--unit takes systemd: watch by --cgroup, --pid or --exec";
    Fact::new("systemd", if is_there { "runs this machine" } else { "none" }, (!is_there).then_some(help))
}

fn pressure() -> Fact {
    let help = match fs::read("/proc/pressure/memory") {
        Ok(_) => return Fact::new("pressure (PSI)", "/proc/pressure", None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "probes of it take a kernel with CONFIG_PSI",
        Err(_) => "probes of it take the kernel's command line to say psi=1",
    };
    Fact::new("pressure (PSI)", "none", Some(help))
}

fn cgroups() -> Fact {
    let is_there = |path: &str| Path::new(path).exists();
    let found = if is_there("/sys/fs/cgroup/cgroup.controllers") {
        "version 2"
    } else if is_there("/sys/fs/cgroup/unified/cgroup.procs") {
        "version 1, with version 2 at /sys/fs/cgroup/unified"
    } else if is_there("/sys/fs/cgroup/cpu") {
        "version 1"
    } else {
        "none"
    };
    Fact::new("cgroups", found, None)
}

fn pids() -> Fact {
    let found =
        fs::read_link("/proc/self/ns/pid").map_or_else(|error| error.to_string(), |link| link.display().to_string());
    let help =
        "run in the initial process-id namespace (hostPID: true, --pid=host): the kernel's events count as that does";
    let is_initial = found == INITIAL_PIDS;
    let found = if is_initial { String::from("the initial one") } else { found };
    Fact::new("process-id namespace", found, (!is_initial).then_some(help))
}

fn memlock() -> Fact {
    let name = "locked memory (RLIMIT_MEMLOCK)";
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) if soft == libc::RLIM_INFINITY => Fact::new(name, "without limit", None),
        Ok((soft, _)) => {
            let help = "without limit, or with CAP_IPC_LOCK, all of the trap's memory stays in memory during a freeze";
            Fact::new(name, format!("{soft} bytes"), (!has("CAP_IPC_LOCK")).then_some(help))
        }
        Err(error) => Fact::new(name, error.to_string(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_is_told_once_and_says_something() {
        let facts = permits();
        let mut names: Vec<&str> = facts.iter().map(|fact| fact.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), facts.len());
        assert!(facts.iter().all(|fact| !fact.found.is_empty()), "{facts:?}");
        assert!(facts.iter().all(|fact| fact.help.as_ref().is_none_or(|help| !help.is_empty())), "{facts:?}");
    }

    #[test]
    fn a_kernel_without_the_newest_function_is_told_what_bpf_takes() {
        let older = KernelTypes::with_strings(b"\0BPF_FUNC_ringbuf_output\0BPF_FUNC_task_pt_reg\0");
        assert_eq!(helper(Some(&older)).help.as_deref(), Some("BPF takes Linux 5.15"));
        let newer = KernelTypes::with_strings(b"\0BPF_FUNC_task_pt_regs\0");
        assert_eq!((helper(Some(&newer)).found.as_str(), helper(Some(&newer)).help), ("there", None));
        assert_eq!(helper(None).help, None);
    }

    #[test]
    fn above_the_kernels_own_levels_the_capability_is_not_enough() {
        assert_eq!([-1, 0, 2].map(|level| paranoid_help(level, true)), [None; 3]);
        assert_eq!(paranoid_help(-1, false), None);
        assert_eq!(paranoid_help(2, false), Some("-1 gives perf events without CAP_PERFMON"));
        for has_perfmon in [false, true] {
            assert!(paranoid_help(3, has_perfmon).is_some_and(|help| help.contains("2 or less")));
        }
    }

    #[test]
    fn a_symbol_at_zero_does_not_mean_that_addresses_are_hidden() {
        let first = "0000000000000000 A fixed_percpu_data\n0000000000000000 A __per_cpu_start\n";
        assert!(shows_addresses(&format!("{first}ffffffff81000000 T _stext\n")));
        for hidden in [format!("{first}0000000000000000 T _stext\n"), String::new()] {
            assert!(!shows_addresses(&hidden));
        }
    }

    #[test]
    fn a_right_that_does_not_exist_is_not_had() {
        assert!(!has("CAP_OF_ANOTHER_WORLD"));
        assert_eq!(has("CAP_SYS_ADMIN"), own_mask("CapEff:").unwrap() >> 21 & 1 == 1);
    }
}
