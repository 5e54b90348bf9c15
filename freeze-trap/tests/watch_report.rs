//! Aim: `freeze-trap report` gives a stored capture in every form, and finds the newest; what is no capture is told.
//!
//! Method: freezes that are made up are stored as the trap stores them, and each form is compared with what the library
//! makes of them.

mod report_sample;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use freeze_trap::freeze::{Cause, Freeze};
use freeze_trap::report::{self, Kind};
use freeze_trap::watch::disk::{Disk, captures};

const BOUND_BYTES: u64 = 1 << 30;

fn show(path: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freeze-trap"));
    command.arg("report").arg(path).args(options).output().unwrap()
}

fn shown(path: &Path, options: &[&str]) -> Vec<u8> {
    let output = show(path, options);
    assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Every form by its name.
fn forms(freeze: &Freeze) -> [(&'static str, Vec<u8>); 7] {
    [
        ("text", report::text(freeze, 120, false).into()),
        ("json", report::json(freeze).into()),
        ("folded", report::folded(freeze).into()),
        ("pprof", report::pprof(freeze)),
        ("flame", report::flame(freeze, Kind::OffCpu).into()),
        ("wait", report::flame(freeze, Kind::LockWait).into()),
        ("page", report::page(freeze).into()),
    ]
}

#[test]
fn a_capture_has_every_form() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::open(directory.path(), BOUND_BYTES).unwrap();
    for cause in report_sample::CAUSES {
        let freeze = report_sample::freeze(cause);
        let stored = disk.store(&freeze, &format!("{cause:?}")).unwrap();
        assert!(stored.bytes > 0 && stored.removed.is_empty());
        for (name, content) in forms(&freeze) {
            assert_eq!(shown(&stored.path, &["--format", name]), content, "{cause:?} as {name}");
            let file = directory.path().join("output");
            assert!(
                shown(&stored.path.join("freeze.json"), &["--format", name, "-o", file.to_str().unwrap()]).is_empty()
            );
            assert_eq!(fs::read(file).unwrap(), content, "{cause:?} as {name}");
        }
        assert_eq!(shown(&stored.path, &[]), forms(&freeze)[0].1);
    }
}

#[test]
fn the_newest_is_taken_and_all_are_listed() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::open(directory.path(), BOUND_BYTES).unwrap();
    let names = ["2026-11-27T23-25-01Z", "2026-11-27T23-25-01Z", "2025-01-01T00-00-00Z"];
    for (name, cause) in names.iter().zip(report_sample::CAUSES) {
        disk.store(&report_sample::freeze(cause), name).unwrap();
    }
    // What begins with a dot is not finished.
    fs::create_dir(directory.path().join(".unfinished-3000")).unwrap();
    fs::write(directory.path().join(".unfinished-3000/freeze.json"), "{").unwrap();
    let listed = String::from_utf8(shown(directory.path(), &["--list"])).unwrap();
    let lines: Vec<(&str, &str)> = listed.lines().map(|line| line.split_once("  ").unwrap()).collect();
    let ends = ["2025-01-01T00-00-00Z-1", "2026-11-27T23-25-01Z-1", "2026-11-27T23-25-01Z-2"];
    assert_eq!(lines.len(), 3);
    for ((path, sentence), (end, at)) in lines.iter().zip(ends.iter().zip([2, 0, 1])) {
        assert!(path.ends_with(end), "{path}");
        assert_eq!(*sentence, report_sample::freeze(report_sample::CAUSES[at]).sentence);
    }
    let newest = report::json(&report_sample::freeze(report_sample::CAUSES[1]));
    assert_eq!(shown(directory.path(), &["--format", "json"]), newest.into_bytes());
    // The next trap clears away what is unfinished.
    drop(disk);
    // A child that another test is just starting has a copy of the lock until it executes its program.
    let end = Instant::now() + Duration::from_secs(60);
    while let Err(error) = Disk::open(directory.path(), BOUND_BYTES) {
        assert!(Instant::now() < end, "{error:#}");
    }
    assert!(!directory.path().join(".unfinished-3000").exists());
    assert_eq!(captures(directory.path()).unwrap().len(), 3);
}

#[test]
fn a_terminal_gets_no_orders_from_a_list() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::open(directory.path(), BOUND_BYTES).unwrap();
    let mut freeze = report_sample::nasty();
    freeze.sentence = "thread 7 (\u{1b}[31mred\n)".to_owned();
    disk.store(&freeze, "a").unwrap();
    let listed = String::from_utf8(shown(directory.path(), &["--list"])).unwrap();
    assert!(listed.ends_with("thread 7 (\u{fffd}[31mred\u{fffd})\n"), "{listed}");
}

#[test]
fn what_is_no_capture_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "{}").unwrap();
    let newer = directory.path().join("newer.json");
    fs::write(&newer, "{\"schema\": 4711}").unwrap();
    let whole = report_sample::freeze(Cause::Disk);
    let unwritable = ["-o", "/no/such/directory/file"];
    let disk = tempfile::tempdir().unwrap();
    let stored = Disk::open(disk.path(), BOUND_BYTES).unwrap().store(&whole, "a").unwrap();
    for (path, options, words) in [
        (directory.path(), &[][..], "has no capture"),
        (Path::new("/no/such/capture"), &[], "cannot be read: No such file"),
        (Path::new("/no/such/captures"), &["--list"], "cannot be read: No such file"),
        (&file, &[], "this is not a freeze"),
        (&newer, &[], "layout of version 4711"),
        (&stored.path, &unwritable, "/no/such/directory/file: No such file"),
    ] {
        let output = show(path, options);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(show(&file, &["--format", "gif"]).status.code(), Some(2));
    assert_eq!(show(&file, &["--list", "--format", "text"]).status.code(), Some(2));
}
