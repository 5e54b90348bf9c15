//! Aim: signals end the trap without losing what it has, a command gets its own, and what counts for an hour outlives
//! the trap.
//!
//! Method: the trap is run as people run it, and told to end at the worst times.

mod trap;

use std::fs;
use std::thread;
use std::time::Duration;

use freeze_trap::trigger::Suppressed;
use freeze_trap::watch::state::State;
use nix::sys::signal::Signal;
use trap::{Service, TARGET, Trap, http, port, wait_for};

/// A mutex that a service holds for a second every second.
const FREEZES: [&str; 5] = ["user-lock", "--every", "1", "--lasts", "1"];

#[test]
fn a_capture_under_way_is_written_when_the_trap_is_told_to_end() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        let port = port();
        let service = Service::start(port, &FREEZES);
        let (pid, probe) = (service.pid().to_string(), http(port));
        // The window is longer than the test may take.
        let mut trap = Trap::watch(&["--window", "1h", "--source", "sampling", "--probe", &probe, "--pid", &pid]);
        trap.hears("frozen since");
        trap.signal(signal);
        trap.ends_with(0);
        let freeze = trap.freeze();
        assert!(freeze.window.trigger_ns <= freeze.window.end_ns, "{:?}", freeze.window);
        assert_eq!(State::read(&trap.directory).unwrap().starts_unix_ms.len(), 1);
    }
}

#[test]
fn a_command_gets_the_signal_and_its_status_is_passed_on() {
    let port = port();
    let (probe, listen) = (http(port), format!("127.0.0.1:{port}"));
    let options = ["--window", "1h", "--source", "sampling", "--probe", &probe, "--exec", TARGET, "--listen", &listen];
    let mut trap = Trap::watch(&[&options[..], &FREEZES].concat());
    trap.hears("frozen since");
    trap.signal(Signal::SIGTERM);
    trap.ends_with(128 + 15);
    trap.freeze();

    let script = "trap 'exit 9' USR1; trap 'exit 8' TERM; echo ready; while :; do sleep 0.1; done";
    for (signal, status) in [(Signal::SIGUSR1, 9), (Signal::SIGTERM, 8)] {
        let mut trap = Trap::watch(&["--source", "sampling", "--exec", "sh", "-c", script]);
        wait_for("the command", || trap.printed().contains("ready").then_some(()));
        trap.signal(signal);
        trap.ends_with(status);
    }
}

/// A trap that was told to end and waits for its command, which does not.
fn told_to_end() -> Trap {
    let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    let mut trap = Trap::watch(&["--source", "sampling", "--exec", "sh", "-c", script]);
    wait_for("the command", || trap.printed().contains("ready").then_some(()));
    trap.signal(Signal::SIGTERM);
    trap.hears("SIGTERM: ends");
    trap
}

/// Longer than what counts as a moment.
const LATER: Duration = Duration::from_millis(600);

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut trap = told_to_end();
    thread::sleep(LATER);
    assert!(trap.lives(), "{}", trap.said());
    trap.signal(Signal::SIGTERM);
    trap.ends_with(128 + 15);
    assert_eq!(trap.said().matches("SIGTERM").count(), 2, "{}", trap.said());
}

#[test]
fn two_signals_in_a_moment_are_one() {
    // On a busy machine the second may come too late.
    for _ in 0..20 {
        let mut trap = told_to_end();
        trap.signal(Signal::SIGTERM);
        thread::sleep(LATER);
        if trap.lives() {
            trap.signal(Signal::SIGTERM);
            trap.ends_with(128 + 15);
            assert_eq!(trap.said().matches("SIGTERM").count(), 2, "{}", trap.said());
            return;
        }
        trap.ends_with(128 + 15);
    }
    panic!("the second ends it each time");
}

#[test]
fn the_bound_of_an_hour_outlives_the_trap() {
    let directory = tempfile::tempdir().unwrap();
    let port = port();
    let service = Service::start(port, &FREEZES);
    let (pid, probe) = (service.pid().to_string(), http(port));
    let options = ["--source", "sampling", "--window", "100ms", "--history", "1s", "--captures-per-hour", "1"];
    let options = [&options[..], &["--probe", &probe, "--pid", &pid]].concat();
    let mut trap = Trap::watch_into(directory.path(), &[&["--once"], &options[..]].concat());
    trap.ends_with(0);
    for round in 1..=2 {
        let mut trap = Trap::watch_into(directory.path(), &options);
        trap.hears("enough in the last hour (--captures-per-hour): http://");
        trap.signal(Signal::SIGTERM);
        trap.ends_with(0);
        assert_eq!(trap.freezes().len(), 1);
        let state = State::read(directory.path()).unwrap();
        assert!(state.suppressed.hourly >= round && state.starts_unix_ms.len() == 1, "{state:?}");
    }
    // A capture of more than an hour ago is no hindrance; what was suppressed is counted on.
    let suppressed = Suppressed { hourly: 70, ..Suppressed::default() };
    State { starts_unix_ms: vec![1000], suppressed }.write(directory.path()).unwrap();
    let mut trap = Trap::watch_into(directory.path(), &[&["--once"], &options[..]].concat());
    trap.ends_with(0);
    assert_eq!(trap.freezes().len(), 2);
    assert!(State::read(directory.path()).unwrap().suppressed.hourly >= 70);
    // One that cannot be read is told, and the watch goes on.
    fs::write(directory.path().join("state.json"), "{}").unwrap();
    let mut trap = Trap::watch_into(directory.path(), &[&["--for", "100ms"], &options[..]].concat());
    trap.ends_with(0);
    assert!(trap.said().contains("is not used: missing field"), "{}", trap.said());
}
