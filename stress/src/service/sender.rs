//! The thread that sends each request when it is due, whatever became of those before. The [`load`](super::load) runs
//! it beside the [`receiver`](super::receiver)s.
//!
//! It never waits for the service: what a connection does not take at once stays here and is offered again. The latency
//! of such a request still counts from when it was due, so a server that stops reading does not hide its wait.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;

use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::socket::{MsgFlags, send};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

use super::receiver::Board;
use super::schedule::Schedule;
use super::{NS_PER_MS, NS_PER_S};
use crate::clock::now_ns;
use crate::latency;

/// The shortest time that counts as the doubling: what a freeze leaves behind is worked off meanwhile.
pub const LEAST_DOUBLING_NS: u64 = NS_PER_S;

/// How soon bytes that a connection did not take are offered again.
const RETRY_NS: u64 = NS_PER_MS;
/// How much later than asked the kernel may end a sleep; it would be 50 µs otherwise.
const TIMER_SLACK_NS: u64 = 1_000;

/// When to stop, counted from what the service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long to go on after the doubling.
    pub after_ns: u64,
    /// The longest that a reply is waited for.
    pub patience_ns: u64,
}

/// What was sent.
#[derive(Debug)]
pub struct Sent {
    /// Requests that were due.
    pub due: u64,
    /// For each connection, how many of its requests came before it was found to be gone.
    pub accepted: Vec<u64>,
    /// How much later than due the requests were handed to their connections.
    pub late: Histogram<u64>,
    /// When the doubling ended: the trigger was answered or given up, and [`LEAST_DOUBLING_NS`] were over.
    pub doubling_end_ns: u64,
    /// Before this all requests were due.
    pub end_ns: u64,
}

/// A connection, from the side that sends.
struct Connection<'a> {
    stream: &'a TcpStream,
    outbox: Vec<u8>,
    accepted: u64,
}

impl Connection<'_> {
    /// Offers what is waiting. `false` if the connection is gone.
    fn flush(&mut self) -> bool {
        while !self.outbox.is_empty() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.stream.as_raw_fd(), &self.outbox, flags) {
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }
}

/// Sends by a schedule.
pub struct Sender<'a> {
    schedule: &'a Schedule,
    limits: Limits,
    board: &'a Board,
    connections: Vec<Connection<'a>>,
    next: u64,
    late: Histogram<u64>,
    doubling_end_ns: Option<u64>,
}

impl<'a> Sender<'a> {
    /// A sender on `streams`, one for each connection of the schedule.
    pub fn new(
        schedule: &'a Schedule,
        limits: Limits,
        board: &'a Board,
        streams: &'a [TcpStream],
    ) -> Result<Self, String> {
        let connections = streams.iter().map(|stream| Connection { stream, outbox: Vec::new(), accepted: 0 }).collect();
        let late = latency::histogram()?;
        Ok(Self { schedule, limits, board, connections, next: 0, late, doubling_end_ns: None })
    }

    /// Sends until the time after the doubling is over or every connection is gone, and then tells the receivers how
    /// long to wait for what is still missing.
    pub fn run(mut self) -> Sent {
        // Without it every request is up to 50 µs later, which the report would show.
        let _ = prctl::set_timerslack(TIMER_SLACK_NS);
        let end_ns = loop {
            let now_ns = now_ns();
            let end_ns = self.end_ns(now_ns);
            self.send_due(now_ns.min(end_ns.saturating_sub(1)));
            if now_ns >= end_ns {
                break end_ns;
            }
            self.sleep(self.schedule.due_ns(self.next).min(end_ns));
        };
        self.finish();
        Sent {
            due: self.next,
            accepted: self.connections.iter().map(|connection| connection.accepted).collect(),
            late: self.late,
            doubling_end_ns: self.doubling_end_ns.unwrap_or(end_ns).min(end_ns),
            end_ns,
        }
    }

    /// When to stop, as far as is known now.
    fn end_ns(&mut self, now_ns: u64) -> u64 {
        if self.board.all_gone() {
            return now_ns;
        }
        if self.doubling_end_ns.is_none() {
            let due_ns = self.schedule.trigger_due_ns();
            let given_up_ns = due_ns.saturating_add(self.limits.patience_ns.max(LEAST_DOUBLING_NS));
            let lost = self.board.is_gone(self.schedule.connection(self.schedule.trigger)) && now_ns >= due_ns;
            let settled_ns = match self.board.trigger_answered_ns() {
                Some(answered_ns) => Some(answered_ns),
                None if lost || now_ns >= given_up_ns => Some(now_ns),
                None => None,
            };
            self.doubling_end_ns = settled_ns.map(|settled_ns| settled_ns.max(due_ns + LEAST_DOUBLING_NS));
        }
        self.doubling_end_ns.map_or(u64::MAX, |doubled_ns| doubled_ns.saturating_add(self.limits.after_ns))
    }

    /// Hands every request that is due by `until_ns` to its connection.
    fn send_due(&mut self, until_ns: u64) {
        let first = self.next;
        while self.schedule.due_ns(self.next) <= until_ns {
            let number = self.schedule.connection(self.next);
            if !self.board.is_gone(number) {
                let connection = &mut self.connections[number];
                connection.outbox.extend_from_slice(&self.schedule.request(self.next).encode());
                connection.accepted += 1;
            }
            self.next += 1;
        }
        self.flush();
        let now_ns = now_ns();
        for number in first..self.next {
            self.late.saturating_record(now_ns.saturating_sub(self.schedule.due_ns(number)).max(1));
        }
    }

    /// Offers what is waiting to the connections that are not gone.
    fn flush(&mut self) {
        for (number, connection) in self.connections.iter_mut().enumerate() {
            if self.board.is_gone(number) || !connection.flush() {
                connection.outbox.clear();
                self.board.set_gone(number);
            }
        }
    }

    fn is_waiting(&self) -> bool {
        self.connections.iter().any(|connection| !connection.outbox.is_empty())
    }

    /// Sleeps until `wake_ns`, or less if bytes are to be offered again or the end is not yet known.
    fn sleep(&self, wake_ns: u64) {
        let doze_ns = if self.is_waiting() { RETRY_NS } else { 20 * RETRY_NS };
        let wake_ns = wake_ns.min(now_ns() + doze_ns);
        let time = TimeSpec::new((wake_ns / NS_PER_S).cast_signed(), (wake_ns % NS_PER_S).cast_signed());
        // A signal that ends it early makes the caller look at the clock once more.
        let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &time);
    }

    /// Sends what is waiting, says that no more comes, and sets the receivers' limit.
    fn finish(&mut self) {
        let give_up_ns = now_ns().saturating_add(self.limits.patience_ns);
        self.board.give_up_at(give_up_ns);
        while self.is_waiting() && now_ns() < give_up_ns {
            self.sleep(give_up_ns);
            self.flush();
        }
        for connection in &self.connections {
            // It fails only where the other end has closed already.
            let _ = connection.stream.shutdown(Shutdown::Write);
        }
    }
}
