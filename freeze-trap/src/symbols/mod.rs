//! Names for the addresses of stacks: functions, inlined ones included, with file and line. Called when the window of a
//! capture is over, and before the source is taken down, as the kernel forgets the names of its programs then.
//!
//! Invariant: nothing of the watched processes is opened that takes their mmap_lock; what is mapped where is known from
//! [`MapsCache`], names come from the files on disk.

mod files;
mod kernel;
mod links;
mod maps;
mod perf_map;
mod repair;
mod tables;
pub(crate) mod unwind;

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use blazesym::MaybeDefault;
use blazesym::symbolize::source::{Elf, Kernel, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolizer};

use self::maps::{Identity, Maps, Origin, Place};
use self::perf_map::PerfMap;
use crate::freeze::{Frame, Stack};
use crate::stack::{RawStack, StackId, StackPair, Stacks};

pub use maps::MapsCache;
pub(crate) use repair::is_stub;

/// No program has memory here or above. A program that is built without frame pointers gives such numbers for
/// addresses.
const ADDRESS_END: u64 = 1 << 47;

/// Names that are kept from one capture to the next; all are dropped when there are more. Some 300 bytes each.
const NAMES_MAX: usize = 100_000;

/// Stacks with names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedStacks {
    frames: HashMap<StackId, Box<[Frame]>>,
    unknown: u64,
    all: u64,
}

impl NamedStacks {
    /// Without stacks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stack, its leaf first.
    pub fn insert(&mut self, id: StackId, frames: impl Into<Box<[Frame]>>) {
        let frames = frames.into();
        self.all += frames.len() as u64;
        self.unknown += frames.iter().filter(|frame| is_unknown(frame)).count() as u64;
        self.frames.insert(id, frames);
    }

    /// The kernel's part of a stack; empty if it has none, or was not named.
    #[must_use]
    pub fn kernel(&self, pair: StackPair) -> &[Frame] {
        self.frames_of(pair.kernel)
    }

    /// The program's part, likewise.
    #[must_use]
    pub fn user(&self, pair: StackPair) -> &[Frame] {
        self.frames_of(pair.user)
    }

    fn frames_of(&self, id: Option<StackId>) -> &[Frame] {
        id.and_then(|id| self.frames.get(&id)).map_or(&[], |frames| frames)
    }

    /// Both parts.
    #[must_use]
    pub fn stack(&self, pair: StackPair) -> Stack {
        Stack { kernel: self.kernel(pair).to_vec(), user: self.user(pair).to_vec() }
    }

    /// How many frames of the stacks are not known, and how many there are.
    #[must_use]
    pub fn unknown_frames(&self) -> (u64, u64) {
        (self.unknown, self.all)
    }
}

/// Whether a frame has its address for a name.
#[must_use]
pub fn is_unknown(frame: &Frame) -> bool {
    frame.function.starts_with("0x")
}

/// Frames at one address: more than one if functions were inlined there; none if no function is known.
type Frames = Rc<[Frame]>;

/// The names in one file, by the offset in it.
struct FileNames {
    identity: Identity,
    names: HashMap<u64, Frames>,
}

/// Gives names, and remembers those of programs and libraries.
#[derive(Default)]
pub struct Namer {
    files: HashMap<PathBuf, FileNames>,
}

/// A user stack, with where each of its addresses is.
struct UserStack<'a> {
    id: StackId,
    raw: &'a RawStack,
    maps: &'a Maps,
}

/// Addresses that are to be named in one file.
struct Wanted<'a> {
    identity: Identity,
    maps: &'a Maps,
    /// Of the file in these maps.
    index: usize,
    offsets: BTreeSet<u64>,
}

/// What is known during one call of [`Namer::name`].
#[derive(Default)]
struct Session {
    perf_maps: HashMap<i32, PerfMap>,
    /// Whether the code before a place is a call.
    calls: HashMap<(PathBuf, u64), bool>,
}

