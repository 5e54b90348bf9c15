//! Aim: of each kind of freeze the trap tells what stood in the way, who it was, and in which of its functions; where
//! nothing freezes, it raises no alarm.
//!
//! Method: the trap is run as people run it, with each source, on a service that freezes by itself, and what it has
//! written is read. BPF has to tell everything; the other sources the cause, and nobody who is innocent. Where a source
//! or a control group is not permitted, a line says so.

#[path = "freezes/group.rs"]
mod group;
#[path = "trap/port.rs"]
mod port;
#[path = "../../tests/common/settings.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod settings;

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use freeze_trap::freeze::{Cause, Frame, Freeze};
use freeze_trap::report::read_json;
use freeze_trap::source::Bounds;
use freeze_trap::source::choose::{Wanted, choose};
use group::{Group, Limit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use port::port;
use tempfile::TempDir;
use test_support::skip;

/// After so long the trap is taken to hang, or to catch nothing.
const DEADLINE: Duration = Duration::from_secs(120);
/// Between two looks at what the trap has done.
const PAUSE: Duration = Duration::from_millis(50);
/// The thread of `freeze-target` that is to blame, and what it does.
const CULPRIT: &str = "culprit";

static PROCESSORS: RwLock<()> = RwLock::new(());

/// One freeze after the other, as each needs the processors.
fn alone() -> RwLockWriteGuard<'static, ()> {
    PROCESSORS.write().unwrap_or_else(PoisonError::into_inner)
}

/// Only with others that need next to nothing.
fn in_peace() -> RwLockReadGuard<'static, ()> {
    PROCESSORS.read().unwrap_or_else(PoisonError::into_inner)
}

/// A trap with its target; both end with this.
struct Running(Child);

impl Running {
    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The target goes on without the trap, in its group.
        let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// The name of a source on the command line, if it is permitted here.
fn permitted(wanted: Wanted) -> Option<&'static str> {
    if let Err(why) = choose(wanted, &Bounds::default(), 64) {
        skip(format_args!("{why:#}"));
        return None;
    }
    Some(match wanted {
        Wanted::Bpf => "bpf",
        Wanted::Perf => "perf",
        Wanted::Sampling => "sampling",
        Wanted::Auto => "auto",
    })
}

/// A trap that runs, and what it leaves behind.
struct Run {
    running: Running,
    directory: TempDir,
    /// Captures that were read already.
    read: HashSet<PathBuf>,
}

impl Run {
    /// Starts a trap with probes on a target that answers at `PORT`.
    fn start(options: &[&str], probes: &[&str], target: &[&str], group: Option<&Group>) -> Run {
        let directory = tempfile::tempdir().unwrap();
        let port = port().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_freeze-trap"));
        command.arg("watch").args(options);
        command.arg("--directory").arg(directory.path().join("captures"));
        for probe in probes {
            command.args(["--probe", &probe.replace("PORT", &port)]);
        }
        command.arg("--exec");
        if let Some(group) = group {
            command.args(["sh", "-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(group.members());
        }
        command.arg(env!("CARGO_BIN_EXE_freeze-target")).args(target).args(["--listen", &format!("127.0.0.1:{port}")]);
        let output = File::create(directory.path().join("said")).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).process_group(0);
        let running = Running(command.spawn().expect("the trap starts"));
        Run { running, directory, read: HashSet::new() }
    }

    /// What it and its target have printed so far.
    fn said(&self) -> String {
        fs::read_to_string(self.directory.path().join("said")).unwrap()
    }

    /// Captures that are new.
    fn freezes(&mut self) -> Vec<Freeze> {
        let found = fs::read_dir(self.directory.path().join("captures")).into_iter().flatten().flatten();
        let paths = found.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
        let paths = paths.map(|entry| entry.path().join("freeze.json")).filter(|path| path.exists());
        let new: Vec<PathBuf> = paths.filter(|path| !self.read.contains(path)).collect();
        self.read.extend(new.iter().cloned());
        new.iter().map(|path| read_json(&fs::read_to_string(path).unwrap()).unwrap()).collect()
    }

    /// Waits for its end.
    fn end(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.running.ended() {
                return status;
            }
            assert!(Instant::now() < end, "the trap hangs: {}", self.said());
            thread::sleep(PAUSE);
        }
    }
}

