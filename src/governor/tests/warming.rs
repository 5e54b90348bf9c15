//! The life of requests for warm memory, of the forecast and of the reserve: one fact per test.

extern crate std;

use std::vec::Vec;

use super::model::CHUNK;
use super::*;
use crate::limits::REQUEST_COUNT_MAX;
use crate::stats::PrewarmState::{self, *};

fn quiet() -> Options {
    let mut options = Options::new();
    options.warm_reserve = None;
    options
}

fn world() -> World {
    World::new(kernel(), quiet())
}

/// State, warm bytes in MiB, faulted bytes in MiB.
fn seen(world: &World, ticket: Ticket) -> (PrewarmState, u64, u64) {
    let progress = world.progress(ticket);
    (progress.state, progress.warm_bytes / MIB, progress.faulted_bytes / MIB)
}

#[test]
fn a_request_for_one_block_goes_from_warming_to_ready_to_taken() {
    let mut world = world();
    let ticket = world.ask(Purpose::OneBlock, 100 * MIB);
    assert_eq!(seen(&world, ticket), (Warming, 0, 0));
    world.round();
    let (state, warm, _) = seen(&world, ticket);
    assert!(state == Warming && warm > 0 && warm < 100, "one piece: {warm}");
    world.live(SECOND);
    assert_eq!(seen(&world, ticket), (Ready, 100, 100));
    assert_eq!(world.model.kept_room_bytes(), 100 * MIB);
    let room = world.allocate_room(100 * MIB);
    assert_eq!(world.model.kept_room_bytes(), 0, "the block lies in it");
    world.live(SECOND);
    assert_eq!(seen(&world, ticket).0, Taken);
    world.free_room(room);
    world.live_to_sleep();
    world.model.assert_all_cold();
}

#[test]
fn what_is_warm_and_free_already_counts() {
    let mut world = world();
    let room = world.allocate_room(60 * MIB);
    world.free_room(room);
    let blocks = world.allocate_blocks(10 * MIB);
    world.free_blocks(blocks);
    let one = world.ask(Purpose::OneBlock, 100 * MIB);
    let many = world.ask(Purpose::ManyBlocks, 30 * MIB);
    world.live(SECOND);
    assert_eq!(seen(&world, one), (Ready, 100, 40));
    assert_eq!(seen(&world, many), (Ready, 30, 20));
}

#[test]
fn memory_for_many_blocks_is_kept_until_they_take_it() {
    let mut world = world();
    let ticket = world.ask(Purpose::ManyBlocks, 64 * MIB);
    world.live(Nanos(60 * SECOND.0));
    assert_eq!((seen(&world, ticket), world.purged_bytes()), ((Ready, 64, 64), 0), "decay leaves it alone");
    let half = world.allocate_blocks(32 * MIB);
    world.live(SECOND);
    assert_eq!(seen(&world, ticket).0, Ready, "half of it is there");
    let rest = world.allocate_blocks(32 * MIB);
    world.live(SECOND);
    assert_eq!(seen(&world, ticket).0, Taken);
    world.free_blocks(half);
    world.free_blocks(rest);
    world.live_to_sleep();
    world.model.assert_all_cold();
}

#[test]
fn prewarmed_rooms_are_not_purged_by_decay() {
    let mut world = world();
    world.ask(Purpose::OneBlock, 100 * MIB);
    world.live(Nanos(100 * SECOND.0));
    assert_eq!((world.purged_bytes(), world.model.kept_room_bytes()), (0, 100 * MIB));
}

#[test]
fn a_new_request_does_not_take_what_is_kept_for_an_earlier_one() {
    let mut world = world();
    // Of two requests the first is over, so that the next one stands before the second in the table.
    let first = world.ask(Purpose::ManyBlocks, 2 * MIB);
    let second = world.ask(Purpose::ManyBlocks, 32 * MIB);
    world.governor.requests().cancel(first);
    world.governor.requests().let_go(first);
    world.live(Nanos(10 * SECOND.0));
    let third = world.ask(Purpose::ManyBlocks, 32 * MIB);
    world.live(SECOND);
    assert_eq!((seen(&world, second).0, seen(&world, third)), (Ready, (Ready, 32, 32)));
    assert_eq!(world.retired_bytes(), 64 * MIB);
}