impl Namer {
    /// Without names.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names stacks; those of processes whose maps are not known get addresses for names. Takes some tenths of a second
    /// for the kernel's table of names, and as much as the debug information of each file needs; the memory for both is
    /// given back.
    #[must_use]
    pub fn name(&mut self, stacks: &Stacks, ids: impl IntoIterator<Item = StackId>, maps: &MapsCache) -> NamedStacks {
        let ids: BTreeSet<StackId> = ids.into_iter().collect();
        let found = || ids.iter().filter_map(|id| stacks.get(*id).map(|stack| (*id, stack)));
        // A new one each time, as it keeps all it has ever opened.
        let symbolizer = Symbolizer::new();
        let mut named = NamedStacks::new();
        name_kernel(&symbolizer, found().filter(|(_, stack)| stack.pid == 0), &mut named);
        let mut users = Vec::new();
        for (id, raw) in found().filter(|(_, stack)| stack.pid != 0) {
            match maps.get(raw.pid) {
                Some(maps) => users.push(UserStack { id, raw, maps }),
                None => named.insert(id, raw.addresses.iter().map(|at| unknown(*at, "")).collect::<Vec<_>>()),
            }
        }
        self.look_up(&symbolizer, &users);
        let mut session = Session::default();
        for user in &users {
            named.insert(user.id, self.frames_of(user, &mut session));
        }
        named
    }

    /// Makes sure that the names of all addresses are known that can be.
    fn look_up(&mut self, symbolizer: &Symbolizer, users: &[UserStack]) {
        if self.files.values().map(|file| file.names.len()).sum::<usize>() > NAMES_MAX {
            self.files.clear();
        }
        let mut wanted: HashMap<&Path, Wanted> = HashMap::new();
        for user in users {
            let top_word = (user.raw.top_word, user.raw.top_word.saturating_sub(1));
            for (_, look_up) in look_ups(&user.raw.addresses).chain([top_word]) {
                let Some(Place { origin: Origin::File(index), offset }) = user.maps.place(look_up) else { continue };
                let file = user.maps.file(index);
                let Some(identity) = file.identity else { continue };
                let fresh = || Wanted { identity, maps: user.maps, index, offsets: BTreeSet::new() };
                wanted.entry(&file.path).or_insert_with(fresh).offsets.insert(offset);
            }
        }
        for (path, Wanted { identity, maps, index, offsets }) in wanted {
            // One that was replaced since has other functions there.
            let Some(opened) = maps.open(index) else { continue };
            let module = &maps.file(index).module;
            let file = self.files.entry(path.to_owned());
            let file = file.or_insert_with(|| FileNames { identity, names: HashMap::new() });
            if file.identity != identity {
                *file = FileNames { identity, names: HashMap::new() };
            }
            let mut left: Vec<u64> = offsets.into_iter().filter(|offset| !file.names.contains_key(offset)).collect();
            // Debug information may be damaged or packed in a way that is not understood; the symbols are there then.
            for debug_syms in [true, false] {
                if left.is_empty() {
                    break;
                }
                if debug_syms && !links::are_harmless(&opened) {
                    continue;
                }
                let source = Source::Elf(Elf { debug_syms, ..Elf::new(files::path_of(&opened)) });
                let symbols = symbolizer.symbolize(&source, Input::FileOffset(&left)).unwrap_or_default();
                let found = left.iter().zip(&symbols).filter_map(|(offset, symbol)| Some((*offset, symbol.as_sym()?)));
                file.names.extend(found.map(|(offset, symbol)| (offset, frames_of(symbol, module))));
                left.retain(|offset| !file.names.contains_key(offset));
            }
            file.names.extend(left.into_iter().map(|offset| (offset, Rc::from([]))));
        }
    }

    /// The frames at the place of one address; `None` if they are not known.
    fn frames_at(&self, maps: &Maps, place: Place) -> Option<Frames> {
        let Origin::File(index) = place.origin else { return None };
        let file = maps.file(index);
        let names = self.files.get(&file.path).filter(|known| Some(known.identity) == file.identity)?;
        names.names.get(&place.offset).filter(|frames| !frames.is_empty()).cloned()
    }

    /// A user stack with names, and the caller of a system call's stub put back.
    fn frames_of(&self, user: &UserStack, session: &mut Session) -> Vec<Frame> {
        let (raw, maps) = (user.raw, user.maps);
        let leaf = raw.addresses.first().and_then(|leaf| maps.place(*leaf));
        let leaf = leaf.and_then(|place| self.frames_at(maps, place));
        let function = leaf.as_ref().and_then(|frames| frames.last()).map(|frame| frame.function.as_str());
        let leaf = repair::Leaf { maps, addresses: &raw.addresses, top_word: raw.top_word, function };
        let mut addresses: Vec<u64> = raw.addresses.iter().copied().take_while(|at| *at < ADDRESS_END).collect();
        if cfg!(target_arch = "x86_64") && leaf.lacks_caller() && session.is_after_call(maps, raw.top_word) {
            addresses.insert(1, raw.top_word);
        }
        let mut frames = Vec::new();
        for (address, look_up) in look_ups(&addresses) {
            let Some(place) = maps.place(look_up) else {
                frames.push(unknown(address, ""));
                continue;
            };
            let module = maps.module(place.origin);
            match place.origin {
                Origin::File(_) => match self.frames_at(maps, place) {
                    Some(known) => frames.extend(known.iter().cloned()),
                    None => frames.push(unknown(address, module)),
                },
                Origin::Vdso => frames.push(frame("[vdso]", module)),
                Origin::Memory => match session.perf_map(raw.pid, maps).find(look_up) {
                    Some(name) => frames.push(frame(name, module)),
                    None => frames.push(unknown(address, module)),
                },
            }
        }
        frames
    }
}

