//! Aim: server and load together, in one process and at small scale: all is right when the service is well, and a
//! service that stands still, goes away, is silent or answers wrongly is found out.
//!
//! Method: real sockets. What is asserted are counts that follow from the schedule, never how long something took.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, RwLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Parser;
use tokio::sync::oneshot;

use super::index::{Index, IndexKind, Put, check, filled};
use super::load::{LoadPlan, run};
use super::load_report::{Errors, LoadPhase, LoadReport};
use super::protocol::{Op, REPLY_BYTES, REQUEST_BYTES, Reply, Request, Status, Value, value_of};
use super::server::{ServerReport, serve};
use crate::clock::now_ns;
use crate::table::Size;

/// A server in a thread of this process.
struct Serving {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<ServerReport, String>>,
}

impl Serving {
    fn start(index: Arc<dyn Index>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::spawn(move || serve(index, 2, |address| ready.send(address).unwrap(), stopped));
        Self { address: is_ready.recv().unwrap(), stop, thread }
    }

    fn stop(self) -> ServerReport {
        drop(self.stop);
        self.thread.join().unwrap().unwrap()
    }
}

/// A load of 2000 requests a second, for 300 ms before and after.
fn plan(address: SocketAddr, keys: u64) -> LoadPlan {
    LoadPlan {
        address,
        connections: 4,
        rate_per_s: 2000,
        warm_up_ms: 50,
        before_ms: 300,
        after_ms: 300,
        put_key: keys,
        keys,
        seed: 42,
        patience_ms: 30_000,
    }
}

/// The number of latencies in `phase` of more than `limit_ns`.
fn longer_than(report: &LoadReport, phase: LoadPhase, limit_ns: u64) -> u64 {
    let steps = &report.phase(phase).unwrap().latency.as_ref().unwrap().histogram;
    // A step tells of latencies up to its end; only one that begins at the limit or above is surely longer.
    let mut begin_ns = 0;
    let mut count = 0;
    for (end_ns, in_step) in steps {
        count += if begin_ns >= limit_ns { *in_step } else { 0 };
        begin_ns = *end_ns;
    }
    count
}

#[test]
fn every_reply_is_right_and_the_phases_follow_one_another() {
    for kind in [IndexKind::Whole, IndexKind::Incremental] {
        let keys = Size::SMALLEST.entries();
        let index = filled(kind, Size::SMALLEST).unwrap();
        let serving = Serving::start(Arc::clone(&index));
        let report = run(&plan(serving.address, keys)).unwrap();
        let server = serving.stop();

        assert_eq!(report.errors, Errors::default(), "{kind}");
        assert_eq!(report.sent, report.answered, "{kind}");
        assert_eq!((server.requests, server.errors), (report.sent + 1, 0), "{kind}: with the question for the length");
        assert!(report.trigger_latency_ns.is_some(), "{kind}");
        assert!(server.worst_put_ns > 0, "{kind}");
        assert_eq!(check(&*index, keys + 1), Ok(()), "{kind}");
        assert_eq!(index.room(), keys * 2, "{kind}: it doubled");

        let names: Vec<_> = report.phases.iter().map(|phase| phase.name).collect();
        assert_eq!(names, LoadPhase::ALL, "{kind}");
        assert!(report.phases.windows(2).all(|pair| pair[0].end_ns == pair[1].start_ns), "{kind}: {:?}", report.phases);
        let samples = |phase| report.phase(phase).unwrap().latency.as_ref().unwrap().samples;
        assert_eq!(samples(LoadPhase::Before), 600, "{kind}");
        assert!(samples(LoadPhase::Doubling) >= 2000, "{kind}: a second at least");
        assert!((599..=601).contains(&samples(LoadPhase::After)), "{kind}: {}", samples(LoadPhase::After));
        assert_eq!(report.late.unwrap().samples, report.sent, "{kind}");
    }
}

/// An index without a map whose new keys are slow, or whose values are wrong.
struct Odd {
    lock: RwLock<u64>,
    keys: u64,
    new_key: Duration,
    wrong: Option<u64>,
}

impl Odd {
    fn new(keys: u64) -> Self {
        Self { lock: RwLock::new(keys), keys, new_key: Duration::ZERO, wrong: None }
    }
}

impl Index for Odd {
    fn get(&self, key: u64) -> Option<Value> {
        let length = self.lock.read().unwrap();
        (key < *length).then(|| if self.wrong == Some(key) { [0; 16] } else { value_of(key) })
    }