#[test]
fn a_room_that_was_taken_and_freed_is_not_kept_twice() {
    let mut world = world();
    let dummy = world.ask(Purpose::OneBlock, 32 * MIB);
    let first = world.ask(Purpose::OneBlock, 100 * MIB);
    world.live(SECOND);
    world.governor.requests().cancel(dummy);
    world.governor.requests().let_go(dummy);
    world.ring_urgently();
    world.live(Nanos(20 * SECOND.0));
    // Before the governor looks, the block comes and goes, and the next request finds its room.
    let room = world.allocate_room(100 * MIB);
    world.free_room(room);
    let second = world.ask(Purpose::OneBlock, 100 * MIB);
    world.live(SECOND);
    assert_eq!((seen(&world, first).0, seen(&world, second).0), (Taken, Ready));
    world.governor.requests().cancel(first);
    world.ring_urgently();
    world.live(SECOND);
    assert_eq!((seen(&world, second).0, world.model.kept_room_bytes()), (Ready, 100 * MIB));
}

#[test]
fn a_request_cancelled_while_warming_gives_back_what_was_warm() {
    let mut world = world();
    for purpose in [Purpose::OneBlock, Purpose::ManyBlocks] {
        let ticket = world.ask(purpose, GIB);
        world.rounds_of_work(5);
        assert!(world.governor.requests().cancel(ticket));
        world.ring_urgently();
        world.live_to_sleep();
        let (state, warm, _) = seen(&world, ticket);
        assert!(state == Cancelled && warm > 0 && warm < 1024, "{warm}");
        world.model.assert_all_cold();
        world.governor.requests().let_go(ticket);
    }
    assert_eq!(world.stats().prewarm_stopped, 2);
}

#[test]
fn a_request_cancelled_when_ready_gives_all_back() {
    let mut world = world();
    let tickets = [Purpose::OneBlock, Purpose::ManyBlocks].map(|purpose| world.ask(purpose, 64 * MIB));
    world.live(SECOND);
    for ticket in tickets {
        assert_eq!(seen(&world, ticket).0, Ready);
        assert!(world.governor.requests().cancel(ticket));
    }
    world.ring_urgently();
    world.live_to_sleep();
    assert_eq!(tickets.map(|ticket| seen(&world, ticket).0), [Cancelled; 2]);
    assert_eq!(world.purged_bytes(), 128 * MIB);
    world.model.assert_all_cold();
}

#[test]
fn cancelling_after_a_block_has_taken_the_memory_changes_nothing() {
    let mut world = world();
    let ticket = world.ask(Purpose::OneBlock, 64 * MIB);
    world.live(SECOND);
    let room = world.allocate_room(64 * MIB);
    world.live(SECOND);
    world.governor.requests().cancel(ticket);
    world.ring_urgently();
    world.live_to_sleep();
    assert_eq!((seen(&world, ticket).0, world.purged_bytes()), (Taken, 0));
    world.free_room(room);
}

#[test]
fn memory_that_nobody_takes_in_time_is_given_back() {
    let mut world = world();
    let hold = quiet().prewarm_hold.unwrap();
    let tickets = [Purpose::OneBlock, Purpose::ManyBlocks].map(|purpose| world.ask(purpose, 64 * MIB));
    world.live(Nanos(hold.0 - SECOND.0));
    assert_eq!(tickets.map(|ticket| seen(&world, ticket).0), [Ready; 2]);
    world.live(Nanos(3 * SECOND.0));
    assert_eq!(tickets.map(|ticket| seen(&world, ticket).0), [Expired; 2]);
    world.live_to_sleep();
    world.model.assert_all_cold();
}

#[test]
fn more_requests_than_there_are_slots_are_refused() {
    let mut world = world();
    let tickets: Vec<_> = (0..REQUEST_COUNT_MAX).map(|_| world.ask(Purpose::ManyBlocks, 2 * MIB)).collect();
    assert_eq!(world.governor.requests().make(Purpose::ManyBlocks, 2 * MIB), None);
    world.live(SECOND);
    assert!(tickets.iter().all(|ticket| seen(&world, *ticket).0 == Ready));
    assert_eq!(world.governor.requests().make(Purpose::ManyBlocks, 2 * MIB), None, "they keep memory");
}

