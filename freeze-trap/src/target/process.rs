//! What `/proc` tells of a process without taking its mmap_lock: `stat` and `statm` (fs/proc/array.c: both read
//! counters of the address space). `maps`, `smaps`, `cmdline` and `environ` take it, or may wait for it, and are not
//! read here.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};

use nix::unistd::{SysconfVar, sysconf};

/// The longest `stat`: fifty numbers and a name.
const FILE_BYTES: usize = 2048;

/// A process or thread, from its `stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its name, of at most 15 bytes.
    pub name: String,
    /// `R` for running or runnable, `S` for sleeping, `D` where no signal wakes it, and so on.
    pub state: char,
    /// Page faults so far, without and with a disk.
    pub faults: [u64; 2],
    /// Processor time in ticks, in the program and in the kernel.
    pub cpu_ticks: u64,
    /// Threads of its process.
    pub threads: u64,
    /// When it started, in ticks since the machine did: tells it from an earlier process of the same number.
    pub started_ticks: u64,
}

impl Stat {
    /// Whether it has ended, and only waits to be waited for.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Takes a `stat` file apart.
    #[must_use]
    pub fn parse(text: &str) -> Option<Stat> {
        let (before, rest) = text.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc(5) counts from 1, and the state, the first behind the name, is its third.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Stat {
            name,
            state: fields.first()?.chars().next()?,
            faults: [number(10)?, number(12)?],
            cpu_ticks: number(14)? + number(15)?,
            threads: number(20)?,
            started_ticks: number(22)?,
        })
    }
}

/// Reads a small file into a buffer of the stack, which saves most of the cost.
fn read<T>(path: &str, take: impl FnOnce(&str) -> Option<T>) -> io::Result<T> {
    let mut buffer = [0; FILE_BYTES];
    let mut file = File::open(path)?;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&buffer[..filled]);
    take(&text).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("{path} cannot be understood")))
}

/// The `stat` of a process.
/// # Errors
/// There is no such process, or it may not be seen.
pub fn stat(pid: i32) -> io::Result<Stat> {
    read(&format!("/proc/{pid}/stat"), Stat::parse)
}

/// The `stat` of a thread.
/// # Errors
/// There is no such thread, or it may not be seen.
pub fn thread_stat(pid: i32, tid: i32) -> io::Result<Stat> {
    read(&format!("/proc/{pid}/task/{tid}/stat"), Stat::parse)
}

/// How long a thread has run, in nanoseconds, and how often it was given a processor. Zeroes where the kernel does not
/// count.
/// # Errors
/// There is no such thread.
pub fn thread_runs(pid: i32, tid: i32) -> io::Result<[u64; 2]> {
    read(&format!("/proc/{pid}/task/{tid}/schedstat"), |text| {
        let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
        let run_ns = fields.next()?.ok()?;
        Some([run_ns, fields.nth(1)?.ok()?])
    })
}

/// Address space and resident memory of a process, in bytes.
/// # Errors
/// There is no such process.
pub fn memory_bytes(pid: i32) -> io::Result<[u64; 2]> {
    let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().map_or(4096, i64::cast_unsigned);
    read(&format!("/proc/{pid}/statm"), |text| {
        let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
        Some([fields.next()?.ok()? * page_bytes, fields.next()?.ok()? * page_bytes])
    })
}

/// The threads of a process.
/// # Errors
/// There is no such process.
pub fn threads(pid: i32) -> io::Result<Vec<i32>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// The children of all threads of a process. Empty where the kernel does not tell (CONFIG_PROC_CHILDREN).
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let mut children = Vec::new();
    for tid in threads(pid).unwrap_or_default() {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/children")).unwrap_or_default();
        children.extend(text.split_ascii_whitespace().filter_map(|child| child.parse::<i32>().ok()));
    }
    children
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_taken_apart_whatever_the_name_is() {
        let text = "17 (a) b (c)) D 1 17 17 0 -1 4194560 123 9 4 9 50 7 0 0 20 0 12 0 987654 2703360 300 \
                    18446744073709551615 1 1 0 0 0 0 0\n";
        let stat = Stat {
            name: "a) b (c)".into(),
            state: 'D',
            faults: [123, 4],
            cpu_ticks: 57,
            threads: 12,
            started_ticks: 987_654,
        };
        assert_eq!(Stat::parse(text), Some(stat));
        for broken in ["", "17", "17 (a", "17 (a)", "17 (a) R 1 2 3"] {
            assert_eq!(Stat::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn this_process_is_seen_as_it_is() {
        let pid = std::process::id().cast_signed();
        let stat = stat(pid).unwrap();
        assert!(stat.threads >= 1 && threads(pid).unwrap().contains(&pid), "{stat:?}");
        let [virtual_bytes, resident_bytes] = memory_bytes(pid).unwrap();
        assert!(virtual_bytes > resident_bytes && resident_bytes > 100_000, "{virtual_bytes} {resident_bytes}");
        let child = std::process::Command::new("sleep").arg("10").spawn();
        let mut child = child.unwrap();
        let seen = children(pid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen.is_empty() || seen.contains(&child.id().cast_signed()), "{seen:?}");
        assert!(super::stat(-1).is_err());
    }
}
