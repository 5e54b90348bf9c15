//! The load generator: a command line, a run and its report. The binary `stress-load` calls [`main`]; tests call
//! [`run`].
//!
//! It is an open loop: requests are due at a fixed rate, and neither the sending nor the count of latencies waits for
//! the service.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};

use super::NS_PER_MS;
use super::load_report::LoadReport;
use super::protocol::{Op, REPLY_BYTES, Reply, Request, Value};
use super::receiver::{Answers, Board, receive};
use super::schedule::Schedule;
use super::sender::{Limits, Sender};
use crate::clock::now_ns;

/// The time in which the threads are started before the first request is due.
const HEAD_START_NS: u64 = 10 * NS_PER_MS;

/// What the load generator is told: its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Parser, Serialize, Deserialize)]
#[command(about = "Sends requests to an index service at a fixed rate and reports their latencies as a line of JSON")]
pub struct LoadPlan {
    /// Where the service listens, as in 127.0.0.1:4000
    #[arg(long)]
    pub address: SocketAddr,
    /// Connections, which take turns
    #[arg(long, default_value_t = 8, value_parser = RangedU64ValueParser::<u32>::new().range(1..=1000))]
    pub connections: u32,
    /// Requests of a second
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate_per_s: u64,
    /// Traffic before anything is measured, in milliseconds
    #[arg(long, default_value_t = 1000)]
    pub warm_up_ms: u64,
    /// Measured traffic before the put that makes the index grow, in milliseconds
    #[arg(long, default_value_t = 3000)]
    pub before_ms: u64,
    /// Measured traffic after that put is answered and a second is over, in milliseconds
    #[arg(long, default_value_t = 3000)]
    pub after_ms: u64,
    /// The key of that put, which must not exist
    #[arg(long)]
    pub put_key: u64,
    /// The number of keys that exist, counted from 0
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// The seed of the random choices
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The longest that a reply is waited for, in milliseconds: that of the put from when it is due, and all that are
    /// missing from the end of the traffic
    #[arg(long, default_value_t = 60_000)]
    pub patience_ms: u64,
}

impl LoadPlan {
    /// The command line that makes [`LoadPlan::parse`] give this plan.
    pub fn arguments(&self) -> Vec<String> {
        vec![
            format!("--address={}", self.address),
            format!("--connections={}", self.connections),
            format!("--rate-per-s={}", self.rate_per_s),
            format!("--warm-up-ms={}", self.warm_up_ms),
            format!("--before-ms={}", self.before_ms),
            format!("--after-ms={}", self.after_ms),
            format!("--put-key={}", self.put_key),
            format!("--keys={}", self.keys),
            format!("--seed={}", self.seed),
            format!("--patience-ms={}", self.patience_ms),
        ]
    }

    /// The requests of this plan, the first being due at `start_ns`.
    fn schedule(&self, start_ns: u64) -> Schedule {
        let before_ns = ns(self.warm_up_ms.saturating_add(self.before_ms));
        Schedule {
            start_ns,
            rate_per_s: self.rate_per_s,
            connections: self.connections as usize,
            keys: self.keys,
            seed: self.seed,
            trigger: Schedule::due_within(self.rate_per_s, before_ns),
            put_key: self.put_key,
        }
    }
}

const fn ns(time_ms: u64) -> u64 {
    time_ms.saturating_mul(NS_PER_MS)
}

/// The whole of the binary: reads the command line, runs the load, prints the report.
pub fn main() -> ExitCode {
    let report = run(&LoadPlan::parse())
        .and_then(|report| serde_json::to_string(&report).map_err(|error| format!("the report: {error}")));
    match report {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("stress-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Connects, sends by the plan, and tells what came back.
///
/// # Errors
///
/// If the service cannot be reached, or says that it has another number of entries than the plan. A service that goes
/// away later is no error here: it is in the report.
pub fn run(plan: &LoadPlan) -> Result<LoadReport, String> {
    if plan.put_key < plan.keys {
        return Err(format!("--put-key {} exists already: it must be at least --keys {}", plan.put_key, plan.keys));
    }
    let streams = connect(plan)?;
    check_keys(&streams[0], plan)?;
    let schedule = plan.schedule(now_ns() + HEAD_START_NS);
    let board = Board::new(streams.len());
    let limits = Limits { after_ns: ns(plan.after_ms), patience_ns: ns(plan.patience_ms) };
    let mut readers = Vec::new();
    for stream in &streams {
        readers.push(stream.try_clone().map_err(|error| format!("a connection: {error}"))?);
    }
    let sender = Sender::new(&schedule, limits, &board, &streams)?;
    let (sent, answers) = thread::scope(|scope| {
        let mut receivers = Vec::new();
        for (connection, reader) in readers.into_iter().enumerate() {
            let (schedule, board) = (&schedule, &board);
            receivers.push(scope.spawn(move || receive(reader, connection, schedule, board)));
        }
        let sent = sender.run();
        let answers = receivers
            .into_iter()
            .map(|receiver| receiver.join().unwrap_or_else(|_| Err("a receiver panicked".to_owned())));
        (sent, answers.collect::<Result<Vec<Answers>, String>>())
    });
    let measured_from_ns = schedule.start_ns.saturating_add(ns(plan.warm_up_ms));
    LoadReport::new(&schedule, &sent, &answers?, measured_from_ns, now_ns())
}

/// Opens the connections of a plan.
fn connect(plan: &LoadPlan) -> Result<Vec<TcpStream>, String> {
    let open = || {
        let stream = TcpStream::connect(plan.address)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let streams: Result<_, std::io::Error> = (0..plan.connections).map(|_| open()).collect();
    streams.map_err(|error| format!("connecting to {}: {error}", plan.address))
}

/// Asks the service how many entries it has, so that a wrong plan is not mistaken for a wrong service.
fn check_keys(mut stream: &TcpStream, plan: &LoadPlan) -> Result<(), String> {
    let request = Request { op: Op::Len, id: u64::MAX, key: 0, value: Value::default() };
    let mut frame = [0; REPLY_BYTES];
    stream
        .set_read_timeout(Some(Duration::from_millis(plan.patience_ms.max(1))))
        .and_then(|()| stream.write_all(&request.encode()))
        .and_then(|()| stream.read_exact(&mut frame))
        .map_err(|error| format!("asking {} for its length: {error}", plan.address))?;
    let reply = Reply::decode(&frame).map_err(|error| error.to_string())?;
    if reply == Reply::with_length(request.id, plan.keys) {
        Ok(())
    } else {
        Err(format!("{} has {} entries, not the {} of --keys", plan.address, reply.length(), plan.keys))
    }
}
