//! Kernels that refuse: every call in turn, address space in halves, limits. Nothing may be lost by any of it.

extern crate std;

use super::*;
use crate::governor::Purpose;
use crate::stats::PrewarmState;

/// Allocates, grows, shrinks and frees blocks of all kinds; null is fine anywhere. Gives how many blocks it got.
fn scenario(engine: TestEngine, heap: &'static Heap) -> usize {
    let sizes = [1, 24, 100, 1000, 5000, 40_000, 300_000, 600_000, 3 * MIB, 10 * MIB, 33 * MIB, 100 * MIB];
    let mut live: Vec<(*mut u8, usize)> = Vec::new();
    for round in 0..3 {
        for bytes in sizes {
            let block = if round == 1 {
                allocate_zeroed(engine, heap, layout(bytes))
            } else {
                allocate(engine, heap, layout(bytes))
            };
            if !block.is_null() {
                mark(block, bytes, 1);
                live.push((block, bytes));
            }
        }
    }
    let got = live.len();
    for (index, (block, bytes)) in live.iter_mut().enumerate() {
        let wanted = if index % 2 == 0 { *bytes * 2 } else { *bytes / 2 + 1 };
        // SAFETY: the block is live with this layout, and replaced if it moved.
        let moved = unsafe { reallocate(engine, heap, NonNull::new(*block).unwrap(), layout(*bytes), wanted) };
        if moved.is_null() {
            mark(*block, *bytes, 2);
        } else {
            // SAFETY: the first byte is part of both sizes.
            assert_eq!(unsafe { moved.read() }, 1);
            mark(moved, wanted, 3);
            (*block, *bytes) = (moved, wanted);
        }
    }
    // Half of the blocks are freed by a thread of their own.
    let other = engine.acquire_heap();
    for (index, (block, _)) in live.into_iter().enumerate() {
        match other {
            Some(other) if index % 2 == 0 => free(engine, other, block),
            _ => free(engine, heap, block),
        }
    }
    if let Some(other) = other {
        engine.release_heap(other);
    }
    engine.release_heap(heap);
    got
}

/// Runs the scenario with `count` calls failing from each call number on, until one run is over before the failures.
fn fail_in_turn(commit: Commit, reserve_bytes_max: usize, count: usize) {
    fail_machine_in_turn(&options(commit), || FakeOs::new().narrow(reserve_bytes_max), count);
}

fn fail_machine_in_turn(options: &Options, machine: impl Fn() -> FakeOs, count: usize) {
    for from in 0.. {
        let machine = machine();
        let what = std::format!(
            "{:?}, at most {:#x}, {count} failures from call {from}",
            options.commit,
            machine.reserve_bytes_max
        );
        let engine = leak(machine.failing(from, count));
        // A refused start may be tried again.
        if !engine.start(options) && !engine.start(options) {
            assert!(count > 2, "{what}: does not start");
            continue;
        }
        let Some(heap) = engine.acquire_heap().or_else(|| engine.acquire_heap()) else { continue };
        let got = scenario(engine, heap);
        assert!(got > 0 || count > 1, "{what}: no block at all");
        let reached = os(engine).calls() > from;
        os(engine).fail_from.store(usize::MAX, Ordering::SeqCst);
        assert_nothing_lost(engine, &what);
        // Afterwards all works again, once what was refused has been forgotten.
        os(engine).advance(Nanos::from_millis(1001));
        let heap = engine.acquire_heap().unwrap();
        assert_eq!(scenario(engine, heap), 36, "{what}");
        assert_nothing_lost(engine, &what);
        if !reached {
            assert!(from > 3);
            return;
        }
    }
}

#[test]
fn nothing_is_lost_when_any_one_call_fails_in_ready_mode() {
    fail_in_turn(Commit::Ready, usize::MAX, 1);
}

#[test]
fn nothing_is_lost_when_any_one_call_fails_in_stepped_mode() {
    fail_in_turn(Commit::Stepped, usize::MAX, 1);
}

#[test]
fn nothing_is_lost_when_any_one_call_fails_in_narrow_reservations() {
    fail_in_turn(Commit::Ready, 256 * MIB, 1);
    fail_in_turn(Commit::Stepped, 256 * MIB, 1);
}

