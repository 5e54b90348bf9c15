//! Every scenario beside the replay, small, through the harness's library with every allocator that takes part.

mod common;

use std::fs;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use common::{all_candidates, output, some_candidates};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};
use stress::candidates::{Candidate, LIMIT, PREWARMED, is_antifreeze};
use stress::harness::{self, Orders, Run};
use stress::locks;
use stress::memory;
use stress::memory_group::{KILLED, MemoryGroup};
use stress::scenario::Plan;
use stress::scenario::burst::Bursts;
use stress::scenario::cgroup::Waves;
use stress::scenario::drop::Dropping;
use stress::scenario::fork::Forking;
use stress::scenario::fragment::Fragmented;
use stress::scenario::grow::Growing;
use stress::scenario::replay::Replay;
use stress::scenario::service::Service;
use stress::service::index::IndexKind;
use stress::table::Size;
use stress::targets;
use test_support::skip;

const MIB: u64 = 1 << 20;

/// One test at a time, so that what is left behind is known to be its own, and memory suffices.
static TURN: Mutex<()> = Mutex::new(());

/// Runs the plan once under each of the candidates that takes part, and checks what every scenario has.
fn runs_of(plan: &Plan, candidates: Vec<Candidate>) -> Vec<Run> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let why = locks::why_not_traced();
    why.iter().for_each(|why| skip(format_args!("the trace of mmap_lock: {why}")));
    let orders = Orders { plan: plan.clone(), rounds: 1, cold: false, traces: why.is_none() };
    let contenders = harness::contenders(candidates, plan);
    let runs = harness::run_rounds(&contenders, &orders, &AtomicBool::new(false), |_| ()).unwrap();
    assert!(runs.iter().map(|run| &run.record.allocator).eq(contenders.iter().map(|contender| &contender.allocator)));
    assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD), "no child is left");
    assert_eq!(groups_left(), Vec::<String>::new(), "no control group is left");
    for run in &runs {
        let locks = run.locks.as_ref();
        assert!(locks.is_none_or(|trace| trace.lost.records == 0 && !trace.rows.is_empty()), "{:?}", run.record);
        assert!(run.rss.iter().any(|sample| sample.rss_kib > 0), "{:?}", run.record);
    }
    runs
}

/// Runs the plan under every allocator and checks that each went through these phases and has these figures.
fn check(plan: &Plan, phases: &[&str], figures: &[&str]) -> Vec<Run> {
    let runs = runs_of(plan, all_candidates());
    let scenario = plan.scenario();
    for run in &runs {
        let record = &run.record;
        let played: Vec<_> = record.spans.iter().map(|span| span.phase.as_str()).collect();
        let expected = phases.iter().filter(|phase| **phase != "prewarm" || record.allocator == PREWARMED);
        assert_eq!(played, expected.copied().collect::<Vec<_>>(), "{}", record.allocator);
        for name in figures {
            // An allocator that says when memory is due was not watched for so long here, so nothing can be told of it.
            let is_open = *name == "back after" && record.giving_back.is_some();
            let name = if is_open { "back due" } else { *name };
            assert!(record.figures.iter().any(|figure| figure.name == name), "no {name}: {record:?}");
            assert!(!is_open || record.figures.iter().all(|figure| figure.name != "back after"), "{record:?}");
        }
        assert!(record.latency("map", "control").is_some(), "{record:?}");
    }
    let ran = |name: &str| runs.iter().any(|run| run.record.allocator == name);
    assert_eq!((ran(LIMIT), ran(PREWARMED)), (scenario.limit_bytes().is_some(), scenario.takes(PREWARMED)));
    assert!(ran("antifreeze") && ran("system") && ran("mimalloc"));
    runs
}

/// The control groups that this process made and that are still there.
fn groups_left() -> Vec<String> {
    let own = memory::group_folders(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    let entries = own.first().into_iter().chain(own.get(1)).filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&format!("stress-{}-", std::process::id()))).collect()
}