impl Session {
    fn perf_map(&mut self, pid: i32, maps: &Maps) -> &PerfMap {
        let read = || maps.perf_map.as_ref().map(PerfMap::read).unwrap_or_default();
        self.perf_maps.entry(pid).or_insert_with(read)
    }

    /// Whether the instruction before an address is a call; taken for true where the code cannot be read.
    fn is_after_call(&mut self, maps: &Maps, address: u64) -> bool {
        let Some(Place { origin: Origin::File(index), offset }) = maps.place(address) else { return true };
        let path = &maps.file(index).path;
        *self.calls.entry((path.clone(), offset)).or_insert_with(|| {
            let mut code = [0; repair::CALL_BYTES_MAX];
            let Some(start) = offset.checked_sub(code.len() as u64) else { return false };
            let is_read = maps.open(index).is_some_and(|file| file.read_exact_at(&mut code, start).is_ok());
            !is_read || repair::ends_in_call(&code)
        })
    }
}

/// Each address of a stack with the one to look for: where a function returns to may belong to the next one already, so
/// that callers are looked for one byte before.
fn look_ups(addresses: &[u64]) -> impl Iterator<Item = (u64, u64)> + '_ {
    addresses.iter().enumerate().map(|(at, address)| (*address, address.saturating_sub(u64::from(at > 0))))
}

fn name_kernel<'a>(
    symbolizer: &Symbolizer,
    stacks: impl Iterator<Item = (StackId, &'a RawStack)> + Clone,
    named: &mut NamedStacks,
) {
    let wanted: BTreeSet<u64> =
        stacks.clone().flat_map(|(_, raw)| look_ups(&raw.addresses)).map(|pair| pair.1).collect();
    let wanted: Vec<u64> = wanted.into_iter().collect();
    let mut names: HashMap<u64, String> = HashMap::new();
    if !wanted.is_empty() {
        let source = Source::Kernel(Kernel { vmlinux: MaybeDefault::None, ..Kernel::default() });
        let symbols = symbolizer.symbolize(&source, Input::AbsAddr(&wanted)).unwrap_or_default();
        let known =
            wanted.iter().zip(&symbols).filter_map(|(at, symbol)| Some((*at, symbol.as_sym()?.name.to_string())));
        names.extend(known);
    }
    for (id, raw) in stacks {
        let by_address = look_ups(&raw.addresses)
            .map(|(address, at)| names.get(&at).map_or_else(|| unknown(address, ""), |name| frame(name, "")));
        let by_name = raw.names.iter().map(|name| frame(name, ""));
        let frames: Vec<Frame> = by_name.chain(by_address).collect();
        let cut = kernel::machinery(frames.iter().map(|frame| frame.function.as_str()));
        named.insert(id, &frames[cut..]);
    }
}

fn frame(function: &str, module: &str) -> Frame {
    Frame { function: function.to_owned(), place: None, module: module.to_owned(), inlined: false }
}

fn unknown(address: u64, module: &str) -> Frame {
    frame(&format!("{address:#x}"), module)
}

/// The innermost first.
fn frames_of(symbol: &Sym, module: &str) -> Frames {
    let place = |code: Option<&CodeInfo>| {
        let code = code?;
        let path = code.to_path().display().to_string();
        Some(code.line.map_or_else(|| path.clone(), |line| format!("{path}:{line}")))
    };
    let inlined = symbol.inlined.iter().rev();
    let inlined =
        inlined.map(|one| Frame { place: place(one.code_info.as_ref()), inlined: true, ..frame(&one.name, module) });
    let mut frames: Vec<Frame> =
        inlined.chain([Frame { place: place(symbol.code_info.as_deref()), ..frame(&symbol.name, module) }]).collect();
    // A function with two names is told as inlined into itself.
    let twin = |at: usize| frames[at].inlined && frames[at].function == frames[at + 1].function;
    let twins: Vec<usize> = (0..frames.len() - 1).filter(|at| twin(*at)).collect();
    twins.into_iter().rev().for_each(|at| drop(frames.remove(at)));
    frames.into()
}