#[test]
fn nothing_is_lost_when_several_calls_in_a_row_fail() {
    fail_in_turn(Commit::Stepped, usize::MAX, 3);
    fail_in_turn(Commit::Stepped, 256 * MIB, 5);
}

#[test]
fn nothing_is_lost_when_calls_fail_beside_a_pool_of_hugepages() {
    for commit in [Commit::Ready, Commit::Stepped] {
        let mut options = options(commit);
        options.hugetlb = Some(160 * MIB);
        let machine = || {
            let mut machine = FakeOs::new();
            machine.pool_bytes = 160 * MIB;
            machine
        };
        fail_machine_in_turn(&options, machine, 1);
        fail_machine_in_turn(&options, machine, 3);
    }
}

#[test]
fn a_refused_step_ahead_of_need_does_not_keep_the_governor_from_its_work() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    let spans = [(); 5].map(|()| allocate(engine, heap, layout(10 * MIB)));
    let block = allocate(engine, heap, layout(HUGE_BYTES_MIN));
    // SAFETY: the block is live with this layout.
    let grown = unsafe {
        reallocate(engine, heap, NonNull::new(block).unwrap(), layout(HUGE_BYTES_MIN), HUGE_BYTES_MIN + 20 * MIB)
    };
    assert_eq!(grown, block);
    assert!(engine.arena().reservations().any(|one| one.rooms.wants_commit() && one.space.frontier().wants_commit()));
    free(engine, heap, spans[0]);
    let calls = os(engine).calls();
    os(engine).fail_next(8);
    // Each step is tried once, in full and as little as there may be; then the governor goes on.
    let pauses = (0..100).take_while(|_| matches!(engine.governor_round(), Some(After::Pause(_)))).count();
    assert!(pauses < 10, "{pauses} rounds without a rest");
    assert!((2..8).contains(&(os(engine).calls() - calls)), "refused steps are not tried again at once");
}

#[test]
fn the_reservation_is_halved_until_the_kernel_agrees() {
    let (engine, heap) = started(FakeOs::new().narrow(3 << 30), Commit::Ready);
    let stats = engine.arena().kernel().counters().snapshot();
    assert!(stats.reserve.errors() >= 6, "{stats:?}");
    assert_eq!(stats.write_lock_calls, 0, "start-up is over");
    assert!(!allocate(engine, heap, layout(100)).is_null());
}

#[test]
fn a_kernel_that_gives_nothing_makes_start_fail_and_nothing_else() {
    let engine = leak(FakeOs::new().narrow(MIB));
    assert!(!engine.start(&options(Commit::Auto)));
    assert_eq!(engine.arena().reservations().count(), 0);
    assert_eq!(engine.arena().kernel().counters().snapshot().reserve.bytes(), 0);
}

#[test]
fn auto_is_stepped_where_all_memory_could_be_locked_or_commit_is_refused() {
    let (engine, _) = started(FakeOs::new(), Commit::Auto);
    assert!(!engine.arena().is_stepped());
    let mut locks = FakeOs::new();
    locks.facts.lockable_bytes = usize::MAX;
    let (engine, _) = started(locks, Commit::Auto);
    assert!(engine.arena().is_stepped());
    // reserve, four flags, metadata; the first of blocks is refused, as under strict overcommit.
    let (engine, _) = started(FakeOs::new().failing(6, 1), Commit::Auto);
    assert!(engine.arena().is_stepped());
}

#[test]
fn a_process_that_outgrows_its_reservation_gets_further_ones() {
    let (engine, heap) = started(FakeOs::new().narrow(256 * MIB), Commit::Ready);
    let blocks: Vec<_> = (0..100).map(|_| allocate(engine, heap, layout(8 * MIB))).collect();
    assert!(blocks.iter().all(|block| !block.is_null()));
    assert!(engine.arena().reservations().count() >= 3);
    for block in &blocks {
        assert_eq!(usable_bytes(engine, block.addr(), "test"), 8 * MIB);
        mark(*block, 8 * MIB, 7);
    }
    // More than any reservation of this kernel can hold.
    assert!(allocate(engine, heap, layout(300 * MIB)).is_null());
    blocks.into_iter().for_each(|block| free(engine, heap, block));
    engine.release_heap(heap);
    assert_nothing_lost(engine, "after growth");
}