/// Looks at one freeze after the other that a trap catches until one is as it has to be: whatever else the machine does
/// may set the trap off as well. `Err` says what is wrong with one.
fn catches(source: &str, probe: &str, target: &[&str], group: Option<&Group>, look: impl Fn(&Freeze) -> Verdict) {
    // The history has the freeze before as well, and the window reaches to the end of this one.
    let options = ["--window", "1500ms", "--history", "5s", "--cooldown", "10ms", "--captures-per-hour", "1000"];
    let asked = "http://127.0.0.1:PORT/,every=50ms,within=20s,failures=9";
    let target = [target, &["--every", "1.5", "--lasts", "1.5"]].concat();
    let mut run = Run::start(&[&options[..], &["--source", source]].concat(), &[asked, probe], &target, group);
    let (end, mut others) = (Instant::now() + DEADLINE, Vec::new());
    loop {
        for freeze in run.freezes() {
            let sentence = &freeze.sentence;
            println!("{source}: {sentence}");
            match look(&freeze) {
                Ok(()) => {
                    let is_said = || run.said().contains(sentence);
                    while !is_said() && Instant::now() < end {
                        thread::sleep(PAUSE);
                    }
                    assert!(is_said(), "{sentence} is not printed: {}", run.said());
                    return;
                }
                Err(why) => others.push(why),
            }
        }
        assert_eq!(run.running.ended(), None, "the trap has ended: {}", run.said());
        assert!(Instant::now() < end, "no freeze is as it has to be: {others:#?}; {}", run.said());
        thread::sleep(PAUSE);
    }
}

/// Why a freeze is not the one that is meant.
type Verdict = Result<(), String>;

/// `Err` with the reason unless something is so.
fn check(is_so: bool, why: impl FnOnce() -> String) -> Verdict {
    if is_so { Ok(()) } else { Err(why()) }
}

fn is_because_of(freeze: &Freeze, cause: Cause) -> Verdict {
    check(freeze.cause == cause, || format!("{:?}: {}", freeze.cause, freeze.sentence))
}

/// Whoever is told to have been in the way the longest is the culprit, which did that in one of these functions, called
/// by the last of them.
fn is_by_culprit(freeze: &Freeze, wanted: Wanted, functions: &[&str]) -> Verdict {
    let sentence = &freeze.sentence;
    let mut totals: Vec<(&str, u64)> = Vec::new();
    for pair in freeze.pairs.iter().filter(|pair| pair.on == freeze.cause) {
        match totals.iter_mut().find(|(name, _)| *name == pair.holder.name) {
            Some(known) => known.1 += pair.overlap_ns,
            None => totals.push((&pair.holder.name, pair.overlap_ns)),
        }
    }
    let longest = totals.iter().max_by_key(|(_, ns)| *ns);
    check(longest.is_none_or(|(name, _)| *name == CULPRIT), || format!("{totals:?}: {sentence}"))?;
    if wanted != Wanted::Bpf {
        return Ok(());
    }
    let pair = freeze.pairs.iter().find(|pair| pair.holder.name == CULPRIT && pair.on == freeze.cause);
    let pair = pair.ok_or_else(|| format!("nobody was in the way: {sentence}"))?;
    let called_from = pair.called_from.as_deref().ok_or_else(|| format!("no function is known: {pair:?}"))?;
    let is_known = functions.iter().any(|function| called_from.ends_with(function));
    check(is_known, || format!("{called_from}: {sentence}"))?;
    let is_told = sentence.contains(&format!("({CULPRIT})")) && sentence.contains(called_from);
    check(is_told, || format!("not {called_from}: {sentence}"))?;
    let is_last = |frame: &Frame| functions.last().is_some_and(|last| frame.function.ends_with(last));
    check(pair.stack.user.iter().any(is_last), || format!("{:?}", pair.stack))
}

/// The culprit was blocked itself, in that function.
fn culprit_was_blocked(freeze: &Freeze, function: &str) -> Verdict {
    let sentence = &freeze.sentence;
    let row = freeze.blocked.iter().find(|row| row.thread.name == CULPRIT && row.on == freeze.cause);
    let row = row.ok_or_else(|| format!("the culprit was not blocked: {sentence}"))?;
    let is_known = row.stack.user.iter().any(|frame| frame.function.ends_with(function));
    check(is_known && sentence.contains(function), || format!("{:?}: {sentence}", row.stack))
}

fn mmap_lock(wanted: Wanted) {
    let _alone = alone();
    let Some(source) = permitted(wanted) else { return };
    catches(source, "lock-wait,over=100ms", &["mmap-lock", "--mib", "768"], None, |freeze| {
        is_because_of(freeze, Cause::MmapLock)?;
        is_by_culprit(freeze, wanted, &["populate", "index::grow"])
    });
}

