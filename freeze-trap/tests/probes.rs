//! Aim: each probe succeeds while what it asks is well, and fails, at its bound at the latest, when it is not; none
//! keeps others waiting.
//!
//! Method: little servers, files, sockets and commands of the test's own. The times of answers are compared with each
//! other and with the probe's own bound, never with a clock.

mod board;
#[path = "trap/port.rs"]
mod port;
mod server;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use board::{DEADLINE, EVERY, start, until};
use freeze_trap::clock::now_ns;
use freeze_trap::event::{Interval, Kind, Thread};
use freeze_trap::probe::{Answer, Board, Spec};
use freeze_trap::stack::StackPair;
use lock_trace::Mode;
use port::port;
use server::{request, serve, silent, trickling};
use test_support::skip;

/// The first answer. Whoever says nothing about the bound gets one that no busy machine reaches.
fn first(spec: &str) -> Answer {
    let asks = ["http", "tcp", "resp", "command"].iter().any(|kind| spec.starts_with(kind));
    let bound = if asks && !spec.contains("within=") { ",within=30s" } else { "" };
    until(&mut start(&format!("{spec}{bound}")), |_| true)
}

fn succeeds(spec: &str) {
    assert_eq!(first(spec).failure, None, "{spec}");
}

fn fails(spec: &str, reason: &str) -> Answer {
    let answer = first(spec);
    let failure = answer.failure.clone().unwrap_or_else(|| panic!("{spec} succeeded"));
    assert!(failure.to_lowercase().contains(reason), "{spec}: {failure}");
    answer
}

/// A server that answers every request with a text.
fn http(answer: &'static str) -> String {
    serve(move |mut stream| {
        request(&mut stream);
        let _ = stream.write_all(answer.as_bytes());
    })
}

/// A server that says something before it is asked, and listens until the other side has gone.
fn blunt(text: &'static str) -> String {
    serve(move |mut stream| {
        let _ = stream.write_all(text.as_bytes());
        while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    })
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A port that nobody listens at.
fn refusing() -> String {
    format!("127.0.0.1:{}", port())
}

#[test]
fn http_succeeds_with_a_good_status() {
    succeeds(&format!("http://{}/health", http(OK)));
    let busy = http("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    fails(&format!("http://{busy}/"), "status 503");
    succeeds(&format!("http://{busy}/,status=500..599"));
    let moved = http("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    fails(&format!("http://{moved}/"), "status 302");
    let by_name = http(OK).replace("127.0.0.1", "localhost");
    succeeds(&format!("http://{by_name}/a,b?c=d"));
}

#[test]
fn http_asks_for_the_whole_path() {
    let address = serve(|mut stream| {
        let found = request(&mut stream) == "GET /a,b?c=d HTTP/1.1";
        let answer = if found { OK } else { "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" };
        let _ = stream.write_all(answer.as_bytes());
    });
    succeeds(&format!("http://{address}/a,b?c=d"));
    fails(&format!("http://{address}/other"), "status 404");
}

#[test]
fn http_fails_where_nobody_answers_properly() {
    fails(&format!("http://{}/", refusing()), "refused");
    fails(&format!("http://{}/", serve(drop)), "");
    fails(&format!("http://{}/", http("what?\r\n\r\n")), "");
    fails("http://a..b/", "");
}

#[test]
fn http_fails_at_its_bound_wherever_the_answer_stops() {
    let late = serve(|mut stream| {
        request(&mut stream);
        thread::sleep(Duration::from_millis(500));
        let _ = stream.write_all(OK.as_bytes());
    });
    // The kernel accepts for it.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let deaf = listener.local_addr().expect("it has one").to_string();
    for address in [late, trickling(), silent(), deaf] {
        let answer = fails(&format!("http://{address}/,within=100ms"), "no answer within 100 ms: ");
        assert_eq!(answer.took_ns, 100_000_000);
    }
}

#[test]
fn https_asks_for_a_certificate_that_the_system_trusts_unless_told_otherwise() {
    let name = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(name.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![name.cert.der().clone()], key)
        .expect("they belong together");
    let config = Arc::new(config);
    let address = serve(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
        let mut stream = rustls::StreamOwned::new(connection, stream);
        if request(&mut stream).starts_with("GET") {
            let _ = stream.write_all(OK.as_bytes());
            let _ = stream.flush();
        }
    });
    let address = address.replace("127.0.0.1", "localhost");
    fails(&format!("https://{address}/"), "certificate");
    succeeds(&format!("https://{address}/,insecure"));
    fails(&format!("https://{}/,within=100ms,insecure", silent()), "no answer within 100 ms");
    fails(&format!("https://{}/", blunt("HTTP/1.1 400 Bad Request\r\n\r\n")), "");
}

#[test]
fn tcp_succeeds_where_connections_are_accepted() {
    succeeds(&format!("tcp:{}", silent()));
    fails(&format!("tcp:{}", refusing()), "refused");
    // An empty label: no server for names is asked.
    fails("tcp:a..b:80", "not found");
}

#[test]
fn resp_takes_any_sign_of_life_for_an_answer() {
    let server = |answer: &'static [&'static str]| {
        serve(move |mut stream| {
            let mut ping = [0; 14];
            if stream.read_exact(&mut ping).is_ok() && &ping == b"*1\r\n$4\r\nPING\r\n" {
                for part in answer {
                    let _ = stream.write_all(part.as_bytes());
                    thread::sleep(Duration::from_millis(5));
                }
            }
        })
    };
    succeeds(&format!("resp:{}", server(&["+PONG\r\n"])));
    succeeds(&format!("resp:{}", server(&["+P", "ONG", "\r\n"])));
    succeeds(&format!("resp:{}", server(&["-NOAUTH Authentication required.\r\n"])));
    let loading = server(&["-LOADING Redis is loading the dataset in memory\r\n"]);
    fails(&format!("resp:{loading}"), "`-loading redis is loading");
    fails(&format!("resp:{}", blunt("HTTP/1.1 400 Bad Request\r\n\r\n")), "`http/1.1 400 bad request`");
    fails(&format!("resp:{}", server(&[])), "without an answer");
    fails(&format!("resp:{}", refusing()), "refused");
    let answer = fails(&format!("resp:{},within=100ms", silent()), "no answer within 100 ms");
    assert_eq!(answer.took_ns, 100_000_000);
}

/// A child that is killed when it goes out of scope.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn resp_understands_a_real_server() {
    let port = port().to_string();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--requirepass", "secret"]);
    let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        skip("there is no redis-server");
        return;
    };
    let _server = Killed(child);
    let mut board = start(&format!("resp:127.0.0.1:{port}"));
    until(&mut board, |answer| answer.failure.is_none());
}

