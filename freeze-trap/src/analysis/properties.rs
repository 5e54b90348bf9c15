//! Aim: whatever a source tells, in whatever order, no sentence is impossible: nobody is blocked for longer than the
//! freeze lasted, and no overlap is longer than what overlaps.
//!
//! Method: random intervals and windows, those of a broken source included.

use lock_trace::Mode;
use proptest::prelude::*;

use super::samples::{MS, Sample};
use super::tests::{CONDVAR, FUTEX, MUTEX, NAP, POLL, READER, WAKE, WRITER};
use super::*;
use crate::event::{Kind, Sleep, Waker};
use crate::stack::StackPair;

/// Any interval of a few threads, in and around the window.
fn any_interval() -> impl Strategy<Value = Interval> {
    let sleep = prop_oneof![
        Just(Sleep::Runnable),
        Just(Sleep::Interruptible),
        Just(Sleep::Uninterruptible),
        Just(Sleep::Other)
    ];
    let mode = prop_oneof![Just(Mode::Read), Just(Mode::Write)];
    let time = prop_oneof![8 => 0..30_000 * MS, 1 => any::<u64>()];
    let numbers = (0_i32..5, 1_i32..3, 1_i32..3, 0_u32..12, 0_u32..12);
    let rest = (
        any::<bool>(),
        prop::option::of((0_i32..5, time.clone())),
        prop::option::of(prop::array::uniform6(0_u64..300)),
    );
    (0..3, sleep, mode, numbers, time.clone(), time, rest).prop_map(
        |(kind, sleep, mode, (tid, pid, owner_pid, user, kernel), start_ns, end_ns, (unfinished, waker, numbers))| {
            let stack = |one| Some(crate::stack::StackId(one));
            let pair = StackPair { kernel: stack(kernel), user: stack(user) };
            let waker = waker.map(|(tid, at_ns)| Waker { thread: samples::thread(tid), at_ns, stack: pair });
            let kind = match kind {
                0 => Kind::OffCpu { sleep, waker },
                1 => Kind::Hold { mode },
                _ => Kind::Wait { mode },
            };
            let thread = Thread { pid, tid, name: String::new() };
            let call = numbers.map(|arguments| crate::event::Call { number: arguments[5], arguments });
            Interval { kind, thread, owner_pid, start_ns, end_ns, unfinished, call, stack: pair }
        },
    )
}

/// Any order of the times of a window.
fn any_window() -> impl Strategy<Value = Window> {
    let time = || prop_oneof![6 => 0..30_000 * MS, 1 => any::<u64>()];
    (time(), time(), time(), prop::option::of(time()), time()).prop_map(
        |(start_ns, frozen_ns, trigger_ns, recovered_ns, end_ns)| Window {
            start_ns,
            frozen_ns,
            trigger_ns,
            recovered_ns,
            end_ns,
            trigger_wall: String::new(),
        },
    )
}

fn with_stacks() -> Sample {
    let mut sample = Sample::new();
    for kernel in [FUTEX, WRITER, READER, NAP, POLL, WAKE] {
        for user in [MUTEX, CONDVAR] {
            sample.stack(kernel, user);
        }
    }
    sample
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_exceeds_the_frozen_time(
        intervals in prop::collection::vec(any_interval(), 0..60),
        window in any_window(),
        throttled_ns in prop::option::of(any::<u64>()),
    ) {
        let mut sample = with_stacks();
        (sample.intervals, sample.window, sample.throttled_ns) = (intervals, window, throttled_ns);
        let findings = find(&sample.observed());
        let window = &sample.window;
        let frozen_ns = window.frozen_end_ns().min(window.end_ns).saturating_sub(window.frozen_ns.max(window.start_ns));
        let mut by_thread = std::collections::HashMap::new();
        for row in &findings.blocked {
            prop_assert!(row.longest_ns <= row.total_ns);
            *by_thread.entry((row.thread.pid, row.thread.tid)).or_insert(0) += row.total_ns;
        }
        prop_assert!(by_thread.values().all(|total_ns| *total_ns <= frozen_ns), "{by_thread:?} of {frozen_ns}");
        prop_assert!(findings.pairs.iter().all(|pair| pair.overlap_ns <= frozen_ns));
        prop_assert!(findings.intervals.iter().all(|span| span.start_ns < span.end_ns));
        prop_assert!(!findings.sentence.is_empty() && !findings.sentence.ends_with('.'));
        prop_assert_eq!(&findings, &find(&sample.observed()), "the same input, another answer");
    }

    #[test]
    fn no_overlap_exceeds_what_overlaps(hold in any_interval(), wait in any_interval()) {
        let mut sample = with_stacks();
        let hold = Interval { kind: Kind::Hold { mode: Mode::Write }, ..hold };
        let wait = Interval { kind: Kind::Wait { mode: Mode::Read }, ..wait };
        let longest_ns = hold.duration_ns().min(wait.duration_ns());
        sample.intervals = vec![hold, wait];
        let findings = find(&sample.observed());
        prop_assert!(findings.pairs.iter().all(|pair| pair.overlap_ns <= longest_ns));
    }
}
