//! The whole replay at its smallest size: through the harness's library with both children, and as a command.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::AtomicBool;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stress::child::Plan;
use stress::harness::{self, Candidate};
use stress::phase::Phase;
use stress::report::Report;
use stress::table::{BUCKET_BYTES, Size};

fn candidates() -> Vec<Candidate> {
    [
        ("antifreeze", env!("CARGO_BIN_EXE_replay-antifreeze")),
        ("antifreeze-prewarmed", env!("CARGO_BIN_EXE_replay-antifreeze-prewarmed")),
        ("mimalloc", env!("CARGO_BIN_EXE_replay-mimalloc")),
        ("system", env!("CARGO_BIN_EXE_replay-system")),
        ("limit", env!("CARGO_BIN_EXE_replay-limit")),
    ]
    .map(|(allocator, program)| Candidate { allocator: allocator.to_owned(), program: PathBuf::from(program) })
    .to_vec()
}

/// The command as if started by hand, not by cargo: it must not start a build under the lock of the running one.
fn stress(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_remove("CARGO").stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    stress(Path::new(env!("CARGO_BIN_EXE_stress")), arguments).output().unwrap()
}

/// A folder for the files of one test.
fn test_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn all_children_replay_in_turns_and_report_sane_values() {
    let plan = Plan { control_ms: 100, quiet_ms: 100, settle_ms: 100, ..Plan::new(Size::SMALLEST) };
    let mut started = Vec::new();
    let runs = harness::run_rounds(&candidates(), &plan, 2, false, &AtomicBool::new(false), |round, allocator| {
        started.push(format!("{round} {allocator}"));
    })
    .unwrap();
    let names = harness::ALLOCATORS;
    let first = names.map(|name| format!("1 {name}"));
    let second = [1, 2, 3, 4, 0].map(|number: usize| format!("2 {}", names[number]));
    assert_eq!(started, [first, second].concat());

    let ran: Vec<_> = runs.iter().map(|run| format!("{} {}", run.round, run.report.allocator)).collect();
    assert_eq!(ran, started);
    let old_table_kib = Size::SMALLEST.buckets() * BUCKET_BYTES / 1024;
    for run in &runs {
        assert!(run.fault_ns > 0, "the child asked for memory before it touched it");
        let report = &run.report;
        assert_eq!((report.buckets, report.entries), (65_536, 57_344));
        assert!(report.fill_ns > 0 && report.doubling_ns > 0 && report.drop_ns > 0, "{report:?}");
        assert!(report.rss_before_kib >= old_table_kib, "{report:?}");
        // What is faulted in beforehand does not grow.
        assert!(report.rss_peak_kib > report.rss_before_kib || report.allocator == "limit", "{report:?}");
        assert!(report.rss_live_kib > 0 && report.rss_samples.len() >= 2, "{report:?}");
        assert!(report.rss_dropped_kib > 0 && report.rss_settled_kib > 0, "{report:?}");
        let is_antifreeze = report.allocator.starts_with("antifreeze");
        assert_eq!(report.write_lock_calls.is_some(), is_antifreeze);
        assert_eq!(report.giving_back.is_some(), is_antifreeze);
        let prewarmed = report.prewarmed.as_ref();
        assert_eq!(prewarmed.is_some(), report.allocator == "antifreeze-prewarmed");
        assert!(prewarmed.is_none_or(|prewarmed| prewarmed.state == "Ready"), "{report:?}");
        assert!(report.phases.iter().map(|entry| entry.phase).eq(Phase::ALL));
        for entry in &report.phases {
            for latency in [entry.page, entry.block].into_iter().flatten() {
                assert!(latency.samples > 0 && latency.worst_ns > 0, "{entry:?}");
                assert!(latency.p999_ns <= latency.worst_ns, "{entry:?}");
            }
            if !entry.phase.is_busy() && entry.phase != Phase::Prewarm {
                assert!(entry.page.is_some() && entry.block.is_some(), "{entry:?}");
            }
        }
    }
}

#[test]
fn the_command_prints_tables_and_writes_the_same_as_json() {
    let file = test_folder("json").join("result.json");
    let output = output(&["--keys", "1000", "--rounds", "1", "--settle-ms", "200", "--json", file.to_str().unwrap()]);
    let (text, messages) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{messages}");
    assert_eq!(messages, "", "there is no bar without a terminal");
    assert!(text.contains("57,344 entries, 7/8 of 2^16 buckets (--keys 1,000 rounded up)"), "{text}");
    for part in [
        "antifreeze",
        "mimalloc",
        "system",
        "limit",
        "doubling",
        "Targets:",
        "A fault of 2 MiB",
        "mmap_lock",
        "Machine: Linux",
        "While the map doubled",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let report: Report = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((report.rounds, report.cold, report.plan.buckets), (1, false, 65_536));
    assert_eq!((report.summaries.len(), report.runs.len(), report.targets.len()), (5, 5, 4));
    assert!(text.contains(&report.text()), "{text}");
}

#[test]
fn bad_arguments_are_refused_with_the_reason() {
    for (arguments, reason) in [
        (&["--keys", "many"][..], "invalid value 'many' for '--keys <KEYS>'"),
        (&["--keys", "0"], "0 is not in 1.."),
        (&["--rounds", "0"], "invalid value '0' for '--rounds <ROUNDS>'"),
        (&["--keys", "1000000000000"], "at the peak, but only"),
        (&["--size", "3"], "unexpected argument '--size'"),
    ] {
        let output = output(arguments);
        let messages = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {messages}");
        assert!(messages.contains(reason), "{reason:?} is not in {messages}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_json_file_that_cannot_be_written_is_noticed_before_the_run() {
    let output = output(&["--keys", "1000", "--json", "/nonexistent/result.json"]);
    let messages = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{messages}");
    assert!(messages.contains("/nonexistent/result.json: No such file"), "{messages}");
    assert!(output.stdout.is_empty());
}

#[test]
fn absent_children_are_named_with_what_builds_them() {
    let program = test_folder("alone").join("stress");
    // A link and not a copy: a process that another test forks meanwhile would hold the copy open for writing, and then
    // it could not be started.
    let _ = fs::remove_file(&program);
    fs::hard_link(env!("CARGO_BIN_EXE_stress"), &program).unwrap();
    let output = stress(&program, &["--keys", "1000"]).output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{messages}");
    assert!(messages.contains("replay-antifreeze is missing; build it with: cargo build "), "{messages}");
}

#[test]
fn a_signal_ends_the_command_with_130() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut command = stress(Path::new(env!("CARGO_BIN_EXE_stress")), &["--keys", "1000", "--rounds", "1000"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The first line is printed once the signals are watched.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("Replaying"), "{line}");
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        let mut messages = String::new();
        child.stderr.take().unwrap().read_to_string(&mut messages).unwrap();
        assert_eq!(messages, "stress: interrupted\n");
    }
}

#[test]
fn a_child_without_its_parent_refuses_to_run() {
    let program = env!("CARGO_BIN_EXE_replay-system");
    let output = Command::new(program).args(["--buckets", "65536", "--parent=-1"]).output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(messages.contains("the harness that started this process is gone"), "{messages}");
}