#[test]
fn a_process_at_its_limit_leaves_the_kernel_alone() {
    let (engine, heap) = started(FakeOs::new().narrow(256 * MIB), Commit::Ready);
    // More than this kernel gives in one reservation: refused again and again, asked for once.
    assert!(allocate(engine, heap, layout(300 * MIB)).is_null());
    let calls = os(engine).calls();
    (0..1000).for_each(|_| assert!(allocate(engine, heap, layout(300 * MIB)).is_null()));
    assert_eq!(os(engine).calls(), calls);
    // A second later it is worth another try.
    os(engine).advance(Nanos::from_millis(1001));
    assert!(allocate(engine, heap, layout(300 * MIB)).is_null());
    assert!(os(engine).calls() > calls);
}

#[test]
fn every_slice_can_be_had_again_at_the_limit() {
    let mut limited = FakeOs::new().narrow(256 * MIB);
    limited.facts.memory_bytes = 64 * MIB;
    let (engine, heap) = started(limited, Commit::Ready);
    os(engine).fail_next(usize::MAX);
    let fill = || {
        let mut blocks = Vec::new();
        loop {
            let block = allocate(engine, heap, layout(MIB));
            if block.is_null() {
                return blocks;
            }
            blocks.push(block);
        }
    };
    let first = fill();
    let count = first.len();
    assert!(count > 190, "{count}");
    first.into_iter().for_each(|block| free(engine, heap, block));
    assert_eq!(fill().len(), count);
}

#[test]
fn empty_slabs_that_a_heap_keeps_serve_other_sizes_at_the_limit() {
    for bytes in [48 << 10, 600 << 10] {
        let fill_after = |queued: usize| {
            let mut limited = FakeOs::new().narrow(256 * MIB);
            limited.facts.memory_bytes = 64 * MIB;
            let (engine, heap) = started(limited, Commit::Ready);
            os(engine).fail_next(usize::MAX);
            let queue: Vec<_> = (0..queued).map(|_| allocate(engine, heap, layout(16 << 10))).collect();
            queue.into_iter().for_each(|block| free(engine, heap, block));
            let mut blocks: Vec<_> = Vec::new();
            loop {
                let block = allocate(engine, heap, layout(bytes));
                if block.is_null() {
                    return blocks.len();
                }
                blocks.push(block);
            }
        };
        // The slab for the next block of its size is kept, whatever comes, and those of the four blocks on the list.
        let (alone, after) = (fill_after(0), fill_after(60));
        assert!(after + 2 + 5 * SLICE_BYTES / bytes >= alone, "{bytes}: {after} blocks of {alone}");
    }
}

#[test]
fn the_stepped_mode_commits_in_few_steps() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    // 3 GiB in pieces that all come from slabs and spans.
    let blocks: Vec<_> =
        (0..6000).map(|n| allocate(engine, heap, layout(if n % 2 == 0 { 8 << 10 } else { MIB }))).collect();
    assert!(blocks.iter().all(|block| !block.is_null()));
    let stats = engine.arena().kernel().counters().snapshot();
    assert!(stats.write_lock_calls <= 12, "{stats:?}");
}

#[test]
fn the_ready_mode_never_calls_the_kernel_for_memory_again() {
    let (engine, heap) = started(FakeOs::new(), Commit::Ready);
    let calls = os(engine).calls();
    let blocks: Vec<_> = (0..2000).map(|n| allocate(engine, heap, layout(n * n * 16 + 1))).collect();
    assert!(blocks.iter().all(|block| !block.is_null()));
    assert_eq!(os(engine).calls(), calls);
}

