//! Requests for warm memory and forecasts on whole engines: which block gets what was made warm.

extern crate std;

use std::sync::{Arc, Mutex};

use super::*;
use crate::governor::{Purpose, Ticket};
use crate::limits::STEPPED_ROOMS_MAX;
use crate::options::Governor;
use crate::os::fake::Memory;
use crate::stats::PrewarmState;

/// What was made warm: addresses and bytes.
type Warmed = Arc<Mutex<Vec<(usize, usize)>>>;

/// A kernel that pretends to make memory warm, and a log of it. What is resident then was written to.
fn kernel() -> (FakeOs, Warmed) {
    let warmed = Warmed::default();
    let log = warmed.clone();
    let mut os = FakeOs::new();
    os.memory = Memory::Pretended { hugepages: true };
    os.on_fault_in = Some(Box::new(move |range| log.lock().unwrap().push((range.base.addr().get(), range.bytes))));
    (os, warmed)
}

fn ask(engine: TestEngine, purpose: Purpose, bytes: usize) -> Ticket {
    let ticket = engine.arena().governor().requests().make(purpose, bytes as u64).unwrap();
    engine.arena().notify_governor(true);
    ticket
}

fn state(engine: TestEngine, ticket: Ticket) -> PrewarmState {
    engine.arena().governor().requests().progress(ticket).unwrap().state
}

fn live_a_second(engine: TestEngine) {
    live(engine, Nanos::from_millis(1000));
}

#[test]
fn the_block_that_was_asked_for_lands_on_the_warm_room() {
    let (os, warmed) = kernel();
    let (engine, heap) = started(os, Commit::Ready);
    let ticket = ask(engine, Purpose::OneBlock, 100 * MIB);
    live_a_second(engine);
    assert_eq!(state(engine, ticket), PrewarmState::Ready);
    let (first, _) = warmed.lock().unwrap()[0];
    // A block of less than half the size gets another room, unless there is none.
    let small = allocate(engine, heap, layout(40 * MIB));
    let block = allocate(engine, heap, layout(100 * MIB));
    assert!(block.addr() == first && small != block);
    live_a_second(engine);
    assert_eq!(state(engine, ticket), PrewarmState::Taken);
    assert!(warmed.lock().unwrap().iter().all(|(base, bytes)| base + bytes <= first + 100 * MIB));
    engine.arena().governor().requests().let_go(ticket);
    [small, block].into_iter().for_each(|block| free(engine, heap, block));
    engine.release_heap(heap);
    assert_nothing_lost(engine, "after the block");
}

#[test]
fn a_zeroed_block_gets_the_warm_room_and_is_not_written_again() {
    let (os_fake, warmed) = kernel();
    let (engine, heap) = started(os_fake, Commit::Ready);
    ask(engine, Purpose::OneBlock, 64 * MIB);
    live_a_second(engine);
    let block = allocate_zeroed(engine, heap, layout(64 * MIB));
    assert_eq!(block.addr(), warmed.lock().unwrap()[0].0);
    let middle = NonNull::new(block.wrapping_add(33 * MIB)).unwrap();
    assert!(!os(engine).is_resident(middle), "nobody has written to it");
    // SAFETY: the block is live and this large.
    unsafe { middle.write(1) };
    assert!(os(engine).is_resident(middle), "writing shows");
}

#[test]
fn what_a_smaller_block_leaves_of_a_warm_room_is_given_back() {
    let (os, _) = kernel();
    let (engine, heap) = started(os, Commit::Ready);
    ask(engine, Purpose::OneBlock, 100 * MIB);
    live_a_second(engine);
    let block = allocate(engine, heap, layout(60 * MIB));
    assert_eq!(drain(engine), 40 * MIB);
    free(engine, heap, block);
    assert_eq!(drain(engine), 60 * MIB);
}

#[test]
fn smaller_blocks_land_on_what_was_warmed_for_many() {
    let (os, warmed) = kernel();
    let (engine, heap) = started(os, Commit::Ready);
    let ticket = ask(engine, Purpose::ManyBlocks, 32 * MIB);
    live_a_second(engine);
    assert_eq!(state(engine, ticket), PrewarmState::Ready);
    // Of a megabyte and more, and beyond the small pages that come first.
    let blocks: Vec<_> = (0..16).map(|_| allocate(engine, heap, layout(2 * MIB))).collect();
    let warmed = warmed.lock().unwrap();
    let is_warm = |block: &*mut u8| warmed.iter().any(|(base, bytes)| (*base..base + bytes).contains(&block.addr()));
    let hits = blocks.iter().filter(|block| is_warm(block)).count();
    assert_eq!(hits, 16, "{blocks:?}");
}

