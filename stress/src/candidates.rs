//! The allocators that are compared: each has a binary `stress-<name>` of its own, which is built and found here.
//!
//! `main.rs` and the integration tests call this before they run the [`harness`](crate::harness).

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::harness::HarnessError;
use crate::process::{Ended, Running};

/// All that this build has, in the order of the first round.
pub const ALLOCATORS: &[&str] = &[
    "antifreeze",
    PREWARMED,
    "mimalloc",
    "jemalloc",
    "jemalloc-tuned",
    #[cfg(feature = "snmalloc")]
    "snmalloc",
    #[cfg(feature = "tcmalloc")]
    "tcmalloc",
    "system",
    LIMIT,
];
/// The one that only shows what the others can be measured against.
pub const LIMIT: &str = "limit";
/// The one that is asked for memory before it is needed.
pub const PREWARMED: &str = "antifreeze-prewarmed";
/// The program that puts load on a service.
pub const LOAD: &str = "stress-load";

/// Features that add allocators.
const FEATURES: &[(&str, bool)] = &[("snmalloc", cfg!(feature = "snmalloc")), ("tcmalloc", cfg!(feature = "tcmalloc"))];

/// Whether it is one of this project's.
pub fn is_antifreeze(allocator: &str) -> bool {
    allocator.starts_with("antifreeze")
}

/// One allocator's child binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The allocator's name, which the child reports as well.
    pub allocator: String,
    /// The binary.
    pub program: PathBuf,
}

/// The arguments with which cargo builds every child's binary into the folder that holds the running executable.
///
/// The folder is `<target>/<profile>`, or `<target>/<triple>/<profile>` when a target was named.
pub fn build_arguments(manifest: Option<&Path>, folder: &Path) -> Vec<String> {
    let mut arguments = vec!["build".to_owned()];
    match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some("release") => arguments.push("--release".to_owned()),
        Some(profile) => arguments.extend(["--profile".to_owned(), profile.to_owned()]),
    }
    arguments.extend(["-p", "stress", "--bins"].map(str::to_owned));
    let features: Vec<_> = FEATURES.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name).collect();
    if !features.is_empty() {
        arguments.extend(["--features".to_owned(), features.join(",")]);
    }
    if let Some(triple) =
        folder.parent().and_then(|parent| parent.file_name()?.to_str()).filter(|name| name.contains("-linux-"))
    {
        arguments.extend(["--target".to_owned(), triple.to_owned()]);
    }
    if let Some(manifest) = manifest {
        arguments.extend(["--manifest-path".to_owned(), manifest.display().to_string()]);
    }
    arguments
}

/// Builds the children's binaries beside the running executable. `cargo run` itself builds only the one it runs.
///
/// Does nothing when cargo did not start this process (it sets `CARGO`).
pub fn build(folder: &Path, interrupted: &AtomicBool) -> Result<(), HarnessError> {
    let Some(cargo) = env::var_os("CARGO").map(PathBuf::from) else { return Ok(()) };
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(|package| Path::new(&package).join("Cargo.toml"));
    let arguments = build_arguments(manifest.as_deref(), folder);
    let mut build = Command::new(&cargo);
    build.args(&arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let start_error = |source| HarnessError::Start { program: cargo.clone(), source };
    let mut build = Running::start(&mut build).map_err(start_error)?;
    match build.wait(interrupted, Duration::MAX).map_err(start_error)? {
        Ended::Exited(status) if status.success() => Ok(()),
        Ended::Exited(status) => Err(HarnessError::Build { status, command: format!("cargo {}", arguments.join(" ")) }),
        Ended::Interrupted | Ended::TimedOut => Err(HarnessError::Interrupted),
    }
}

/// The binary `stress-<name>` in `folder`.
fn program(folder: &Path, name: &str) -> Result<PathBuf, HarnessError> {
    let program = folder.join(format!("stress-{name}"));
    if program.is_file() {
        return Ok(program);
    }
    let command = format!("cargo {}", build_arguments(None, folder).join(" "));
    Err(HarnessError::Missing { program, command })
}

/// The binaries in `folder` of the named allocators.
pub fn find(folder: &Path, allocators: &[String]) -> Result<Vec<Candidate>, HarnessError> {
    let candidate =
        |allocator: &String| Ok(Candidate { allocator: allocator.clone(), program: program(folder, allocator)? });
    allocators.iter().map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_matches_the_profile_and_target_of_the_harness() {
        let arguments = |folder: &str| {
            let arguments = build_arguments(None, Path::new(folder)).join(" ");
            match arguments.split_once(" --features ") {
                Some((before, after)) => [before, after.split_once(' ').map_or("", |(_, rest)| rest)].join(" "),
                None => arguments,
            }
        };
        assert_eq!(arguments("/t/release").trim(), "build --release -p stress --bins");
        assert_eq!(arguments("/t/debug").trim(), "build -p stress --bins");
        assert_eq!(arguments("/t/bench-like").trim(), "build --profile bench-like -p stress --bins");
        assert_eq!(
            arguments("/t/x86_64-unknown-linux-musl/release"),
            "build --release -p stress --bins --target x86_64-unknown-linux-musl"
        );
        let arguments = build_arguments(Some(Path::new("/p/Cargo.toml")), Path::new("/t/debug"));
        assert!(arguments.join(" ").ends_with("--manifest-path /p/Cargo.toml"));
    }

    #[test]
    fn a_missing_binary_is_named_with_what_builds_it() {
        let error = find(Path::new("/nowhere/release"), &["antifreeze".to_owned()]).unwrap_err().to_string();
        let start =
            "/nowhere/release/stress-antifreeze is missing; build it with: cargo build --release -p stress --bins";
        assert!(error.starts_with(start), "{error}");
    }
}
