//! The command line: what it prints and writes, what it refuses, how it stops.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use common::{output, stress, test_folder};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stress::candidates::ALLOCATORS;
use stress::report::Report;
use stress::{memory, text};
use test_support::skip;

#[test]
fn the_command_prints_tables_and_writes_the_same_as_json_and_as_a_page() {
    let folder = test_folder("outputs");
    let (json, html) = (folder.join("result.json"), folder.join("result.html"));
    let arguments = ["--keys", "1000", "--rounds", "1", "--settle-ms", "200"];
    let files = ["--json", json.to_str().unwrap(), "--html", html.to_str().unwrap()];
    let output = output(&[&arguments[..], &files[..]].concat());
    let (text, messages) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{messages}");
    assert_eq!(own(&messages), "", "there is no bar without a terminal");
    assert_eq!(messages.lines().count(), ALLOCATORS.len(), "but a line for each child: {messages}");
    let headline = "57,344 entries of 24 bytes (7/8 of 2^16 buckets)";
    for part in [headline, "doubling", "Targets:", "A fault of 2 MiB", "mmap_lock", "Machine: Linux", "Longest wait"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let report: Report = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((report.rounds, report.cold, report.plan.scenario().name()), (1, false, "replay"));
    let allocators: Vec<_> = report.summaries.iter().map(|summary| summary.allocator.as_str()).collect();
    assert_eq!(allocators, ALLOCATORS);
    assert!(text.contains(&text::text(&report)), "{text}");
    let page = fs::read_to_string(&html).unwrap();
    assert!(ALLOCATORS.iter().all(|allocator| page.contains(allocator)) && page.contains(headline));
}

/// What the command says of itself, without the line for each child.
fn own(messages: &str) -> String {
    messages.split_inclusive('\n').filter(|line| !line.starts_with("round ")).collect()
}

#[test]
fn what_was_missed_or_not_judged_is_an_exit_status_where_it_is_asked_for() {
    let html = test_folder("check").join("result.html");
    let line = ["--keys", "1000000", "--rounds", "1", "--no-trace", "--html", html.to_str().unwrap()];
    let run = |more: &[&str], variables: &[(&str, &str)]| {
        let arguments = [&line[..], more].concat();
        let mut command = stress(Path::new(env!("CARGO_BIN_EXE_stress")), &arguments);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let [text, messages] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), text, messages)
    };
    let short = ["--settle-ms", "50", "--allocators", "antifreeze"];
    let (status, text, _) = run(&short, &[]);
    assert!(status == Some(0) && text.contains("not traced, so the kernel did not judge: --no-trace"), "{text}");
    assert!(text.contains("antifreeze not yet (not judged: it is due after 5.10 s"), "{text}");
    let (status, _, messages) = run(&[&short[..], &["--check"]].concat(), &[]);
    assert!(status == Some(4) && messages.contains("could not be judged"), "{messages}");
    // A governor that nobody lends a thread gives nothing back.
    let idle = [("ANTIFREEZE_GOVERNOR", "tick"), ("ANTIFREEZE_DECAY", "100ms"), ("ANTIFREEZE_LINGER", "10ms")];
    let (status, text, messages) = run(&["--settle-ms", "1500", "--allocators", "antifreeze", "--check"], &idle);
    assert!(text.contains("antifreeze not within the time watched (missed)"), "{text}{messages}");
    assert_eq!((status, own(&messages)), (Some(3), "stress: antifreeze missed a target (--check)\n".to_owned()));
    let (status, _, messages) = run(&["--settle-ms", "50", "--allocators", "system", "--check"], &[]);
    assert!(status == Some(4) && messages.contains("there was no antifreeze"), "{messages}");
}

