//! Aim: each rule of the assembler, on lists of events made by hand, and a recorded trace of a real program with the
//! numbers that an independent count of its events gives.

use lock_trace::{Activity, Assembler, Context, Event, EventKind, IntervalKind, Mode, Options, Row, Trace};

const PID: i32 = 100;
const START_NS: u64 = 1_000;
const WRITE: bool = true;
const READ: bool = false;

/// Everything is kept.
fn options() -> Options {
    Options { keep_over_ns: 0, ..Options::default() }
}

fn event(time_ns: u64, tid: i32, kind: EventKind) -> Event {
    Event { time_ns, tid, pid: PID, cpu: None, kind }
}

fn start(time_ns: u64, tid: i32, write: bool) -> Event {
    event(time_ns, tid, EventKind::Start { write, context: Context::Fault })
}

fn acquired(time_ns: u64, tid: i32, write: bool) -> Event {
    event(time_ns, tid, EventKind::Acquired { write, success: true, context: Context::Fault })
}

fn refused(time_ns: u64, tid: i32, write: bool) -> Event {
    event(time_ns, tid, EventKind::Acquired { write, success: false, context: Context::Fault })
}

fn released(time_ns: u64, tid: i32, write: bool) -> Event {
    event(time_ns, tid, EventKind::Released { write })
}

fn enter(time_ns: u64, tid: i32, number: i64, bytes: u64) -> Event {
    event(time_ns, tid, EventKind::Enter { number, args: [0x1000, bytes, 0, 0, 0, 0] })
}

fn exit(time_ns: u64, tid: i32, number: i64) -> Event {
    event(time_ns, tid, EventKind::Exit { number })
}

fn named(time_ns: u64, tid: i32, name: &str) -> Event {
    event(time_ns, tid, EventKind::Comm { name: name.to_owned(), exec: false })
}

fn assemble(options: &Options, events: impl IntoIterator<Item = Event>, end_ns: u64) -> Trace {
    let mut assembler = Assembler::new(PID, START_NS, options);
    events.into_iter().for_each(|event| assembler.push(event));
    assembler.finish(end_ns)
}

fn trace(events: impl IntoIterator<Item = Event>) -> Trace {
    assemble(&options(), events, 9_000)
}

/// Thread, activity, mode, count and time of holds, count and time of waits.
type Short<'a> = (&'a str, &'a str, Mode, (u64, u64), (u64, u64));

fn short(row: &Row) -> Short<'_> {
    let [holds, waits] = [&row.holds, &row.waits].map(|tally| (tally.count, tally.total_ns));
    (&row.thread, &row.activity, row.mode, holds, waits)
}

fn shorts(trace: &Trace) -> Vec<Short<'_>> {
    trace.rows.iter().map(short).collect()
}

#[test]
fn a_wait_ends_where_the_hold_begins() {
    let trace = trace([named(0, 1, "a"), start(2_000, 1, WRITE), acquired(2_300, 1, WRITE), released(2_350, 1, WRITE)]);
    assert_eq!(shorts(&trace), [("a", "fault", Mode::Write, (1, 50), (1, 300))]);
    assert_eq!(trace.waits(Mode::Write).longest_ns, 300);
    assert_eq!(trace.holds(Mode::Read).count, 0);
    assert_eq!(trace.lost, lock_trace::Losses::default());
}

#[test]
fn an_attempt_without_success_is_not_counted() {
    let trace = trace([start(2_000, 1, WRITE), refused(2_100, 1, WRITE), refused(2_200, 1, READ)]);
    assert!(trace.rows.is_empty() && trace.kept.is_empty(), "{trace:?}");
}

#[test]
fn a_try_holds_without_a_wait() {
    let trace = trace([acquired(2_000, 1, READ), released(2_010, 1, READ)]);
    assert_eq!(shorts(&trace), [("?", "fault", Mode::Read, (1, 10), (0, 0))]);
}

#[test]
fn a_downgrade_ends_the_hold_for_writing_and_begins_one_for_reading() {
    let events = [
        enter(1_900, 1, libc::SYS_munmap, 8192),
        start(2_000, 1, WRITE),
        acquired(2_001, 1, WRITE),
        acquired(2_010, 1, READ),
        released(2_500, 1, READ),
        exit(2_600, 1, libc::SYS_munmap),
    ];
    let trace = trace(events);
    let expected = [("?", "munmap", Mode::Read, (1, 490), (0, 0)), ("?", "munmap", Mode::Write, (1, 9), (1, 1))];
    assert_eq!(shorts(&trace), expected);
    assert_eq!(trace.worst(1)[0].activity, Activity::Call { number: libc::SYS_munmap, bytes: Some(8192) });
}

