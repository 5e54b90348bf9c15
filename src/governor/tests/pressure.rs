//! What pressure changes: what is given back first, how fast, and what is not warmed. And what a kernel changes that
//! refuses.

extern crate std;

use super::model::CHUNK;
use super::*;
use crate::stats::PrewarmState::*;

/// Sets how much memory a machine of 32 GiB has left, in MiB.
fn set_available(world: &World, available_mib: u64) {
    let text = std::format!("MemTotal: 33554432 kB\nMemFree: 0 kB\nMemAvailable: {} kB\n", available_mib << 10);
    world.os().files.set("/proc/meminfo", text);
}

/// Under a sixty-fourth is critical.
const CRITICAL_MIB: u64 = 100;
const AMPLE_MIB: u64 = 30_000;

fn world() -> World {
    let world = World::new(kernel(), Options::new());
    set_available(&world, AMPLE_MIB);
    world
}

/// A block in a room that was freed just now.
fn freed(world: &mut World, bytes: u64) {
    let room = world.allocate_room(bytes);
    world.free_room(room);
}

#[test]
fn pressure_lifts_linger_decay_and_rate_but_not_the_bound_on_a_call() {
    let mut world = world();
    world.ring();
    world.live(SECOND);
    set_available(&world, CRITICAL_MIB);
    freed(&mut world, 8 * GIB);
    world.live(Nanos(SECOND.0 / 2));
    assert_eq!(world.retired_bytes(), 0, "far faster than the usual 1 GiB per second");
    let calls = world.os().take_purge_calls();
    assert!(calls.iter().all(|call| call.time <= Options::new().hold_budget), "{calls:?}");
    let pause = Options::new().pause;
    for pair in calls.windows(2) {
        assert!(pair[1].start.since(pair[0].start) >= Nanos(pair[0].time.0 + pause.0), "{pair:?}");
    }
    assert_eq!(world.stats().purged_under_pressure, 8 * GIB);
    assert_eq!((world.stats().pressure, world.stats().pressure_events), (2, 1));
}

#[test]
fn memory_that_is_kept_for_a_block_goes_before_what_is_retired() {
    let mut world = world();
    let retired = world.allocate_room(GIB);
    let ticket = world.ask(Purpose::OneBlock, 256 * MIB);
    world.live(SECOND);
    world.free_room(retired);
    set_available(&world, CRITICAL_MIB);
    let mut seen = 0;
    while world.retired_bytes() > 0 {
        world.live_until(world.next.expect("it looks for pressure"));
        let kept = world.model.room_bytes_other_than(retired);
        assert!(kept == 0 || world.model.room_bytes(retired) == GIB, "nothing goes before {kept} that are kept");
        seen += u64::from(kept > 0 && kept < 256 * MIB);
    }
    assert!(seen > 0, "it went piece by piece");
    assert_eq!(world.progress(ticket).state, Pressure);
    world.model.assert_all_cold();
}

#[test]
fn memory_that_is_kept_for_many_blocks_goes_as_well() {
    let mut world = world();
    let ticket = world.ask(Purpose::ManyBlocks, 64 * MIB);
    world.live(SECOND);
    set_available(&world, CRITICAL_MIB);
    world.live(Nanos(SECOND.0 / 4));
    assert_eq!(world.progress(ticket).state, Pressure);
    world.model.assert_all_cold();
}

#[test]
fn a_request_that_was_given_up_stays_so_when_the_pressure_ends_early() {
    let mut world = world();
    let ticket = world.ask(Purpose::OneBlock, 256 * MIB);
    world.live(SECOND);
    // The kernel refuses every purge while the pressure lasts.
    set_available(&world, CRITICAL_MIB);
    world.os().fail_next(usize::MAX);
    world.live(SECOND);
    assert_eq!(world.progress(ticket).state, Pressure);
    set_available(&world, AMPLE_MIB);
    world.live(Nanos(5 * SECOND.0));
    world.os().fail_from.store(usize::MAX, core::sync::atomic::Ordering::SeqCst);
    world.live_to_sleep();
    assert_eq!(world.progress(ticket).state, Pressure, "not expired");
    world.model.assert_all_cold();
}

