//! A service whose system calls are filtered as systemd's `SystemCallFilter=` does, by which a call that is not listed
//! kills: the allocator and its thread make none of those that such services usually lack.

#![cfg(target_os = "linux")]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use test_support::skip;

use common::{built, directory, has, library, output, plain, printed, text};

/// Compiles a program with the header at hand.
fn compiled(place: &Path, source: &str, more: &[&str]) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = package.join(source);
    let program = place.join(source.file_stem().expect("a name"));
    let mut compile = Command::new("cc");
    compile.args(["-Wall", "-Wextra", "-Werror", "-I"]).arg(package.join("include")).arg("-o").arg(&program);
    printed(compile.arg(source).args(more));
    program
}

#[test]
fn a_filter_that_kills_for_rare_calls_is_no_trouble() {
    if !has("cc") {
        return;
    }
    let place = directory("filter");
    let filter = compiled(&place, "tests/filter/filter.c", &[]);
    let proof = output(plain(&filter).arg("mincore"));
    if text(&proof.stdout).starts_with("no filter: ") {
        skip(text(&proof.stdout));
        return;
    }
    assert_eq!(proof.status.signal(), Some(libc::SIGSYS), "the filter kills: {proof:?}");

    // The example starts the governor's thread, which makes memory warm and begins to give it back.
    std::os::unix::fs::symlink(library(), place.join("libantifreeze.so.0")).expect("a link");
    let libraries = format!("-L{}", built().display());
    let rpath = format!("-Wl,-rpath,{}", place.display());
    let example = compiled(&place, "examples/prewarm.c", &[&libraries, "-lantifreeze", &rpath]);
    for mode in ["ready", "stepped"] {
        let output = output(plain(&filter).arg(&example).env("ANTIFREEZE_COMMIT", mode));
        assert!(output.status.success(), "{mode}: {output:?}");
        assert!(text(&output.stdout).contains(" of 256 MiB are warm"), "{mode}: {output:?}");
        assert!(!text(&output.stdout).contains("wakeups_total: 0\n"), "the thread was there: {output:?}");
    }
}
