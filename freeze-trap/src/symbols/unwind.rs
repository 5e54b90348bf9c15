//! Finds the callers of a thread from the top of its stack, by what compilers write down for exceptions (`.eh_frame`):
//! most programs are built without frame pointers, so that the kernel sees their leaf and little more. Called by
//! sources that see registers and memory of stacks, for each interval that they tell.
//!
//! Invariant: nothing is read here, neither of a process nor of a file: all comes from [`MapsCache`]. No address is
//! made up: each is on the stack where a caller's has to be. Tables that are nonsense end no thread of the trap.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
    /// False once its tables have turned out to be nonsense.
    is_usable: bool,
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
                let unwinder = guarded(|| unwinder_of(maps));
                let is_usable = unwinder.is_some();
                let process = Process { maps: maps.clone(), unwinder: unwinder.unwrap_or_default(), is_usable };
                self.processes.insert(pid, process);
            }
        }
    }

    /// The addresses of a stack, the leaf first; `None` if not even the leaf's caller is found. Where the words end,
    /// those that the kernel found by frame pointers go on, if they are of the same chain.
    pub(crate) fn walk(&mut self, pid: i32, top: &Top, by_frame_pointer: &[u64]) -> Option<&[u64]> {
        let Unwinder { processes, cache, chain } = self;
        let process = processes.get_mut(&pid).filter(|process| process.is_usable)?;
        match guarded(|| process.walk(cache, chain, top, by_frame_pointer)) {
            Some(is_found) => is_found.then_some(chain),
            None => {
                process.is_usable = false;
                *cache = CacheX86_64::default();
                None
            }
        }
    }
}

impl Process {
    /// Puts the addresses into a chain. Gives whether the leaf's caller is found.
    fn walk(&self, cache: &mut CacheX86_64, chain: &mut Vec<u64>, top: &Top, by_frame_pointer: &[u64]) -> bool {
        let mut read = |address: u64| {
            let offset = address.checked_sub(top.sp).filter(|offset| offset % WORD_BYTES == 0).ok_or(())?;
            top.words.get((offset / WORD_BYTES) as usize).copied().ok_or(())
        };
        chain.clear();
        let registers = UnwindRegsX86_64::new(top.ip, top.sp, top.bp);
        let mut frames = self.unwinder.iter_frames(top.ip, registers, cache, &mut read);
        let mut is_cut = false;
        while chain.len() < FRAMES_MAX {
            match frames.next() {
                Ok(Some(frame)) if is_file(&self.maps, frame.address_for_lookup()) => chain.push(frame.address()),
                Ok(_) => break,
                Err(_) => {
                    is_cut = true;
                    break;
                }
            }
        }
        let Some(last) = chain.last().filter(|_| chain.len() >= 2) else { return false };
        if is_cut && let Some(at) = by_frame_pointer.iter().position(|address| address == last) {
            chain.extend_from_slice(&by_frame_pointer[at + 1..]);
        }
        true
    }
}

/// What comes out of work on tables that a watched process has written; `None`, with a message of the panic, if they
/// are such that it fails.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    // Whatever is left half changed is thrown away by the caller.
    catch_unwind(AssertUnwindSafe(work)).ok()
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

#[cfg(test)]
mod tests {
    use super::super::tables::Tables;
    use super::*;

    /// Walks a stack in a process whose program has these tables.
    fn walked(unwinder: &mut Unwinder, tables: Tables) -> Option<usize> {
        let mut cache = MapsCache::new();
        cache.insert(1, "1000-3000 r-xp 00000000 00:01 1 /opt/app\n");
        cache.set_tables(1, 0, tables);
        unwinder.learn(&cache);
        let top = Top { ip: 0x1100, sp: 0x8000, bp: 0x8010, words: &[0x1200; 16] };
        unwinder.walk(1, &top, &[]).map(<[u64]>::len)
    }

    #[test]
    fn a_program_that_says_it_is_where_it_cannot_be_is_survived() {
        // The first of these is above all memory; the last ends there.
        for address in [u64::MAX - 0x10_0000, 0x1000, u64::MAX - 8] {
            let tables = Tables::of_parts((0, 0x2000, address), (u64::MAX - 8, vec![0; 64]));
            let _ = walked(&mut Unwinder::default(), tables);
            let tables = Tables::of_parts((0, 0x2000, address), (address - 0x1000, vec![0xff; 64]));
            let _ = walked(&mut Unwinder::default(), tables);
        }
        let tables = Tables::of_parts((0xfff, u64::MAX - 1, 0), (0, vec![0; 64]));
        assert_eq!(walked(&mut Unwinder::default(), tables), Some(2), "frame pointers lead on");
    }

    /// Frames of all functions, for code that is linked for 0x1000, whose caller's stack begins at so many bytes from
    /// the function's.
    fn frames(cfa_offset: u8) -> Vec<u8> {
        // A common entry with augmentation "zR", absolute addresses, the return address below the caller's stack.
        let mut bytes = vec![20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0, 0x0c, 7, 8, 0x90, 1, 0, 0];
        bytes.extend([28, 0, 0, 0, 28, 0, 0, 0]);
        bytes.extend([0x1000_u64, 0x2000].map(u64::to_le_bytes).concat());
        // DW_CFA_def_cfa_offset.
        bytes.extend([0, 0x0e, cfa_offset, 0, 0, 0, 0, 0]);
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn tables_over_which_the_unwinder_fails_are_not_used_again() {
        let mut cache = MapsCache::new();
        cache.insert(1, "1000-3000 r-xp 00000000 00:01 1 /opt/app\n");
        let mut walked = |cfa_offset: u8, sp: u64| {
            cache.set_tables(1, 0, Tables::of_parts((0, 0x2000, 0x1000), (0x1800, frames(cfa_offset))));
            let mut unwinder = Unwinder::default();
            unwinder.learn(&cache);
            let top = Top { ip: 0x1100, sp, bp: 0, words: &[0x1200; 4] };
            let chain = unwinder.walk(1, &top, &[]).map(<[u64]>::to_vec);
            (chain, unwinder.processes[&1].is_usable)
        };
        assert_eq!(walked(8, 0x8000), (Some(vec![0x1100, 0x1200, 0x1200, 0x1200, 0x1200]), true));
        // The caller's stack begins before all memory. Where overflows are not checked, it is elsewhere, and empty.
        assert_eq!(walked(0, 0), (None, !cfg!(debug_assertions)));
    }
}
