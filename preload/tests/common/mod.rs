//! What the tests of the C library share: where it was built, a C compiler, children that cannot hang a test.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use test_support::skip;

/// How long a child may take before it counts as hung. Far above what any of them needs.
const DEADLINE: Duration = Duration::from_secs(120);

/// The directory with the libraries, as they are now: Cargo does not build them for tests, which cannot be linked with
/// libraries of these kinds, so this does. If they are there that takes a moment.
pub fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--lib", "--message-format=json-render-diagnostics", "--profile", profile]);
        let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit()).output();
        let output = output.expect("cargo runs");
        assert!(output.status.success(), "cargo build: {}", output.status);
        let messages = text(&output.stdout);
        let library = messages.split('"').rfind(|part| part.ends_with("/libantifreeze.so"));
        let library = Path::new(library.expect("cargo tells where it put the library"));
        library.parent().expect("a directory").to_owned()
    })
}

/// The library for `LD_PRELOAD`.
pub fn library() -> PathBuf {
    built().join("libantifreeze.so")
}

/// A new, empty directory.
pub fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if directory.exists() {
        std::fs::remove_dir_all(&directory).expect("the directory of an earlier run goes");
    }
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
}

/// A program, with the library before all others and no variables of antifreeze.
pub fn preloaded(program: impl AsRef<OsStr>) -> Command {
    let mut command = plain(program);
    command.env("LD_PRELOAD", library());
    command
}

/// A program, without the library, and without variables of antifreeze.
pub fn plain(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"ANTIFREEZE_")) {
        command.env_remove(name);
    }
    command.env_remove("LD_PRELOAD").stdin(Stdio::null());
    command
}

/// Whether there is such a program; if not, says that the test is skipped.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !is_there {
        skip(format_args!("there is no {program}"));
    }
    is_there
}

/// Runs a command to its end.
pub fn output(command: &mut Command) -> Output {
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts"))
}

/// Runs a command that must succeed, and gives what it has printed.
pub fn printed(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// Waits for a child's end; kills one that hangs, and fails.
pub fn finish(child: Child) -> Output {
    let process = i32::try_from(child.id()).expect("a process number");
    let (sender, receiver) = mpsc::channel();
    let waiter = std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(DEADLINE) else {
        // SAFETY: the child is ours and was not waited for, so the number is still its.
        unsafe { libc::kill(process, libc::SIGKILL) };
        panic!("process {process} has not ended in {DEADLINE:?}");
    };
    waiter.join().expect("the waiting thread ends").expect("somebody listens");
    output.expect("what the child has printed")
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
