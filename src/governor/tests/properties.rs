//! Whatever a program does and whatever the kernel refuses: nothing live is purged, nothing is purged twice, and in the
//! end nothing is warm, kept or out of use.
//!
//! Method: random steps on the model, which asserts what holds on every call; proptest prints and shrinks what fails.

extern crate std;

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::model::CHUNK;
use super::*;
use crate::atomic::Ordering;
use crate::limits::{PURGE_PIECE_HUGE_BYTES, REQUEST_COUNT_MAX};

/// One step of a program or of its surroundings. Indices are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    AllocateChunks { small: bool, count: usize },
    AllocateRoom { chunks: u32 },
    Free(usize),
    Resize { block: usize, chunks: u32 },
    Ask { many: bool, chunks: u64 },
    Cancel(usize),
    LetGo(usize),
    Foretell { chunks: u64 },
    Purge { chunks: u64 },
    Pressure(bool),
    Refuse { calls: usize },
    PurgeScattered { ranges_max: usize },
    Fork,
    Live { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 1_usize..20).prop_map(|(small, count)| Step::AllocateChunks { small, count }),
        3 => (16_u32..300).prop_map(|chunks| Step::AllocateRoom { chunks }),
        5 => any::<usize>().prop_map(Step::Free),
        2 => (any::<usize>(), 1_u32..300).prop_map(|(block, chunks)| Step::Resize { block, chunks }),
        3 => (any::<bool>(), 1_u64..150).prop_map(|(many, chunks)| Step::Ask { many, chunks }),
        2 => any::<usize>().prop_map(Step::Cancel),
        2 => any::<usize>().prop_map(Step::LetGo),
        1 => (16_u64..300).prop_map(|chunks| Step::Foretell { chunks }),
        1 => (0_u64..300).prop_map(|chunks| Step::Purge { chunks }),
        1 => any::<bool>().prop_map(Step::Pressure),
        1 => (1_usize..4).prop_map(|calls| Step::Refuse { calls }),
        1 => (0_usize..4).prop_map(|ranges_max| Step::PurgeScattered { ranges_max }),
        1 => Just(Step::Fork),
        8 => prop_oneof![0_u64..5, 5_u64..500, 500_u64..8_000].prop_map(|millis| Step::Live { millis }),
    ]
}

enum Block {
    Chunk(Area, u32),
    Room(usize),
}

struct Program {
    world: World,
    blocks: Vec<Block>,
    tickets: Vec<Ticket>,
}

impl Program {
    fn new() -> Self {
        let mut options = Options::new();
        options.prewarm_hold = Some(Nanos(20 * SECOND.0));
        Program { world: World::new(kernel(), options), blocks: Vec::new(), tickets: Vec::new() }
    }

    fn set_pressure(&self, short: bool) {
        let kib = if short { 1 << 10 } else { 30 << 20 };
        let text = std::format!("MemTotal: 33554432 kB\nMemFree: 0 kB\nMemAvailable: {kib} kB\n");
        self.world.os().files.set("/proc/meminfo", text);
    }

    fn free(&mut self, block: usize) {
        let now = self.world.now();
        match self.blocks.swap_remove(block) {
            Block::Chunk(area, chunk) => self.world.model.free_chunk(area, chunk, now),
            Block::Room(room) => self.world.model.resize_room(room, 0, now),
        }
        self.world.ring();
    }

    fn act(&mut self, step: Step) {
        let world = &mut self.world;
        match step {
            Step::AllocateChunks { small, count } => {
                let area =
                    if small && world.model.small_chunks_left() >= count as u64 { Area::Small } else { Area::Blocks };
                self.blocks.extend((0..count).map(|_| Block::Chunk(area, world.model.allocate_chunk(area))));
                world.ring();
            }
            Step::AllocateRoom { chunks } => self.blocks.extend(world.model.allocate_room(chunks).map(Block::Room)),
            Step::Free(block) if !self.blocks.is_empty() => self.free(block % self.blocks.len()),
            Step::Resize { block, chunks } if !self.blocks.is_empty() => {
                let block = block % self.blocks.len();
                if let Block::Room(room) = self.blocks[block] {
                    world.model.resize_room(room, chunks, world.now());
                    world.ring();
                }
            }
            Step::Ask { many, chunks } => {
                let purpose = if many { Purpose::ManyBlocks } else { Purpose::OneBlock };
                self.tickets.extend(world.governor.requests().make(purpose, chunks * CHUNK));
                world.ring_urgently();
            }
            Step::Cancel(ticket) if !self.tickets.is_empty() => {
                world.governor.requests().cancel(self.tickets[ticket % self.tickets.len()]);
                world.ring_urgently();
            }
            Step::LetGo(ticket) if !self.tickets.is_empty() => {
                let ticket = self.tickets.swap_remove(ticket % self.tickets.len());
                world.governor.requests().let_go(ticket);
            }
            Step::Foretell { chunks } => {
                world.model.foretell(chunks * CHUNK);
                world.ring_urgently();
            }
            Step::Purge { chunks } => {
                world.governor.ask(chunks * CHUNK);
                world.ring_urgently();
            }
            Step::Pressure(short) => self.set_pressure(short),
            Step::Refuse { calls } => world.os().fail_next(calls),
            Step::PurgeScattered { ranges_max } => {
                world.os().scatter_ranges_max.store(ranges_max, Ordering::SeqCst);
            }
            Step::Fork => {
                world.governor.start_anew_after_fork(&world.kernel);
                world.model.forget_kept_rooms();
                world.ring();
            }
            Step::Live { millis } => world.live(Nanos::from_millis(millis)),
            _ => {}
        }
    }

    fn end(mut self) {
        self.set_pressure(false);
        while let Some(block) = self.blocks.len().checked_sub(1) {
            self.free(block);
        }
        let requests = self.world.governor.requests();
        self.tickets.drain(..).for_each(|ticket| requests.let_go(ticket));
        self.world.ring();
        self.world.live_to_sleep();
        self.world.model.assert_all_cold();
        let free = (0..).take_while(|_| self.world.governor.requests().make(Purpose::OneBlock, CHUNK).is_some());
        assert_eq!(free.count(), REQUEST_COUNT_MAX, "every slot is free");
        for call in self.world.os().take_purge_calls() {
            assert!(call.bytes <= PURGE_PIECE_HUGE_BYTES && call.time <= Options::new().hold_budget, "{call:?}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_live_is_purged_and_everything_comes_back(steps in proptest::collection::vec(step(), 1..80)) {
        let mut program = Program::new();
        steps.into_iter().for_each(|step| program.act(step));
        program.end();
    }
}