#[test]
fn a_command_counts_by_its_status() {
    succeeds("command:true");
    succeeds("command:test a,b = a,b");
    fails("command:exit 3", "exit status: 3");
    fails("command:echo out; echo first >&2; echo worst >&2; false", "exit status: 1: worst");
    fails("command:kill -9 $$", "signal: 9");
    fails("command:/no/such/program", "127");
    // More than a pipe holds.
    succeeds("command:head -c 1000000 /dev/zero >&2");
    // Its pipe stays open behind it.
    succeeds("command:sleep 0.5 & true");
}

#[test]
fn a_command_that_hangs_is_killed_with_all_that_it_started() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pid");
    // The shell has to get as far as to its wait.
    let spec = format!("command:sleep 1000 & echo $! >{}; wait,within=5s,every=1h", file.display());
    let mut board = start(&spec);
    let answer = until(&mut board, |_| true);
    assert_eq!(answer.took_ns, 5_000_000_000);
    let failure = answer.failure.expect("it hangs");
    assert_eq!(failure, "no answer within 5 s: running the command");
    let pid = fs::read_to_string(&file).expect("it has got so far");
    let begin = Instant::now();
    loop {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            break;
        }
        assert!(begin.elapsed() < DEADLINE, "it lives: {stat}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn touch(path: &Path, ago: Duration) {
    let file = fs::File::create(path).expect("a file");
    file.set_modified(SystemTime::now() - ago).expect("it is ours");
}

#[test]
fn a_heartbeat_file_fails_when_it_is_old() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("alive");
    let spec = format!("heartbeat-file:{},older=10s", path.display());
    let mut board = start(&spec);
    let missing = until(&mut board, |_| true).failure.expect("there is none");
    assert!(missing.contains("No such file"), "{missing}");
    touch(&path, Duration::ZERO);
    until(&mut board, |answer| answer.failure.is_none());
    drop(board);
    touch(&path, Duration::from_secs(3600));
    let answer = fails(&spec, "was touched 36");
    let age_ns = answer.began_ns - answer.frozen_ns();
    assert!(answer.began_ns < 3600 * 1_000_000_000 || age_ns > 3500 * 1_000_000_000, "{answer:?}");
    // One that is touched no more.
    let mut board = start(&format!("heartbeat-file:{},older=200ms", path.display()));
    until(&mut board, |answer| {
        touch(&path, Duration::ZERO);
        answer.failure.is_none()
    });
    until(&mut board, |answer| answer.failure.is_some());
}

