//! Finds the callers of a thread from the top of its stack, by what compilers write down for exceptions (`.eh_frame`):
//! most programs are built without frame pointers, so that the kernel sees their leaf and little more. Called by
//! sources that see registers and memory of stacks, for each interval that they tell.
//!
//! Invariant: nothing is read here, neither of a process nor of a file: all comes from [`MapsCache`]. No address is
//! made up: each is on the stack where a caller's has to be.

use std::collections::HashMap;
use std::sync::Arc;

use framehop::Unwinder as _;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};

use super::MapsCache;
use super::maps::{Maps, Origin};

/// So many callers at most.
const FRAMES_MAX: usize = 64;
const WORD_BYTES: u64 = size_of::<u64>() as u64;

/// Registers, and the words at the stack pointer.
pub(crate) struct Top<'a> {
    pub(crate) ip: u64,
    pub(crate) sp: u64,
    pub(crate) bp: u64,
    pub(crate) words: &'a [u64],
}

/// One process.
struct Process {
    /// What was known when it was learned.
    maps: Maps,
    unwinder: UnwinderX86_64<Arc<[u8]>>,
}

/// What is known of processes.
#[derive(Default)]
pub(crate) struct Unwinder {
    processes: HashMap<i32, Process>,
    cache: CacheX86_64,
    chain: Vec<u64>,
}

impl Unwinder {
    /// Takes over where code is mapped now. Takes some microseconds for a process that has changed, and next to nothing
    /// for others.
    pub(crate) fn learn(&mut self, cache: &MapsCache) {
        self.processes.retain(|pid, _| cache.knows(*pid));
        for (pid, maps) in cache.all() {
            if self.processes.get(&pid).is_none_or(|known| !known.maps.is_same_code(maps)) {
                let process = Process { maps: maps.clone(), unwinder: unwinder_of(maps) };
                self.processes.insert(pid, process);
            }
        }
    }

    /// The addresses of a stack, the leaf first; `None` if not even the leaf's caller is found. Where the words end,
    /// those that the kernel found by frame pointers go on, if they are of the same chain.
    pub(crate) fn walk(&mut self, pid: i32, top: &Top, by_frame_pointer: &[u64]) -> Option<&[u64]> {
        let Process { maps, unwinder } = self.processes.get(&pid)?;
        let mut read = |address: u64| {
            let offset = address.checked_sub(top.sp).filter(|offset| offset % WORD_BYTES == 0).ok_or(())?;
            top.words.get((offset / WORD_BYTES) as usize).copied().ok_or(())
        };
        self.chain.clear();
        let registers = UnwindRegsX86_64::new(top.ip, top.sp, top.bp);
        let mut frames = unwinder.iter_frames(top.ip, registers, &mut self.cache, &mut read);
        let mut is_cut = false;
        while self.chain.len() < FRAMES_MAX {
            match frames.next() {
                Ok(Some(frame)) if is_file(maps, frame.address_for_lookup()) => self.chain.push(frame.address()),
                Ok(_) => break,
                Err(_) => {
                    is_cut = true;
                    break;
                }
            }
        }
        let last = self.chain.last().filter(|_| self.chain.len() >= 2)?;
        if is_cut && let Some(at) = by_frame_pointer.iter().position(|address| address == last) {
            self.chain.extend_from_slice(&by_frame_pointer[at + 1..]);
        }
        Some(&self.chain)
    }
}

fn unwinder_of(maps: &Maps) -> UnwinderX86_64<Arc<[u8]>> {
    let mut unwinder = UnwinderX86_64::new();
    for (range, offset, origin) in maps.code() {
        let Origin::File(index) = origin else { continue };
        if let Some(module) = maps.tables(index).and_then(|tables| tables.module(range, offset)) {
            unwinder.add_module(module);
        }
    }
    unwinder
}

fn is_file(maps: &Maps, address: u64) -> bool {
    maps.place(address).is_some_and(|place| matches!(place.origin, Origin::File(_)))
}