#[test]
fn nested_holds_for_reading_are_all_counted() {
    let events = [
        acquired(2_000, 1, READ),
        start(2_010, 1, READ),
        acquired(2_020, 1, READ),
        released(2_030, 1, READ),
        released(2_100, 1, READ),
    ];
    let trace = trace(events);
    assert_eq!(shorts(&trace), [("?", "fault", Mode::Read, (2, 110), (1, 10))]);
}

#[test]
fn what_is_open_at_the_end_is_counted_and_marked() {
    let trace = trace([acquired(2_000, 1, WRITE), start(3_000, 2, READ)]);
    assert_eq!(trace.holds(Mode::Write).total_ns, 7_000);
    assert_eq!(trace.waits(Mode::Read).total_ns, 6_000);
    let marks: Vec<_> = trace.kept.iter().map(|kept| (kept.kind, kept.tid, kept.unfinished)).collect();
    assert_eq!(marks, [(IntervalKind::Hold, 1, true), (IntervalKind::Wait, 2, true)]);
    let blame: Vec<_> = trace.kept[1].blame.iter().map(|blame| (blame.tid, blame.overlap_ns)).collect();
    assert_eq!(blame, [(1, 6_000)]);
}

#[test]
fn a_release_of_a_hold_from_before_is_counted_as_such() {
    let events = [acquired(900, 1, WRITE), released(2_000, 1, WRITE), released(2_000, 2, READ)];
    let trace = trace(events);
    assert_eq!((trace.lost.unmatched_releases, trace.rows.len()), (2, 0));
    assert!(!trace.lost.is_incomplete());
    assert!(trace.text().contains("2 holds had begun before"), "{trace}");
}

#[test]
fn losses_are_counted_and_said() {
    let trace = trace([event(2_000, 0, EventKind::Lost { count: 7 }), event(2_100, 0, EventKind::Lost { count: 5 })]);
    assert_eq!(trace.lost.records, 12);
    assert!(trace.text().contains("INCOMPLETE: 12 events lost"), "{trace}");
}

#[test]
fn a_thread_that_goes_on_holds_nothing() {
    let events = [
        acquired(2_000, 1, WRITE),
        enter(3_000, 1, libc::SYS_mmap, 4096),
        start(3_100, 1, WRITE),
        acquired(3_101, 1, WRITE),
        // The release was lost here, too.
        start(4_000, 1, WRITE),
        acquired(4_001, 1, WRITE),
        released(4_003, 1, WRITE),
    ];
    let trace = trace(events);
    assert_eq!(trace.lost.unmatched_starts, 2);
    assert_eq!(shorts(&trace), [("?", "mmap", Mode::Write, (1, 2), (2, 2))]);
    assert!(trace.lost.is_incomplete());
}

#[test]
fn a_second_start_replaces_the_first() {
    let events = [start(2_000, 1, READ), start(2_500, 1, READ), acquired(2_600, 1, READ), released(2_601, 1, READ)];
    let trace = trace(events);
    assert_eq!((trace.lost.unmatched_starts, trace.waits(Mode::Read).total_ns), (1, 100));
}

#[test]
fn events_out_of_order_are_counted() {
    let trace = trace([start(2_000, 1, READ), start(1_900, 2, READ), acquired(2_100, 1, READ)]);
    assert_eq!(trace.lost.reordered, 1);
    assert!(trace.lost.is_incomplete());
}