#[test]
fn a_refused_step_ahead_of_need_is_left_alone_for_a_while() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    let grown = allocate(engine, heap, layout(40 * MIB));
    let blocks: Vec<_> = (0..32).map(|_| allocate(engine, heap, layout(2 * MIB))).collect();
    // SAFETY: the block is live with this layout, and stays where it is.
    let same = unsafe { reallocate(engine, heap, NonNull::new(grown).unwrap(), layout(40 * MIB), 50 * MIB) };
    assert!(same == grown && blocks.iter().all(|block| !block.is_null()));
    os(engine).fail_next(usize::MAX);
    let calls = os(engine).calls();
    live(engine, Nanos::from_millis(500));
    // One each for the steps of hugepages and of the room.
    assert_eq!(os(engine).calls() - calls, 2);
    // A second later, and when the kernel agrees, both are taken, and the program needs no call for twice as much.
    os(engine).fail_from.store(usize::MAX, Ordering::SeqCst);
    os(engine).advance(Nanos::from_millis(1001));
    // SAFETY: as above.
    let same = unsafe { reallocate(engine, heap, NonNull::new(grown).unwrap(), layout(50 * MIB), 52 * MIB) };
    assert_eq!(same, grown);
    live(engine, Nanos::from_millis(500));
    let commit = engine.arena().kernel().counters().snapshot().commit;
    assert_eq!((commit.governor.calls, commit.governor.errors), (4, 2));
    let blocks: Vec<_> = (0..30).map(|_| allocate(engine, heap, layout(2 * MIB))).collect();
    assert!(blocks.iter().all(|block| !block.is_null()));
    assert_eq!(engine.arena().kernel().counters().snapshot().commit.application, commit.application);
}

#[test]
fn at_the_limit_a_kept_room_that_is_committed_serves_a_request() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    let kept = engine.keep_room(200 * MIB as u64).unwrap();
    // A room that is warmer, but not committed as far.
    let warm = allocate(engine, heap, layout(HUGE_BYTES_MIN));
    free(engine, heap, warm);
    os(engine).fail_next(usize::MAX);
    let block = allocate(engine, heap, layout(90 * MIB));
    assert!(!block.is_null() && block != warm && !engine.kept_room(kept).is_kept);
    mark(block, 90 * MIB, 1);
}

#[test]
fn a_request_that_meets_no_memory_has_what_is_kept_given_up() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    let requests = engine.arena().governor().requests();
    let ticket = requests.make(Purpose::OneBlock, 64 * MIB as u64).unwrap();
    engine.arena().notify_governor(true);
    live(engine, Nanos::from_millis(400));
    assert_eq!(requests.progress(ticket).unwrap().state, PrewarmState::Ready);
    let freed = allocate(engine, heap, layout(10 * MIB));
    free(engine, heap, freed);
    // More than any machine like this has says nothing of its memory.
    assert!(allocate(engine, heap, layout(1 << 44)).is_null());
    assert_eq!(live(engine, Nanos::from_millis(50)), 0);
    assert_eq!(requests.progress(ticket).unwrap().state, PrewarmState::Ready);
    // What it could have.
    os(engine).fail_next(usize::MAX);
    assert!(allocate(engine, heap, layout(800 * MIB)).is_null());
    os(engine).fail_from.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(live(engine, Nanos::from_millis(50)), 74 * MIB, "without lingering");
    assert_eq!(requests.progress(ticket).unwrap().state, PrewarmState::Pressure);
    engine.release_heap(heap);
    assert_nothing_lost(engine, "after the shortage");
    // A second later memory is warmed again.
    os(engine).advance(Nanos::from_millis(1001));
    let ticket = requests.make(Purpose::OneBlock, 64 * MIB as u64).unwrap();
    live(engine, Nanos::from_millis(1500));
    assert_eq!(requests.progress(ticket).unwrap().state, PrewarmState::Ready);
}

#[test]
fn a_refused_step_does_not_stand_for_the_smaller_ones_that_follow() {
    let (engine, heap) = started(FakeOs::new(), Commit::Stepped);
    let mut blocks = Vec::new();
    // Each wide step is refused once, within one second.
    let mut refused = 0;
    while blocks.len() < 400 {
        let errors = || engine.arena().kernel().counters().snapshot().commit.errors();
        os(engine).fail_next(1);
        let block = allocate(engine, heap, layout(2 * MIB));
        os(engine).fail_from.store(usize::MAX, Ordering::SeqCst);
        refused += usize::from(errors() > refused as u64);
        assert!(!block.is_null(), "block {}", blocks.len());
        blocks.push(block);
    }
    assert!((2..60).contains(&refused), "{refused} refusals");
}
