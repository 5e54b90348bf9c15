//! The whole replay at its smallest size, through the harness's library with every allocator.

mod common;

use std::sync::atomic::AtomicBool;

use common::{all_candidates, some_candidates};
use lock_trace::Mode;
use stress::candidates::{ALLOCATORS, LIMIT, is_antifreeze};
use stress::harness::{self, Event, Orders, Run};
use stress::locks;
use stress::record::Record;
use stress::scenario::Plan;
use stress::scenario::replay::Replay;
use stress::table::{BUCKET_BYTES, Size};
use test_support::skip;

fn plan() -> Plan {
    Plan::Replay(Replay { control_ms: 100, quiet_ms: 100, settle_ms: 200, ..Replay::new(Size::SMALLEST) })
}

fn check(run: &Run) {
    assert!(run.fault_ns > 0, "the child asked for memory before it touched it");
    let record = &run.record;
    let phases: Vec<_> = record.spans.iter().map(|span| span.phase.as_str()).collect();
    let prewarms = record.allocator == "antifreeze-prewarmed";
    let all = plan().scenario().phases().iter().map(|phase| phase.name);
    assert_eq!(phases, all.filter(|name| prewarms || *name != "prewarm").collect::<Vec<_>>());
    check_figures(record);
    assert_eq!(record.version.is_empty(), record.allocator == LIMIT, "{record:?}");
    assert_eq!(record.write_lock_calls.is_some(), is_antifreeze(&record.allocator));
    assert_eq!(record.giving_back.is_some(), is_antifreeze(&record.allocator));
    assert_eq!(record.notes.iter().any(|note| note.contains("ended as Ready")), prewarms, "{record:?}");
    let kinds: Vec<_> = record.canaries.iter().map(|canary| canary.kind.as_str()).collect();
    assert_eq!(kinds, ["block", "map", "fault", "thread"]);
    for canary in &record.canaries {
        assert!(!canary.timeline.worst_ns.is_empty(), "{canary:?}");
        for entry in &canary.phases {
            let latency = &entry.latency;
            assert!(latency.samples > 0 && latency.p999_ns <= latency.worst_ns, "{entry:?}");
        }
        for phase in ["control", "after doubling", "idle after"] {
            assert!(record.latency(&canary.kind, phase).is_some(), "{phase}: {canary:?}");
        }
    }
    assert!(run.rss.len() > 5 && run.rss.iter().all(|sample| sample.rss_kib > 0), "{:?}", run.rss);
}

fn check_figures(record: &Record) {
    let figure = |name: &str| record.figure(name).unwrap_or_else(|| panic!("no {name}: {record:?}"));
    let old_table_kib = Size::SMALLEST.buckets() * BUCKET_BYTES / 1024;
    assert!(figure("fill") > 0 && figure("doubling") > 0 && figure("drop") > 0);
    assert!(figure("RSS before") >= old_table_kib, "{record:?}");
    // What is faulted in beforehand does not grow.
    assert!(figure("RSS peak") > figure("RSS before") || record.allocator == LIMIT, "{record:?}");
    assert!(figure("RSS live") > 0 && figure("RSS dropped") > 0 && figure("RSS settled") > 0);
}

#[test]
fn all_children_replay_in_turns_and_report_sane_values() {
    let orders = Orders { plan: plan(), rounds: 2, cold: false, traces: false };
    let mut started = Vec::new();
    let runs = harness::run_rounds(&all_candidates(), &orders, &AtomicBool::new(false), |event| {
        if let Event::Preparing { round, allocator } = event {
            started.push(format!("{round} {allocator}"));
        }
    })
    .unwrap();
    let first = ALLOCATORS.iter().map(|name| format!("1 {name}"));
    let second = ALLOCATORS.iter().cycle().skip(1).take(ALLOCATORS.len()).map(|name| format!("2 {name}"));
    assert_eq!(started, first.chain(second).collect::<Vec<_>>());
    let ran: Vec<_> = runs.iter().map(|run| format!("{} {}", run.round, run.record.allocator)).collect();
    assert_eq!(ran, started);
    runs.iter().for_each(check);
}

#[test]
fn the_kernel_sees_who_takes_the_lock() {
    if let Some(why) = locks::why_not_traced() {
        return skip(format_args!("mmap_lock cannot be traced: {why}"));
    }
    let orders = Orders { plan: plan(), rounds: 1, cold: true, traces: true };
    let candidates = some_candidates(&["antifreeze", "jemalloc-tuned", "system"]);
    let runs = harness::run_rounds(&candidates, &orders, &AtomicBool::new(false), |_| ()).unwrap();
    for run in &runs {
        let (trace, allocator) = (run.locks.as_ref().unwrap(), run.record.allocator.as_str());
        assert_eq!(trace.lost.records, 0, "{trace:?}");
        // Each turn of the canary that maps takes the lock for writing twice.
        let turns: u64 = run.record.canaries[1].phases.iter().map(|entry| entry.latency.samples).sum();
        let canary = trace.writes_by(|row| row.thread == "canary map");
        assert!(canary.count >= turns.min(200), "{turns} turns, {} holds", canary.count);
        let mapped = trace.rows.iter().any(|row| row.thread.starts_with("stress-") && row.activity == "munmap");
        match allocator {
            "system" => assert!(mapped, "a table is a mapping of its own there: {:#?}", trace.rows),
            _ => assert!(!mapped, "{allocator}: {:#?}", trace.rows),
        }
        assert!(trace.holds(Mode::Write).longest_ns > 0);
    }
}

#[test]
fn an_allocator_with_options_has_them() {
    let orders = Orders { plan: plan(), rounds: 1, cold: true, traces: false };
    let candidates = some_candidates(&["jemalloc", "jemalloc-tuned"]);
    let mut threads = Vec::new();
    let runs = harness::run_rounds(&candidates, &orders, &AtomicBool::new(false), |event| {
        if event == (Event::Phase { name: "idle after" }) {
            threads.push(thread_names_of_children());
        }
    });
    assert_eq!(runs.unwrap().len(), 2);
    let [plain, tuned] = &threads[..] else { panic!("{threads:?}") };
    let has_background_thread = |names: &[String]| names.iter().any(|name| name.starts_with("jemalloc_bg"));
    assert!(!has_background_thread(plain) && has_background_thread(tuned), "{threads:?}");
}

/// The names of the threads of this process's children.
fn thread_names_of_children() -> Vec<String> {
    let own = std::process::id().to_string();
    let is_child = |stat: &str| stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) == Some(&own);
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let children =
        processes.filter(|path| std::fs::read_to_string(path.join("stat")).is_ok_and(|stat| is_child(&stat)));
    let tasks = children.filter_map(|path| std::fs::read_dir(path.join("task")).ok()).flatten().flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect()
}
