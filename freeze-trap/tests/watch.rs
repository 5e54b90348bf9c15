//! Aim: whoever runs `freeze-trap watch` gets what was promised, whatever happens: a capture with each source, the exit
//! status of a command, and a clear word where something cannot be.
//!
//! Method: the trap is run as people run it, on a service that freezes by itself. What is not permitted here is skipped
//! with a line.

mod trap;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use freeze_trap::freeze::Cause;
use freeze_trap::source::Bounds;
use freeze_trap::source::choose::{Wanted, choose};
use freeze_trap::target::process;
use lock_trace::{Options, Tracer};
use nix::sys::signal::Signal;
use nix::unistd::gettid;
use test_support::skip;
use trap::{Service, TARGET, Trap, http, patient_http, port, wait_for};

/// A mutex that a service holds for a second every second.
const FREEZES: [&str; 5] = ["user-lock", "--every", "1", "--lasts", "1"];

fn capture(wanted: Wanted, name: &str, said: &str) {
    if let Err(why) = choose(wanted, &Bounds::default(), 64) {
        skip(format_args!("{why:#}"));
        return;
    }
    let port = port();
    let service = Service::start(port, &FREEZES);
    let pid = service.pid().to_string();
    let probe = http(port);
    let options = ["--once", "--window", "4s", "--history", "2s", "--source", name, "--probe", &probe];
    let mut trap = Trap::watch(&[&options[..], &["--pid", &pid]].concat());
    trap.ends_with(0);
    let freeze = trap.freeze();
    assert_eq!(freeze.seen.source, said);
    assert_eq!(freeze.target.name, format!("pid {pid}"));
    assert_eq!(freeze.target.processes, [(service.pid(), "freeze-target".to_owned())]);
    assert_eq!((freeze.trigger.probe.as_str(), freeze.trigger.failures), (probe.as_str(), 1));
    assert!(freeze.trigger.found.contains("300 ms"), "{}", freeze.trigger.found);
    assert_ne!(freeze.cause, Cause::Unknown, "{}", freeze.sentence);
    let window = &freeze.window;
    assert!(window.start_ns <= window.frozen_ns && window.frozen_ns < window.trigger_ns, "{window:?}");
    assert!(window.end_ns - window.trigger_ns >= 4_000_000_000, "{window:?}");
    assert!(window.recovered_ns.is_some_and(|at_ns| at_ns < window.end_ns), "{window:?}");
    assert!(!freeze.intervals.is_empty() && !freeze.off_cpu.is_empty());
    assert!(freeze.probes[0].points.len() > 5, "{:?}", freeze.probes);
    assert!(
        freeze.memory.len() == 2 && freeze.memory.iter().all(|point| point.resident_bytes > 0 && point.threads > 3)
    );
    let said = trap.said();
    assert!(said.contains(&freeze.sentence) && said.contains("of processor time"), "{said}");
    let capture = freeze_trap::watch::disk::captures(&trap.directory).unwrap().remove(0);
    for file in ["report.txt", "page.html", "off-cpu.folded", "profile.pb.gz", "off-cpu.svg", "wait.svg"] {
        assert!(fs::metadata(capture.join(file)).is_ok_and(|file| file.len() > 0), "{file}");
    }
    let report = fs::read_to_string(capture.join("report.txt")).unwrap();
    assert_eq!(report, freeze_trap::report::text(&freeze, 120, false));
}

#[test]
fn a_freeze_is_captured_with_bpf() {
    capture(Wanted::Bpf, "bpf", "BPF on tracepoints");
}

#[test]
fn a_freeze_is_captured_with_perf_events() {
    capture(Wanted::Perf, "perf", "perf events on tracepoints");
}

#[test]
fn a_freeze_is_captured_with_samples() {
    capture(Wanted::Sampling, "sampling", "samples of /proc");
}

/// The sources that are permitted here.
fn sources() -> Vec<&'static str> {
    let all = [(Wanted::Bpf, "bpf"), (Wanted::Perf, "perf"), (Wanted::Sampling, "sampling")];
    let permitted = |(wanted, name)| match choose(wanted, &Bounds::default(), 64) {
        Ok(_) => Some(name),
        Err(why) => {
            skip(format_args!("{why:#}"));
            None
        }
    };
    all.into_iter().filter_map(permitted).collect()
}

