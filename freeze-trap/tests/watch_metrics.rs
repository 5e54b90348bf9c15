//! Aim: Prometheus can read what the trap tells while it watches, and no client disturbs it.
//!
//! Method: the text is parsed line by line as the format asks for, and clients that send nothing, too much, or
//! something else come before one that asks.

mod trap;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use nix::sys::signal::Signal;
use trap::{DEADLINE, Service, Trap, http, port, wait_for};

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // Whoever is refused early may be hung up on.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(address: SocketAddr) -> String {
    let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/plain; version=0.0.4"), "{head}");
    body.to_owned()
}

/// Values by name and labels; panics where the text breaks the format.
fn parse(page: &str) -> BTreeMap<String, f64> {
    let (mut values, mut told, mut current) = (BTreeMap::new(), HashSet::new(), (String::new(), String::new()));
    let mut help = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').unwrap();
            assert!(name.starts_with("freeze_trap_") && text.ends_with('.'), "{line}");
            assert!(told.insert(name.to_owned()), "told twice: {line}");
            help = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, help, "the type follows the help");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            current = (name.to_owned(), kind.to_owned());
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            let suffixes: &[&str] = if current.1 == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.iter().any(|suffix| name == format!("{}{suffix}", current.0)), "{line} below {current:?}");
            let value: f64 = value.parse().unwrap();
            assert!(value >= 0.0 && values.insert(key.to_owned(), value).is_none(), "{line}");
        }
    }
    values
}

#[test]
fn metrics_are_told_while_it_watches() {
    let port = port();
    let service = Service::start(port, &["user-lock", "--every", "1", "--lasts", "1"]);
    let (pid, probe) = (service.pid().to_string(), http(port));
    let options = ["--metrics", "127.0.0.1:0", "--window", "300ms", "--captures-per-hour", "1", "--probe", &probe];
    let more = ["--probe", "command:test \"$HOME\" != 'a\\b'", "--cooldown", "10ms", "--pid", &pid];
    let mut trap = Trap::watch(&[&options[..], &more].concat());
    trap.hears("armed");
    let said = trap.said();
    let address = said.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();

    // One that says nothing stays; the others are wrong in some way.
    let _silent = TcpStream::connect(address).unwrap();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    for request in ["", "\0\u{1}\n\n", "GET\r\n\r\n", "GET /metrics HTTP/9.9\r\n\r\n", &long] {
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = stream.write_all(request.as_bytes());
    }
    // Bodies that are announced and do not come, of lengths that nobody could reserve. Their clients stay.
    let announced = |length: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!("GET /metrics HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("freeze_trap_uptime_seconds"), "{answer}");
        stream
    };
    let _stay = ["5000", "9000000000000000000", "18446744073709551615", "-1"].map(announced);
    let close = "HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
    assert!(ask(address, &format!("GET / {close}")).starts_with("HTTP/1.1 404 "));
    assert!(ask(address, &format!("POST /metrics {close}")).starts_with("HTTP/1.1 405 "));

    let values = wait_for("a capture and one that is suppressed", || {
        let values = parse(&get(address));
        let hourly = values["freeze_trap_suppressed_total{reason=\"hourly\"}"];
        (values["freeze_trap_captures_total"] == 1.0 && hourly >= 1.0).then_some(values)
    });
    let of = |name: &str| *values.get(&format!("freeze_trap_{name}")).unwrap_or_else(|| panic!("{name}: {values:?}"));
    let name = format!("{{probe=\"{probe}\"}}");
    assert!(of(&format!("probe_failures_total{name}")) >= 2.0);
    let count = of(&format!("probe_duration_seconds_count{name}"));
    let bucket = |bound: &str| of(&format!("probe_duration_seconds_bucket{{probe=\"{probe}\",le=\"{bound}\"}}"));
    assert_eq!(bucket("+Inf"), count);
    assert!(bucket("0.1") <= bucket("0.5") && bucket("0.5") < count + 1.0 && bucket("0.1") > 0.0);
    assert!(of(&format!("probe_duration_seconds_sum{name}")) > 0.2, "a failure takes 300 ms");
    assert!(of("probe_well{probe=\"command:test \\\"$HOME\\\" != 'a\\\\b'\"}") == 1.0);
    assert_eq!((of("target_up"), of("target_processes"), of("target_starts_total")), (1.0, 1.0, 0.0));
    assert!(of("intervals_total") > 0.0 && of("recorder_intervals") > 0.0 && of("cpu_seconds_total") > 0.0);
    assert!(of("resident_bytes") > 1e6 && of("uptime_seconds") > of("cpu_seconds_total"));
    assert!(values.keys().any(|key| key.starts_with("freeze_trap_source_info{source=\"")), "{values:?}");
    trap.signal(Signal::SIGTERM);
    trap.ends_with(0);
}

#[test]
fn clients_that_say_nothing_take_no_threads() {
    let mut trap = Trap::watch(&["--source", "sampling", "--metrics", "127.0.0.1:0", "--exec", "sleep", "1000"]);
    trap.hears("armed");
    let said = trap.said();
    let address = said.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();
    let named = |name: &str| {
        let tasks = fs::read_dir(format!("/proc/{}/task", trap.pid())).unwrap().flatten();
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|comm| comm.trim() == name).count()
    };
    let threads = || fs::read_dir(format!("/proc/{}/task", trap.pid())).unwrap().count();
    assert_eq!(named("metrics"), 1);
    let before = threads();
    let silent = [(); 8].map(|()| TcpStream::connect(address).unwrap());
    // Each of them is hung up on in the end, and one that asks is answered though it comes behind them.
    parse(&get(address));
    assert_eq!(threads(), before);
    for mut stream in silent {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    }
}

#[test]
fn an_address_that_is_taken_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut trap = Trap::watch(&["--source", "sampling", "--metrics", &address, "--pid", "1"]);
    trap.ends_with(1);
    assert!(trap.said().contains(&format!("--metrics {address}: ")), "{}", trap.said());
}