#[test]
fn a_request_without_handle_frees_its_slot_when_its_memory_is_taken() {
    let mut world = world();
    for _ in 0..3 * REQUEST_COUNT_MAX {
        let ticket = world.ask(Purpose::OneBlock, 32 * MIB);
        world.governor.requests().let_go(ticket);
        world.live(SECOND);
        let room = world.allocate_room(32 * MIB);
        world.live(SECOND);
        world.free_room(room);
        assert_eq!(world.governor.requests().progress(ticket).map(|progress| progress.state), Some(Taken));
    }
}

#[test]
fn handles_dropped_while_the_governor_sleeps_free_their_slots() {
    let mut world = world();
    for _ in 0..3 {
        let tickets: Vec<_> = (0..REQUEST_COUNT_MAX).map(|_| world.ask(Purpose::ManyBlocks, 32 * MIB)).collect();
        tickets.iter().for_each(|ticket| assert!(world.governor.requests().cancel(*ticket)));
        world.live_to_sleep();
        tickets.into_iter().for_each(|ticket| world.governor.requests().let_go(ticket));
    }
}

#[test]
fn the_governor_sleeps_beside_requests_that_keep_nothing() {
    let mut world = world();
    let ticket = world.ask(Purpose::OneBlock, 32 * MIB);
    world.live(SECOND);
    let room = world.allocate_room(32 * MIB);
    world.live_to_sleep();
    assert_eq!(seen(&world, ticket).0, Taken, "held, and over");
    world.free_room(room);
}

#[test]
fn no_more_is_warmed_than_there_is_head_room() {
    for purpose in [Purpose::OneBlock, Purpose::ManyBlocks] {
        let mut world = world();
        // A sixteenth of 32 GiB is left alone, 200 MiB are not; what is warmed is not available any more.
        let available = |warmed: u64| {
            let kib = (2048 << 10) + (200 << 10) - warmed / 1024;
            std::format!("MemTotal: 33554432 kB\nMemFree: 0 kB\nMemAvailable: {kib} kB\n")
        };
        world.os().files.set("/proc/meminfo", available(0));
        let ticket = world.ask(purpose, GIB);
        while world.progress(ticket).state == Warming {
            world.live_until(world.next.expect("there is more to do"));
            world.os().files.set("/proc/meminfo", available(world.stats().prewarm_bytes));
        }
        let (state, warm, faulted) = seen(&world, ticket);
        assert!(state == NoHeadRoom && warm == faulted, "{state:?}");
        assert!((180..=200).contains(&warm), "{warm}");
        world.live(Nanos(20 * SECOND.0));
        assert_eq!((world.purged_bytes(), seen(&world, ticket).0), (0, NoHeadRoom), "what is warm stays");
    }
}

#[test]
fn trouble_with_hugepages_stops_warming() {
    for key in ["thp_fault_fallback", "compact_stall"] {
        let mut world = world();
        let count = |count: u64| std::format!("nr_free_pages 1\n{key} {count}\npgfault 5\n");
        world.os().files.set("/proc/vmstat", count(1_000_000));
        let ticket = world.ask(Purpose::OneBlock, GIB);
        world.rounds_of_work(10);
        assert_eq!(seen(&world, ticket).0, Warming, "old trouble is none");
        world.os().files.set("/proc/vmstat", count(1_000_008));
        world.live(SECOND);
        let (state, warm, _) = seen(&world, ticket);
        assert!(state == HugepagesScarce && warm < 1024, "{state:?} {warm}");
        assert_eq!(world.stats().prewarm_stopped, 1);
        assert_eq!(world.model.kept_room_bytes() / MIB, warm, "what is warm stays");
    }
}

#[test]
fn hugepages_are_told_from_small_pages_by_faults() {
    for hugepages in [true, false] {
        let mut os = kernel();
        os.memory = Memory::Pretended { hugepages };
        os.fault_ns = if hugepages { 86_000 } else { 1_300 };
        let mut world = World::new(os, quiet());
        let ticket = world.ask(Purpose::OneBlock, 64 * MIB);
        world.live(Nanos(2 * SECOND.0));
        assert_eq!(seen(&world, ticket), (Ready, 64, 64));
        assert_eq!(world.progress(ticket).hugepage_bytes, if hugepages { 64 * MIB } else { 0 });
        let longest = world.kernel.counters().snapshot().warm.governor.time.max_ns;
        assert!(longest <= quiet().hold_budget.0, "{longest} ns between two readings of the clock");
    }
}

