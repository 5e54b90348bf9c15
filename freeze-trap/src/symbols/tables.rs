//! What a file of code says of the frames of its functions, for `unwind`: the tables that compilers write for
//! exceptions. Read with the maps of a process, and kept as long as some process is known that uses the file.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use framehop::{ExplicitModuleSectionInfo, Module};
use object::read::{ReadCache, ReadRef};
use object::{Object, ObjectSection, ObjectSegment, SegmentFlags, elf};

use super::files::{self, Links};
use super::maps::Identity;

/// A file with a larger table is left out, to bound the memory.
const TABLE_BYTES_MAX: u64 = 64 << 20;
/// So much is read of one file: both tables, and what it takes to find them.
pub(super) const READ_BYTES_MAX: u64 = 2 * TABLE_BYTES_MAX;
/// So much all tables may have; those of further files are left out.
const ALL_BYTES_MAX: u64 = 256 << 20;
/// So many files are kept that would be out of reach when their process is gone.
const KEPT_MAX: usize = 256;

type Known = HashMap<Identity, Weak<Tables>>;

/// Files in use.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// What one file says of its frames.
#[derive(Default)]
pub(super) struct Tables {
    /// Where its code is in the file: offset, length, and the address that it is linked for.
    code: Vec<(u64, u64, u64)>,
    frames: Option<Section>,
    index: Option<Section>,
    /// The file, which has no path any more when its process is gone.
    kept: Option<File>,
}

#[derive(Clone)]
struct Section {
    address: u64,
    bytes: Arc<[u8]>,
}

impl Tables {
    /// Those of a file that is known to be this one; shared by all that use it. Empty if it cannot be read, was
    /// replaced since, or is no program or library.
    pub(super) fn of(path: &Path, identity: Identity) -> Arc<Tables> {
        // Nobody leaves it half changed.
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tables) = known.get(&identity).and_then(Weak::upgrade) {
            return tables;
        }
        known.retain(|_, tables| tables.strong_count() > 0);
        let others: Vec<Arc<Tables>> = known.values().filter_map(Weak::upgrade).collect();
        let found = files::find(path, Links::Followed).ok().filter(|found| identity.is_of(found));
        let tables = found.map(|found| {
            let bytes: u64 = others.iter().map(|tables| tables.bytes()).sum();
            let read = Tables::read(&found).filter(|tables| bytes + tables.bytes() <= ALL_BYTES_MAX);
            let keeps = path.starts_with("/proc") && others.iter().filter(|one| one.kept.is_some()).count() < KEPT_MAX;
            Tables { kept: keeps.then_some(found), ..read.unwrap_or_default() }
        });
        let tables = Arc::new(tables.unwrap_or_default());
        known.insert(identity, Arc::downgrade(&tables));
        tables
    }

    /// From a file, which need not be well-formed.
    fn read(found: &File) -> Option<Tables> {
        let cache = ReadCache::new(files::open(found).ok()?);
        let left_bytes = Cell::new(READ_BYTES_MAX);
        let file = object::File::parse(Bounded { cache: &cache, left_bytes: &left_bytes }).ok()?;
        let is_code = |flags| matches!(flags, SegmentFlags::Elf { p_flags } if p_flags & elf::PF_X != 0);
        let code = file.segments().filter(|segment| is_code(segment.flags())).map(|segment| {
            let (offset, bytes) = segment.file_range();
            (offset, bytes, segment.address())
        });
        Some(Tables {
            code: code.collect(),
            frames: section(&file, ".eh_frame"),
            index: section(&file, ".eh_frame_hdr"),
            kept: None,
        })
    }

    /// With code and frames: offset, length and address of the one, address and bytes of the other.
    #[cfg(test)]
    pub(super) fn of_parts(code: (u64, u64, u64), frames: (u64, Vec<u8>)) -> Tables {
        let frames = Section { address: frames.0, bytes: frames.1.into() };
        Tables { code: vec![code], frames: Some(frames), index: None, kept: None }
    }

    fn bytes(&self) -> u64 {
        [&self.frames, &self.index].into_iter().flatten().map(|section| section.bytes.len() as u64).sum()
    }

    /// A handle on the file, if its path goes with a process.
    pub(super) fn kept(&self) -> Option<&File> {
        self.kept.as_ref()
    }

    /// A mapping of the file, as the unwinder wants it.
    pub(super) fn module(&self, range: (u64, u64), offset: u64) -> Option<Module<Arc<[u8]>>> {
        let frames = self.frames.clone()?;
        let (start, _, address) = *self.code.iter().find(|(start, bytes, _)| {
            // The kernel maps whole pages.
            start & !0xfff <= offset && start.checked_add(*bytes).is_some_and(|end| offset < end)
        })?;
        let linked = address.wrapping_add(offset.wrapping_sub(start));
        let base = range.0.wrapping_sub(linked);
        let span = |section: &Section| {
            let end = section.address.checked_add(section.bytes.len() as u64)?;
            Some(section.address..end)
        };
        let info = ExplicitModuleSectionInfo {
            eh_frame_svma: Some(span(&frames)?),
            eh_frame: Some(frames.bytes),
            eh_frame_hdr_svma: self.index.as_ref().and_then(span),
            eh_frame_hdr: self.index.as_ref().map(|index| Arc::clone(&index.bytes)),
            ..Default::default()
        };
        Some(Module::new(String::new(), range.0..range.1, base, info))
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_struct("Tables").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// A file of which no more is read than there is memory meant for: its own numbers say how much that would be.
#[derive(Clone, Copy)]
pub(super) struct Bounded<'data> {
    pub(super) cache: &'data ReadCache<File>,
    pub(super) left_bytes: &'data Cell<u64>,
}

impl<'data> ReadRef<'data> for Bounded<'data> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'data [u8], ()> {
        self.left_bytes.set(self.left_bytes.get().checked_sub(size).ok_or(())?);
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'data [u8], ()> {
        self.cache.read_bytes_at_until(range, delimiter)
    }
}

fn section<'data, R: ReadRef<'data>>(file: &object::File<'data, R>, name: &str) -> Option<Section> {
    let section = file.section_by_name(name).filter(|section| section.size() <= TABLE_BYTES_MAX)?;
    Some(Section { address: section.address(), bytes: section.data().ok()?.into() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_cannot_have_more_read_of_it_than_there_is_memory_for() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let mut program = fs::read("/proc/self/exe").unwrap();
        let is_read = |path: &Path| Tables::read(&files::find(path, Links::Followed).unwrap()).is_some();
        fs::write(&path, &program).unwrap();
        assert!(is_read(path.path()));
        // The table of sections goes to the end. Its number is not in the header but in its first entry, of 64 bytes as
        // each, so that it can be any.
        let number = |at: usize| u64::from_le_bytes(program[at..at + 8].try_into().unwrap());
        let (sections, count) = (number(40) as usize, u64::from(number(60) as u16));
        let at = program.len().next_multiple_of(8);
        let table = program[sections..sections + 64 * count as usize].to_vec();
        program.resize(at, 0);
        program.extend(table);
        program[40..48].copy_from_slice(&(at as u64).to_le_bytes());
        program[60..62].fill(0);
        for (count, can_be) in [(count, true), (READ_BYTES_MAX / 64 + 1, false)] {
            program[at + 32..at + 40].copy_from_slice(&count.to_le_bytes());
            fs::write(&path, &program).unwrap();
            // A hole, for which there are bytes in the file but not on the disk.
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(at as u64 + 64 * (count + 1)).unwrap();
            assert_eq!(is_read(path.path()), can_be, "{count} sections");
        }
    }
}
