//! Locked memory: the kernel is told to lock pages when they are touched, or steps are small.
//!
//! Method: the fake kernel says of each page that it is in memory, as it would be right after a commit of locked
//! memory, until it is told to lock on fault.

extern crate std;

use std::format;

use super::*;

/// Has the fake kernel lock memory from now on, as `mlockall` does, of so many addresses.
fn lock(os: &FakeOs, address_bytes: usize) {
    os.populates.store(true, Ordering::SeqCst);
    os.files.set("/proc/self/status", format!("Name:\tprogram\nVmLck:\t{} kB\n", address_bytes >> 10));
}

/// More addresses than any reservation has.
const ALL: usize = 1 << 50;

fn locks_on_fault(engine: TestEngine) -> [u64; 2] {
    let advise = engine.arena().kernel().counters().snapshot().advise;
    // Two flags are set at start.
    [advise.application.calls - 2, advise.governor.calls]
}

fn grow(engine: TestEngine, heap: &Heap, block: *mut u8, from: usize, to: usize) {
    // SAFETY: the block is live with this layout, and stays where it is.
    let grown = unsafe { reallocate(engine, heap, NonNull::new(block).unwrap(), layout(from), to) };
    assert_eq!(grown, block);
}

#[test]
fn memory_locked_before_the_start_is_locked_on_fault_in_both_modes() {
    for commit in [Commit::Ready, Commit::Stepped] {
        let locked = FakeOs::new();
        lock(&locked, ALL);
        let (engine, heap) = started(locked, commit);
        assert_eq!(engine.arena().is_stepped(), commit == Commit::Stepped);
        assert_eq!(locks_on_fault(engine), [1, 0]);
        assert!(!allocate(engine, heap, layout(100 * MIB)).is_null());
        assert_eq!(locks_on_fault(engine), [1, 0], "once");
    }
}

#[test]
fn where_nothing_locks_on_fault_steps_are_as_small_as_can_be() {
    let mut locked = FakeOs::new();
    lock(&locked, ALL);
    locked.locks_on_fault = false;
    let (engine, heap) = started(locked, Commit::Ready);
    assert!(engine.arena().is_stepped(), "a ready reservation would be brought into memory");
    let committed = || engine.arena().reservations().map(|reservation| reservation.footprint_bytes()[1]).sum::<usize>();
    let at_start = committed();
    assert!(at_start < 8 * MIB, "{at_start}");
    let block = allocate(engine, heap, layout(40 * MIB));
    assert_eq!(committed() - at_start, 40 * MIB);
    grow(engine, heap, block, 40 * MIB, 41 * MIB);
    assert_eq!(committed() - at_start, 42 * MIB);
    let blocks: Vec<_> = (0..20).map(|_| allocate(engine, heap, layout(MIB))).collect();
    assert!(committed() - at_start <= 42 * MIB + 24 * MIB);
    let calls = engine.arena().kernel().counters().snapshot().commit.governor.calls;
    live(engine, Nanos::from_millis(500));
    assert_eq!(engine.arena().kernel().counters().snapshot().commit.governor.calls, calls, "nothing ahead of need");
    // Unlocked again: the step after the next is a wide one.
    lock(os(engine), 0);
    os(engine).populates.store(false, Ordering::SeqCst);
    grow(engine, heap, block, 41 * MIB, 44 * MIB);
    grow(engine, heap, block, 44 * MIB, 46 * MIB);
    assert!(committed() - at_start > 150 * MIB);
    assert!(blocks.iter().all(|block| !block.is_null()));
}

#[test]
fn the_governor_looks_for_locked_memory_before_a_step() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    let block = allocate(engine, heap, layout(40 * MIB));
    lock(os(engine), ALL);
    grow(engine, heap, block, 40 * MIB, 50 * MIB);
    live(engine, Nanos::from_millis(500));
    assert_eq!(locks_on_fault(engine), [0, 1]);
    assert!(engine.arena().kernel().counters().snapshot().commit.governor.calls > 0);
    assert!(!os(engine).populates.load(Ordering::SeqCst), "before the step");
}

#[test]
fn a_step_of_the_program_looks_for_locked_memory_as_well() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    let block = allocate(engine, heap, layout(40 * MIB));
    lock(os(engine), ALL);
    grow(engine, heap, block, 40 * MIB, 40 * MIB);
    assert_eq!(locks_on_fault(engine), [0, 0], "no step, no look");
    for mib in [40, 80, 300, 1000, 3000].windows(2) {
        grow(engine, heap, block, mib[0] * MIB, mib[1] * MIB);
    }
    assert_eq!(locks_on_fault(engine), [1, 0]);
    // The program locks all it has once more, which undoes that: one step finds out.
    lock(os(engine), ALL);
    grow(engine, heap, block, 3000 * MIB, 8000 * MIB);
    assert_eq!(locks_on_fault(engine), [2, 0]);
}

#[test]
fn without_proc_the_first_step_finds_out() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    os(engine).populates.store(true, Ordering::SeqCst);
    let block = allocate(engine, heap, layout(40 * MIB));
    assert_eq!(locks_on_fault(engine), [1, 0]);
    grow(engine, heap, block, 40 * MIB, 300 * MIB);
    assert_eq!(locks_on_fault(engine), [1, 0]);
}

#[test]
fn memory_that_the_program_locks_for_itself_changes_nothing() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    let block = allocate(engine, heap, layout(40 * MIB));
    // The last page of each step is in memory, because another thread has used it by then.
    lock(os(engine), 64 << 10);
    grow(engine, heap, block, 40 * MIB, 300 * MIB);
    live(engine, Nanos::from_millis(500));
    assert_eq!(locks_on_fault(engine), [0, 0]);
}

#[test]
fn further_reservations_are_locked_on_fault_as_well() {
    let (engine, heap) = started(FakeOs::new().narrow(256 * MIB), Commit::Ready);
    lock(os(engine), ALL);
    let blocks: Vec<_> = (0..40).map(|_| allocate(engine, heap, layout(8 * MIB))).collect();
    assert!(blocks.iter().all(|block| !block.is_null()));
    let reservations = engine.arena().reservations().count() as u64;
    let advise = engine.arena().kernel().counters().snapshot().advise;
    assert!(reservations > 1 && advise.application.calls == 2 * reservations + 1, "{advise:?}");
}
