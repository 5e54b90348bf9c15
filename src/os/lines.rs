//! Reads a file line by line through a small buffer, however long the file is. Called by `cgroup` and `vmstat`.
//!
//! Invariant: one open for the whole file, so that its lines are of one moment as far as the kernel makes them so; a
//! line is passed on whole or not at all.

use core::cell::Cell;
use core::ffi::CStr;

use super::{Os, OsError};

/// Passes each line of a file, without its end, to `each`. Lines that do not fit `buffer` are left out.
/// # Errors
/// As [`Os::open`] and [`Os::read`]; lines before a failed read have been passed on.
pub(super) fn for_each(os: &impl Os, path: &CStr, buffer: &mut [u8], each: impl FnMut(&[u8])) -> Result<(), OsError> {
    let fd = os.open(path)?;
    let result = walk(os, fd, buffer, each);
    os.close(fd);
    result
}

fn walk(os: &impl Os, fd: i32, buffer: &mut [u8], mut each: impl FnMut(&[u8])) -> Result<(), OsError> {
    // Bytes at the start of the buffer that begin a line, and whether that line had a part before that is gone.
    let (mut kept, mut torn) = (0, false);
    loop {
        let space = buffer.get_mut(kept..).unwrap_or_default();
        let bytes = os.read(fd, space)?;
        let filled = kept + bytes;
        let text = buffer.get(..filled).unwrap_or_default();
        if bytes == 0 {
            if kept > 0 && !torn {
                each(text);
            }
            return Ok(());
        }
        match text.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => {
                let whole = text.get(..end).unwrap_or_default().split(|byte| *byte == b'\n');
                whole.skip(usize::from(torn)).for_each(&mut each);
                torn = false;
                kept = filled - end - 1;
                keep_tail(buffer, end + 1, kept);
            }
            None if filled == buffer.len() => (kept, torn) = (0, true),
            None => kept = filled,
        }
    }
}

/// Moves `count` bytes at `from` to the start.
fn keep_tail(buffer: &mut [u8], from: usize, count: usize) {
    let cells = Cell::from_mut(buffer).as_slice_of_cells();
    let tail = cells.iter().skip(from).take(count);
    cells.iter().zip(tail).for_each(|(target, source)| target.set(source.get()));
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;
    use std::vec::Vec;

    use super::*;
    use crate::os::fake::FakeOs;

    fn lines(os: &FakeOs, buffer_bytes: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = std::vec![0; buffer_bytes];
        for_each(os, c"/file", &mut buffer, |line| lines.push(String::from_utf8_lossy(line).into_owned())).unwrap();
        assert_eq!(os.files.open_count(), 0);
        lines
    }

    #[test]
    fn every_line_arrives_whole_whatever_the_sizes_of_buffer_and_reads() {
        let os = FakeOs::new();
        for text in ["a\nbcd\n\nefghi\njk", "a\nbcd\n\nefghi\njk\n"] {
            os.files.set("/file", text);
            for buffer_bytes in 6..20 {
                for read_bytes in 1..20 {
                    os.files.read_at_most(read_bytes);
                    let lines = lines(&os, buffer_bytes);
                    assert_eq!(lines, ["a", "bcd", "", "efghi", "jk"], "{buffer_bytes} {read_bytes}");
                }
            }
        }
    }

    #[test]
    fn a_line_that_does_not_fit_is_left_out_and_its_neighbours_stay() {
        let os = FakeOs::new();
        os.files.set("/file", "one\nfar too long a line\ntwo\nagain too long");
        for read_bytes in 1..20 {
            os.files.read_at_most(read_bytes);
            assert_eq!(lines(&os, 6), ["one", "two"], "{read_bytes}");
        }
    }

    #[test]
    fn an_empty_file_and_an_empty_buffer_have_no_lines() {
        let os = FakeOs::new();
        os.files.set("/file", "");
        assert_eq!(lines(&os, 6), [""; 0]);
        os.files.set("/file", "one\n");
        assert_eq!(lines(&os, 0), [""; 0]);
    }
}
