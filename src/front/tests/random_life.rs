//! Random lives of whole engines: what is live keeps its contents, no memory is purged twice without use in between,
//! and in the end nothing is warm, busy or lost.
//!
//! Method: real memory in small amounts; the fake kernel reports each purge and each fault to a book of what is live
//! and what is clean. proptest prints and shrinks what fails.

extern crate std;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::vec;

use proptest::prelude::*;

use super::*;
use crate::governor::{Purpose, Ticket};
use crate::os::Range;

/// One step. Indices are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Allocate { bytes: usize, zeroed: bool },
    Free { block: usize, remotely: bool },
    Reallocate { block: usize, bytes: usize },
    Ask { bytes: usize },
    AskForMany { bytes: usize },
    Cancel(usize),
    LetGo(usize),
    Purge { bytes: u64 },
    Pressure(bool),
    Refuse { calls: usize },
    PurgeScattered { ranges_max: usize },
    Fork { with_piece: bool },
    Live { millis: u64 },
}

fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 1..(512_usize << 10),
        4 => (512_usize << 10)..(6 * MIB),
        1 => (32 * MIB)..(40 * MIB),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (bytes(), any::<bool>()).prop_map(|(bytes, zeroed)| Step::Allocate { bytes, zeroed }),
        8 => (any::<usize>(), any::<bool>()).prop_map(|(block, remotely)| Step::Free { block, remotely }),
        4 => (any::<usize>(), bytes()).prop_map(|(block, bytes)| Step::Reallocate { block, bytes }),
        2 => ((32 * MIB)..(40 * MIB)).prop_map(|bytes| Step::Ask { bytes }),
        2 => (1..(10 * MIB)).prop_map(|bytes| Step::AskForMany { bytes }),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::LetGo),
        1 => (0_u64..(50 << 20)).prop_map(|bytes| Step::Purge { bytes }),
        1 => any::<bool>().prop_map(Step::Pressure),
        1 => (1_usize..4).prop_map(|calls| Step::Refuse { calls }),
        1 => (0_usize..4).prop_map(|ranges_max| Step::PurgeScattered { ranges_max }),
        1 => any::<bool>().prop_map(|with_piece| Step::Fork { with_piece }),
        8 => prop_oneof![0_u64..5, 5_u64..500, 500_u64..8_000].prop_map(|millis| Step::Live { millis }),
    ]
}

/// What is live, by address, and which chunks were purged and not used since.
#[derive(Default)]
struct Book {
    live: BTreeMap<usize, usize>,
    clean: BTreeSet<usize>,
}

fn chunks(base: usize, bytes: usize) -> impl Iterator<Item = usize> {
    base / CHUNK_BYTES..(base + bytes).div_ceil(CHUNK_BYTES)
}

impl Book {
    fn note_purge(&mut self, range: Range) {
        let (base, bytes) = (range.base.addr().get(), range.bytes);
        assert!(base.is_multiple_of(CHUNK_BYTES) && bytes.is_multiple_of(CHUNK_BYTES));
        let live = self.live.range(..base + bytes).next_back();
        assert!(live.is_none_or(|(start, length)| start + length <= base), "{live:?} lies in {range:?}");
        for chunk in chunks(base, bytes) {
            assert!(self.clean.insert(chunk), "chunk {chunk:#x} was purged before");
        }
    }

    fn note_use(&mut self, base: usize, bytes: usize) {
        for chunk in chunks(base, bytes) {
            self.clean.remove(&chunk);
        }
    }
}

#[derive(Clone, Copy)]
struct Block {
    start: *mut u8,
    bytes: usize,
    tag: u8,
}

impl Block {
    /// Offsets that are written and checked.
    fn places(self, bytes: usize) -> impl Iterator<Item = usize> {
        (0..bytes).step_by(10 * MIB).chain([bytes - 1])
    }

    fn write(self) {
        // SAFETY: the block is live and `bytes` long.
        self.places(self.bytes).for_each(|place| unsafe { self.start.add(place).write(self.tag) });
    }

    fn check(self, bytes: usize, expected: u8) {
        for place in self.places(bytes).filter(|place| *place < bytes) {
            // SAFETY: the block is live and at least `bytes` long.
            assert_eq!(unsafe { self.start.add(place).read() }, expected, "at {place} of {bytes}");
        }
    }
}

struct Life {
    engine: TestEngine,
    heap: &'static Heap,
    other: &'static Heap,
    book: Arc<Mutex<Book>>,
    blocks: Vec<Block>,
    tickets: Vec<Ticket>,
    tag: u8,
}

impl Life {
    fn new(commit: Commit) -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        let (purged, used) = (book.clone(), book.clone());
        let mut os = FakeOs::new();
        os.purge_cost = Some(Box::new(move |range| {
            purged.lock().unwrap().note_purge(range);
            0
        }));
        os.on_fault_in =
            Some(Box::new(move |range| used.lock().unwrap().note_use(range.base.addr().get(), range.bytes)));
        let mut options = Options::new();
        options.commit = commit;
        // Engines are leaked, and addresses run out.
        options.reservation = Some(64 << 30);
        options.prewarm_hold = Some(Nanos::from_millis(20_000));
        let (engine, heap) = started_with(os, options);
        let other = engine.acquire_heap().unwrap();
        Life { engine, heap, other, book, blocks: Vec::new(), tickets: Vec::new(), tag: 0 }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    fn add(&mut self, start: *mut u8, bytes: usize) {
        self.tag = self.tag.wrapping_add(1).max(1);
        let block = Block { start, bytes, tag: self.tag };
        block.write();
        let usable = usable_bytes(self.engine, start.addr(), "test");
        let mut book = self.book();
        book.note_use(start.addr(), usable);
        book.live.insert(start.addr(), bytes);
        drop(book);
        self.blocks.push(block);
    }

