//! Programs may have their debug information in another file, which they name. Whoever made a program chose that name;
//! `symbols` asks here before it lets such a file be opened.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use object::Object;
use object::read::ReadCache;

use super::files;
use super::tables::{Bounded, READ_BYTES_MAX};

/// Whether a program names no other file for its debug information than one of a plain name, and what has this name
/// beside the program, if anything, is a regular file. False also for what is no program.
pub(super) fn are_harmless(program: &File) -> bool {
    name_is_harmless(program).unwrap_or(false)
}

fn name_is_harmless(program: &File) -> Option<bool> {
    let cache = ReadCache::new(program.try_clone().ok()?);
    let left_bytes = Cell::new(READ_BYTES_MAX);
    let file = object::File::parse(Bounded { cache: &cache, left_bytes: &left_bytes }).ok()?;
    // These two may name any path. Packagers have them in the files of debug information, not in programs.
    if [".gnu_debugaltlink", ".debug_sup"].iter().any(|name| file.section_by_name(name).is_some()) {
        return Some(false);
    }
    let Some((name, _)) = file.gnu_debuglink().ok()? else { return Some(true) };
    let path = fs::read_link(files::path_of(program)).ok()?;
    Some(!name.contains(&b'/') && is_file_or_nothing(&path.with_file_name(OsStr::from_bytes(name))))
}

fn is_file_or_nothing(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |found| found.is_file())
}