    fn put(&self, key: u64, value: Value) -> Put {
        let mut length = self.lock.write().unwrap();
        let start_ns = now_ns();
        let previous = (key < *length).then_some(value);
        if previous.is_none() {
            thread::sleep(self.new_key);
            *length += 1;
        }
        Put { previous, start_ns, end_ns: now_ns() }
    }

    fn len(&self) -> u64 {
        *self.lock.read().unwrap()
    }

    fn room(&self) -> u64 {
        self.keys
    }
}

#[test]
fn everybody_who_comes_during_a_freeze_is_counted() {
    let serving = Serving::start(Arc::new(Odd { new_key: Duration::from_millis(50), ..Odd::new(1000) }));
    let report = run(&plan(serving.address, 1000)).unwrap();
    let server = serving.stop();
    assert_eq!(report.errors, Errors::default());
    // Two requests are due in each of the first 30 ms and wait for the other 20 at least. Clients that wait for a reply
    // before they ask again would have seen four, one for each connection.
    let long = longer_than(&report, LoadPhase::Doubling, 20_000_000);
    assert!(long >= 45, "{long} of 60: {:?}", report.phase(LoadPhase::Doubling));
    assert!(report.trigger_latency_ns.unwrap() >= 50_000_000);
    let trigger_due_ns = report.phase(LoadPhase::Doubling).unwrap().start_ns;
    let frozen = server.slow_puts.iter().find(|span| span.end_ns - span.start_ns >= 50_000_000).unwrap();
    assert!(frozen.start_ns >= trigger_due_ns, "the spans of both sides are of one clock");
    assert!(server.worst_put_ns >= 50_000_000);
}

#[test]
fn a_wrong_value_is_an_error() {
    let serving = Serving::start(Arc::new(Odd { wrong: Some(3), ..Odd::new(10) }));
    let report = run(&plan(serving.address, 10)).unwrap();
    serving.stop();
    // About one get in ten is for that key.
    assert!(report.errors.wrong > report.sent / 20, "{:?}", report.errors);
    assert_eq!(report.answered, report.sent, "wrong replies are replies");
}

/// Accepts the connections of a plan, answers the question for the length, and hands them out.
fn accept(listener: &TcpListener, plan: &LoadPlan) -> Vec<TcpStream> {
    let streams: Vec<_> = (0..plan.connections).map(|_| listener.accept().unwrap().0).collect();
    let mut frame = [0; REQUEST_BYTES];
    (&streams[0]).read_exact(&mut frame).unwrap();
    let request = Request::decode(&frame).unwrap();
    (&streams[0]).write_all(&Reply::with_length(request.id, plan.keys).encode()).unwrap();
    streams
}

fn listen() -> (TcpListener, LoadPlan) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let plan = plan(listener.local_addr().unwrap(), 1000);
    (listener, plan)
}

#[test]
fn a_server_that_goes_away_is_an_error_and_not_a_hang() {
    let (listener, plan) = listen();
    let server = thread::spawn(move || drop(accept(&listener, &plan)));
    let report = run(&plan).unwrap();
    server.join().unwrap();
    assert_eq!((report.answered, report.trigger_latency_ns), (0, None));
    assert_eq!(report.errors.refused + report.errors.unanswered, report.sent);
    assert_eq!(report.phases.len(), 3);
}

#[test]
fn a_server_that_is_stopped_under_load_is_an_error_and_not_a_hang() {
    let serving = Serving::start(Arc::new(Odd::new(1000)));
    let plan = LoadPlan { before_ms: 3_600_000, ..plan(serving.address, 1000) };
    let load = thread::spawn(move || run(&plan));
    thread::sleep(Duration::from_millis(200));
    serving.stop();
    // It may have been stopped before the load could connect; that is told as well.
    match load.join().unwrap() {
        Ok(report) => assert_eq!(report.trigger_latency_ns, None, "{:?}", report.errors),
        Err(error) => assert!(error.contains("127.0.0.1:"), "{error}"),
    }
}

#[test]
fn one_connection_that_breaks_does_not_end_the_others() {
    let (listener, plan) = listen();
    let server = thread::spawn(move || {
        let mut streams = accept(&listener, &plan);
        // The trigger is sent on another one: 700 requests come before it, so it is on the first.
        drop(streams.remove(3));
        let replies = streams.into_iter().map(|stream| thread::spawn(move || echo(stream, plan.keys)));
        replies.collect::<Vec<_>>().into_iter().for_each(|reply| reply.join().unwrap());
    });
    let report = run(&plan).unwrap();
    server.join().unwrap();
    let lost = report.errors.refused + report.errors.unanswered;
    assert!(lost > 0 && report.errors.wrong == 0, "{:?}", report.errors);
    assert_eq!(report.answered + lost, report.sent);
    assert!(report.answered > lost, "the other three go on");
    assert!(report.trigger_latency_ns.is_some());
}