#[test]
fn drop_frees_each_size_under_every_allocator() {
    let plan = Plan::Drop(Dropping { bytes: vec![48 * MIB, 96 * MIB], control_ms: 100, idle_ms: 300 });
    let phases = ["fill", "control", "drop", "idle after"].repeat(2);
    let figures = ["drop 48.0 MiB", "drop 96.0 MiB", "48.0 MiB back after", "back after", "RSS live", "RSS peak"];
    for run in check(&plan, &phases, &figures) {
        assert!(run.record.figure("drop 96.0 MiB").is_some_and(|ns| ns > 0) && run.fault_ns > 0, "{:?}", run.record);
        assert_eq!(run.record.figure("back due").is_some(), is_antifreeze(&run.record.allocator));
    }
}

#[test]
fn grow_counts_moves_under_every_allocator() {
    let plan = Plan::Grow(Growing { bytes: 64 * MIB, control_ms: 100, quiet_ms: 100, idle_ms: 300 });
    let phases = ["prewarm", "control", "growth", "after growth", "drop", "idle after"];
    let figures = ["growth", "longest push", "moves", "moves from 1 MiB", "RSS peak", "back after"];
    for run in check(&plan, &phases, &figures) {
        let figure = |name: &str| run.record.figure(name).unwrap();
        assert!(0 < figure("longest push") && figure("longest push") <= figure("growth"), "{:?}", run.record);
        // Under the limit, each of the capacities from 1 to 32 MiB is copied.
        assert!(run.record.allocator != LIMIT || figure("moves from 1 MiB") == 6, "{:?}", run.record);
    }
}

#[test]
fn burst_comes_again_under_every_allocator() {
    let plan = Plan::Burst(Bursts { bytes: 64 * MIB, bursts: 2, threads: 3, control_ms: 100, idle_ms: 300 });
    let phases = ["control", "burst", "free", "idle after", "burst", "free", "idle after"];
    let figures = ["first burst", "last burst", "RSS burst", "RSS idle", "back", "back after"];
    for run in check(&plan, &phases, &figures) {
        assert!(run.record.figure("RSS burst").is_some_and(|kib| kib > 64 << 10), "{:?}", run.record);
    }
}

#[test]
fn fork_leaves_both_with_their_heap_under_every_allocator() {
    let plan = Plan::Fork(Forking { bytes: 64 * MIB, forks: 2, control_ms: 100, idle_ms: 100 });
    let forks = ["fork", "write beside child", "reap"].repeat(2);
    let phases = [&["fill", "control", "write alone"][..], &forks, &["idle after"]].concat();
    let figures = ["first fork", "longest fork", "fork", "write alone", "write beside child", "RSS heap", "RSS peak"];
    check(&plan, &phases, &figures);
}

#[test]
fn fragment_replays_while_memory_is_held_under_every_allocator() {
    let replay = Replay { buckets: 1 << 16, control_ms: 100, quiet_ms: 100, settle_ms: 100 };
    let plan = Plan::Fragment(Fragmented { hold_bytes: 64 * MIB, replay });
    let phases = ["fill", "prewarm", "control", "doubling", "after doubling", "drop", "idle after"];
    let figures = ["in hugepages", "part in hugepages", "free hugepages", "compaction stalls", "hugepage fallbacks"];
    for run in check(&plan, &phases, &figures) {
        assert_eq!(run.fault_ns, 0, "nothing was held for the child or probed");
    }
}

/// A small service; the requests of its warm-up are not measured.
fn service(map: IndexKind) -> Plan {
    let usual = Service::new(Size::SMALLEST, map);
    Plan::Service(Service { rate_per_s: 1000, warm_up_ms: 50, before_ms: 200, after_ms: 200, ..usual })
}