    /// Takes a block off the list, after a look at its contents.
    fn take(&mut self, index: usize) -> Option<Block> {
        let index = index.checked_rem(self.blocks.len())?;
        let block = self.blocks.swap_remove(index);
        block.check(block.bytes, block.tag);
        self.book().live.remove(&block.start.addr());
        Some(block)
    }

    fn reallocate(&mut self, block: Block, bytes: usize) {
        let start = NonNull::new(block.start).unwrap();
        // SAFETY: the block is live with this layout, and forgotten unless the result is null.
        let moved = unsafe { reallocate(self.engine, self.heap, start, layout(block.bytes), bytes) };
        if moved.is_null() {
            self.add(block.start, block.bytes);
        } else {
            let common = block.bytes.min(bytes);
            let kept = block.places(block.bytes).filter(|place| *place < common);
            // SAFETY: the block is live and holds at least `common` bytes.
            kept.for_each(|place| assert_eq!(unsafe { moved.add(place).read() }, block.tag, "at {place}"));
            self.add(moved, bytes);
        }
    }

    fn set_pressure(&self, short: bool) {
        let kib = if short { 1 << 10 } else { 30 << 20 };
        let text = std::format!("MemTotal: 33554432 kB\nMemFree: 0 kB\nMemAvailable: {kib} kB\n");
        os(self.engine).files.set("/proc/meminfo", text);
    }

    fn ask(&mut self, purpose: Purpose, bytes: usize) {
        let wanted = bytes.next_multiple_of(CHUNK_BYTES) as u64;
        self.tickets.extend(self.engine.arena().governor().requests().make(purpose, wanted));
    }

    fn act(&mut self, step: Step) {
        let (engine, heap) = (self.engine, self.heap);
        let requests = engine.arena().governor().requests();
        match step {
            Step::Allocate { bytes, zeroed } => {
                let start = if zeroed { allocate_zeroed } else { allocate }(engine, heap, layout(bytes));
                if !start.is_null() {
                    if zeroed {
                        Block { start, bytes, tag: 0 }.check(bytes, 0);
                    }
                    self.add(start, bytes);
                }
            }
            Step::Free { block, remotely } => {
                if let Some(block) = self.take(block) {
                    free(engine, if remotely { self.other } else { heap }, block.start);
                }
            }
            Step::Reallocate { block, bytes } => {
                if let Some(block) = self.take(block) {
                    self.reallocate(block, bytes);
                }
            }
            Step::Ask { bytes } => self.ask(Purpose::OneBlock, bytes),
            Step::AskForMany { bytes } => self.ask(Purpose::ManyBlocks, bytes),
            Step::Cancel(ticket) => {
                if let Some(index) = ticket.checked_rem(self.tickets.len()) {
                    requests.cancel(self.tickets[index]);
                }
            }
            Step::LetGo(ticket) => {
                if let Some(index) = ticket.checked_rem(self.tickets.len()) {
                    requests.let_go(self.tickets.swap_remove(index));
                }
            }
            Step::Purge { bytes } => engine.arena().governor().ask(bytes),
            Step::Pressure(short) => self.set_pressure(short),
            Step::Refuse { calls } => os(engine).fail_next(calls),
            Step::PurgeScattered { ranges_max } => {
                os(engine).scatter_ranges_max.store(ranges_max, Ordering::SeqCst);
            }
            Step::Fork { with_piece } => {
                // The parent's worker may have had a piece in hand.
                let _piece = if with_piece { take_piece(engine) } else { None };
                engine.after_fork_in_child();
            }
            Step::Live { millis } => {
                live(engine, Nanos::from_millis(millis));
            }
        }
    }

    fn end(mut self) {
        self.set_pressure(false);
        os(self.engine).fail_from.store(usize::MAX, Ordering::SeqCst);
        while let Some(block) = self.take(0) {
            free(self.engine, self.heap, block.start);
        }
        let requests = self.engine.arena().governor().requests();
        self.tickets.drain(..).for_each(|ticket| requests.let_go(ticket));
        self.engine.release_heap(self.other);
        self.engine.release_heap(self.heap);
        assert_all_back(self.engine, "in the end");
        for reservation in self.engine.arena().reservations() {
            for room in reservation.rooms.used_rooms() {
                let busy = reservation.rooms.state(room).unwrap().is_busy();
                assert!(!busy && !reservation.rooms.kept(room).0, "{room:?} is busy or kept");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_live_stays_and_the_rest_comes_back(
        stepped in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut life = Life::new(if stepped { Commit::Stepped } else { Commit::Ready });
        steps.into_iter().for_each(|step| life.act(step));
        life.end();
    }
}