/// One trap with each source watches the same service.
#[test]
fn the_lock_of_a_frozen_service_is_not_touched() {
    let port = port();
    // The maps of a new process are read some times in its first ten seconds, which is to be over before it freezes.
    let service = Service::start(port, &["mmap-lock", "--every", "18", "--lasts", "100", "--mib", "256"]);
    let pid = service.pid().to_string();
    // The first failure may be the first answer that takes long, whatever the machine does meanwhile. The window is
    // longer than the test may take.
    let asked = http(port);
    let probes = [&asked, "stalled-threads", "lock-hold", "lock-wait"].map(|probe| ["--probe", probe]).concat();
    let start = |name| {
        let options = ["--window", "1h", "--pid", &pid, "--source", name];
        (name, Trap::watch(&[&options[..], &probes].concat()))
    };
    let mut traps: Vec<(&str, Trap)> = sources().into_iter().map(start).collect();
    traps.iter_mut().for_each(|(_, trap)| trap.hears("frozen since"));
    // It may have been something else, but not for long.
    wait_for("the culprit", || is_there(&pid, "culprit").then_some(()));
    let tracer = match Tracer::attach(service.pid().cast_unsigned(), &Options::default()) {
        Ok(tracer) => tracer,
        Err(error) => {
            skip(error);
            return;
        }
    };
    // Some dozens of turns, and of answers of each probe.
    thread::sleep(Duration::from_secs(2));
    // What this thread does has to be seen, or nothing would be proved.
    fs::read(format!("/proc/{pid}/smaps")).unwrap();
    let threads: Vec<_> = traps.iter().map(|(_, trap)| process::threads(trap.pid()).unwrap()).collect();
    let trace = tracer.stop().unwrap();
    let count = |is_meant: &dyn Fn(i32) -> bool| {
        let rows = trace.rows.iter().filter(|row| is_meant(row.tid));
        rows.map(|row| row.holds.count + row.waits.count).sum::<u64>()
    };
    assert!(count(&|tid| tid == gettid().as_raw()) > 0, "the trace sees nothing");
    for ((name, trap), threads) in traps.iter_mut().zip(threads) {
        trap.signal(Signal::SIGTERM);
        trap.ends_with(0);
        assert_eq!(count(&|tid| threads.contains(&tid)), 0, "{name}");
        let window = trap.freeze().window;
        assert!(window.end_ns > window.trigger_ns + 1_000_000_000, "{name}: {window:?}");
    }
}

/// Whether a process has a thread of that name.
fn is_there(pid: &str, name: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    tasks.into_iter().any(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name))
}

#[test]
fn what_cannot_be_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below_a_file = file.path().join("captures");
    let below_a_file = below_a_file.to_str().unwrap();
    for (options, code, words) in [
        (&["--pid", "1", "--cgroup", "/"][..], 2, "cannot be used with"),
        (&[], 2, "--unit"),
        (&["--pid", "x"], 2, "invalid value 'x'"),
        (&["--pid", "1", "--probe", "htp://here"], 2, "did you mean `http`?"),
        (&["--pid", "1", "--window", "5"], 2, "the unit is missing"),
        (&["--pid", "1", "--disk-bound", "many"], 2, "--disk-bound"),
        (&["--pid", "1", "--failures", "0"], 2, "--failures"),
        (&["--pid", "-3"], 1, "-3 is no process"),
        (&["--pid", "2147483647"], 1, "there is no process 2147483647"),
        (&["--unit", "a/b"], 1, "no name of a unit"),
        (&["--exec", "/no/such/program"], 1, "`/no/such/program` cannot be started"),
        (&["--pid", "1", "--directory", below_a_file], 1, "give another one by --directory"),
        (&["--pid", "1", "--metrics", "192.0.2.1:1"], 1, "--metrics 192.0.2.1:1"),
        (&["--pid", "1", "--probe", "psi:io,cgroup=/no/such"], 1, "probe `psi:io,cgroup=/no/such`"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freeze-trap"));
        command.arg("watch").args(["--source", "sampling"]).args(options);
        let directory = tempfile::tempdir().unwrap();
        if !options.contains(&"--directory") {
            command.arg(format!("--directory={}", directory.path().display()));
            // What follows the command belongs to it.
            if let Some(at) = options.iter().position(|word| *word == "--exec") {
                command = Command::new(env!("CARGO_BIN_EXE_freeze-trap"));
                command
                    .args(["watch", "--source", "sampling", "--directory"])
                    .arg(directory.path())
                    .args(&options[at..]);
            }
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{options:?}: {said}");
        assert!(said.contains(words), "{options:?}: {said}");
    }
}

#[test]
fn a_cgroup_that_is_not_there_is_waited_for() {
    if !fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - cgroup") {
        skip("no cgroup file system is mounted");
        return;
    }
    let mut trap = Trap::watch(&["--source", "sampling", "--for", "300ms", "--cgroup", "no such group"]);
    trap.ends_with(0);
    assert_eq!(trap.said().matches("no cgroup is called no such group yet, and it is waited for").count(), 1);
}

