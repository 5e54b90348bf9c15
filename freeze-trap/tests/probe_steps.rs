//! Aim: a request without an answer says at which step it was when its bound was over, in the same words whether its
//! probe's own time-out or the main loop has counted it.
//!
//! Method: servers that stop at one step each. They are asked under a main loop that looks all the time, and under one
//! that looks so seldom that the probe is first nearly always. A machine that is busy may be at an earlier step when
//! the bound is over; so the right words are waited for, and all others must name a step as well.

mod board;
mod server;

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use board::{start, until, until_every};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{Backlog, listen};
use server::{silent, trickling};
use test_support::skip;

fn says(spec: &str, step: &str) {
    for pause_ms in [2, 150] {
        let mut board = start(&format!("{spec},within=50ms,every=100ms"));
        until_every(&mut board, Duration::from_millis(pause_ms), |answer| {
            let failure = answer.failure.as_deref().unwrap_or_else(|| panic!("{spec} succeeded"));
            let said = failure.strip_prefix("no answer within 50 ms: ");
            said.unwrap_or_else(|| panic!("{spec} names no step: {failure}")) == step
        });
    }
}

/// A port whose queue is full: nobody accepts, and the kernel drops what asks for a connection.
struct Full {
    address: String,
    _listener: TcpListener,
    _queued: TcpStream,
}

fn full() -> Full {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    // One more than that may wait.
    listen(&listener, Backlog::new(0).expect("the shortest")).expect("it listens already");
    let address = listener.local_addr().expect("it has one");
    let queued = TcpStream::connect(address).expect("the queue is empty");
    Full { address: address.to_string(), _listener: listener, _queued: queued }
}

#[test]
fn a_port_that_takes_no_connection() {
    let port = full();
    for kind in ["http://", "https://", "tcp:", "resp:"] {
        says(&format!("{kind}{}", port.address), "connecting");
    }
}

#[test]
fn a_service_that_does_not_answer() {
    let silent = silent();
    // The kernel accepts for it.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let deaf = listener.local_addr().expect("it has one").to_string();
    for address in [&silent, &deaf] {
        says(&format!("http://{address}/"), "waiting for the answer");
        says(&format!("resp:{address}"), "waiting for the answer");
        says(&format!("https://{address}/,insecure"), "in the TLS handshake");
    }
}

#[test]
fn an_answer_that_does_not_end() {
    says(&format!("http://{}/", trickling()), "receiving the answer");
}

#[test]
fn a_command_that_does_not_end() {
    says("command:sleep 1000", "running the command");
}

/// Gives this thread and those that it starts a server for names that never answers. Not as another user.
fn without_names() -> Result<UdpSocket, String> {
    let socket =
        UdpSocket::bind("127.53.0.1:53").map_err(|error| format!("no port for a server for names: {error}"))?;
    let directory = tempfile::tempdir().expect("a directory");
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("no mounts of its own: {error}"))?;
    let none = None::<&str>;
    let private = mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none);
    private.map_err(|error| format!("no mounts of its own: {error}"))?;
    let files = [
        ("/etc/resolv.conf", "nameserver 127.53.0.1\noptions timeout:30 attempts:1\n"),
        ("/etc/nsswitch.conf", "hosts: files dns\n"),
    ];
    for (path, text) in files {
        let file = directory.path().join("file");
        fs::write(&file, text).expect("a file");
        mount(Some(&file), path, none, MsFlags::MS_BIND, none).map_err(|error| format!("{path}: {error}"))?;
        fs::remove_file(&file).expect("it is ours");
    }
    Ok(socket)
}

#[test]
fn a_name_that_is_not_found_in_time() {
    let test = thread::spawn(|| {
        let _socket = match without_names() {
            Ok(socket) => socket,
            Err(why) => return skip(why),
        };
        for spec in ["http://freeze-trap.test/", "tcp:freeze-trap.test:80"] {
            says(spec, "looking up the name");
        }
        // To look up a name knows no bound: those that come after it hang behind it.
        let mut board = start("tcp:freeze-trap.test:80,within=50ms");
        until(&mut board, |answer| {
            let failure = answer.failure.as_deref().expect("it hangs");
            failure.starts_with("no answer within 50 ms: a request hangs for ")
                && failure.ends_with(", looking up the name")
        });
    });
    test.join().expect("it has passed");
}
