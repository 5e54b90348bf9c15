//! The governor as a whole, on a model of a program's memory and on the fake kernel, whose clock the tests turn.
//!
//! Method: a world is a governor, its kernel and the model. Tests act as the program, and live the governor's life in
//! between: round after round, with the pauses that it asks for, on its own clock.

mod memory;
mod model;
mod pressure;
mod properties;
mod simulation;
mod warming;

extern crate std;

use std::boxed::Box;
use std::sync::Arc;

use memory::Area;
use model::Model;

use super::requests::{Purpose, Ticket};
use super::source::Source;
use super::worker::{After, Governor};
use crate::atomic::AtomicU32;
use crate::lockfree::doorbell::Doorbell;
use crate::options::Options;
use crate::os::fake::{FakeOs, Memory};
use crate::os::{Kernel, Os, Range};
use crate::stats::{GovernorStats, PrewarmProgress};
use crate::units::Nanos;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: Nanos = Nanos::from_millis(1000);

/// A governor with all that it works on.
struct World {
    kernel: Kernel<FakeOs>,
    governor: Governor,
    model: Arc<Model>,
    /// When the next round is due; `None` while the governor sleeps.
    next: Option<Nanos>,
    rounds: u64,
}

/// A kernel without memory behind its addresses, at the usual costs of hugepages and of small pages where the model
/// has them.
fn kernel() -> FakeOs {
    let mut os = FakeOs::new();
    os.memory = Memory::Pretended { hugepages: true };
    os.fault_ns = 86_000;
    os
}

/// The usual cost of a purge.
fn purge_ns(range: Range) -> u64 {
    let ns_per_mib = if model::is_small(range) { 75_000 } else { 3_000 };
    ((range.bytes as u64 >> 10) * ns_per_mib) >> 10
}

impl World {
    /// A program with 64 MiB of small pages, 16 GiB of blocks and as many rooms as it wants.
    fn new(os: FakeOs, options: Options) -> Self {
        Self::with_cost(os, options, purge_ns)
    }

    fn with_cost(mut os: FakeOs, options: Options, cost: impl Fn(Range) -> u64 + Send + Sync + 'static) -> Self {
        let model = Arc::new(Model::new(32, 8192, 64));
        let (purged, warmed) = (model.clone(), model.clone());
        os.purge_cost = Some(Box::new(move |range| {
            purged.check_purge(range);
            cost(range)
        }));
        os.on_fault_in = Some(Box::new(move |range| warmed.check_fault_in(range)));
        let kernel = Kernel::new(os);
        let governor = Governor::new(Doorbell::from_word(AtomicU32::new(0)));
        governor.set_up(&kernel, &options);
        World { kernel, governor, model, next: None, rounds: 0 }
    }

    fn os(&self) -> &FakeOs {
        self.kernel.os()
    }

    fn now(&self) -> Nanos {
        self.os().now()
    }

    fn stats(&self) -> GovernorStats {
        self.kernel.counters().snapshot().governor
    }

    /// Somebody rings: wakes the governor if it sleeps.
    fn ring(&mut self) {
        self.next = self.next.or(Some(self.now()));
    }

    /// Somebody rings, and it cannot wait.
    fn ring_urgently(&mut self) {
        self.next = Some(self.now());
    }

    /// One round, now.
    fn round(&mut self) -> After {
        self.rounds += 1;
        let after = self.governor.round(&self.kernel, &*self.model).expect("nobody else makes a round");
        self.model.assert_at_rest();
        self.next = match after {
            After::Pause(time) | After::Doze(time) => Some(Nanos(self.now().0 + time.0)),
            After::Sleep => None,
        };
        after
    }

    /// So many rounds, in each of which there is something to do.
    fn rounds_of_work(&mut self, count: u64) {
        (0..count).for_each(|_| assert!(matches!(self.round(), After::Pause(_))));
    }

    /// Lives until `end`.
    fn live_until(&mut self, end: Nanos) {
        while let Some(next) = self.next.filter(|next| *next <= end) {
            self.os().advance(next.since(self.now()));
            self.round();
        }
        self.os().advance(end.since(self.now()));
    }

    /// Lives for `time`.
    fn live(&mut self, time: Nanos) {
        let end = Nanos(self.now().0 + time.0);
        self.live_until(end);
    }

    /// Lives until the governor sleeps, at most an hour; gives how long that took.
    fn live_to_sleep(&mut self) -> Nanos {
        let start = self.now();
        while let Some(next) = self.next {
            assert!(next.since(start) < Nanos(3_600 * SECOND.0), "there is no end");
            self.os().advance(next.since(self.now()));
            self.round();
        }
        self.now().since(start)
    }

    fn retired_bytes(&self) -> u64 {
        self.model.retired().bytes()
    }

    /// The program takes so much memory in chunks that hugepages back.
    fn allocate_blocks(&mut self, bytes: u64) -> std::vec::Vec<u32> {
        let chunks = (0..bytes / model::CHUNK).map(|_| self.model.allocate_chunk(Area::Blocks)).collect();
        self.ring();
        chunks
    }

    fn free_blocks(&mut self, chunks: std::vec::Vec<u32>) {
        let now = self.now();
        chunks.into_iter().for_each(|chunk| self.model.free_chunk(Area::Blocks, chunk, now));
        self.ring();
    }

    /// The program takes a huge block.
    fn allocate_room(&mut self, bytes: u64) -> usize {
        self.model.allocate_room((bytes / model::CHUNK) as u32).expect("a room is free")
    }

    fn free_room(&mut self, room: usize) {
        self.model.resize_room(room, 0, self.now());
        self.ring();
    }

    /// The program asks for warm memory.
    fn ask(&mut self, purpose: Purpose, bytes: u64) -> Ticket {
        let ticket = self.governor.requests().make(purpose, bytes).expect("a slot is free");
        self.ring_urgently();
        ticket
    }

    fn progress(&self, ticket: Ticket) -> PrewarmProgress {
        self.governor.requests().progress(ticket).expect("it is not forgotten")
    }

    /// Bytes that the kernel has purged since this was asked last.
    fn purged_bytes(&self) -> u64 {
        self.os().take_purge_calls().iter().map(|call| call.bytes as u64).sum()
    }
}