/// Gives right replies until the client has no more requests.
fn echo(mut stream: TcpStream, keys: u64) {
    let mut frame = [0; REQUEST_BYTES];
    while stream.read_exact(&mut frame).is_ok() {
        let request = Request::decode(&frame).unwrap();
        let known = request.key < keys;
        let (status, value) =
            if known { (Status::Found, value_of(request.key)) } else { (Status::Absent, Value::default()) };
        stream.write_all(&Reply { id: request.id, status, value }.encode()).unwrap();
    }
}

#[test]
fn a_server_that_is_silent_is_waited_for_only_so_long() {
    let (listener, plan) = listen();
    let plan = LoadPlan { patience_ms: 200, ..plan };
    let (done, is_done) = mpsc::channel::<()>();
    let server = thread::spawn(move || {
        let streams = accept(&listener, &plan);
        // Held open, and never read, until the load is over.
        assert!(is_done.recv().is_err());
        drop(streams);
    });
    let report = run(&plan).unwrap();
    drop(done);
    server.join().unwrap();
    assert_eq!((report.answered, report.errors.unanswered), (0, report.sent));
    let doubling = report.phase(LoadPhase::Doubling).unwrap();
    assert!(doubling.latency.as_ref().unwrap().worst_ns >= 200_000_000, "their age is their latency: {doubling:?}");
    assert_eq!(report.trigger_latency_ns, None);
}

#[test]
fn a_request_that_is_not_understood_is_refused_and_ends_the_connection() {
    let serving = Serving::start(Arc::new(Odd::new(10)));
    let mut stream = TcpStream::connect(serving.address).unwrap();
    let get = Request { op: Op::Get, id: 1, key: 4, value: Value::default() }.encode();
    let mut unknown = get;
    (unknown[0], unknown[1]) = (200, 2);
    stream.write_all(&[get, unknown, get].concat()).unwrap();
    let mut replies = Vec::new();
    stream.read_to_end(&mut replies).unwrap();
    let (frames, rest) = replies.as_chunks::<REPLY_BYTES>();
    assert_eq!((frames.len(), rest.len()), (2, 0), "none for the last, which came after the unknown one");
    assert_eq!(Reply::decode(&frames[0]), Ok(Reply { id: 1, status: Status::Found, value: value_of(4) }));
    let refusal = Reply::decode(&frames[1]).unwrap();
    assert_eq!((refusal.id, refusal.status, refusal.value[0]), (2, Status::UnknownOp, 200));
    let report = serving.stop();
    assert_eq!((report.requests, report.errors), (1, 1));
}

#[test]
fn half_a_request_is_an_error_of_the_client() {
    let serving = Serving::start(Arc::new(Odd::new(10)));
    let mut stream = TcpStream::connect(serving.address).unwrap();
    stream.write_all(&[1; REQUEST_BYTES - 1]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert_eq!(serving.stop().errors, 1);
}

#[test]
fn a_plan_that_does_not_fit_the_service_is_refused() {
    let serving = Serving::start(Arc::new(Odd::new(10)));
    let error = run(&plan(serving.address, 11)).unwrap_err();
    assert!(error.ends_with("has 10 entries, not the 11 of --keys"), "{error}");
    let error = run(&LoadPlan { put_key: 9, ..plan(serving.address, 10) }).unwrap_err();
    assert!(error.contains("--put-key 9 exists already"), "{error}");
    serving.stop();
    assert!(serve(Arc::new(Odd::new(1)), 0, |_| (), oneshot::channel().1).is_err());
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    assert!(run(&plan(nobody, 10)).unwrap_err().starts_with("connecting to 127.0.0.1:"));
}

#[test]
fn a_plan_survives_its_command_line() {
    let plan = plan((Ipv4Addr::LOCALHOST, 4000).into(), 1000);
    let arguments = std::iter::once("stress-load".to_owned()).chain(plan.arguments());
    assert_eq!(LoadPlan::try_parse_from(arguments).unwrap(), plan);
    let zero = plan.arguments().into_iter().map(|argument| argument.replace("2000", "0"));
    assert!(LoadPlan::try_parse_from(std::iter::once("stress-load".to_owned()).chain(zero)).is_err());
}
