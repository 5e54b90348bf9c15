//! A governor whose thread is started by requests for memory only.

extern crate std;

use super::*;

fn started_late(os: FakeOs) -> (TestEngine, &'static Heap) {
    let engine = leak(os);
    engine.arena().start_governor_late();
    assert!(engine.start(&options(Commit::Ready)));
    (engine, engine.acquire_heap().unwrap())
}

/// What the C library does after each uncommon request.
fn start_if_due(engine: TestEngine) -> usize {
    engine.arena().start_governor_if_due();
    os(engine).threads()
}

#[test]
fn a_free_never_starts_it_and_the_next_request_does() {
    let (engine, heap) = started_late(FakeOs::new());
    assert_eq!(start_if_due(engine), 0, "there is nothing to do");
    let small = allocate(engine, heap, layout(1 << 20));
    assert_eq!(start_if_due(engine), 0, "nor in a small program");
    free(engine, heap, small);
    assert_eq!(os(engine).threads(), 0);
    assert_eq!(start_if_due(engine), 1, "there is something to give back");
    assert_eq!(start_if_due(engine), 1, "one is enough");
}

#[test]
fn the_first_hugepage_starts_it_as_all_may_be_freed_without_a_further_request() {
    for bytes in [HUGE_BYTES_MIN - MIB, HUGE_BYTES_MIN] {
        let (engine, heap) = started_late(FakeOs::new());
        mark(allocate(engine, heap, layout(bytes)), bytes, 1);
        assert_eq!(os(engine).threads(), 0, "not in the middle of a request");
        assert_eq!(start_if_due(engine), 1, "{bytes}");
    }
}

#[test]
fn a_child_of_vfork_does_not_start_it_and_its_parent_does() {
    let (engine, heap) = started_late(FakeOs::new());
    allocate(engine, heap, layout(HUGE_BYTES_MIN));
    os(engine).process.store(2, Ordering::SeqCst);
    assert_eq!(start_if_due(engine), 0);
    os(engine).process.store(1, Ordering::SeqCst);
    assert_eq!(start_if_due(engine), 1);
}

#[test]
fn a_forked_child_starts_its_own() {
    let (engine, heap) = started_late(FakeOs::new());
    let block = allocate(engine, heap, layout(HUGE_BYTES_MIN));
    assert_eq!(start_if_due(engine), 1);
    os(engine).process.store(2, Ordering::SeqCst);
    engine.after_fork_in_child();
    assert_eq!(start_if_due(engine), 1, "nobody rang yet");
    free(engine, heap, block);
    assert_eq!(start_if_due(engine), 2);
}

#[test]
fn one_that_is_refused_is_tried_again_when_somebody_rings() {
    let (engine, heap) = started_late(FakeOs::new());
    let block = allocate(engine, heap, layout(HUGE_BYTES_MIN));
    os(engine).fail_next(1);
    assert_eq!(start_if_due(engine), 0);
    assert_eq!(start_if_due(engine), 0, "not on every request");
    os(engine).advance(Nanos::from_millis(10_000));
    free(engine, heap, block);
    assert_eq!(start_if_due(engine), 1);
}
