//! Builds the children with the cargo that started the runner, and finds them beside the runner's own binary.

use std::path::PathBuf;
use std::process::Command;

use allocator_bench::contender::Contender;
use anyhow::{Context, Result, bail, ensure};

/// Builds the children unless they are ready-made, and gives the directory that holds them.
///
/// # Errors
/// If they cannot be built, or one is not there.
pub fn prepare(contenders: &[Contender], no_build: bool, with_probes: bool) -> Result<PathBuf> {
    require_optimised(no_build)?;
    if !no_build {
        build_children()?;
    }
    children_directory(contenders, with_probes)
}

/// Refuses a debug build of the runner, whose children would be beside it in the debug profile too; with ready-made
/// children it only warns.
fn require_optimised(no_build: bool) -> Result<()> {
    if cfg!(debug_assertions) {
        ensure!(no_build, "times of a debug build mean nothing; use `cargo run --release -p allocator-bench`");
        eprintln!("warning: this is a debug build, its times mean nothing");
    }
    Ok(())
}

/// Builds every child in the release profile, with the features of this build.
fn build_children() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command.args(["build", "--release", "--package", "allocator-bench", "--bins", "--no-default-features"]);
    for contender in Contender::built() {
        command.args(contender.feature().map(|feature| format!("--features={feature}")));
    }
    let status = command.status().with_context(|| format!("cannot start {}", cargo.display()))?;
    if !status.success() {
        bail!(
            "the children could not be built ({status}); without a C compiler and make use --no-default-features, \
             which leaves jemalloc and mimalloc out; snmalloc and tcmalloc need a C++ compiler"
        );
    }
    Ok(())
}

/// The directory that holds the children, which is where the runner itself is; those with probes are looked for if
/// `with_probes`.
fn children_directory(contenders: &[Contender], with_probes: bool) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the runner's own binary")?;
    let directory = own.parent().context("the runner's own binary is in no directory")?;
    for contender in contenders {
        let probe = with_probes.then(|| contender.probe_in(directory));
        for path in [contender.bench_in(directory)].into_iter().chain(probe) {
            ensure!(path.is_file(), "{} is missing; run without --no-build", path.display());
        }
    }
    Ok(directory.to_path_buf())
}
