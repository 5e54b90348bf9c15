//! Whole engines on the fake kernel: every way through the layers, with every kernel call failing in turn.
//!
//! Method: an engine is leaked per case, worked with by heaps that the test drives itself, then asked whether anything
//! was lost: slices or rooms still in use, chunks that never come back.

mod failures;
mod giving_back;
mod late_start;
mod locked;
mod placement;
mod pool;
mod random_life;
mod requests;
mod small_blocks;
mod warming;

extern crate std;

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::vec::Vec;

use super::allocate::{allocate, allocate_zeroed, deallocate, reallocate, usable_bytes};
use crate::arena::{Found, Reservation};
use crate::governor::{After, Batch, Piece, Purpose, Source, Ticket};
use crate::limits::{CHUNK_BYTES, HUGE_BYTES_MIN, PURGE_PIECE_HUGE_BYTES, SLICE_BYTES};
use crate::options::{Commit, Options};
use crate::os::Os;
use crate::os::fake::FakeOs;
use crate::stats::PrewarmState;
use crate::thread::engine::Engine;
use crate::thread::heap::Heap;
use crate::units::Nanos;

pub(super) const MIB: usize = 1 << 20;

pub(super) type TestEngine = &'static Engine<FakeOs>;

pub(super) fn leak(os: FakeOs) -> TestEngine {
    Box::leak(Box::new(Engine::new(os)))
}

pub(super) fn options(commit: Commit) -> Options {
    // Without a reserve, so that only what is freed is given back.
    let mut options = Options::new();
    options.commit = commit;
    options.warm_reserve = None;
    options
}

pub(super) fn started(os: FakeOs, commit: Commit) -> (TestEngine, &'static Heap) {
    started_with(os, options(commit))
}

pub(super) fn started_with(os: FakeOs, options: Options) -> (TestEngine, &'static Heap) {
    let engine = leak(os);
    assert!(engine.start(&options));
    (engine, engine.acquire_heap().unwrap())
}

pub(super) fn os(engine: TestEngine) -> &'static FakeOs {
    engine.arena().kernel().os()
}

pub(super) fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 8).unwrap()
}

/// Writes to both ends of a block.
pub(super) fn mark(block: *mut u8, bytes: usize, tag: u8) {
    // SAFETY: callers pass live blocks of at least `bytes >= 1`.
    unsafe {
        block.write(tag);
        block.add(bytes - 1).write(tag);
    }
}

pub(super) fn free(engine: TestEngine, heap: &Heap, block: *mut u8) {
    // SAFETY: callers pass a live block and forget it.
    unsafe { deallocate(engine, heap, block.addr()) };
}

/// Lives the governor's life until it would sleep. Gives the bytes purged.
pub(super) fn drain(engine: TestEngine) -> usize {
    live(engine, Nanos(u64::MAX))
}

/// Lives the governor's life for `time`, or until it would sleep. Gives the bytes purged.
pub(super) fn live(engine: TestEngine, time: Nanos) -> usize {
    let purged = || os(engine).purges().iter().map(|purged| purged.bytes).sum::<usize>();
    let before = purged();
    let end = Nanos(os(engine).now().0.saturating_add(time.0));
    for _ in 0..1_000_000 {
        match engine.governor_round().unwrap() {
            After::Pause(time) | After::Doze(time) => os(engine).sleep(time),
            After::Sleep => return purged() - before,
        }
        if os(engine).now() >= end {
            return purged() - before;
        }
    }
    panic!("there is no end");
}

/// Takes the first piece that is due once the linger time has passed, as the governor would.
pub(super) fn take_piece(engine: TestEngine) -> Option<Piece> {
    let linger = Options::new().linger;
    os(engine).advance(Nanos(linger.0 + 1_000_000));
    let mut batch = Batch::new();
    engine.take(os(engine).now(), linger, usize::MAX, u64::MAX, &mut batch);
    batch.pieces().next().copied()
}

/// Complains if anything is still in use or cannot come back.
pub(super) fn assert_nothing_lost(engine: TestEngine, what: &str) {
    assert_all_back(engine, what);
    assert!(engine.arena().retired().is_empty(), "{what}: the queue is not empty");
}

/// The same, where the queue may still name ranges that have been in use again since.
pub(super) fn assert_all_back(engine: TestEngine, what: &str) {
    for _ in 0..3 {
        drain(engine);
    }
    for reservation in engine.arena().reservations() {
        assert_eq!(reservation.space.used_slices(), 0, "{what}: slices in use");
        for chunk in reservation.space.used_chunks() {
            assert!(!reservation.space.is_retired(chunk), "{what}: {chunk:?} is free and never purged");
        }
        for room in reservation.rooms.used_rooms() {
            let state = reservation.rooms.state(room).unwrap();
            assert!(!state.is_in_use() && state.warm() == 0, "{what}: {room:?} is {state:?}");
        }
    }
}
