//! Requests for warm memory on whole engines: their slots, their rooms, and who waits for whom.

extern crate std;

use core::sync::atomic::AtomicBool;
use std::sync::Arc;

use super::*;
use crate::limits::REQUEST_COUNT_MAX;

const BYTES: usize = 64 * MIB;

fn ask(engine: TestEngine, purpose: Purpose, bytes: usize) -> Ticket {
    engine.arena().governor().requests().make(purpose, bytes as u64).unwrap()
}

fn state(engine: TestEngine, ticket: Ticket) -> Option<PrewarmState> {
    engine.arena().governor().requests().progress(ticket).map(|progress| progress.state)
}

/// Makes rounds until a request has ended.
fn end(engine: TestEngine, ticket: Ticket) -> Option<PrewarmState> {
    (0..1_000)
        .map(|_| {
            assert!(engine.governor_round().is_some());
            state(engine, ticket)
        })
        .find(|state| *state != Some(PrewarmState::Warming))
        .expect("it ends")
}

/// The rooms that are named in requests.
fn rooms(engine: TestEngine) -> Vec<u64> {
    let requests = engine.arena().governor().requests().all().iter();
    requests.map(|request| request.room.get()).filter(|room| *room != 0).collect()
}

/// Allocates a huge block while a piece is out of use; says whether the thread gave way, at which the piece ends.
fn gives_way(engine: TestEngine, heap: &Heap, piece: Piece, resident: bool) -> bool {
    let waited = Arc::new(AtomicBool::new(false));
    let hook = waited.clone();
    os(engine).on_next_yield(move || {
        engine.finish(piece.slot, resident);
        hook.store(true, Ordering::Relaxed);
    });
    let block = allocate(engine, heap, layout(BYTES));
    assert!(!block.is_null());
    free(engine, heap, block);
    waited.load(Ordering::Relaxed)
}

#[test]
fn handles_given_up_while_the_governor_sleeps_leave_no_slot_behind() {
    let (engine, _) = started(FakeOs::new(), Commit::Ready);
    for _ in 0..3 {
        let tickets: Vec<_> = (0..REQUEST_COUNT_MAX).map(|_| ask(engine, Purpose::OneBlock, 1 << 55)).collect();
        assert!(engine.arena().governor().requests().make(Purpose::OneBlock, 1).is_none(), "all are taken");
        assert_eq!(end(engine, tickets[REQUEST_COUNT_MAX - 1]), Some(PrewarmState::Refused));
        tickets.into_iter().for_each(|ticket| engine.arena().governor().requests().let_go(ticket));
    }
}

#[test]
fn a_request_of_the_parent_is_forgotten_in_a_forked_child() {
    let (engine, _) = started(FakeOs::new(), Commit::Ready);
    let ticket = ask(engine, Purpose::OneBlock, BYTES);
    engine.after_fork_in_child();
    assert_eq!(state(engine, ticket), None, "who waits for it does not wait");
    assert!(!engine.arena().governor().requests().cancel(ticket));
}

#[test]
fn a_block_that_is_asked_for_while_its_memory_is_made_warm_waits_for_the_one_piece() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let room = engine.keep_room(BYTES as u64).unwrap();
    let piece = engine.take_cold_in_room(room, 8 * MIB).unwrap();
    assert!(gives_way(engine, heap, piece, true));
    assert!(!engine.kept_room(room).is_kept, "the block was in it");
}

#[test]
fn nobody_waits_for_a_purge_of_kept_memory() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    assert_eq!(end(engine, ask(engine, Purpose::OneBlock, BYTES)), Some(PrewarmState::Ready));
    let piece = engine.take_warm_in_room(rooms(engine)[0], 8 * MIB).unwrap();
    assert!(!gives_way(engine, heap, piece, false));
    engine.finish(piece.slot, false);
}

#[test]
fn a_room_that_was_used_since_and_is_kept_anew_is_not_kept_twice() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let requests = engine.arena().governor().requests();
    let before = ask(engine, Purpose::ManyBlocks, 2 * MIB);
    let first = ask(engine, Purpose::OneBlock, BYTES);
    assert_eq!(end(engine, first), Some(PrewarmState::Ready));
    // So that the next request comes before it in the table.
    requests.cancel(before);
    requests.let_go(before);
    engine.governor_round();
    // A block comes and goes between two looks of the governor.
    let room = rooms(engine);
    let block = allocate(engine, heap, layout(BYTES));
    free(engine, heap, block);
    assert!(!engine.kept_room(room[0]).is_kept);
    let second = ask(engine, Purpose::OneBlock, BYTES);
    assert_eq!(end(engine, second), Some(PrewarmState::Ready));
    assert_eq!(rooms(engine), room, "the same one, once");
    assert_eq!(state(engine, first), Some(PrewarmState::Taken));
    requests.cancel(first);
    requests.let_go(first);
    engine.governor_round();
    assert!(engine.kept_room(room[0]).is_kept && state(engine, second) == Some(PrewarmState::Ready));
}

#[test]
fn a_request_for_many_blocks_ends_though_the_program_takes_them_as_they_come() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let ticket = ask(engine, Purpose::ManyBlocks, 20 * MIB);
    let mut blocks = Vec::new();
    for round in 0.. {
        assert!(round < 25, "there is no end");
        engine.governor_round();
        if state(engine, ticket) != Some(PrewarmState::Warming) {
            break;
        }
        let retired = engine.retired().blocks;
        blocks.extend((0..retired >> 21).map(|_| allocate(engine, heap, layout(2 * MIB))));
    }
    assert_eq!(state(engine, ticket), Some(PrewarmState::Taken));
    assert_eq!(engine.arena().governor().requests().progress(ticket).unwrap().faulted_bytes, 20 << 20);
}

#[test]
fn a_doze_is_never_longer_than_memory_lingers() {
    let mut slow = options(Commit::Ready);
    slow.pressure = false;
    slow.decay = Some(Nanos::from_millis(3_600_000));
    let (engine, heap) = started_with(FakeOs::new(), slow);
    let span = allocate(engine, heap, layout(2 * MIB));
    free(engine, heap, span);
    let Some(After::Doze(time)) = engine.governor_round() else { panic!("nothing is due") };
    assert!(time.0 <= slow.linger.0 / 8 * 9, "{time:?}");
}
