//! What a report says of the machine. Read once, when the trap starts.

use std::fs;

use nix::sys::utsname::uname;
use nix::unistd::{SysconfVar, sysconf};

use crate::freeze::Machine;

/// This machine. What cannot be read is empty or zero.
#[must_use]
pub fn machine() -> Machine {
    let names = uname();
    let text = |take: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        names.as_ref().map(|names| take(names).to_string_lossy().into_owned()).unwrap_or_default()
    };
    let number = |name| sysconf(name).ok().flatten().and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    Machine {
        host: text(|names| names.nodename()),
        kernel: text(|names| names.release()),
        cpu: processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        cpus: usize::try_from(number(SysconfVar::_NPROCESSORS_ONLN)).unwrap_or(0),
        memory_bytes: number(SysconfVar::_PHYS_PAGES) * number(SysconfVar::PAGE_SIZE),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The processor's name; the architecture's where the kernel tells none, as on many ARM machines.
fn processor(cpuinfo: &str) -> String {
    let field = |line: &str| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned());
    cpuinfo.lines().find_map(field).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_a_name_everywhere() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: A B\nflags\t: x\n"), "A B");
        assert_eq!(processor("processor\t: 0\n"), std::env::consts::ARCH);
        let here = machine();
        assert!(here.cpus > 0 && here.memory_bytes > 0 && !here.kernel.is_empty(), "{here:?}");
    }
}