#[test]
fn a_command_has_its_own_limits_signals_and_status() {
    let script = "ulimit -n; ulimit -l; grep -E 'Sig(Blk|Ign)' /proc/self/status; exit 7";
    let own = Command::new("sh").args(["-c", script]).output().unwrap();
    let mut trap = Trap::watch(&["--source", "sampling", "--exec", "sh", "-c", script]);
    trap.ends_with(7);
    assert_eq!(trap.printed(), String::from_utf8_lossy(&own.stdout));
    let mut trap = Trap::watch(&["--source", "sampling", "--exec", "sh", "-c", "kill -9 $$"]);
    trap.ends_with(128 + 9);
    let mut trap = Trap::watch(&["--source", "sampling", "--once", "--exec", "true", "\u{1b}[31m\n"]);
    trap.ends_with(3);
    assert!(trap.said().contains("command true \u{fffd}[31m ;"), "a terminal obeys: {}", trap.said());
}

#[test]
fn a_command_does_not_get_the_rights_of_the_trap() {
    let directory = tempfile::tempdir().unwrap();
    let rights = "-all,+bpf,+perfmon,+net_bind_service";
    let user =
        ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", rights, "--ambient-caps", rights];
    let script = "grep -E 'CapAmb' /proc/self/status";
    let own = Command::new("setpriv").args(user).args(["sh", "-c", script]).output();
    let all = (1_u64 << 39) | (1 << 38) | (1 << 10);
    if !own.as_ref().is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&format!("{all:016x}"))) {
        skip(format_args!("setpriv gives no rights: {own:?}"));
        return;
    }
    std::os::unix::fs::chown(directory.path(), Some(65534), Some(65534)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(user).arg(env!("CARGO_BIN_EXE_freeze-trap"));
    let options = ["--source", "sampling", "--exec", "sh", "-c", script];
    let mut trap = Trap::spawn(command, &options, Some(directory.path()));
    let status = trap.end();
    if trap.said().contains("Permission denied") {
        skip(format_args!("another user cannot run {}", env!("CARGO_BIN_EXE_freeze-trap")));
        return;
    }
    assert!(status.success(), "{}", trap.said());
    assert_eq!(trap.printed().trim(), format!("CapAmb:\t{:016x}", 1 << 10));
}

#[test]
fn a_directory_belongs_to_one_trap() {
    let directory = tempfile::tempdir().unwrap();
    let options = ["--source", "sampling", "--exec", "sleep", "1000"];
    let mut first = Trap::watch_into(directory.path(), &options);
    first.hears("armed");
    let mut second = Trap::watch_into(directory.path(), &options);
    second.ends_with(1);
    let said = second.said();
    assert!(said.contains(&format!("in use by another trap, process {}", first.pid())), "{said}");
    first.signal(Signal::SIGKILL);
    first.end();
    let mut third = Trap::watch_into(directory.path(), &options);
    third.hears("armed");
}

#[test]
fn the_watch_ends_when_its_time_is_over_or_the_process_is_gone() {
    let mut trap = Trap::watch(&["--source", "sampling", "--for", "300ms", "--exec", "sleep", "1000"]);
    trap.ends_with(0);
    assert!(trap.said().contains("goes on without the trap"), "{}", trap.said());
    let service = Service::start(port(), &["nothing", "--every", "1000"]);
    let mut trap = Trap::watch(&["--source", "sampling", "--pid", &service.pid().to_string()]);
    trap.hears("armed");
    drop(service);
    trap.ends_with(0);
}

