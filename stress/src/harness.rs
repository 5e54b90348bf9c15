//! Running children: building and finding their binaries, taking turns, and judging what they report.
//!
//! `main.rs` and the integration tests call this; nothing here prints.

use std::env;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ballast::{self, Ballast};
use crate::child::{ChildReport, Plan};
use crate::phase::Phase;
use crate::process::{Ended, Running};
use crate::table::Size;
use crate::talk::Line;

/// The allocators that are compared, in the order of the first round. Each has a binary `replay-<name>`.
pub const ALLOCATORS: [&str; 5] = ["antifreeze", "antifreeze-prewarmed", "mimalloc", "system", LIMIT];
/// The one that only shows what the others can be measured against.
pub const LIMIT: &str = "limit";

/// When a child is taken to hang. The incident's size takes seconds, on memory the host has not backed a minute.
const CHILD_LIMIT: Duration = Duration::from_secs(900);
/// How much of a child's messages an error repeats.
const MESSAGE_CHARS: usize = 2000;

/// One allocator's child binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The allocator's name, which the child reports as well.
    pub allocator: String,
    /// The binary.
    pub program: PathBuf,
}

/// What came of one child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The round, from 1.
    pub round: u32,
    /// How long a fault of one hugepage took right before the child touched the memory of the doubled table.
    pub fault_ns: u64,
    /// The child's report.
    pub report: ChildReport,
}

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A child's binary is not there.
    #[error("{program} is missing; build it with: {command}", program = .program.display())]
    Missing {
        /// Where it was looked for.
        program: PathBuf,
        /// What builds it.
        command: String,
    },
    /// A program could not be started or watched.
    #[error("{program} could not be run: {source}", program = .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The memory that is held for the children could not be had.
    #[error("touching memory for the children: {0}")]
    Memory(io::Error),
    /// Building the children failed; the compiler's messages are on standard error.
    #[error("building the replay binaries failed ({status}): {command}")]
    Build {
        /// How the build ended.
        status: ExitStatus,
        /// What was run.
        command: String,
    },
    /// A child failed, or reported what cannot be.
    #[error("round {round}, allocator {allocator}: {reason}")]
    Child {
        /// The allocator.
        allocator: String,
        /// The round, from 1.
        round: u32,
        /// What went wrong.
        reason: String,
    },
}

/// The arguments with which cargo builds every replay binary into the folder that holds the running executable.
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

/// Builds the replay binaries beside the running executable. `cargo run` itself builds only the one it runs.
///
/// Does nothing when cargo did not start this process (it sets `CARGO`).
pub fn build_candidates(folder: &Path, interrupted: &AtomicBool) -> Result<(), HarnessError> {
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

/// The replay binaries in `folder`, one for each of [`ALLOCATORS`].
pub fn find_candidates(folder: &Path) -> Result<Vec<Candidate>, HarnessError> {
    ALLOCATORS
        .iter()
        .map(|allocator| {
            let program = folder.join(format!("replay-{allocator}"));
            if program.is_file() {
                Ok(Candidate { allocator: (*allocator).to_owned(), program })
            } else {
                let command = format!("cargo {}", build_arguments(None, folder).join(" "));
                Err(HarnessError::Missing { program, command })
            }
        })
        .collect()
}

/// Runs every candidate once in each round, one after the other, each round from another one on.
///
/// Unless `cold`, each child finds memory that the host backs. `on_start` is told the round (from 1) and the allocator
/// before each child.
pub fn run_rounds(
    candidates: &[Candidate],
    plan: &Plan,
    rounds: u32,
    cold: bool,
    interrupted: &AtomicBool,
    mut on_start: impl FnMut(u32, &str),
) -> Result<Vec<Run>, HarnessError> {
    let mut ballast = Ballast::default();
    let held_bytes = Size::with_buckets(plan.buckets).map_or(0, Size::replay_bytes);
    let mut runs = Vec::new();
    for round in 1..=rounds {
        let first = (round as usize - 1) % candidates.len().max(1);
        for candidate in candidates.iter().cycle().skip(first).take(candidates.len()) {
            on_start(round, &candidate.allocator);
            if !cold {
                // Twice: the second time takes what the kernel gives out next when as much has just become free, as the
                // child will find it. Most of that has been touched, and then all of it has.
                for _ in 0..2 {
                    ballast.let_go(u64::MAX);
                    ballast.take(held_bytes, interrupted).map_err(|error| HarnessError::Memory(error.into()))?;
                }
            }
            runs.push(run_child(candidate, plan, round, &mut ballast, interrupted)?);
        }
    }
    Ok(runs)
}

/// Runs one child to its end and checks its report; lets go of `ballast` as the child asks for memory. When
/// `interrupted` is set, the child is killed and reaped first.
pub fn run_child(
    candidate: &Candidate,
    plan: &Plan,
    round: u32,
    ballast: &mut Ballast,
    interrupted: &AtomicBool,
) -> Result<Run, HarnessError> {
    let failed = |reason| HarnessError::Child { allocator: candidate.allocator.clone(), round, reason };
    let start_error = |source| HarnessError::Start { program: candidate.program.clone(), source };
    let plan = Plan { asks: true, parent: i32::try_from(std::process::id()).ok(), ..*plan };
    let mut command = Command::new(&candidate.program);
    command.args(plan.arguments()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // In a group of its own the child does not get the terminal's Ctrl-C, so that it ends in one way only: killed here.
    command.process_group(0);
    let mut child = Running::start(&mut command).map_err(start_error)?;
    let (lines, messages, mut input) = (child.lines(), child.messages(), child.input());
    let (mut fault_ns, mut output) = (0, Vec::new());
    let ended = child.wait_busily(interrupted, CHILD_LIMIT, |time| {
        let line = match lines.recv_timeout(time) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(time);
                return Ok(());
            }
        };
        if let Ok(Line::About { bytes }) = serde_json::from_str(&line) {
            ballast.let_go(bytes);
            fault_ns = ballast::probe_fault_ns()?;
            // A child that is gone meanwhile says by its exit why.
            let _ = input.as_mut().map(|input| input.write_all(b"\n"));
        } else {
            output.push(line);
        }
        Ok(())
    });
    let ended = ended.map_err(start_error)?;
    output.extend(lines.iter());
    let (output, messages) = (output.join("\n"), messages.join().unwrap_or_default());
    let status = match ended {
        Ended::Exited(status) => status,
        Ended::Interrupted => return Err(HarnessError::Interrupted),
        Ended::TimedOut => {
            return Err(failed(format!("no end after {} s; killed. {}", CHILD_LIMIT.as_secs(), tail(&messages))));
        }
    };
    if !status.success() {
        let how = match status.signal() {
            Some(9) => format!("{status} (did the machine run out of memory?)"),
            _ => status.to_string(),
        };
        return Err(failed(format!("the child failed, {how}: {}", tail(&messages))));
    }
    let report = match serde_json::from_str(output.trim()) {
        Ok(Line::Report(report)) => *report,
        Ok(Line::About { .. }) => return Err(failed("the child left without a report".to_owned())),
        Err(error) => return Err(failed(format!("the report is not understood ({error}): {}", tail(&output)))),
    };
    check(&report, candidate, &plan).map_err(failed)?;
    Ok(Run { round, fault_ns, report })
}

