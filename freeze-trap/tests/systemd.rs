//! Aim: under a running systemd, units are found and followed by what systemd says of them, and the unit that is
//! shipped does what it is for: it arms as a user of its own with the capabilities that its file grants, catches a
//! freeze, answers for its metrics, and ends with its state saved.
//!
//! Method: units are written to `/run/systemd/system`, started and stopped by `systemctl`, and gone with the test.
//! Where no systemd runs, or this is not root, a line says so.

#[path = "trap/port.rs"]
mod port;
mod systemd_unit;
#[path = "trap/wait.rs"]
mod wait;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use freeze_trap::report::read_json;
use freeze_trap::source::Bounds;
use freeze_trap::source::choose::{Wanted, choose};
use freeze_trap::target::{Spec, Target};
use freeze_trap::watch::disk;
use port::port;
use systemd_unit::{Units, systemctl};
use test_support::skip;
use wait::wait_for;

const TARGET: &str = env!("CARGO_BIN_EXE_freeze-target");

fn open(name: &str) -> Target {
    Target::open(&Spec::Unit(name.to_owned())).unwrap_or_else(|error| panic!("{name}: {error:#}"))
}

/// Processes of a unit as systemd counts them.
fn main_pid(unit: &str) -> i32 {
    systemctl(&["show", "-p", "MainPID", "--value", unit]).trim().parse().unwrap()
}

/// Waits until a unit has other processes than before, and so many.
fn processes(target: &mut Target, count: usize, before: &[i32]) -> Vec<i32> {
    wait_for(&format!("{count} processes of {}", target.name()), || {
        let pids = target.processes().unwrap();
        (pids.len() == count && !pids.iter().any(|pid| before.contains(pid))).then_some(pids)
    })
}

#[test]
fn a_unit_is_followed_as_systemd_starts_and_stops_it() {
    let Some(units) = Units::new("follow") else { return };
    let one = units.write("one.service", "ExecStart=/bin/sleep 1000");
    let two = units.write("two.service", "ExecStart=/bin/sh -c 'sleep 1000 & sleep 1000 & wait'");
    let template = units.write("many@.service", "ExecStart=/bin/sleep 1000");
    let instance = template.replace("@.", "@a-b.");
    let mut target = open(one.trim_end_matches(".service"));
    let awaited = target.awaited().unwrap();
    assert!(awaited.contains(&one) && awaited.contains("waited for"), "{awaited}");
    assert!(target.processes().unwrap().is_empty() && target.ended().is_none());
    let mut before = Vec::new();
    for action in ["start", "restart"] {
        systemctl(&[action, &one]);
        before = processes(&mut target, 1, &before);
        assert_eq!((before[0], target.awaited()), (main_pid(&one), None), "{action}");
    }
    systemctl(&["stop", &one]);
    processes(&mut target, 0, &before);
    assert!(target.ended().is_none());
    systemctl(&["start", &one]);
    processes(&mut target, 1, &before);

    systemctl(&["start", &two, &instance]);
    processes(&mut open(&two), 3, &[]);
    assert_eq!(processes(&mut open(&instance), 1, &[]), [main_pid(&instance)]);
    // A slice has the processes of all that is below it.
    processes(&mut open(&units.slice), 5, &[]);
}

#[test]
fn a_unit_that_systemd_does_not_know_is_refused() {
    let Some(_units) = Units::new("unknown") else { return };
    let error = Target::open(&Spec::Unit("freeze-trap-no-such".into())).unwrap_err().to_string();
    assert!(error.contains("no unit freeze-trap-no-such.service") && error.contains("--user"), "{error}");
}

/// What the shipped unit's instance has written so far: its captures, by their sentences.
fn sentences(directory: &Path) -> Vec<String> {
    let captures = disk::captures(directory).unwrap_or_default();
    let texts = captures.iter().map(|capture| fs::read_to_string(capture.join(disk::FREEZE)).unwrap());
    texts.map(|text| read_json(&text).unwrap().sentence).collect()
}

