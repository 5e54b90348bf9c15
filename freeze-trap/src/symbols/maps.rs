//! Where the code of the watched processes is mapped. Read by the caller while the service is healthy, asked by
//! `symbols` when a capture is over.
//!
//! Invariant: only [`MapsCache::read`] opens `/proc/PID/maps`, which takes the mmap_lock of that process for reading;
//! everything else works on what was read then, also when the process is gone.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{self, Links};
use super::perf_map::PerfMapFile;
use super::tables::Tables;

/// What tells a file from another one that later has the same path: device, inode, and when its bytes changed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    modified_ns: i128,
}

impl Identity {
    /// That of the regular file that is at a path now.
    pub(super) fn of(path: &Path) -> Option<Identity> {
        fs::metadata(path).ok().filter(Metadata::is_file).map(|file| Identity::from(&file))
    }

    /// Whether it is that of this file.
    pub(super) fn is_of(self, file: &File) -> bool {
        file.metadata().is_ok_and(|file| Identity::from(&file) == self)
    }
}

impl From<&Metadata> for Identity {
    fn from(file: &Metadata) -> Self {
        let modified_ns = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
        Identity { device: file.dev(), inode: file.ino(), modified_ns }
    }
}

/// A file with code in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CodeFile {
    /// Where this process finds it.
    pub(super) path: PathBuf,
    /// Its name without directories.
    pub(super) module: String,
    /// `None` if it could not be found when the maps were read.
    pub(super) identity: Option<Identity>,
}

/// What a mapping with code shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The file of this index.
    File(usize),
    /// Code that the kernel lends to programs.
    Vdso,
    /// Memory that the program wrote code to.
    Memory,
}

/// One mapping that may be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    /// Where in the file it begins, in bytes.
    offset: u64,
    origin: Origin,
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) origin: Origin,
    /// In bytes from the start of the file.
    pub(super) offset: u64,
}

/// The code of one process.
#[derive(Clone, Debug, Default)]
pub(super) struct Maps {
    /// By rising address.
    mappings: Vec<Mapping>,
    files: Vec<CodeFile>,
    /// Of each file, once they were read.
    tables: Vec<Option<Arc<Tables>>>,
    /// Where the program itself may write names of code that it makes while it runs.
    pub(super) perf_map: Option<PerfMapFile>,
}

impl Maps {
    /// From the text of `/proc/PID/maps`; files are found from `root`, `program` is found instead of the file of the
    /// inode that it is given with, if that was deleted.
    fn parse(text: &str, root: &Root, program: Option<(u64, &Path)>) -> Maps {
        let mut maps = Maps::default();
        let mut known: HashMap<&str, usize> = HashMap::new();
        for line in text.lines() {
            let Some((mapping, inode, path)) = parse_line(line) else { continue };
            let origin = match path {
                "[vdso]" => Origin::Vdso,
                path if path.starts_with('/') && !path.starts_with("/memfd:") => {
                    Origin::File(*known.entry(path).or_insert_with(|| {
                        maps.files.push(code_file(path, inode, root, program.filter(|(own, _)| *own == inode)));
                        maps.files.len() - 1
                    }))
                }
                "[vsyscall]" => continue,
                _ => Origin::Memory,
            };
            maps.mappings.push(Mapping { origin, ..mapping });
        }
        maps.mappings.sort_by_key(|mapping| mapping.start);
        maps
    }

    /// Where an address is; `None` outside of code.
    pub(super) fn place(&self, address: u64) -> Option<Place> {
        let after = self.mappings.partition_point(|mapping| mapping.start <= address);
        let mapping = self.mappings.get(after.checked_sub(1)?)?;
        let inside = address < mapping.end;
        inside.then(|| Place { origin: mapping.origin, offset: address - mapping.start + mapping.offset })
    }

