//! What a file of code says of the frames of its functions, for `unwind`: the tables that compilers write for
//! exceptions. Read with the maps of a process, and kept as long as some process is known that uses the file.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use framehop::{ExplicitModuleSectionInfo, Module};
use object::read::{ReadCache, ReadRef};
use object::{Object, ObjectSection, ObjectSegment, SegmentFlags, elf};

use super::maps::Identity;

/// A file with a larger table is left out, to bound the memory.
const TABLE_BYTES_MAX: u64 = 64 << 20;

type Known = HashMap<(PathBuf, Identity), Weak<Tables>>;

/// Files in use.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// What one file says of its frames.
#[derive(Default)]
pub(super) struct Tables {
    /// Where its code is in the file: offset, length, and the address that it is linked for.
    code: Vec<(u64, u64, u64)>,
    frames: Option<Section>,
    index: Option<Section>,
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
        let key = (path.to_owned(), identity);
        if let Some(tables) = known.get(&key).and_then(Weak::upgrade) {
            return tables;
        }
        let is_same = Identity::of(path) == Some(identity);
        let tables = Arc::new(is_same.then(|| Tables::read(path)).flatten().unwrap_or_default());
        known.retain(|_, tables| tables.strong_count() > 0);
        known.insert(key, Arc::downgrade(&tables));
        tables
    }

    fn read(path: &Path) -> Option<Tables> {
        let cache = ReadCache::new(File::open(path).ok()?);
        let file = object::File::parse(&cache).ok()?;
        let is_code = |flags| matches!(flags, SegmentFlags::Elf { p_flags } if p_flags & elf::PF_X != 0);
        let code = file.segments().filter(|segment| is_code(segment.flags())).map(|segment| {
            let (offset, bytes) = segment.file_range();
            (offset, bytes, segment.address())
        });
        Some(Tables {
            code: code.collect(),
            frames: section(&file, ".eh_frame"),
            index: section(&file, ".eh_frame_hdr"),
        })
    }

    /// A mapping of the file, as the unwinder wants it.
    pub(super) fn module(&self, range: (u64, u64), offset: u64) -> Option<Module<Arc<[u8]>>> {
        let frames = self.frames.clone()?;
        let (start, _, address) = *self.code.iter().find(|(start, bytes, _)| {
            // The kernel maps whole pages.
            start & !0xfff <= offset && offset < start + bytes
        })?;
        let linked = address.wrapping_add(offset.wrapping_sub(start));
        let base = range.0.wrapping_sub(linked);
        let span = |section: &Section| section.address..section.address + section.bytes.len() as u64;
        let info = ExplicitModuleSectionInfo {
            eh_frame_svma: Some(span(&frames)),
            eh_frame: Some(frames.bytes),
            eh_frame_hdr_svma: self.index.as_ref().map(span),
            eh_frame_hdr: self.index.as_ref().map(|index| Arc::clone(&index.bytes)),
            ..Default::default()
        };
        Some(Module::new(String::new(), range.0..range.1, base, info))
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let bytes = self.frames.as_ref().map_or(0, |section| section.bytes.len());
        formatter.debug_struct("Tables").field("bytes", &bytes).finish_non_exhaustive()
    }
}

fn section<'data, R: ReadRef<'data>>(file: &object::File<'data, R>, name: &str) -> Option<Section> {
    let section = file.section_by_name(name).filter(|section| section.size() <= TABLE_BYTES_MAX)?;
    Some(Section { address: section.address(), bytes: section.data().ok()?.into() })
}
