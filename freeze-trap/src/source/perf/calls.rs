//! Which system call a thread is in, as told by the kernel's functions on its stack: perf events do not record the
//! number.

use std::fs;
use std::str::FromStr;

use syscalls::Sysno;

/// What the functions of system calls are named, before the call's own name.
const PREFIXES: [&str; 6] = ["__x64_sys_", "__arm64_sys_", "__do_sys_", "__se_sys_", "ksys_", "__sys_"];

/// Functions that those of system calls end with, so that these are not on the stack any more. Where one serves several
/// calls of the same arguments, the most frequent.
const TAILS: [(&str, Sysno); 16] = [
    ("__vm_munmap", Sysno::munmap),
    ("do_epoll_wait", Sysno::epoll_pwait),
    ("do_futex", Sysno::futex),
    ("do_group_exit", Sysno::exit_group),
    ("do_madvise", Sysno::madvise),
    ("do_mlock", Sysno::mlock),
    ("do_mprotect_pkey", Sysno::mprotect),
    ("do_readv", Sysno::readv),
    ("do_sys_openat2", Sysno::openat),
    ("do_sys_poll", Sysno::ppoll),
    ("do_writev", Sysno::writev),
    ("kernel_clone", Sysno::clone),
    ("kernel_wait4", Sysno::wait4),
    ("ksys_mmap_pgoff", Sysno::mmap),
    ("vm_mmap_pgoff", Sysno::mmap),
    ("vm_munmap", Sysno::munmap),
];

/// The system call that a function of the kernel belongs to.
fn call_of(function: &str) -> Option<Sysno> {
    let named = PREFIXES.iter().find_map(|prefix| Sysno::from_str(function.strip_prefix(prefix)?).ok());
    named.or_else(|| TAILS.iter().find(|(tail, _)| *tail == function).map(|(_, call)| *call))
}

/// The kernel's functions that are system calls.
pub(super) struct KernelCalls {
    /// First address, the one after the last, and the call's number; in ascending order.
    functions: Vec<(u64, u64, u64)>,
}

impl KernelCalls {
    /// Those of the running kernel; none if it hides where they are. Takes a tenth of a second.
    pub(super) fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/kallsyms").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let symbol = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok().filter(|address| *address != 0)?;
            let is_code = matches!(words.next()?, "t" | "T" | "w" | "W");
            let name = words.next()?;
            is_code.then(|| (address, call_of(name).map(|call| call.id() as u64)))
        };
        let mut symbols: Vec<(u64, Option<u64>)> = text.lines().filter_map(symbol).collect();
        // Of several names of one address, one that is a call comes last.
        symbols.sort_unstable();
        symbols.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = later.1.or(kept.1);
            }
            same
        });
        let functions = symbols.windows(2).filter_map(|pair| Some((pair[0].0, pair[1].0, pair[0].1?)));
        KernelCalls { functions: functions.collect() }
    }

    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// The call that a stack of the kernel is in; `None` for one that is in none, or in one of which nothing is known.
    pub(super) fn of(&self, stack: &[u64]) -> Option<u64> {
        // The outermost frames are those of the call. What is on the stack is where a function goes on after a call,
        // which may be the address after its last.
        stack.iter().rev().find_map(|address| {
            let at = self.functions.partition_point(|(start, _, _)| start < address).checked_sub(1)?;
            let (_, end, number) = self.functions[at];
            (*address <= end).then_some(number)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "ffffffff81000000 T _stext\nffffffff81000100 T __x64_sys_munmap\n\
        ffffffff81000200 t __do_sys_brk\nffffffff81000200 t alias_of_brk\nffffffff81000300 T other\n\
        ffffffff81000400 D __x64_sys_futex\nffffffff81000500 t ksys_mmap_pgoff\nffffffff81000600 t rest\nffffffffa0000000 t in_a_module\t[module]\n";

    #[test]
    fn the_call_is_found_by_where_its_function_is() {
        let calls = KernelCalls::parse(TEXT);
        let munmap = Some(libc::SYS_munmap as u64);
        assert_eq!(calls.of(&[0xffff_ffff_8100_0310, 0xffff_ffff_8100_0180, 0xffff_ffff_8100_0010]), munmap);
        assert_eq!(calls.of(&[0xffff_ffff_8100_0200]), munmap, "it returns to the end of its function");
        assert_eq!(calls.of(&[0xffff_ffff_8100_0201]), Some(libc::SYS_brk as u64));
        assert_eq!(calls.of(&[0xffff_ffff_8100_0310, 0xffff_ffff_a000_0010, 0x10]), None);
        assert_eq!(calls.of(&[0xffff_ffff_8100_0550, 0xffff_ffff_8100_0010]), Some(libc::SYS_mmap as u64));
        assert_eq!(calls.of(&[]), None);
    }

    #[test]
    fn a_kernel_that_hides_its_addresses_has_no_calls() {
        let zeros: String = TEXT.lines().map(|line| format!("{:016x} {}\n", 0, &line[17..])).collect();
        assert!(KernelCalls::parse(&zeros).is_empty() && KernelCalls::parse("").is_empty());
    }
}