    /// Start and end of each mapping, where in its file it begins, and what it shows.
    pub(super) fn code(&self) -> impl Iterator<Item = ((u64, u64), u64, Origin)> {
        self.mappings.iter().map(|mapping| ((mapping.start, mapping.end), mapping.offset, mapping.origin))
    }

    /// Whether the same is mapped at the same places.
    pub(super) fn is_same_code(&self, other: &Maps) -> bool {
        self.mappings == other.mappings && self.files == other.files
    }

    fn read_tables(&mut self) {
        let of = |file: &CodeFile| file.identity.map(|identity| Tables::of(&file.path, identity));
        self.tables = self.files.iter().map(of).collect();
    }

    /// What the file of an index says of its functions' frames.
    pub(super) fn tables(&self, index: usize) -> Option<&Tables> {
        self.tables.get(index)?.as_deref()
    }

    /// Opens the file of an index; `None` if it may not be read, or is not what it was when the maps were read.
    pub(super) fn open(&self, index: usize) -> Option<File> {
        if let Some(kept) = self.tables(index).and_then(Tables::kept) {
            return files::open(kept).ok();
        }
        let CodeFile { path, identity, .. } = self.file(index);
        let found = files::find(path, Links::Followed).ok()?;
        if identity.is_some_and(|identity| identity.is_of(&found)) { files::open(&found).ok() } else { None }
    }

    /// The file of an index.
    pub(super) fn file(&self, index: usize) -> &CodeFile {
        &self.files[index]
    }

    /// The name of the file or area that a place is in.
    pub(super) fn module(&self, origin: Origin) -> &str {
        match origin {
            Origin::File(index) => &self.files[index].module,
            Origin::Vdso => "[vdso]",
            Origin::Memory => "[memory]",
        }
    }

    /// Whether the program brings no C library as a file of its own.
    pub(super) fn is_static(&self) -> bool {
        !self.files.iter().any(|file| is_c_library(&file.module))
    }
}

/// Whether a file is the C library, or a part of it, by its name.
pub(super) fn is_c_library(module: &str) -> bool {
    ["libc.so.", "libc-", "libc.musl-", "ld-musl", "libpthread.so", "libpthread-"]
        .iter()
        .any(|start| module.starts_with(start))
}

fn code_file(path: &str, inode: u64, root: &Root, program: Option<(u64, &Path)>) -> CodeFile {
    let kept = path.strip_suffix(" (deleted)");
    let module = kept.unwrap_or(path).rsplit('/').next().unwrap_or_default().to_owned();
    if let (Some(_), Some((_, program))) = (kept, program) {
        return CodeFile { identity: Identity::of(program), path: program.to_owned(), module };
    }
    let is_it = |identity: &Identity| identity.inode == inode;
    let theirs = PathBuf::from(format!("{}{path}", root.prefix));
    let identity = Identity::of(&theirs);
    if !root.prefix.is_empty() && !identity.as_ref().is_some_and(is_it) {
        // One that has only changed its root has paths from before.
        let identity = Identity::of(Path::new(path)).filter(is_it);
        if identity.is_some() {
            return CodeFile { identity, path: PathBuf::from(path), module };
        }
    }
    CodeFile { identity: identity.filter(|identity| !root.is_guessed || is_it(identity)), path: theirs, module }
}

/// A mapping with code, the inode of its file and its path; `None` for others.
fn parse_line(line: &str) -> Option<(Mapping, u64, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (access, rest) = rest.split_once(' ')?;
    let (offset, rest) = rest.split_once(' ')?;
    let (_device, rest) = rest.split_once(' ')?;
    let (inode, path) = rest.split_once(' ').unwrap_or((rest, ""));
    let (start, end) = range.split_once('-')?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    let (start, end, offset) = (number(start)?, number(end)?, number(offset)?);
    let mapping = Mapping { start, end, offset, origin: Origin::Memory };
    let is_code = access.as_bytes().get(2) == Some(&b'x') && start < end;
    is_code.then_some((mapping, inode.parse().ok()?, path.trim_start()))
}

