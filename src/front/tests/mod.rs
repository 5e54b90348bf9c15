//! Whole engines on the fake kernel: every way through the layers, with every kernel call failing in turn.
//!
//! Method: an engine is leaked per case, worked with by heaps that the test drives itself, then asked whether anything
//! was lost: slices or rooms still in use, chunks that never come back.

mod failures;
mod giving_back;
mod placement;

extern crate std;

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::vec::Vec;

use super::allocate::{allocate, allocate_zeroed, deallocate, reallocate, usable_bytes};
use crate::arena::Found;
use crate::governor::Source;
use crate::limits::{CHUNK_BYTES, HUGE_BYTES_MIN, LINGER_MS, PURGE_PIECE_HUGE_BYTES, SLICE_BYTES};
use crate::options::Commit;
use crate::os::Os;
use crate::os::fake::FakeOs;
use crate::thread::engine::Engine;
use crate::thread::heap::Heap;
use crate::units::Nanos;

pub(super) const MIB: usize = 1 << 20;

pub(super) type TestEngine = &'static Engine<FakeOs>;

pub(super) fn leak(os: FakeOs) -> TestEngine {
    Box::leak(Box::new(Engine::new(os)))
}

pub(super) fn started(os: FakeOs, commit: Commit) -> (TestEngine, &'static Heap) {
    let engine = leak(os);
    assert!(engine.start(commit));
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

/// Purges all that is due, and then all the rest.
pub(super) fn drain(engine: TestEngine) -> usize {
    os(engine).advance(Nanos::from_millis(LINGER_MS + 1));
    engine.arena().governor().drain_due(engine.arena().kernel(), engine)
}

/// Complains if anything is still in use or cannot come back.
pub(super) fn assert_nothing_lost(engine: TestEngine, what: &str) {
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
    assert!(engine.arena().retired().is_empty(), "{what}: the queue is not empty");
}