#[test]
fn a_service_that_starts_is_not_taken_for_a_frozen_one() {
    let start = |grace: &[&str]| {
        let port = port();
        let line = format!("sleep 1; exec {TARGET} nothing --every 1000 --listen 127.0.0.1:{port}");
        let options = ["--source", "sampling", "--window", "100ms", "--probe", &patient_http(port)];
        Trap::watch(&[grace, &options, &["--exec", "sh", "-c", &line]].concat())
    };
    let mut trap = start(&["--for", "5s"]);
    trap.ends_with(0);
    assert!(trap.said().contains("0 captured") && trap.freezes().is_empty(), "{}", trap.said());
    let mut trap = start(&["--grace", "100ms", "--once"]);
    trap.ends_with(0);
    assert!(trap.freeze().trigger.found.contains("refused"), "{}", trap.said());
}

#[test]
fn a_capture_that_does_not_fit_is_told_and_the_watch_goes_on() {
    let port = port();
    let service = Service::start(port, &FREEZES);
    let options = ["--source", "sampling", "--window", "100ms", "--history", "100ms", "--cooldown", "100ms"];
    let (pid, probe) = (service.pid().to_string(), http(port));
    let options = [&options[..], &["--probe", &probe, "--pid", &pid]].concat();
    let mut trap = Trap::watch(&[&["--disk-bound", "4KiB"], &options[..]].concat());
    trap.hears("does not fit into the 4096 bytes");
    trap.signal(Signal::SIGTERM);
    trap.ends_with(0);
    assert!(trap.freezes().is_empty());

    // A file system of its own, which is full, and nobody else sees.
    let directory = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=40k,mode=755 none \"$0\" && exec \"$@\"";
    let full = ["-m", "sh", "-c", mount, directory.path().to_str().unwrap()];
    let can = Command::new("unshare").args(full).arg("true").output();
    if !can.as_ref().is_ok_and(|output| output.status.success()) {
        skip(format_args!("a file system cannot be mounted: {can:?}"));
        return;
    }
    let mut command = Command::new("unshare");
    command.args(full).arg(env!("CARGO_BIN_EXE_freeze-trap"));
    let mut trap = Trap::spawn(command, &options, Some(directory.path()));
    trap.hears("No space left on device");
    trap.hears("not written");
    trap.signal(Signal::SIGTERM);
    trap.ends_with(0);
}

#[test]
fn whoever_does_not_listen_is_no_hindrance() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_freeze-trap"));
    command.args(["watch", "--source", "sampling", "--directory"]).arg(directory.path());
    command.args(["--exec", "sh", "-c", "exit 7"]).stderr(fs::File::options().write(true).open("/dev/full").unwrap());
    let status = command.status().unwrap();
    assert_eq!(status.code(), Some(7), "{status}");
}

#[test]
fn the_oldest_captures_leave_for_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    // Of captures that are there, the older leaves less room than any capture needs; the newer is small.
    let there = [("2001-01-01T00-00-00Z-1", 16 << 20), ("2001-01-01T00-00-00Z-2", 1)].map(|(name, bytes)| {
        let capture = directory.path().join(name);
        fs::create_dir(&capture).unwrap();
        fs::write(capture.join("freeze.json"), vec![b' '; bytes]).unwrap();
        capture
    });
    let port = port();
    let service = Service::start(port, &FREEZES);
    let (pid, probe) = (service.pid().to_string(), http(port));
    let options = ["--source", "sampling", "--window", "100ms", "--history", "100ms", "--once"];
    let bound = ["--disk-bound", "16404KiB", "--probe", &probe, "--pid", &pid];
    let mut trap = Trap::watch_into(directory.path(), &[&options[..], &bound].concat());
    trap.ends_with(0);
    let said = trap.said();
    assert!(said.contains("written to") && said.contains("removed to make room"), "{said}");
    let left = freeze_trap::watch::disk::captures(directory.path()).unwrap();
    assert_eq!(left.len(), 2, "{left:?}: {said}");
    assert!(!there[0].exists() && left[0] == there[1], "{left:?}");
}