/// Where the files of a process are.
#[derive(Debug, Default)]
struct Root {
    /// What is before a path of the process when this one opens it: nothing if both see the same files.
    prefix: String,
    /// It may see other files than this one, which is not told: only what has the right inode is the same file.
    is_guessed: bool,
}

impl Root {
    fn of(pid: i32) -> Root {
        let namespace = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/mnt")).ok().map(|of| (of.dev(), of.ino()));
        let Some(its) = namespace(&pid.to_string()) else {
            return Root { prefix: String::new(), is_guessed: true };
        };
        let is_same = namespace("self") == Some(its);
        let prefix = if is_same { String::new() } else { format!("/proc/{pid}/root") };
        Root { prefix, is_guessed: false }
    }
}

/// The number of a process as it knows itself, and the user that it acts as.
fn own_number_and_user(pid: i32) -> Option<(i32, u32)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::split_whitespace);
    // The number in each namespace, the innermost last; the user: real, effective, and others.
    Some((of("NSpid:")?.last()?.parse().ok()?, of("Uid:")?.nth(1)?.parse().ok()?))
}

/// The maps of several processes. Memory: some ten kilobytes for each.
#[derive(Debug, Default)]
pub struct MapsCache {
    processes: HashMap<i32, Maps>,
}

impl MapsCache {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the maps of a process, in place of what was known of it. To be called while the service is healthy, for it
    /// takes its mmap_lock for reading, several times for short; never in a freeze. A process that has ended, or that
    /// has no memory any more, keeps what was known. Reads from the files of code that no process is known of yet.
    /// # Errors
    /// The file cannot be read: the process is gone (`NotFound`), or belongs to another user (`PermissionDenied`), for
    /// which CAP_PERFMON is needed, before Linux 6.15 CAP_SYS_PTRACE.
    pub fn read(&mut self, pid: i32) -> io::Result<()> {
        let text = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        if text.is_empty() {
            return Ok(());
        }
        let root = Root::of(pid);
        let program = PathBuf::from(format!("/proc/{pid}/exe"));
        let inode = fs::metadata(&program).ok().map(|file| file.ino());
        let mut maps = Maps::parse(&text, &root, inode.map(|inode| (inode, program.as_path())));
        let known = own_number_and_user(pid).filter(|(own, _)| !root.is_guessed || *own == pid);
        maps.perf_map = known.map(|(own, uid)| {
            let path = PathBuf::from(format!("{}/tmp/perf-{own}.map", root.prefix));
            PerfMapFile { path, uid }
        });
        maps.read_tables();
        self.processes.insert(pid, maps);
        Ok(())
    }

    /// Takes over what another cache knows, in place of what was known of the same processes.
    pub fn absorb(&mut self, other: MapsCache) {
        self.processes.extend(other.processes);
    }

    /// Drops the processes that are not among these.
    pub fn forget_all_but(&mut self, pids: &[i32]) {
        self.processes.retain(|pid, _| pids.contains(pid));
    }