#[test]
fn a_wait_is_blamed_on_the_holds_of_others_that_overlap() {
    let events = [
        named(0, 2, "writer"),
        named(0, 3, "reader"),
        // Over before the wait, and the waiter's own: not to blame.
        acquired(1_500, 4, WRITE),
        released(1_600, 4, WRITE),
        acquired(1_900, 1, READ),
        enter(1_950, 2, libc::SYS_mprotect, 1 << 20),
        acquired(1_990, 2, WRITE),
        start(2_000, 1, WRITE),
        released(2_300, 2, WRITE),
        exit(2_301, 2, libc::SYS_mprotect),
        acquired(2_310, 3, READ),
        released(2_320, 3, READ),
        acquired(2_330, 3, READ),
        released(2_370, 3, READ),
        acquired(2_400, 3, READ),
        acquired(2_450, 1, WRITE),
        released(2_460, 1, WRITE),
    ];
    let trace = trace(events);
    let wait = trace.kept.iter().find(|kept| kept.kind == IntervalKind::Wait).expect("the wait is kept");
    assert_eq!((wait.tid, wait.duration_ns), (1, 450));
    let blame: Vec<_> = wait.blame.iter().map(|b| (b.thread.as_str(), b.mode, b.overlap_ns)).collect();
    assert_eq!(blame, [("writer", Mode::Write, 300), ("reader", Mode::Read, 100)]);
    assert_eq!(wait.blame[0].activity, Activity::Call { number: libc::SYS_mprotect, bytes: Some(1 << 20) });
    assert!(trace.text().contains("writer (2) held for writing: mprotect of 1 MiB"), "{trace}");
}

#[test]
fn the_longest_are_kept_and_the_others_counted() {
    let holds = (1..=10).flat_map(|number| {
        let begin = 2_000 + number * 100;
        [acquired(begin, 1, WRITE), released(begin + number, 1, WRITE)]
    });
    let options = Options { keep_over_ns: 3, keep_most: 4, ..Options::default() };
    let trace = assemble(&options, holds, 9_000);
    let kept: Vec<u64> = trace.kept.iter().map(|kept| kept.duration_ns).collect();
    assert_eq!((kept.as_slice(), trace.kept_dropped), ([10, 9, 8, 7].as_slice(), 4));
    assert_eq!(trace.worst(2).len(), 2);
    assert_eq!(trace.worst(99).len(), 4);
    assert_eq!(trace.holds(Mode::Write).count, 10);
}

#[test]
fn activity_comes_from_the_call_or_else_from_the_context() {
    let in_context = |time_ns, tid, context| {
        let [write, success] = [false, true];
        [event(time_ns, tid, EventKind::Acquired { write, success, context }), released(time_ns + 1, tid, READ)]
    };
    let mut events = vec![enter(2_000, 1, libc::SYS_madvise, 4096)];
    events.extend(in_context(2_010, 1, Context::Call));
    events.push(exit(2_020, 1, libc::SYS_madvise));
    events.extend(in_context(2_030, 1, Context::Call));
    events.extend(in_context(2_040, 1, Context::Fault));
    events.extend(in_context(2_050, 1, Context::Unknown));
    events.extend(in_context(2_060, 2, Context::Kernel));
    let trace = trace(events);
    let mut keys: Vec<&str> = trace.rows.iter().map(|row| row.activity.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["fault", "kernel", "madvise", "other call", "unknown"]);
}

#[test]
fn calls_are_counted_with_their_bytes() {
    let none = EventKind::Enter { number: libc::SYS_process_madvise, args: [0; 6] };
    let events = [
        named(0, 1, "a"),
        enter(2_000, 1, libc::SYS_munmap, 8192),
        exit(2_001, 1, libc::SYS_munmap),
        enter(2_002, 1, libc::SYS_munmap, 4096),
        exit(2_003, 1, libc::SYS_munmap),
        event(2_004, 1, none),
    ];
    let trace = trace(events);
    let calls: Vec<_> = trace
        .calls
        .iter()
        .map(|row| (row.thread.as_str(), row.call.as_str(), row.count, row.empty, row.bytes))
        .collect();
    assert_eq!(calls, [("a", "munmap", 2, 0, 12_288), ("a", "process_madvise", 1, 1, 0)]);
}

#[test]
fn threads_have_the_last_of_their_names_and_numbers_are_used_again() {
    let hold = |time_ns, tid| [acquired(time_ns, tid, WRITE), released(time_ns + 10, tid, WRITE)];
    let mut events = vec![named(0, 1, "main"), event(2_000, 5, EventKind::ThreadStarted { parent: 1 })];
    events.extend(hold(2_010, 5));
    events.push(named(2_030, 5, "worker"));
    events.push(event(2_040, 5, EventKind::ThreadEnded));
    events.push(event(2_050, 5, EventKind::ThreadStarted { parent: 1 }));
    events.extend(hold(2_060, 5));
    let trace = trace(events);
    let rows: Vec<_> = trace.rows.iter().map(|row| (row.tid, row.thread.as_str(), row.holds.count)).collect();
    assert_eq!(rows, [(5, "main", 1), (5, "worker", 1)]);
    assert_eq!(trace.kept[0].thread, "main");
    assert_eq!(trace.gone_ns, None);
}

