//! What the integration tests share.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use stress::candidates::{self, ALLOCATORS, Candidate};

/// The folder of the binaries that belong to this test run.
pub fn program_folder() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_stress")).parent().expect("a program is in a folder")
}

/// Every allocator of this build.
pub fn all_candidates() -> Vec<Candidate> {
    let all: Vec<String> = ALLOCATORS.iter().map(|&name| name.to_owned()).collect();
    candidates::find(program_folder(), &all).expect("cargo builds the binaries of a package before its tests")
}

/// The named allocators.
pub fn some_candidates(names: &[&str]) -> Vec<Candidate> {
    all_candidates().into_iter().filter(|candidate| names.contains(&candidate.allocator.as_str())).collect()
}

/// The command as if started by hand, not by cargo: it must not start a build under the lock of the running one.
pub fn stress(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_remove("CARGO").stdin(Stdio::null());
    command
}

/// The command run to its end.
pub fn output(arguments: &[&str]) -> Output {
    stress(Path::new(env!("CARGO_BIN_EXE_stress")), arguments).output().expect("the command starts")
}

/// A folder for the files of one test.
pub fn test_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("the folder for tests can be written");
    folder
}
