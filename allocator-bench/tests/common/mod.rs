//! What tests of the children share: where they lie, and how they are started.

use std::path::Path;
use std::process::{Command, Output};

/// The directory of the binaries of this build.
pub fn directory() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_bench-system")).parent().expect("binaries lie in a directory")
}

/// Runs a binary to its end.
pub fn run(binary: &Path, args: &[&str]) -> Output {
    Command::new(binary).args(args).output().expect("the child can be started")
}