#[test]
fn a_heartbeat_socket_fails_when_nothing_comes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("alive");
    let mut board = start(&format!("heartbeat-socket:{},older=300ms,mode=622", path.display()));
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o622);
    let failed = until(&mut board, |answer| answer.failure.is_some());
    assert!(failed.failure.as_ref().is_some_and(|what| what.contains("no sign of life")) && failed.since_ns.is_some());
    let sender = UnixDatagram::unbound().expect("a socket");
    until(&mut board, |answer| {
        // More than a queue holds: the reader must keep up.
        for _ in 0..100 {
            sender.send_to(b"alive", &path).expect("somebody listens");
        }
        answer.failure.is_none()
    });
    let again = until(&mut board, |answer| answer.failure.is_some());
    assert!(again.frozen_ns() > failed.frozen_ns(), "from the last sign on");
    drop(board);
    assert!(!path.exists(), "it is removed at the end");
}

#[test]
fn a_heartbeat_socket_is_not_stolen_and_a_dead_one_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let refused = |path: &Path, reason: &str| {
        let spec: Spec = format!("heartbeat-socket:{}", path.display()).parse().expect("a probe");
        let error = format!("{:#}", Board::start(vec![spec], EVERY).expect_err("it is taken"));
        assert!(error.contains(reason) && path.exists(), "{error}");
    };
    let live = directory.path().join("live");
    let socket = UnixDatagram::bind(&live).expect("a socket");
    refused(&live, "a process listens");
    drop(socket);
    drop(start(&format!("heartbeat-socket:{}", live.display())));
    assert!(!live.exists());
    let file = directory.path().join("file");
    fs::write(&file, "precious").expect("a file");
    refused(&file, "no socket");
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "precious");
    let stream = directory.path().join("stream");
    let _listener = std::os::unix::net::UnixListener::bind(&stream).expect("a socket");
    refused(&stream, "is somebody's");
    let missing = directory.path().join("no/such");
    let spec: Spec = format!("heartbeat-socket:{}", missing.display()).parse().expect("a probe");
    assert!(format!("{:#}", Board::start(vec![spec], EVERY).expect_err("no directory")).contains("no socket can be"));
}

/// A socket that has been replaced by that of another trap is left alone at the end.
#[test]
fn a_heartbeat_socket_of_another_is_not_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("alive");
    let board = start(&format!("heartbeat-socket:{}", path.display()));
    fs::remove_file(&path).expect("it is there");
    // Another file in between, so that the number of the inode is not used again.
    fs::write(directory.path().join("other"), "").expect("a file");
    let _other = UnixDatagram::bind(&path).expect("a socket");
    drop(board);
    assert!(path.exists());
}

extern "C" fn sleep_in_child(end: *mut libc::c_void) -> libc::c_int {
    // SAFETY: 1. The parent keeps the flag until this child has ended, and shares its memory with it.
    //         2. All that is called is async-signal-safe and touches no other memory of the parent.
    unsafe {
        // A minute at most, in case that the test has failed.
        for _ in 0..60_000 {
            if (*end.cast::<AtomicBool>()).load(Ordering::SeqCst) {
                break;
            }
            libc::usleep(1000);
        }
        libc::_exit(0)
    }
}

/// Blocks this thread until it is told to end, in a sleep that signals do not end, as vfork(2) does.
fn block_in_the_kernel(end: &AtomicBool) {
    let mut stack = vec![0_u128; 4096];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let end = std::ptr::from_ref(end).cast_mut().cast();
    // SAFETY: the stack, whose end is aligned to 16 bytes, is larger than the child needs and lives until the child has
    //         ended, since this thread sleeps until then; so does the flag.
    let pid = unsafe { libc::clone(sleep_in_child, stack.as_mut_ptr_range().end.cast(), flags, end) };
    assert!(pid > 0, "{}", std::io::Error::last_os_error());
    // SAFETY: no pointer is followed.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

#[test]
fn threads_that_get_nothing_done_are_seen() {
    let mut board = start("stalled-threads,for=200ms,share=1,every=50ms");
    board.watch(&[std::process::id().cast_signed()]);
    until(&mut board, |answer| answer.failure.is_none());
    let end = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&end);
    let blocked = thread::Builder::new().name("blocked".into()).spawn(move || block_in_the_kernel(&theirs));
    let told = |answer: &Answer| answer.failure.as_ref().is_some_and(|what| what.contains("blocked ("));
    let failed = until(&mut board, told);
    assert!(failed.failure.as_ref().is_some_and(|what| what.contains(") in D for ")), "{failed:?}");
    assert!(failed.frozen_ns() + 200_000_000 <= failed.ended_ns(), "{failed:?}");
    end.store(true, Ordering::SeqCst);
    blocked.expect("a thread").join().expect("it is woken");
    until(&mut board, |answer| !told(answer));
    board.watch(&[]);
    until(&mut board, |answer| answer.failure.is_none());
}