/// The kernel frees memory with mmap_lock held for reading; writers queue up behind it, and readers behind those.
fn evict(wanted: Wanted) {
    let _alone = alone();
    let Some(source) = permitted(wanted) else { return };
    catches(source, "lock-wait,over=100ms", &["evict", "--mib", "2048"], None, |freeze| {
        is_because_of(freeze, Cause::MmapLock)?;
        is_by_culprit(freeze, wanted, &["populate", "cache::evict"])
    });
}

fn user_lock(wanted: Wanted) {
    // All sleep.
    let _peace = in_peace();
    let Some(source) = permitted(wanted) else { return };
    let probe = "http://127.0.0.1:PORT/,every=200ms,within=500ms,failures=1";
    catches(source, probe, &["user-lock"], None, |freeze| {
        is_because_of(freeze, Cause::UserLock)?;
        is_by_culprit(freeze, wanted, &["index::reload"])
    });
}

/// With a control group, while no other test changes the machine.
fn limited(limit: &Limit, test: impl FnOnce(&Group)) {
    let _turn = settings::Turn::wait();
    match Group::new(limit) {
        Ok(group) => test(&group),
        Err(why) => skip(why),
    }
}

fn disk(wanted: Wanted) {
    let _alone = alone();
    let Some(source) = permitted(wanted) else { return };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let limit = Limit::Disk { of: directory.path().to_owned(), bytes_per_s: 1 << 20 };
    let arguments = ["disk", "--mib", "2", "--dir", directory.path().to_str().unwrap()];
    let probe = "http://127.0.0.1:PORT/,every=250ms,within=1s,failures=1";
    limited(&limit, |group| {
        catches(source, probe, &arguments, Some(group), |freeze| {
            is_because_of(freeze, Cause::Disk)?;
            if wanted == Wanted::Bpf { culprit_was_blocked(freeze, "journal::persist") } else { Ok(()) }
        });
    });
}

fn cpu(wanted: Wanted) {
    let _alone = alone();
    let Some(source) = permitted(wanted) else { return };
    let limit = Limit::Cpu { quota_us: 100_000, period_us: 1_000_000 };
    let probe = "http://127.0.0.1:PORT/,every=200ms,within=400ms,failures=1";
    limited(&limit, |group| {
        catches(source, probe, &["cpu"], Some(group), |freeze| {
            is_because_of(freeze, Cause::Throttled)?;
            if wanted != Wanted::Bpf {
                return Ok(());
            }
            let is_told = freeze.sentence.contains(&format!("({CULPRIT})"));
            check(is_told, || freeze.sentence.clone())?;
            culprit_was_blocked(freeze, "pages::render")
        });
    });
}

fn calm(wanted: Wanted) {
    let _peace = in_peace();
    let Some(source) = permitted(wanted) else { return };
    let probes = ["http://127.0.0.1:PORT/,every=50ms,within=5s", "stalled-threads,for=5s", "lock-hold,over=2s"];
    let probes = [&probes[..], &["lock-wait,over=2s"]].concat();
    let start = |options: &[&str]| {
        Run::start(&[options, &["--source", source]].concat(), &probes, &["nothing", "--every", "1"], None)
    };
    let mut both = [start(&["--for", "6s"]), start(&["--once", "--for", "2s"])];
    // Each with its own status.
    for (run, status) in both.iter_mut().zip([0, 3]) {
        assert_eq!(run.end().code(), Some(status), "{}", run.said());
        assert!(run.freezes().is_empty(), "{}", run.said());
    }
}

macro_rules! with_each_source {
    ($($name:ident: $test:ident($wanted:ident);)*) => {
        $(
            #[test]
            fn $name() {
                $test(Wanted::$wanted);
            }
        )*
    };
}

with_each_source! {
    mmap_lock_by_bpf: mmap_lock(Bpf);
    mmap_lock_by_perf: mmap_lock(Perf);
    mmap_lock_by_sampling: mmap_lock(Sampling);
    evict_by_bpf: evict(Bpf);
    evict_by_perf: evict(Perf);
    evict_by_sampling: evict(Sampling);
    user_lock_by_bpf: user_lock(Bpf);
    user_lock_by_perf: user_lock(Perf);
    user_lock_by_sampling: user_lock(Sampling);
    disk_by_bpf: disk(Bpf);
    disk_by_perf: disk(Perf);
    disk_by_sampling: disk(Sampling);
    cpu_by_bpf: cpu(Bpf);
    cpu_by_perf: cpu(Perf);
    cpu_by_sampling: cpu(Sampling);
    calm_by_bpf: calm(Bpf);
    calm_by_perf: calm(Perf);
    calm_by_sampling: calm(Sampling);
}
