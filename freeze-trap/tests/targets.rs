//! Aim: a target's processes are those that run now, and no others, through restarts and the reuse of numbers.
//!
//! Method: real children, and cgroups of their own where the machine lets this process make some.

#[path = "trap/wait.rs"]
mod wait;

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use freeze_trap::target::{Ended, Spec, Target, memory, names, process};
use lock_trace::{Options, Tracer};
use nix::sys::signal::Signal;
use nix::unistd::gettid;
use test_support::skip;
use wait::wait_for;

/// A child that sleeps, and is killed when it goes out of scope.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Sleeper {
        Sleeper::run("sleep", &["1000"])
    }

    fn run(program: &str, arguments: &[&str]) -> Sleeper {
        Sleeper(Command::new(program).args(arguments).stdin(Stdio::null()).spawn().expect("a child"))
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    fn kill(&mut self) {
        self.0.kill().expect("it is ours");
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open(spec: &Spec) -> Target {
    Target::open(spec).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn a_process_is_watched_until_it_ends() {
    let mut sleeper = Sleeper::start();
    let mut target = open(&Spec::Pid(sleeper.pid()));
    assert_eq!(target.name(), format!("pid {}", sleeper.pid()));
    assert_eq!(target.processes().unwrap(), [sleeper.pid()]);
    assert_eq!(target.ended(), None);
    wait_for("its name", || (names(&[sleeper.pid()]) == [(sleeper.pid(), "sleep".to_owned())]).then_some(()));
    sleeper.kill();
    // It stays a zombie: nobody has waited for it.
    wait_for("its end", || target.ended());
    assert_eq!(target.ended(), Some(Ended::Process));
    assert!(target.processes().unwrap().is_empty());
}

#[test]
fn a_number_that_another_process_has_got_is_not_taken_for_the_watched_one() {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    let mut first = Sleeper::start();
    let pid = first.pid();
    let mut target = open(&Spec::Pid(pid));
    first.kill();
    first.0.wait().expect("it is ours");
    // So that it starts at another tick.
    thread::sleep(Duration::from_millis(30));
    for _ in 0..200 {
        if let Err(error) = fs::write(LAST, (pid - 1).to_string()) {
            skip(format_args!("{LAST} cannot be written: {error}"));
            return;
        }
        let next = Sleeper::start();
        if next.pid() == pid {
            assert!(target.processes().unwrap().is_empty());
            assert_eq!(target.ended(), Some(Ended::Process));
            return;
        }
    }
    skip("others took the number each time");
}

#[test]
fn what_is_no_process_is_refused() {
    for (pid, reason) in [(0, "from 1 on"), (-5, "from 1 on"), (i32::MAX, "no process")] {
        let error = Target::open(&Spec::Pid(pid)).unwrap_err();
        assert!(format!("{error:#}").contains(reason), "{error:#}");
    }
}

fn shell(line: &str) -> Spec {
    Spec::Exec(["sh", "-c", line].map(OsString::from).to_vec())
}

#[test]
fn a_command_is_watched_with_its_children_and_gets_signals() {
    let directory = tempfile::tempdir().unwrap();
    // Made when the shell knows both: a signal before that would leave the second one alive.
    let ready = directory.path().join("ready");
    let start = "trap 'kill $a $b; exit 7' TERM; sleep 1000 & a=$!; sleep 1000 & b=$!";
    let mut target = open(&shell(&format!("{start}; : > {}; while :; do wait; done", ready.display())));
    wait_for("the shell to know both", || ready.exists().then_some(()));
    // And each is `sleep` itself: a shell that was just forked takes the signal for its parent's, and forgets it.
    let is_sleep = |pid: &&i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    let are_there = |pids: &Vec<i32>| pids.len() == 3 && pids.iter().filter(is_sleep).count() == 2;
    let pids = wait_for("both children", || target.processes().ok().filter(are_there));
    assert_eq!(target.ended(), None);
    target.pass_on(Signal::SIGTERM).unwrap();
    let ended = wait_for("its end", || target.ended());
    assert!(matches!(ended, Ended::Command(status) if status.code() == Some(7)), "{ended:?}");
    assert!(target.processes().unwrap().is_empty());
    wait_for("the end of its children", || names(&pids[1..]).is_empty().then_some(()));
    target.pass_on(Signal::SIGTERM).unwrap();
}

#[test]
fn the_end_of_a_command_is_told_as_it_was() {
    let mut target = open(&shell("exit 3"));
    let ended = wait_for("its end", || target.ended());
    assert!(matches!(ended, Ended::Command(status) if status.code() == Some(3)), "{ended:?}");
    let mut target = open(&shell("kill -9 $$"));
    let ended = wait_for("its end", || target.ended());
    assert!(matches!(ended, Ended::Command(status) if status.signal() == Some(9)), "{ended:?}");
    let error = Target::open(&Spec::Exec(vec!["/no/such/program".into()])).unwrap_err();
    assert!(format!("{error:#}").contains("`/no/such/program` cannot be started"), "{error:#}");
    assert!(Target::open(&Spec::Exec(Vec::new())).is_err());
}

#[test]
fn memory_comes_from_files_that_take_no_lock() {
    let own = std::process::id().cast_signed();
    let before = memory(&[own], 5);
    let block = vec![1_u8; 64 << 20];
    let after = memory(&[own], 6);
    assert_eq!((before.at_ns, after.at_ns), (5, 6));
    assert!(after.virtual_bytes >= before.virtual_bytes + block.len() as u64 / 2, "{before:?} {after:?}");
    assert!(after.resident_bytes > before.resident_bytes + block.len() as u64 / 2, "{before:?} {after:?}");
    assert!(after.threads >= 1 && after.faults[0] >= before.faults[0]);
    let sleeper = Sleeper::start();
    let both = memory(&[own, sleeper.pid()], 7);
    assert!(both.virtual_bytes > memory(&[sleeper.pid()], 7).virtual_bytes);
    assert_eq!(memory(&[i32::MAX], 8).resident_bytes, 0);
}

/// How often this thread had mmap_lock of a process while it did something; `None` where that cannot be traced.
fn locks_taken(pid: i32, act: impl FnOnce()) -> Option<u64> {
    let tracer = match Tracer::attach(pid.cast_unsigned(), &Options::default()) {
        Ok(tracer) => tracer,
        Err(error) => {
            skip(error);
            return None;
        }
    };
    act();
    let trace = tracer.stop().expect("a trace");
    let own = trace.rows.iter().filter(|row| row.tid == gettid().as_raw());
    Some(own.map(|row| row.holds.count).sum())
}

#[test]
fn nothing_that_is_asked_takes_the_lock_of_the_target() {
    let sleeper = Sleeper::start();
    let pid = sleeper.pid();
    wait_for("its name", || (names(&[pid]) == [(pid, "sleep".to_owned())]).then_some(()));
    let smaps = || {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("it is ours");
        assert!(text.contains("Rss:"));
    };
    let Some(taken) = locks_taken(pid, smaps) else { return };
    assert!(taken > 0, "the trace sees nothing, and would not see us either");
    let mut target = open(&Spec::Pid(pid));
    let taken = locks_taken(pid, || {
        assert_eq!(target.processes().unwrap(), [pid]);
        assert!(target.ended().is_none() && memory(&[pid], 0).resident_bytes > 0);
        let _ = target.throttled_ns();
        let stats = process::threads(pid).unwrap().into_iter().map(|tid| {
            let _ = process::thread_runs(pid, tid);
            process::thread_stat(pid, tid).unwrap()
        });
        assert!(stats.count() == 1 && process::children(pid).is_empty());
    });
    assert_eq!(taken, Some(0));
}

/// A cgroup for the test, removed at its end.
struct Group(PathBuf);

impl Group {
    /// Makes one at a place where a hierarchy is mounted whose description has a word in it.
    fn make(words: &[&str], name: &str) -> Option<Group> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let of = |word: &&str| {
            let line = text.lines().find(|line| line.rsplit([' ', ',']).any(|field| field == *word))?;
            Some(PathBuf::from(line.split(' ').nth(4)?))
        };
        let Some(mount) = words.iter().find_map(of) else {
            skip(format_args!("no cgroups are mounted with {words:?}"));
            return None;
        };
        let path = mount.join(format!("freeze-trap-{}-{name}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => Some(Group(path)),
            Err(error) => {
                skip(format_args!("{} cannot be made: {error}", path.display()));
                None
            }
        }
    }

    fn below(&self, name: &str) -> Group {
        let path = self.0.join(name);
        fs::create_dir(&path).expect("a cgroup in our own");
        Group(path)
    }

    fn add(&self, pid: i32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("a child may be moved");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A moment goes by until those that have ended are gone from it.
        let begin = Instant::now();
        while fs::remove_dir(&self.0).is_err() && begin.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn sorted<const N: usize>(mut pids: [i32; N]) -> [i32; N] {
    pids.sort_unstable();
    pids
}

/// Puts processes in and below a cgroup, and restarts them.
fn follow(target: &mut Target, group: &Group) {
    assert!(target.processes().unwrap().is_empty());
    {
        let inner = group.below("inner");
        let [outside, inside] = [Sleeper::start(), Sleeper::start()];
        group.add(outside.pid());
        inner.add(inside.pid());
        // Threads of one process count once.
        assert_eq!(target.processes().unwrap(), sorted([outside.pid(), inside.pid()]));
        assert_eq!(target.ended(), None);
        drop((outside, inside));
    }
    wait_for("the end of both", || target.processes().unwrap().is_empty().then_some(()));
    let again = Sleeper::start();
    group.add(again.pid());
    assert_eq!(target.processes().unwrap(), [again.pid()]);
    assert_eq!(target.ended(), None);
}

#[test]
fn a_cgroup_is_followed_through_restarts() {
    let Some(group) = Group::make(&["cgroup2", "name=systemd"], "group") else { return };
    follow(&mut open(&Spec::Cgroup(group.0.clone())), &group);
    let below = Path::new("/").join(group.0.file_name().expect("it has a name"));
    follow(&mut open(&Spec::Cgroup(below)), &group);
}

#[test]
fn a_cgroup_that_is_not_there_is_waited_for() {
    let Some(around) = Group::make(&["cgroup2", "name=systemd"], "around") else { return };
    let path = around.0.join("late");
    let below = Path::new("/").join(around.0.file_name().expect("it has a name")).join("late");
    let mut targets = [path, below].map(|path| open(&Spec::Cgroup(path)));
    for target in &mut targets {
        assert!(target.awaited().is_some_and(|text| text.contains("late yet")));
        assert!(target.processes().unwrap().is_empty() && target.ended().is_none());
    }
    // It is made twice.
    for _ in 0..2 {
        let group = around.below("late");
        let sleeper = Sleeper::start();
        group.add(sleeper.pid());
        for target in &mut targets {
            wait_for("its start", || (target.processes().unwrap() == [sleeper.pid()]).then_some(()));
            assert_eq!(target.awaited(), None);
        }
        drop(sleeper);
        drop(group);
        for target in &mut targets {
            wait_for("its end", || target.processes().unwrap().is_empty().then_some(()));
        }
    }
}

#[test]
fn a_unit_is_found_without_systemd_and_through_restarts() {
    if Path::new("/run/systemd/system").exists() {
        skip("systemd runs here, and knows no units that it has not made");
        return;
    }
    let Some(slice) = Group::make(&["cgroup2", "name=systemd"], "test.slice") else { return };
    let name = format!("freeze-trap-{}-test", std::process::id());
    let mut target;
    {
        let group = slice.below(&format!("{name}.service"));
        target = open(&Spec::Unit(name.clone()));
        assert_eq!(target.name(), format!("unit {name}.service"));
        follow(&mut target, &group);
    }
    assert!(target.processes().unwrap().is_empty(), "it is stopped");
    let group = slice.below(&format!("{name}.service"));
    let sleeper = Sleeper::start();
    group.add(sleeper.pid());
    let pids = wait_for("its start", || Some(target.processes().unwrap()).filter(|pids| !pids.is_empty()));
    assert_eq!(pids, [sleeper.pid()]);
}

#[test]
fn time_that_a_quota_takes_is_told() {
    let Some(group) = Group::make(&["cpu", "cgroup2"], "quota") else { return };
    let second = fs::write(group.0.join("cpu.max"), "10000 100000");
    if second.or_else(|_| fs::write(group.0.join("cpu.cfs_quota_us"), "10000")).is_err() {
        skip(format_args!("{} takes no quota", group.0.display()));
        return;
    }
    let inner = group.below("inner");
    let busy = Sleeper::run("sh", &["-c", "while :; do :; done"]);
    let mut by_pid = open(&Spec::Pid(busy.pid()));
    let mut by_group = open(&Spec::Cgroup(inner.0.clone()));
    let begin = by_group.throttled_ns();
    assert_eq!(begin, Some(0), "nothing ran in it");
    inner.add(busy.pid());
    // A period of 100 ms gives it 10 ms.
    for target in [&mut by_pid, &mut by_group] {
        wait_for("refused time", || target.throttled_ns().filter(|ns| *ns > 10_000_000));
    }
}