#[test]
fn nothing_is_warmed_under_pressure() {
    let mut world = world();
    world.ring();
    set_available(&world, CRITICAL_MIB);
    let blocks = world.allocate_blocks(64 * MIB);
    world.live(Nanos(SECOND.0 / 10));
    let ticket = world.ask(Purpose::OneBlock, 64 * MIB);
    world.live(SECOND);
    assert_eq!((world.progress(ticket).state, world.progress(ticket).faulted_bytes), (Pressure, 0));
    let more = world.allocate_blocks(256 * MIB);
    world.live(SECOND);
    assert_eq!((world.stats().prewarm_bytes, world.stats().reserve_target), (0, 0), "nor a reserve");
    world.free_blocks(blocks);
    world.free_blocks(more);
}

#[test]
fn the_usual_pace_returns_after_the_pressure() {
    let mut world = world();
    world.ring();
    world.live(SECOND);
    set_available(&world, CRITICAL_MIB);
    freed(&mut world, 4 * GIB);
    world.live(SECOND);
    set_available(&world, AMPLE_MIB);
    world.live(Nanos(2 * SECOND.0));
    world.purged_bytes();
    freed(&mut world, GIB);
    world.live(Options::new().linger);
    assert_eq!((world.purged_bytes(), world.stats().pressure), (0, 0), "it lingers again");
    let time = world.live_to_sleep();
    // What was purged under pressure is not held against what comes after it.
    assert!(time <= Nanos(6 * SECOND.0), "{time:?}");
}

#[test]
fn without_the_option_nobody_looks() {
    let mut options = Options::new();
    options.pressure = false;
    let mut world = World::new(kernel(), options);
    set_available(&world, CRITICAL_MIB);
    freed(&mut world, GIB);
    world.live(options.linger);
    assert_eq!((world.purged_bytes(), world.stats().pressure), (0, 0));
}

#[test]
fn a_program_that_asks_gets_its_memory_back_at_once_and_no_more_than_it_asked_for() {
    let mut world = world();
    freed(&mut world, GIB);
    world.governor.ask(100 * MIB);
    world.ring_urgently();
    world.live(Nanos(SECOND.0 / 10));
    let purged = world.purged_bytes();
    assert!((100 * MIB..100 * MIB + CHUNK).contains(&purged), "{purged}");
}

#[test]
fn asking_leaves_alone_what_is_kept_for_a_request() {
    let mut world = world();
    let tickets = [Purpose::OneBlock, Purpose::ManyBlocks].map(|purpose| world.ask(purpose, 64 * MIB));
    world.live(SECOND);
    world.governor.ask(u64::MAX);
    world.ring_urgently();
    world.live(SECOND);
    assert_eq!(world.purged_bytes(), 0);
    assert_eq!(tickets.map(|ticket| world.progress(ticket).state), [Ready; 2]);
}

#[test]
fn a_kernel_that_refuses_is_asked_ever_more_seldom_and_nothing_is_lost() {
    let mut world = world();
    freed(&mut world, GIB);
    world.os().fail_next(usize::MAX);
    let before = world.os().calls();
    world.live(Nanos(600 * SECOND.0));
    let asked = world.os().calls() - before;
    assert!((8..=20).contains(&asked), "{asked} times in ten minutes");
    assert_eq!(world.retired_bytes(), GIB);
    world.os().fail_from.store(usize::MAX, core::sync::atomic::Ordering::SeqCst);
    world.live_to_sleep();
    world.model.assert_all_cold();
}

#[test]
fn without_decay_memory_stays_until_there_is_pressure() {
    let mut options = Options::new();
    options.decay = None;
    let mut world = World::new(kernel(), options);
    set_available(&world, AMPLE_MIB);
    freed(&mut world, GIB);
    world.live(Nanos(3_600 * SECOND.0));
    assert_eq!(world.retired_bytes(), GIB);
    set_available(&world, CRITICAL_MIB);
    world.live(SECOND);
    assert_eq!(world.retired_bytes(), 0);
}