#[test]
fn pressure_is_measured_from_the_totals() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("memory.pressure");
    let write = |total_us: u64| {
        let text = format!("some avg10=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={total_us}\n");
        let new = directory.path().join("new");
        fs::write(&new, text).expect("a file");
        fs::rename(&new, &file).expect("it is ours");
    };
    write(5_000_000);
    let mut board = start(&format!("psi:memory,full,over=20%,cgroup={}", directory.path().display()));
    until(&mut board, |answer| answer.failure.is_none());
    // Much more than has gone by.
    write(900_000_000);
    let failed = until(&mut board, |answer| answer.failure.is_some());
    let failure = failed.failure.expect("it failed");
    assert!(failure.starts_with("all tasks waited for memory in 100 % of the last"), "{failure}");
    until(&mut board, |answer| answer.failure.is_none());
    let spec: Spec = "psi:io,cgroup=/no/such/cgroup".parse().expect("a probe");
    let error = format!("{:#}", Board::start(vec![spec], EVERY).expect_err("there is none"));
    assert!(error.contains("/no/such/cgroup"), "{error}");
    if Path::new("/proc/pressure/cpu").exists() {
        succeeds("psi:cpu,over=100%");
    } else {
        skip("this kernel has no /proc/pressure");
    }
}

#[test]
fn long_holds_of_the_lock_are_told_at_once() {
    let mut board = start("lock-hold,over=100ms,every=1h");
    assert!(board.wants_intervals() && !start("tcp:127.0.0.1:1").wants_intervals());
    let end_ns = now_ns();
    let hold = |duration_ns| Interval {
        kind: Kind::Hold { mode: Mode::Write },
        thread: Thread { pid: 1, tid: 2, name: "grower".into() },
        owner_pid: 1,
        start_ns: end_ns - duration_ns,
        end_ns,
        unfinished: false,
        call: None,
        stack: StackPair::default(),
    };
    board.see(&hold(90_000_000));
    board.take(now_ns(), |_, answer| panic!("{answer:?}"));
    board.see(&hold(230_000_000));
    let answer = until(&mut board, |_| true);
    assert_eq!((answer.frozen_ns(), answer.ended_ns()), (end_ns - 230_000_000, end_ns));
    assert!(answer.failure.is_some_and(|what| what.contains("held for writing for 230 ms by thread 2 (grower)")));
}

#[test]
fn a_probe_that_hangs_keeps_nobody_waiting_and_fails_again_and_again() {
    let texts =
        [format!("http://{}/,within=1h", silent()), format!("resp:{},within=50ms", silent()), "command:true".into()];
    let specs = texts.iter().map(|text| text.parse().expect("a probe")).collect();
    let mut board = Board::start(specs, EVERY).expect("threads");
    assert_eq!(board.specs().map(ToString::to_string).collect::<Vec<_>>(), texts);
    let mut counts = [0; 3];
    let mut last_ns = [0; 3];
    let begin = Instant::now();
    while counts[1] < 5 || counts[2] < 5 {
        assert!(begin.elapsed() < DEADLINE, "{counts:?}");
        board.take(now_ns(), |index, answer| {
            assert!(answer.began_ns > last_ns[index], "they are in order");
            last_ns[index] = answer.began_ns;
            counts[index] += 1;
            assert_eq!(answer.failure.is_some(), index != 2, "{answer:?}");
        });
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(counts[0], 0, "its bound is not over");
    // The first still hangs; this does not wait for it forever.
    drop(board);
}

#[test]
fn connections_do_not_pile_up() {
    let [open, most] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&open), Arc::clone(&most));
    let address = serve(move |mut stream| {
        let (open, most) = &counters;
        most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        open.fetch_sub(1, Ordering::SeqCst);
    });
    let mut board = start(&format!("http://{address}/,within=10ms"));
    let mut failures = 0;
    until(&mut board, |answer| {
        failures += usize::from(answer.failure.is_some());
        failures >= 50
    });
    drop(board);
    // The server may learn late that one has ended.
    let most = most.load(Ordering::SeqCst);
    assert!(most < 45, "{most} at once of 50");
    let begin = Instant::now();
    while open.load(Ordering::SeqCst) > 0 {
        assert!(begin.elapsed() < DEADLINE, "connections are left");
        thread::sleep(Duration::from_millis(5));
    }
}