fn metrics(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// The mask of effective capabilities that a list of names is.
fn mask(names: &str) -> u64 {
    let bit = |name| match name {
        "CAP_BPF" => 39,
        "CAP_PERFMON" => 38,
        "CAP_SYSLOG" => 34,
        "CAP_SYS_PTRACE" => 19,
        other => panic!("{other} has no number here"),
    };
    names.split(' ').map(|name| 1 << bit(name)).fold(0, |all, one: u64| all | one)
}

/// A line of a process's status.
fn status(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned()
}

/// Writes the shipped unit under another name, with its files elsewhere and nothing else changed. Its captures' place.
fn install(units: &Units, instance: &str, options: &str) -> (String, PathBuf) {
    let shipped = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/freeze-trap@.service")).unwrap();
    let state = units.state();
    let configuration = units.directory().join("configuration");
    fs::write(&configuration, format!("OPTIONS={options}\n")).unwrap();
    let program = units.copy(env!("CARGO_BIN_EXE_freeze-trap"));
    let mut text = shipped;
    for (from, to) in [
        ("/usr/local/bin/freeze-trap", program.as_str()),
        ("-/etc/freeze-trap/%i.conf", configuration.to_str().unwrap()),
        ("StateDirectory=freeze-trap-units/", &format!("StateDirectory={state}/")),
        ("RuntimeDirectory=freeze-trap/", &format!("RuntimeDirectory={state}/")),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let template = units.write_whole("trap@.service", &text);
    let trap = template.replace("@.", &format!("@{instance}."));
    (trap, Path::new("/var/lib").join(state).join(instance))
}

#[test]
fn the_shipped_unit_catches_a_freeze_and_keeps_its_state() {
    let Some(units) = Units::new("shipped") else { return };
    if let Err(why) = choose(Wanted::Bpf, &Bounds::default(), 64) {
        skip(format_args!("{why:#}"));
        return;
    }
    let [service, prometheus] = [port(), port()];
    let program = units.copy(TARGET);
    let start = format!("ExecStart={program} user-lock --every 2 --lasts 3 --listen 127.0.0.1:{service}");
    let icy = units.write("icy.service", &format!("{start}\nDynamicUser=yes"));
    let probe = format!("--probe http://127.0.0.1:{service}/,every=200ms,within=1s,failures=1");
    let options = format!(
        "{probe} --window 2s --history 4s --cooldown 1s --captures-per-hour 1000 --metrics 127.0.0.1:{prometheus}"
    );
    let (trap, directory) = install(&units, &icy, &options);
    systemctl(&["start", &icy, &trap]);

    let is_it = |sentence: &String| sentence.contains("(culprit)") && sentence.contains("index::reload");
    wait_for("a capture", || sentences(&directory).iter().any(is_it).then_some(()));
    let shipped = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/freeze-trap@.service")).unwrap();
    let granted = shipped.lines().find_map(|line| line.strip_prefix("AmbientCapabilities=")).unwrap();
    let pid = main_pid(&trap);
    assert_eq!(u64::from_str_radix(&status(pid, "CapEff:"), 16).unwrap(), mask(granted));
    assert!(!status(pid, "Uid:").split_whitespace().any(|uid| uid == "0"));
    let text = metrics(prometheus).unwrap();
    assert!(text.contains("freeze_trap_target_up 1") && text.contains("BPF on tracepoints"), "{text}");

    systemctl(&["restart", &trap]);
    wait_for("the trap to be there again", || metrics(prometheus).filter(|text| text.contains("target_up 1")));
    assert_ne!(main_pid(&trap), pid);
    systemctl(&["stop", &trap]);
    let ended = systemctl(&["show", "-p", "Result", "-p", "ExecMainStatus", "-p", "ActiveState", &trap]);
    let mut ended: Vec<&str> = ended.lines().collect();
    ended.sort_unstable();
    assert_eq!(ended, ["ActiveState=inactive", "ExecMainStatus=0", "Result=success"]);
    let state = fs::read_to_string(directory.join("state.json")).unwrap();
    assert!(state.contains("starts_unix_ms"), "{state}");
    let report = Command::new(env!("CARGO_BIN_EXE_freeze-trap")).arg("report").arg(&directory).output().unwrap();
    assert!(report.status.success(), "{report:?}");
}