/// Whether a report is one that this candidate can give for this plan.
fn check(report: &ChildReport, candidate: &Candidate, plan: &Plan) -> Result<(), String> {
    let entries = Size::with_buckets(plan.buckets).map(Size::entries);
    if report.allocator != candidate.allocator {
        return Err(format!("the child ran under {} instead", report.allocator));
    }
    if report.buckets != plan.buckets || Some(report.entries) != entries {
        return Err(format!("the child replayed {} entries in {} buckets instead", report.entries, report.buckets));
    }
    if !report.phases.iter().map(|entry| entry.phase).eq(Phase::ALL) {
        return Err("the child did not report every phase".to_owned());
    }
    Ok(())
}

/// The end of a child's messages, which names the cause.
fn tail(messages: &str) -> String {
    let messages = messages.trim();
    if messages.is_empty() {
        return "it left no message".to_owned();
    }
    let skipped = messages.chars().count().saturating_sub(MESSAGE_CHARS);
    messages.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(program: &str) -> Candidate {
        Candidate { allocator: "some".to_owned(), program: PathBuf::from(program) }
    }

    fn run(program: &str, interrupted: bool) -> HarnessError {
        let plan = Plan::new(Size::SMALLEST);
        run_child(&candidate(program), &plan, 2, &mut Ballast::default(), &AtomicBool::new(interrupted)).unwrap_err()
    }

    #[test]
    fn the_build_matches_the_profile_and_target_of_the_harness() {
        let arguments = |folder: &str| build_arguments(None, Path::new(folder)).join(" ");
        assert_eq!(arguments("/t/release"), "build --release -p stress --bins");
        assert_eq!(arguments("/t/debug"), "build -p stress --bins");
        assert_eq!(arguments("/t/bench-like"), "build --profile bench-like -p stress --bins");
        assert_eq!(
            arguments("/t/x86_64-unknown-linux-musl/release"),
            "build --release -p stress --bins --target x86_64-unknown-linux-musl"
        );
        let arguments = build_arguments(Some(Path::new("/p/Cargo.toml")), Path::new("/t/debug"));
        assert_eq!(arguments.join(" "), "build -p stress --bins --manifest-path /p/Cargo.toml");
    }

    #[test]
    fn a_missing_binary_is_named_with_what_builds_it() {
        let error = find_candidates(Path::new("/nowhere/release")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nowhere/release/replay-antifreeze is missing; build it with: cargo build --release -p stress --bins"
        );
    }

    #[test]
    fn failures_name_the_allocator_and_the_cause() {
        let error = run("/bin/false", false).to_string();
        assert!(error.starts_with("round 2, allocator some: the child failed, exit status: 1"), "{error}");
        let error = run("/bin/echo", false).to_string();
        assert!(error.contains("the report is not understood") && error.contains("--buckets=65536"), "{error}");
        assert!(matches!(run("/nowhere/replay-some", false), HarnessError::Start { .. }));
    }

    #[test]
    fn an_interrupted_run_kills_its_child() {
        assert!(matches!(run("/bin/cat", true), HarnessError::Interrupted));
    }

    #[test]
    fn only_the_end_of_long_messages_is_repeated() {
        let long = format!("{}end", "x".repeat(5000));
        assert_eq!(tail(&long).len(), MESSAGE_CHARS);
        assert!(tail(&long).ends_with("end"));
        assert_eq!(tail(" \n"), "it left no message");
    }
}