fn check_requests(run: &Run) {
    let record = &run.record;
    assert!(record.figure("requests").is_some_and(|count| count >= 400), "{record:?}");
    assert!(record.latency("request", "control").is_some(), "{record:?}");
    assert!(record.notes.iter().all(|note| !note.contains("came from this process")), "{:?}", record.notes);
}

#[test]
fn service_answers_clients_of_another_process_under_every_allocator() {
    let phases = ["fill", "prewarm", "control", "doubling", "after doubling"];
    let figures = ["doubling", "put", "put as felt", "requests", "sent late p99.9", "RSS before", "RSS peak"];
    check(&service(IndexKind::Whole), &phases, &figures).iter().for_each(check_requests);
}

#[test]
fn service_answers_with_a_map_that_grows_bit_by_bit() {
    let runs = runs_of(&service(IndexKind::Incremental), some_candidates(&["antifreeze", "system"]));
    runs.iter().for_each(check_requests);
    assert_eq!(runs.len(), 2);
}

#[test]
fn cgroup_limits_the_child_under_every_allocator() {
    if let Err(why) = MemoryGroup::make(64 * MIB) {
        return skip(&why);
    }
    let waves = Waves { limit_bytes: 256 * MIB, waves: 2, top_percent: 90, control_ms: 100, idle_ms: 100 };
    for run in runs_of(&Plan::Cgroup(waves), all_candidates()) {
        let record = &run.record;
        let (killed, peak_kib) = (record.figure(KILLED), record.figure("max usage"));
        assert!(killed == Some(0) || record.notes[0].starts_with("The kernel killed the process"), "{record:?}");
        assert!(killed == Some(1) || record.figure("waves done") == Some(2), "{record:?}");
        assert!(peak_kib.is_none_or(|kib| (100 << 10..=256 << 10).contains(&kib)), "the child was in it: {record:?}");
        assert!(record.figures.iter().any(|figure| figure.name == "limit hits"));
    }
}

#[test]
fn a_child_that_is_killed_at_the_limit_is_a_result() {
    if let Err(why) = MemoryGroup::make(64 * MIB) {
        return skip(&why);
    }
    // What a process has beside its blocks is far more than the tenth that is left.
    let plan = Plan::Cgroup(Waves { limit_bytes: 8 * MIB, waves: 2, top_percent: 90, control_ms: 100, idle_ms: 100 });
    let runs = runs_of(&plan, some_candidates(&["antifreeze", "system"]));
    for run in &runs {
        assert_eq!(run.record.figure(KILLED), Some(1), "{:?}", run.record);
        assert!(run.record.notes[0].starts_with("The kernel killed the process at the memory limit, "), "{run:?}");
    }
    let of = |name| {
        stress::summary::Summary::of(name, &runs.iter().filter(|run| run.record.allocator == name).collect::<Vec<_>>())
    };
    let target = targets::judge(&plan, &[of("antifreeze"), of("system")]).remove(0);
    assert!(target.to_string().contains("antifreeze killed after 0 waves (missed), system killed"), "{target}");
}

#[test]
fn sizes_that_make_no_sense_are_refused_with_the_reason() {
    for (arguments, reason) in [
        (&["drop", "--bytes", "1GiB,lots"][..], "a size is a number of bytes or one with a unit"),
        (&["drop", "--bytes", "1GiB,1024MiB"], "--bytes names 1.0 GiB twice"),
        (&["grow", "--bytes", "1000TiB"], "at the peak, but only"),
        (&["burst", "--threads", "0"], "0 is not in 1..=256"),
        (&["fork", "--bytes", "1KiB"], "too small"),
        (&["fragment", "--hold-bytes", "1000TiB"], "would fit"),
        (&["cgroup", "--limit", "1MiB"], "--limit 1.0 MiB is too small"),
    ] {
        let output = output(arguments);
        let messages = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {messages}");
        assert!(messages.contains(reason), "{reason:?} is not in {messages}");
    }
}