    /// Whether something is known of a process.
    #[must_use]
    pub fn knows(&self, pid: i32) -> bool {
        self.processes.contains_key(&pid)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (i32, &Maps)> {
        self.processes.iter().map(|(pid, maps)| (*pid, maps))
    }

    pub(super) fn get(&self, pid: i32) -> Option<&Maps> {
        self.processes.get(&pid)
    }

    #[cfg(test)]
    pub(super) fn set_tables(&mut self, pid: i32, index: usize, tables: Tables) {
        let maps = self.processes.get_mut(&pid).expect("it was inserted");
        maps.tables.resize(maps.files.len(), None);
        maps.tables[index] = Some(Arc::new(tables));
    }

    #[cfg(test)]
    pub(super) fn insert(&mut self, pid: i32, text: &str) {
        self.processes.insert(pid, Maps::parse(text, &Root::default(), None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
55d0c0000000-55d0c0010000 r--p 00000000 fe:01 100                        /opt/app/index server
55d0c0010000-55d0c0090000 r-xp 00010000 fe:01 100                        /opt/app/index server
55d0c0090000-55d0c00a0000 rw-p 00090000 fe:01 100                        /opt/app/index server
7f0000000000-7f0000001000 r-xp 00000000 00:00 0 
7f0000100000-7f0000200000 r-xp 00026000 fe:01 200                        /lib/x86_64-linux-gnu/libc.so.6
7f0000300000-7f0000400000 r-xp 00000000 fe:01 300                        /opt/app/plugin.so (deleted)
7f0000500000-7f0000600000 rwxs 00000000 00:01 400                        /memfd:code (deleted)
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
not a mapping
";

    #[test]
    fn an_address_is_found_in_its_file() {
        let maps = Maps::parse(TEXT, &Root::default(), None);
        let at = |address| maps.place(address).map(|place| (maps.module(place.origin), place.offset));
        assert_eq!(at(0x55d0_c001_0000), Some(("index server", 0x10000)));
        assert_eq!(at(0x55d0_c008_ffff), Some(("index server", 0x8ffff)));
        assert_eq!(at(0x7f00_0010_0010), Some(("libc.so.6", 0x26010)));
        assert_eq!(at(0x7f00_0030_0000), Some(("plugin.so", 0)));
        assert_eq!(at(0x7f00_0000_0fff), Some(("[memory]", 0xfff)));
        assert_eq!(at(0x7f00_0050_0000), Some(("[memory]", 0)));
        assert_eq!(at(0x7ffd_0000_0000), Some(("[vdso]", 0)));
        for outside in [0, 0x55d0_c000_0000, 0x55d0_c009_0000, 0x7f00_0000_1000, 0xffff_ffff_ff60_0000, u64::MAX] {
            assert_eq!(at(outside), None, "{outside:x}");
        }
        assert!(!maps.is_static());
    }

    #[test]
    fn paths_lead_through_the_root_of_the_process_and_a_deleted_program_through_its_link() {
        let program = Path::new("/proc/7/exe");
        let maps = Maps::parse(TEXT, &Root { prefix: "/proc/7/root".into(), is_guessed: false }, Some((300, program)));
        let paths: Vec<_> = maps.files.iter().map(|file| file.path.to_str().unwrap()).collect();
        let libc = "/proc/7/root/lib/x86_64-linux-gnu/libc.so.6";
        assert_eq!(paths, ["/proc/7/root/opt/app/index server", libc, "/proc/7/exe"]);
    }

    #[test]
    fn where_the_root_is_a_guess_another_file_of_the_same_path_is_not_taken() {
        let own = std::env::current_exe().unwrap();
        let inode = fs::metadata(&own).unwrap().ino();
        let root = Root { prefix: String::new(), is_guessed: true };
        for (inode, is_it) in [(inode, true), (inode + 1, false)] {
            let text = format!("1000-2000 r-xp 00000000 fe:01 {inode} {}\n", own.display());
            let maps = Maps::parse(&text, &root, None);
            assert_eq!(maps.files[0].identity.is_some(), is_it);
        }
    }

    #[test]
    fn what_is_known_of_a_process_outlives_it() {
        let mut cache = MapsCache::new();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id() as i32;
        // A program that has just been started is mapped piece by piece.
        while cache.get(pid).is_none_or(|maps| maps.mappings.len() < 2) {
            cache.read(pid).unwrap();
        }
        child.kill().unwrap();
        // A zombie has no maps; one that was waited for has no file.
        while !fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().is_empty() {
            std::thread::yield_now();
        }
        cache.read(pid).unwrap();
        child.wait().unwrap();
        assert_eq!(cache.read(pid).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(cache.knows(pid) && !cache.get(pid).unwrap().mappings.is_empty());
        cache.forget_all_but(&[]);
        assert!(!cache.knows(pid));
    }
}
