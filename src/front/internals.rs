//! Inner steps that benchmarks reach one by one; not part of the interface. The feature `bench-internals` brings it.

extern crate std;

use core::alloc::Layout;
use core::ptr::NonNull;
use std::boxed::Box;
use std::vec::Vec;

use super::allocate;
use crate::governor::{After, Batch, Piece, Purpose};
use crate::limits::CHUNK_BYTES;
use crate::options::Options;
use crate::os::Os;
use crate::os::fake::{FakeOs, Memory};
use crate::span::size_class::Class;
use crate::thread::engine::Engine;
use crate::thread::heap::Heap;

/// Bytes of the blocks that serve a request, unless it is too large or too aligned for a slab.
pub fn block_bytes(bytes: usize, align_bytes: usize) -> Option<u32> {
    let class = Class::common(bytes, align_bytes).or_else(|| Class::holding_aligned(bytes, align_bytes))?;
    Some(class.shape().block_bytes)
}

/// How many calls it takes to purge pieces of `piece_bytes` at these addresses, as the governor does it: in batches,
/// neighbours together.
pub fn purge_calls(addresses: &[usize], piece_bytes: usize) -> usize {
    let (mut batch, mut calls) = (Batch::new(), 0);
    let mut finish = |batch: &mut Batch| {
        batch.sort();
        calls += batch.ranges().count();
        *batch = Batch::new();
    };
    for (slot, &address) in addresses.iter().enumerate() {
        let Some(base) = NonNull::new(core::ptr::without_provenance_mut(address)) else { continue };
        if !batch.takes(true) {
            finish(&mut batch);
        }
        batch.push(Piece { base, bytes: piece_bytes, huge: true, slot });
    }
    finish(&mut batch);
    calls
}

/// A whole allocator on the fake kernel of the tests: its memory is pretended, its clock is turned by the work, so that
/// what is measured is the governor's own.
pub struct Pretended {
    engine: &'static Engine<FakeOs>,
    heap: &'static Heap,
}

impl Pretended {
    /// One that lives for ever. `None` if the address space is refused.
    pub fn start() -> Option<Self> {
        let mut os = FakeOs::new();
        os.memory = Memory::Pretended { hugepages: true };
        let engine: &'static Engine<FakeOs> = Box::leak(Box::new(Engine::new(os)));
        let mut options = Options::new();
        options.warm_reserve = None;
        let started = engine.start(&options);
        engine.acquire_heap().filter(|_| started).map(|heap| Pretended { engine, heap })
    }

    /// Takes blocks of a chunk each, frees them, and lets the governor work until all is given back. How many rounds it
    /// took; `None` if there was no memory.
    pub fn give_back(&self, chunks: usize) -> Option<usize> {
        let layout = Layout::from_size_align(CHUNK_BYTES, CHUNK_BYTES).ok()?;
        let take = |_| NonNull::new(allocate::allocate(self.engine, self.heap, layout));
        let blocks: Vec<NonNull<u8>> = (0..chunks).map(take).collect::<Option<_>>()?;
        for block in blocks {
            // SAFETY: the block was just taken, and nobody else knows it.
            unsafe { allocate::deallocate(self.engine, self.heap, block.addr().get()) };
        }
        self.work()
    }

    /// Asks for so many bytes to be made warm, lets the governor work until they are, and lets go of them. How many
    /// rounds that took; `None` if the request was not accepted.
    pub fn warm(&self, bytes: u64) -> Option<usize> {
        let requests = self.engine.arena().governor().requests();
        let ticket = requests.make(Purpose::OneBlock, bytes)?;
        self.engine.arena().notify_governor(true);
        let rounds = self.work()?;
        requests.let_go(ticket);
        Some(rounds + self.work()?)
    }

    /// The governor's rounds until it would sleep; at most a million.
    fn work(&self) -> Option<usize> {
        for rounds in 1..1_000_000 {
            match self.engine.governor_round()? {
                After::Pause(time) | After::Doze(time) => self.engine.arena().kernel().os().sleep(time),
                After::Sleep => return Some(rounds),
            }
        }
        None
    }
}