#[test]
fn in_stepped_mode_a_few_rooms_serve_and_the_next_request_is_refused() {
    let (os, _) = kernel();
    let (engine, heap) = started(os, Commit::Stepped);
    let tickets: Vec<_> = (0..=STEPPED_ROOMS_MAX).map(|_| ask(engine, Purpose::OneBlock, 64 * MIB)).collect();
    live_a_second(engine);
    let states: Vec<_> = tickets.iter().map(|ticket| state(engine, *ticket)).collect();
    let (last, first) = states.split_last().unwrap();
    assert!(first.iter().all(|state| *state == PrewarmState::Ready), "{states:?}");
    assert_eq!(*last, PrewarmState::Refused);
    // All rooms are kept: what cannot have one is a run of chunks, what suits takes its room.
    let blocks: Vec<_> = (0..=STEPPED_ROOMS_MAX).map(|_| allocate(engine, heap, layout(64 * MIB))).collect();
    assert!(blocks.iter().all(|block| !block.is_null()));
    live_a_second(engine);
    assert!(tickets.iter().take(4).all(|ticket| state(engine, *ticket) == PrewarmState::Taken));
    tickets.into_iter().for_each(|ticket| engine.arena().governor().requests().let_go(ticket));
    blocks.into_iter().for_each(|block| free(engine, heap, block));
    engine.release_heap(heap);
    assert_nothing_lost(engine, "in stepped mode");
}

/// Doubles a block from 64 MiB on, `times` times.
fn double(engine: TestEngine, heap: &Heap, times: u32) -> *mut u8 {
    let mut table = allocate(engine, heap, layout(64 * MIB));
    for doubling in 1..=times {
        let next = allocate(engine, heap, layout((64 * MIB) << doubling));
        free(engine, heap, table);
        table = next;
        live_a_second(engine);
    }
    table
}

#[test]
fn a_doubling_warms_the_next_up_to_the_limit() {
    let (os_fake, warmed) = kernel();
    let mut options = options(Commit::Ready);
    options.forecast = Some(512 * MIB);
    let (engine, heap) = started_with(os_fake, options);
    // 128 foretells 256, that foretells 512, that foretells 1024, which is too much.
    let table = double(engine, heap, 3);
    let stats = engine.arena().kernel().counters().snapshot().governor;
    assert_eq!((stats.forecasts, stats.forecast_hits, stats.forecast_misses), (2, 2, 0));
    let warmed = warmed.lock().unwrap();
    let inside = table.addr()..table.addr() + 512 * MIB;
    assert!(warmed.iter().any(|(base, _)| inside.contains(base)), "the last block lies on warm memory");
}

#[test]
fn without_the_option_nothing_is_forecast() {
    let (os, warmed) = kernel();
    let (engine, heap) = started(os, Commit::Ready);
    double(engine, heap, 3);
    assert_eq!(engine.arena().kernel().counters().snapshot().governor.forecasts, 0);
    assert!(warmed.lock().unwrap().is_empty());
}

#[test]
fn with_a_lent_thread_no_thread_is_started_and_rounds_do_all() {
    let (os_fake, _) = kernel();
    let mut options = Options::new();
    options.commit = Commit::Stepped;
    options.governor = Governor::Tick;
    let (engine, heap) = started_with(os_fake, options);
    let ticket = ask(engine, Purpose::OneBlock, 64 * MIB);
    let blocks: Vec<_> = (0..50).map(|_| allocate(engine, heap, layout(5 * MIB))).collect();
    assert_eq!(state(engine, ticket), PrewarmState::Warming, "nothing happens by itself");
    live_a_second(engine);
    assert_eq!(state(engine, ticket), PrewarmState::Ready);
    engine.arena().governor().requests().cancel(ticket);
    engine.arena().governor().requests().let_go(ticket);
    blocks.into_iter().for_each(|block| free(engine, heap, block));
    engine.arena().governor().ask(u64::MAX);
    engine.release_heap(heap);
    assert_nothing_lost(engine, "by rounds");
    assert_eq!(os(engine).threads(), 0);
}

#[test]
fn a_zeroed_block_takes_the_kept_room_though_it_must_be_written() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let block = allocate(engine, heap, layout(100 * MIB));
    mark(block, 100 * MIB, 7);
    free(engine, heap, block);
    // The warmest room is the one to keep.
    assert!(engine.keep_room(120 * MIB as u64).is_some());
    let zeroed = allocate_zeroed(engine, heap, layout(120 * MIB));
    assert_eq!(zeroed, block);
    // SAFETY: the block is live and this large.
    assert_eq!(unsafe { (zeroed.read(), zeroed.add(100 * MIB - 1).read()) }, (0, 0));
}