#[test]
fn a_thread_of_another_process_is_an_outsider() {
    let foreign = |event: Event| Event { pid: 7, ..event };
    let events = [named(1_500, 7, "cat"), acquired(2_000, 7, READ), released(2_100, 7, READ)];
    let trace = trace(events.map(foreign));
    assert!(trace.rows[0].outsider && trace.kept[0].outsider, "{trace:?}");
    assert_eq!(trace.rows[0].thread, "cat");
    assert_eq!(trace.writes_by(|row| row.outsider).count, 0);
}

#[test]
fn a_call_is_timed_from_its_entry_to_its_return() {
    let munmap = libc::SYS_munmap;
    let events = [
        enter(2_000, 1, munmap, 4096),
        exit(2_700, 1, munmap),
        exit(2_900, 1, munmap),
        enter(3_000, 1, munmap, 4096),
        enter(4_000, 1, munmap, 4096),
        exit(4_100, 1, munmap),
        enter(5_000, 1, munmap, 4096),
    ];
    let trace = trace(events);
    let [row] = &trace.calls[..] else { panic!("{trace:?}") };
    assert_eq!(row.count, 4);
    // The second one's return was lost, and the last one has not returned.
    assert_eq!((row.time.count, row.time.total_ns, row.time.longest_ns), (2, 800, 700));
}

#[test]
fn threads_of_one_name_can_be_counted_together() {
    let mut events = Vec::new();
    for tid in [5, 6] {
        events.push(named(1_500, tid, "short"));
        events.extend([start(2_000, tid, WRITE), acquired(2_100, tid, WRITE), released(2_400, tid, WRITE)]);
        events.extend([enter(2_500, tid, libc::SYS_munmap, 4096), exit(2_600, tid, libc::SYS_munmap)]);
    }
    events.extend([named(1_500, 7, "other"), acquired(2_700, 7, READ), released(2_800, 7, READ)]);
    events.sort_by_key(|event| event.time_ns);
    let mut trace = trace(events);
    let before = (trace.holds(Mode::Write), trace.waits(Mode::Write), trace.holds(Mode::Read));
    assert_eq!((trace.rows.len(), trace.calls.len()), (3, 2));
    trace.merge_namesakes();
    let mut rows: Vec<_> = trace.rows.iter().map(|row| (row.thread.as_str(), row.tid, row.holds.count)).collect();
    rows.sort_unstable();
    assert_eq!(rows, [("other", 7, 1), ("short", 0, 2)]);
    let [call] = &trace.calls[..] else { panic!("{trace:?}") };
    assert_eq!((call.tid, call.count, call.bytes, call.time.count), (0, 2, 8192, 2));
    assert_eq!((trace.holds(Mode::Write), trace.waits(Mode::Write), trace.holds(Mode::Read)), before);
}

#[test]
fn the_end_of_the_process_is_told() {
    let ended = trace([named(0, 1, "a"), named(0, 2, "b"), event(3_000, 1, EventKind::ThreadEnded)]);
    assert_eq!(ended.gone_ns, None);
    let events = [named(0, 1, "a"), acquired(2_000, 1, READ), event(3_000, 1, EventKind::ThreadEnded)];
    let ended = trace(events);
    assert_eq!((ended.gone_ns, ended.kept[0].unfinished), (Some(3_000), true));
    let executed = trace([event(4_000, 1, EventKind::Comm { name: String::from("b"), exec: true })]);
    assert_eq!(executed.gone_ns, Some(4_000));
}

#[test]
fn a_trace_survives_json() {
    let trace = trace([start(2_000, 1, WRITE), acquired(2_300, 1, WRITE), released(2_350, 1, WRITE)]);
    let text = serde_json::to_string(&trace).expect("a trace can be written");
    assert_eq!(serde_json::from_str::<Trace>(&text).expect("and read"), trace);
}
