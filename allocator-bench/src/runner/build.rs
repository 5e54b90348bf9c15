//! Builds the children with the cargo that started the runner, and finds them beside the runner's own binary.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::contender::Contender;

/// Refuses a debug build of the runner, whose children would be beside it in the debug profile too; with ready-made
/// children it only warns.
///
/// # Errors
/// In a debug build that is to build its children.
pub fn require_optimised(no_build: bool) -> Result<()> {
    if cfg!(debug_assertions) {
        ensure!(no_build, "times of a debug build mean nothing; use `cargo run --release -p allocator-bench`");
        eprintln!("warning: this is a debug build, its times mean nothing");
    }
    Ok(())
}

/// Builds every child in the release profile, with the features of this build.
///
/// # Errors
/// If cargo cannot be started or fails.
pub fn build_children() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command.args(["build", "--release", "--package", "allocator-bench", "--bins", "--no-default-features"]);
    for contender in Contender::ALL.into_iter().filter(Contender::is_built) {
        command.args(contender.feature().map(|feature| format!("--features={feature}")));
    }
    let status = command.status().with_context(|| format!("cannot start {}", cargo.display()))?;
    if !status.success() {
        bail!(
            "the children could not be built ({status}); without a C compiler use --no-default-features, which leaves \
             mimalloc out; snmalloc needs a C++ compiler and the feature `snmalloc`"
        );
    }
    Ok(())
}

/// The directory that holds the children, which is where the runner itself is.
///
/// # Errors
/// If one of the children is not there.
pub fn children_directory(contenders: &[Contender]) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the runner's own binary")?;
    let directory = own.parent().context("the runner's own binary is in no directory")?;
    for contender in contenders {
        let path = contender.path_in(directory);
        ensure!(path.is_file(), "{} is missing; run without --no-build", path.display());
    }
    Ok(directory.to_path_buf())
}