#[test]
fn the_forecast_warms_the_next_block_and_counts_hits() {
    let mut world = world();
    world.model.foretell(64 * MIB);
    world.ring_urgently();
    world.live(SECOND);
    assert_eq!(world.model.kept_room_bytes(), 64 * MIB);
    // The doubling comes, all of it before the governor looks again, and foretells the next.
    let room = world.allocate_room(64 * MIB);
    world.model.foretell(128 * MIB);
    world.ring_urgently();
    world.live(SECOND);
    let stats = world.stats();
    assert_eq!((stats.forecasts, stats.forecast_hits, stats.forecast_misses), (2, 1, 0));
    assert_eq!(world.model.kept_room_bytes(), 128 * MIB);
    world.free_room(room);
}

#[test]
fn a_forecast_that_nobody_takes_is_a_miss() {
    let mut world = world();
    world.model.foretell(64 * MIB);
    world.ring_urgently();
    world.live_to_sleep();
    let stats = world.stats();
    assert_eq!((stats.forecasts, stats.forecast_hits, stats.forecast_misses), (1, 0, 1));
    world.model.assert_all_cold();
}

#[test]
fn a_larger_forecast_takes_the_place_of_a_smaller_one() {
    let mut world = world();
    for bytes in [64 * MIB, 32 * MIB, 128 * MIB] {
        world.model.foretell(bytes);
        world.ring_urgently();
        world.live(SECOND);
    }
    let stats = world.stats();
    assert_eq!((stats.forecasts, stats.forecast_misses), (2, 1));
    assert_eq!(world.model.kept_room_bytes(), 128 * MIB);
}

/// A world whose program has taken 640 MiB in a second: the reserve wants a tenth of that.
fn growing() -> (World, Vec<u32>) {
    let mut world = World::new(kernel(), Options::new());
    world.ring();
    world.round();
    let mut blocks = Vec::new();
    for _ in 0..64 {
        blocks.extend(world.allocate_blocks(10 * MIB));
        world.live(Nanos(SECOND.0 / 64));
    }
    (world, blocks)
}

#[test]
fn the_reserve_follows_growth_and_is_given_back_when_growth_stops() {
    let (mut world, _blocks) = growing();
    let high = world.stats().reserve_target;
    assert!((8 * MIB..=16 * MIB).contains(&high), "{high}");
    let before = world.stats().prewarm_bytes;
    assert!(before > 0);
    world.live_to_sleep();
    assert_eq!((world.retired_bytes(), world.stats().reserve_target), (0, 0));
}

#[test]
fn the_reserve_is_filled_up_to_high_once_it_is_below_low() {
    let (mut world, _blocks) = growing();
    world.live(Nanos(SECOND.0 / 10));
    let high = world.stats().reserve_target;
    let free = world.model.retired().blocks;
    assert!(free >= high / 2, "{free} of {high}");
    // Between low and high nothing is done, and what is kept is not purged.
    let warmed = world.stats().prewarm_bytes;
    let some = world.allocate_blocks(free.saturating_sub(high * 3 / 4) / CHUNK * CHUNK);
    world.live(Nanos(SECOND.0 / 10));
    assert_eq!(world.stats().prewarm_bytes, warmed);
    // Below low it is filled to the high watermark of that moment.
    let free = world.model.retired().blocks;
    let more = world.allocate_blocks(free - high / 8 / CHUNK * CHUNK);
    world.live(Nanos(SECOND.0 / 10));
    let high = world.stats().reserve_target;
    let free = world.model.retired().blocks;
    assert!(world.stats().prewarm_bytes > warmed && free >= high && free < high + CHUNK, "{free} {high}");
    drop((some, more));
}

#[test]
fn a_program_that_does_not_grow_gets_no_reserve() {
    let mut world = World::new(kernel(), Options::new());
    for _ in 0..100 {
        let blocks = world.allocate_blocks(20 * MIB);
        world.live(SECOND);
        world.free_blocks(blocks);
        world.live(Nanos(SECOND.0 / 100));
    }
    assert!(world.stats().prewarm_bytes <= 4 * MIB, "{}", world.stats().prewarm_bytes);
}
