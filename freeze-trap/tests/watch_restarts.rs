//! Aim: a service that is restarted is watched on, and its restart is not taken for a freeze.
//!
//! Method: a cgroup of the test's own, in which services come and go. Where none can be made, a line says so.

#[path = "../../tests/common/settings.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod settings;
mod trap;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use test_support::skip;
use trap::{Service, TARGET, Trap, http, patient_http, port, wait_for};

/// A cgroup; it is removed when the test is over.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Group, String> {
        let root = Path::new("/sys/fs/cgroup");
        let parents = [root.join("cpu"), root.to_owned(), root.join("unified"), root.join("systemd")];
        let name = format!("freeze-trap-restarts-{}", std::process::id());
        let mut why = String::from("no cgroups are mounted below /sys/fs/cgroup");
        for parent in parents.iter().filter(|parent| parent.join("cgroup.procs").exists()) {
            match fs::create_dir(parent.join(&name)) {
                Ok(()) => return Ok(Group(parent.join(&name))),
                Err(error) => why = format!("{}: {error}", parent.display()),
            }
        }
        Err(why)
    }

    /// A service in it.
    fn service(&self, port: u16, arguments: &[&str]) -> Service {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.0).arg(TARGET);
        Service::spawn(command, port, arguments)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        wait_for("the end of the cgroup", || (fs::remove_dir(&self.0).is_ok() || !self.0.exists()).then_some(()));
    }
}

#[test]
fn a_cgroup_is_watched_through_restarts() {
    let _turn = settings::Turn::wait();
    let group = match Group::new() {
        Ok(group) => group,
        Err(why) => {
            skip(why);
            return;
        }
    };
    let port = port();
    let path = group.0.to_str().unwrap();
    let options = ["--window", "300ms", "--history", "1s", "--cooldown", "10ms", "--cgroup", path];
    let mut trap = Trap::watch(&[&options[..], &["--probe", &patient_http(port)]].concat());
    // There is no service yet.
    trap.hears("armed");
    for round in 1..=3 {
        let service = group.service(port, &["nothing", "--every", "1000"]);
        let pid = service.pid();
        trap.hears(&format!("has process {pid} now"));
        drop(service);
        wait_for("its end", || (trap.said().matches("has no process now").count() == round).then_some(()));
    }
    trap.signal(Signal::SIGTERM);
    trap.ends_with(0);
    assert!(!trap.said().contains("frozen"), "a restart is no freeze: {}", trap.said());
    let mut trap = Trap::watch(&[&options[..], &["--probe", &http(port)]].concat());
    trap.hears("armed");
    let service = group.service(port, &["user-lock", "--every", "1", "--lasts", "1"]);
    trap.hears("written to");
    // The one that is frozen ends in the middle of a capture.
    wait_for("another freeze", || (trap.said().matches("frozen since").count() >= 2).then_some(()));
    let pid = service.pid();
    drop(service);
    trap.signal(Signal::SIGTERM);
    trap.ends_with(0);
    let freezes = trap.freezes();
    assert!(freezes.len() >= 2, "{}", trap.said());
    for freeze in freezes {
        assert_eq!(freeze.target.name, format!("cgroup {path}"));
        assert_eq!(freeze.target.processes, [(pid, "freeze-target".to_owned())]);
    }
}

/// What the trap has in memory, in KiB.
fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn a_command_is_started_again_and_watched_on() {
    let files = tempfile::tempdir().unwrap();
    let (port, mark) = (port(), files.path().join("mark"));
    // The first life is short, the second freezes.
    let script = "if [ -e \"$0\" ]; then exec \"$@\"; fi; touch \"$0\"; exit 3";
    let probe = http(port);
    let options = ["--source", "sampling", "--window", "300ms", "--restart", "--probe", &probe, "--exec", "sh", "-c"];
    let service = [TARGET, "--listen", &format!("127.0.0.1:{port}"), "user-lock", "--every", "1", "--lasts", "1"];
    let mut trap = Trap::watch(&[&options[..], &[script, mark.to_str().unwrap()], &service].concat());
    trap.hears("has ended (exit status: 3), and is started again");
    trap.hears("written to");
    // A signal ends both.
    trap.signal(Signal::SIGTERM);
    trap.ends_with(128 + 15);
    let said = trap.said();
    assert_eq!(said.matches("is started again").count(), 1, "{said}");
    let mut trap = Trap::watch(&["--source", "sampling", "--restart", "--cgroup", "/"]);
    trap.ends_with(2);
}

#[test]
fn memory_does_not_grow_with_processes_that_come_and_go() {
    // Each of them is found, watched and forgotten.
    let script = "number=0; while :; do sleep 0.05 & number=$((number + 1)); echo $number; wait; done";
    // A probe that cannot fail: a capture would take memory of its own.
    let mut trap = Trap::watch(&["--probe", "lock-hold,over=1h", "--exec", "sh", "-c", script]);
    trap.hears("armed");
    let started = |trap: &Trap| trap.printed().lines().count();
    let after = |count: usize| {
        wait_for("processes", || (started(&trap) >= count).then_some(()));
        resident_kib(trap.pid())
    };
    let (early, late) = (after(60), after(260));
    println!("{early} KiB after 60 processes, {late} KiB after 260");
    // A hundred KiB for each of them would be 20 MiB.
    assert!(late < early + 10_000, "{early} KiB, then {late} KiB");
    trap.signal(Signal::SIGKILL);
}