#[test]
fn bad_arguments_are_refused_with_the_reason() {
    for (arguments, reason) in [
        (&["--keys", "many"][..], "invalid value 'many' for '--keys <KEYS>'"),
        (&["--keys", "0"], "0 is not in 1.."),
        (&["--rounds", "0"], "invalid value '0' for '--rounds <ROUNDS>'"),
        (&["--rounds", "4294967295"], "4294967295 is not in 1..=1000"),
        (&["--keys", "1000000000000"], "at the peak, but only"),
        (&["--size", "3"], "unexpected argument '--size'"),
        (&["--allocators", "antifreeze,tlsf"], "invalid value 'tlsf' for '--allocators <ALLOCATORS>'"),
        (&["lunch"], "unrecognized subcommand 'lunch'"),
        (&["--keys", "1000", "replay"], "before a subcommand"),
    ] {
        let output = output(arguments);
        let messages = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {messages}");
        assert!(messages.contains(reason), "{reason:?} is not in {messages}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_noticed_before_the_run() {
    for option in ["--json", "--html"] {
        let output = output(&["--keys", "1000", option, "/nonexistent/result"]);
        let messages = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{messages}");
        assert!(messages.contains("/nonexistent/result: No such file"), "{messages}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn files_are_written_although_nobody_reads_the_tables() {
    let folder = test_folder("unread");
    let (json, html) = (folder.join("result.json"), folder.join("result.html"));
    [&json, &html].into_iter().for_each(|file| drop(fs::remove_file(file)));
    let line = ["--keys", "1000", "--rounds", "1", "--settle-ms", "50", "--allocators", "system", "--no-trace"];
    let files = ["--json", json.to_str().unwrap(), "--html", html.to_str().unwrap()];
    let mut command = stress(Path::new(env!("CARGO_BIN_EXE_stress")), &[&line[..], &files[..]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    let broken = "stress: standard output: Broken pipe (os error 32)\n".to_owned();
    assert_eq!((output.status.code(), own(&messages)), (Some(1), broken));
    assert!(serde_json::from_str::<Report>(&fs::read_to_string(&json).unwrap()).is_ok());
    assert!(fs::read_to_string(&html).unwrap().contains("system"));
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
    assert!(messages.contains("stress-antifreeze is missing; build it with: cargo build "), "{messages}");
}

#[test]
fn a_signal_ends_the_command_with_130() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut command = stress(Path::new(env!("CARGO_BIN_EXE_stress")), &["--keys", "1000", "--rounds", "1000"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The first line is printed once the signals are watched.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("Replay of"), "{line}");
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        let mut messages = String::new();
        child.stderr.take().unwrap().read_to_string(&mut messages).unwrap();
        assert_eq!(own(&messages), "stress: interrupted\n");
    }
}

/// Where groups with a memory limit are made.
fn group_parents() -> Vec<PathBuf> {
    memory::group_folders(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default()).into_iter().take(2).collect()
}

#[test]
fn two_signals_at_once_leave_no_group_behind() {
    let html = test_folder("signals").join("result.html");
    let line = ["cgroup", "--limit", "256MiB", "--waves", "10000", "--allocators", "system", "--no-trace"];
    let line = [&line[..], &["--html", html.to_str().unwrap()]].concat();
    let mut command = stress(Path::new(env!("CARGO_BIN_EXE_stress")), &line);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let name = format!("stress-{}-0", child.id());
    let groups: Vec<_> = group_parents().iter().map(|parent| parent.join(&name)).collect();
    while !groups.iter().any(|group| group.exists()) {
        if child.try_wait().unwrap().is_some() {
            let output = child.wait_with_output().unwrap();
            skip(String::from_utf8_lossy(&output.stderr));
            return;
        }
        thread::yield_now();
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let messages = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), own(&messages)), (Some(130), "stress: interrupted\n".to_owned()));
    assert!(!groups.iter().any(|group| group.exists()));
}

#[test]
fn groups_that_a_killed_harness_left_are_removed_by_any_start() {
    let name = format!("stress-{}-0", u32::MAX);
    // Below the own group in version 1, beside it in version 2.
    let parents = group_parents();
    let is_v1 = parents.first().is_some_and(|own| own.join("memory.limit_in_bytes").exists());
    let Some(parent) = (if is_v1 { parents.first() } else { parents.last() }) else {
        return skip("this process is in no control group that has a memory controller");
    };
    let stale = parent.join(name);
    if let Err(error) = fs::create_dir(&stale) {
        return skip(format_args!("{}: {error}", stale.display()));
    }
    // Refused, so that nothing runs.
    assert_eq!(output(&["--keys", "1000000000000"]).status.code(), Some(2));
    assert!(!stale.exists());
}

#[test]
fn a_lowered_limit_of_open_files_is_raised() {
    let folder = test_folder("descriptors");
    let (json, html) = (folder.join("result.json"), folder.join("result.html"));
    let line = ["--keys", "1000", "--rounds", "1", "--settle-ms", "50", "--allocators", "system"];
    let files = ["--json", json.to_str().unwrap(), "--html", html.to_str().unwrap()];
    let mut command = stress(Path::new(env!("CARGO_BIN_EXE_stress")), &[&line[..], &files[..]].concat());
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // SAFETY: between fork and exec one system call is made, which takes no lock and no memory.
    unsafe { command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NOFILE, 32, hard)?)) };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Report = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    match report.untraced {
        Some(why) if !why.contains("descriptors") => skip(why),
        untraced => assert!(untraced.is_none() && report.runs[0].locks.is_some(), "{untraced:?}"),
    }
}

#[test]
fn a_child_without_its_parent_refuses_to_run() {
    const PLAN: &str = r#"{"replay":{"buckets":65536,"control_ms":1,"quiet_ms":1,"settle_ms":1}}"#;
    let program = env!("CARGO_BIN_EXE_stress-system");
    let output = Command::new(program).args(["--plan", PLAN, "--parent=-1"]).output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(messages.contains("the harness that started this process is gone"), "{messages}");
}
