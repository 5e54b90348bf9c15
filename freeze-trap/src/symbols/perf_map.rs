//! Names of code that a program makes while it runs, which compilers of that kind write to `/tmp/perf-PID.map`: a line
//! for each function, with its address and size in hexadecimal digits.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// No more of such a file is read.
const BYTES_MAX: u64 = 64 << 20;

/// The functions of one process.
#[derive(Debug, Default)]
pub(super) struct PerfMap {
    /// Start, end and name, by rising start.
    functions: Vec<(u64, u64, String)>,
}

impl PerfMap {
    /// From a file; empty if there is none. Memory: about as much as the file.
    pub(super) fn read(path: &Path) -> PerfMap {
        File::open(path).map_or_else(|_| PerfMap::default(), |file| PerfMap::parse(file.take(BYTES_MAX)))
    }

    fn parse(source: impl Read) -> PerfMap {
        let lines = BufReader::new(source).split(b'\n').map_while(Result::ok);
        let mut functions: Vec<_> = lines.filter_map(|line| parse_line(&String::from_utf8_lossy(&line))).collect();
        // Stable, so that the later one of two at the same address wins below.
        functions.sort_by_key(|function| function.0);
        PerfMap { functions }
    }

    /// The function at an address.
    pub(super) fn find(&self, address: u64) -> Option<&str> {
        let after = self.functions.partition_point(|function| function.0 <= address);
        let (_, end, name) = self.functions.get(after.checked_sub(1)?)?;
        (address < *end).then_some(name)
    }
}

fn parse_line(line: &str) -> Option<(u64, u64, String)> {
    let (start, rest) = line.split_once(' ')?;
    let (size, name) = rest.split_once(' ')?;
    let number = |digits: &str| u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok();
    let start = number(start)?;
    Some((start, start.checked_add(number(size)?)?, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_by_any_of_its_addresses() {
        let text = "2000 10 second one\n1000 0x20 first\nnonsense\nffffffffffffffff 2 too long\n2000 8 replaced\n";
        let map = PerfMap::parse(text.as_bytes());
        assert_eq!(map.find(0x1000), Some("first"));
        assert_eq!(map.find(0x101f), Some("first"));
        assert_eq!(map.find(0x2000), Some("replaced"));
        for outside in [0, 0xfff, 0x1020, 0x2008, u64::MAX] {
            assert_eq!(map.find(outside), None, "{outside:x}");
        }
        assert_eq!(PerfMap::read(Path::new("/does/not/exist")).find(1), None);
    }
}
