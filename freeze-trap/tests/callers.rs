//! Aim: the program's own function is told, whichever way the program was built: with frame pointers and without,
//! linked with the C library or containing it, with and without tables for exceptions.
//!
//! Method: two programs in which a function frees much memory are built in each way, watched by BPF, and the longest
//! hold of mmap_lock has to name that function and its caller. Skipped where there is no compiler, or no right to BPF.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use freeze_trap::event::{Interval, Kind};
use freeze_trap::source::bpf::Bpf;
use freeze_trap::source::{Bounds, Source};
use freeze_trap::stack::Stacks;
use freeze_trap::symbols::{MapsCache, Namer};
use test_support::skip;

/// Ends the child.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Builds a program; `None`, with a line, where that cannot be.
fn built(compiler: &str, source: &str, options: &[&str], dir: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(source);
    let program = dir.join("grow");
    let output = Command::new(compiler).args(options).arg(source).arg("-o").arg(&program).output();
    let why = match output {
        Ok(output) if output.status.success() => return Some(program),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    skip(format_args!("{compiler} {}: {why}", options.join(" ")));
    None
}

/// The functions of the user stack of the longest hold of mmap_lock.
fn functions_of_the_longest_hold(program: &Path) -> Option<Vec<String>> {
    let mut bpf = match Bpf::arm(&Bounds::default(), 64) {
        Ok(bpf) => bpf,
        Err(why) => {
            skip(format_args!("{why:#}"));
            return None;
        }
    };
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let (child, mut lines) = (Ended(child), output.lines());
    let pid = child.0.id() as i32;
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let mut maps = MapsCache::new();
    maps.read(pid).unwrap();
    bpf.learn(&maps);
    bpf.watch(&[pid]).unwrap();
    writeln!(input, "go").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "done");
    let (mut stacks, mut told) = (Stacks::new(), Vec::new());
    bpf.take(&mut stacks, &mut |interval| told.push(interval)).unwrap();
    let longest = told.iter().filter(|one| matches!(one.kind, Kind::Hold { .. })).max_by_key(|one| one.duration_ns());
    let longest: &Interval = longest.expect("the lock is held");
    let named = Namer::new().name(&stacks, longest.stack.user, &maps);
    let user = named.user(longest.stack).iter();
    Some(user.map(|frame| frame.function.clone()).collect())
}

/// Whether the functions are there in that order, whatever is between them.
fn assert_functions(compiler: &str, source: &str, options: &[&str], expected: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = built(compiler, source, options, dir.path()) else { return };
    let Some(functions) = functions_of_the_longest_hold(&program) else { return };
    let mut rest = functions.iter();
    for one in expected {
        assert!(
            rest.any(|function| function == one),
            "{compiler} {options:?}: {one} is not in its place: {functions:#?}"
        );
    }
}

const RUST: [&str; 4] = ["grow::index::grow", "grow::serve", "grow::main", "main"];
const C: [&str; 3] = ["index_grow", "serve_request", "main"];

#[test]
fn rust_without_frame_pointers() {
    assert_functions("rustc", "grow.rs", &["--edition=2024", "-O", "-Cforce-frame-pointers=no"], &RUST);
}

#[test]
fn rust_with_frame_pointers() {
    assert_functions("rustc", "grow.rs", &["--edition=2024", "-O", "-Cforce-frame-pointers=yes"], &RUST);
}

#[test]
fn rust_that_aborts_and_is_stripped_of_debug_information() {
    let options = ["--edition=2024", "-O", "-Cpanic=abort", "-Cstrip=debuginfo"];
    assert_functions("rustc", "grow.rs", &options, &RUST);
}

#[test]
fn c_without_frame_pointers() {
    assert_functions("cc", "grow.c", &["-O2", "-fomit-frame-pointer"], &C);
}

#[test]
fn c_with_frame_pointers_and_without_tables() {
    let options = ["-O2", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer", "-fno-asynchronous-unwind-tables"];
    assert_functions("cc", "grow.c", &options, &C);
}

#[test]
fn c_that_contains_its_library() {
    assert_functions("cc", "grow.c", &["-O2", "-static"], &C);
}

#[test]
fn c_at_fixed_addresses() {
    assert_functions("cc", "grow.c", &["-O2", "-no-pie"], &C);
}

/// Nothing but the word on top of the stack leads to it then; its callers are not to be had.
#[test]
fn c_without_frame_pointers_and_tables_still_has_the_caller_of_the_system_call() {
    let options = ["-O2", "-fomit-frame-pointer", "-fno-asynchronous-unwind-tables"];
    assert_functions("cc", "grow.c", &options, &C[..1]);
}
