//! Aim: of each kind of freeze the trap tells what stood in the way, who it was, and in which of its functions; where
//! nothing freezes, it raises no alarm.
//!
//! Method: the trap is run as people run it, with each source, on a service that freezes by itself, and what it has
//! written is read. BPF has to tell everything; the other sources the cause, and nobody who is innocent. Where a source
//! or a control group is not permitted, a line says so.

#[path = "freezes/group.rs"]
mod group;
#[path = "../../tests/common/settings.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod settings;

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use freeze_trap::freeze::{Cause, Frame, Freeze};
use freeze_trap::report::read_json;
use freeze_trap::source::Bounds;
use freeze_trap::source::choose::{Wanted, choose};
use group::{Group, Limit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// After so long the trap is taken to hang. It is told to give up earlier.
const DEADLINE: Duration = Duration::from_secs(120);
/// The thread of `freeze-target` that is to blame, and what it does.
const CULPRIT: &str = "culprit";

/// One freeze after the other, as each needs the processors.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A trap with its target; both end with this.
struct Running(Child);

impl Running {
    fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the trap hangs");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The target goes on without the trap, in its group.
        let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// What a trap did.
struct Outcome {
    status: ExitStatus,
    /// What it and its target printed.
    said: String,
    freezes: Vec<Freeze>,
}

/// A free port of this machine.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The name of a source on the command line, if it is permitted here.
fn permitted(wanted: Wanted) -> Option<&'static str> {
    if let Err(why) = choose(wanted, &Bounds::default(), 64) {
        println!("skipped: {why:#}");
        return None;
    }
    Some(match wanted {
        Wanted::Bpf => "bpf",
        Wanted::Perf => "perf",
        Wanted::Sampling => "sampling",
        Wanted::Auto => "auto",
    })
}

/// Runs a trap with probes on a target that answers at `PORT`.
fn run(options: &[&str], probes: &[&str], target: &[&str], group: Option<&Group>) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let (captures, said) = (directory.path().join("captures"), directory.path().join("said"));
    let port = port().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_freeze-trap"));
    command.args(["watch", "--window", "3s", "--history", "4s"]).args(options);
    command.arg("--directory").arg(&captures);
    for probe in probes {
        command.args(["--probe", &probe.replace("PORT", &port)]);
    }
    command.arg("--exec");
    if let Some(group) = group {
        command.args(["sh", "-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(group.members());
    }
    command.arg(env!("CARGO_BIN_EXE_freeze-target")).args(target).args(["--listen", &format!("127.0.0.1:{port}")]);
    let output = File::create(&said).unwrap();
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).process_group(0);
    let mut running = Running(command.spawn().expect("the trap starts"));
    let status = running.wait();
    drop(running);
    let said = fs::read_to_string(said).unwrap();
    let freezes =
        written(&captures).iter().map(|path| read_json(&fs::read_to_string(path).unwrap()).unwrap()).collect();
    Outcome { status, said, freezes }
}

/// The files of captures.
fn written(captures: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(captures).into_iter().flatten().flatten();
    found.map(|entry| entry.path().join("freeze.json")).filter(|path| path.exists()).collect()
}

/// The freeze that a trap caught.
fn caught(source: &str, probe: &str, target: &[&str], group: Option<&Group>) -> Freeze {
    let options = ["--once", "--for", "60s", "--source", source];
    let asked = "http://127.0.0.1:PORT/,every=50ms,within=20s,failures=9";
    let target = [target, &["--every", "3", "--lasts", "2"]].concat();
    let outcome = run(&options, &[asked, probe], &target, group);
    let said = outcome.said;
    assert!(outcome.status.success() && outcome.freezes.len() == 1, "{}: {said}", outcome.status);
    let freeze = outcome.freezes.into_iter().next().unwrap();
    assert!(said.contains(freeze.sentence.split_whitespace().next().unwrap()), "the sentence is not printed: {said}");
    println!("{source}: {}", freeze.sentence);
    freeze
}

/// Whoever is told to have been in the way the longest is the culprit, which did that in one of these functions, called
/// by the last of them.
fn is_by_culprit(freeze: &Freeze, wanted: Wanted, functions: &[&str]) {
    let sentence = &freeze.sentence;
    let mut totals: Vec<(&str, u64)> = Vec::new();
    for pair in freeze.pairs.iter().filter(|pair| pair.on == freeze.cause) {
        match totals.iter_mut().find(|(name, _)| *name == pair.holder.name) {
            Some(known) => known.1 += pair.overlap_ns,
            None => totals.push((&pair.holder.name, pair.overlap_ns)),
        }
    }
    let longest = totals.iter().max_by_key(|(_, ns)| *ns);
    assert!(longest.is_none_or(|(name, _)| *name == CULPRIT), "{totals:?}: {sentence}");
    if wanted != Wanted::Bpf {
        return;
    }
    assert!(longest.is_some(), "nobody was in the way: {sentence}");
    let pair = freeze.pairs.iter().find(|pair| pair.holder.name == CULPRIT && pair.on == freeze.cause).unwrap();
    let called_from = pair.called_from.as_deref().unwrap_or_else(|| panic!("no function is known: {pair:?}"));
    assert!(functions.iter().any(|function| called_from.ends_with(function)), "{called_from}: {sentence}");
    assert!(sentence.contains(&format!("({CULPRIT})")) && sentence.contains(called_from), "{sentence}");
    let is_last = |frame: &Frame| functions.last().is_some_and(|last| frame.function.ends_with(last));
    assert!(pair.stack.user.iter().any(is_last), "{:?}", pair.stack);
}

/// The culprit was blocked itself, in that function.
fn culprit_was_blocked(freeze: &Freeze, function: &str) {
    let row = freeze.blocked.iter().find(|row| row.thread.name == CULPRIT && row.on == freeze.cause);
    let row = row.unwrap_or_else(|| panic!("the culprit was not blocked: {}", freeze.sentence));
    assert!(row.stack.user.iter().any(|frame| frame.function.ends_with(function)), "{:?}", row.stack);
    assert!(freeze.sentence.contains(function), "{}", freeze.sentence);
}

fn mmap_lock(wanted: Wanted) {
    let _alone = alone();
    let Some(source) = permitted(wanted) else { return };
    let freeze = caught(source, "lock-wait,over=100ms", &["mmap-lock", "--mib", "768"], None);
    assert_eq!(freeze.cause, Cause::MmapLock, "{}", freeze.sentence);
    is_by_culprit(&freeze, wanted, &["populate", "index::grow"]);
}

/// The kernel frees memory with mmap_lock held for reading; writers queue up behind it, and readers behind those.
fn evict(wanted: Wanted) {
    let _alone = alone();
    let Some(source) = permitted(wanted) else { return };
    let freeze = caught(source, "lock-wait,over=100ms", &["evict", "--mib", "2048"], None);
    assert_eq!(freeze.cause, Cause::MmapLock, "{}", freeze.sentence);
    is_by_culprit(&freeze, wanted, &["populate", "cache::evict"]);
}

fn user_lock(wanted: Wanted) {
    let _alone = alone();
    let Some(source) = permitted(wanted) else { return };
    let probe = "http://127.0.0.1:PORT/,every=200ms,within=1s,failures=1";
    let freeze = caught(source, probe, &["user-lock"], None);
    assert_eq!(freeze.cause, Cause::UserLock, "{}", freeze.sentence);
    is_by_culprit(&freeze, wanted, &["index::reload"]);
}

/// A control group that tests are not denied, while no other test changes the machine.
fn limited<T>(limit: &Limit, test: impl FnOnce(&Group) -> T) -> Option<T> {
    let _turn = settings::Turn::wait();
    match Group::new(limit) {
        Ok(group) => Some(test(&group)),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

fn disk(wanted: Wanted) {
    let _alone = alone();
    let Some(source) = permitted(wanted) else { return };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let limit = Limit::Disk { of: directory.path().to_owned(), bytes_per_s: 1 << 20 };
    let arguments = ["disk", "--mib", "2", "--dir", directory.path().to_str().unwrap()];
    let probe = "http://127.0.0.1:PORT/,every=250ms,within=1s,failures=1";
    let Some(freeze) = limited(&limit, |group| caught(source, probe, &arguments, Some(group))) else { return };
    assert_eq!(freeze.cause, Cause::Disk, "{}", freeze.sentence);
    if wanted == Wanted::Bpf {
        culprit_was_blocked(&freeze, "journal::persist");
    }
}

fn cpu(wanted: Wanted) {
    let _alone = alone();
    let Some(source) = permitted(wanted) else { return };
    let limit = Limit::Cpu { quota_us: 100_000, period_us: 1_000_000 };
    let probe = "http://127.0.0.1:PORT/,every=200ms,within=400ms,failures=1";
    let Some(freeze) = limited(&limit, |group| caught(source, probe, &["cpu"], Some(group))) else { return };
    assert_eq!(freeze.cause, Cause::Throttled, "{}", freeze.sentence);
    if wanted == Wanted::Bpf {
        assert!(freeze.sentence.contains(&format!("({CULPRIT})")), "{}", freeze.sentence);
        culprit_was_blocked(&freeze, "pages::render");
    }
}

fn calm(wanted: Wanted) {
    let _alone = alone();
    let Some(source) = permitted(wanted) else { return };
    let probes = ["http://127.0.0.1:PORT/,every=50ms,within=5s", "stalled-threads,for=5s", "lock-hold,over=1s"];
    let probes = [&probes[..], &["lock-wait,over=1s"]].concat();
    let outcome = run(&["--for", "6s", "--source", source], &probes, &["nothing", "--every", "1"], None);
    assert!(outcome.status.success() && outcome.freezes.is_empty(), "{}: {}", outcome.status, outcome.said);
    let once = run(&["--once", "--for", "2s", "--source", source], &probes, &["nothing", "--every", "1"], None);
    assert_eq!(once.status.code(), Some(3), "{}", once.said);
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
