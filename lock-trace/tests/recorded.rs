//! Aim: the trace of a real program, recorded by `examples/watch` on Linux 6.18, has the numbers that a separate count
//! of its events gave.
//!
//! The program maps and unmaps 64 KiB on one thread all the time, while another one fills and unmaps 200 MiB, and two
//! processes named cat read its smaps.
#![cfg(target_arch = "x86_64")]

use lock_trace::{Activity, Assembler, Event, IntervalKind, Losses, Mode, Options, Tally, Trace};

const PID: i32 = 13_726;
const SMALL: i32 = 13_773;
const LARGE: i32 = 13_774;
const READERS: [i32; 2] = [13_782, 13_783];

fn recorded() -> Trace {
    let events: Vec<Event> = include_str!("recorded.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is an event"))
        .collect();
    let mut assembler = Assembler::new(PID, 1_126_220_289_488, &Options::default());
    events.into_iter().for_each(|event| assembler.push(event));
    assembler.finish(1_126_621_723_777)
}

fn numbers(tally: &Tally) -> [u64; 3] {
    [tally.count, tally.total_ns, tally.longest_ns]
}

#[test]
fn totals_are_those_of_a_separate_count() {
    let trace = recorded();
    assert_eq!(trace.lost, Losses::default());
    assert_eq!(numbers(&trace.holds(Mode::Write)), [206, 2_614_153, 56_013]);
    assert_eq!(numbers(&trace.holds(Mode::Read)), [160, 40_570_329, 30_949_719]);
    assert_eq!(numbers(&trace.waits(Mode::Write)), [205, 36_431_287, 29_869_656]);
    assert_eq!(numbers(&trace.waits(Mode::Read)), [56, 77_643, 4_997]);
}

#[test]
fn calls_are_those_of_a_separate_count() {
    let trace = recorded();
    let calls: Vec<_> = trace.calls.iter().map(|row| (row.tid, row.call.as_str(), row.count, row.bytes)).collect();
    let expected =
        [(SMALL, "mmap", 102, 6_684_672), (SMALL, "munmap", 102, 6_684_672), (LARGE, "munmap", 1, 209_715_200)];
    assert_eq!(calls, expected);
}

#[test]
fn the_longest_waits_are_blamed_on_the_right_threads() {
    let trace = recorded();
    let waits: Vec<_> = trace.kept.iter().filter(|kept| kept.kind == IntervalKind::Wait).take(4).collect();
    let blame: Vec<_> =
        waits.iter().map(|wait| (wait.duration_ns, wait.blame[0].tid, wait.blame[0].overlap_ns)).collect();
    let expected = [
        (29_869_656, LARGE, 29_818_259),
        (3_692_975, READERS[0], 1_209_236),
        (2_167_890, READERS[1], 2_143_224),
        (180_308, READERS[0], 168_801),
    ];
    assert_eq!(blame, expected);
    assert!(waits.iter().all(|wait| wait.tid == SMALL && wait.blame.len() == 1));
    assert_eq!(waits[0].blame[0].activity, Activity::Call { number: libc::SYS_munmap, bytes: Some(200 << 20) });
}

#[test]
fn readers_from_outside_are_told_apart() {
    let trace = recorded();
    let outside: Vec<_> = trace.rows.iter().filter(|row| row.outsider).collect();
    assert!(outside.iter().all(|row| READERS.contains(&row.tid) && row.thread == "cat" && row.mode == Mode::Read));
    assert_eq!(outside.iter().map(|row| row.activity.as_str()).collect::<Vec<_>>(), ["other call", "other call"]);
}
