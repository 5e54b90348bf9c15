//! Serving an index over TCP, with a tokio runtime as in the incident. The process of the allocator under test calls
//! [`serve`]; its clients are [`load`](super::load).

use std::hint::black_box;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::index::{Index, Put};
use super::protocol::{Op, REQUEST_BYTES, Reply, Request, Status};
use super::{NS_PER_MS, mixed};

/// A put that took the index at least this long is reported.
pub const SLOW_PUT_NS: u64 = NS_PER_MS;

/// Room for the requests that one read takes.
const INBOX_BYTES: usize = 16 * 1024;
/// The smallest and the largest buffer in which a reply is made.
const REPLY_BUFFER_BYTES: std::ops::RangeInclusive<usize> = 64..=512;
/// How long the workers may take to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// A stretch of time by `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// When it began.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
}

/// What a server did until it was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReport {
    /// Requests that were answered as they asked.
    pub requests: u64,
    /// Connections that broke, or were closed because a request could not be understood.
    pub errors: u64,
    /// The puts that held the index for [`SLOW_PUT_NS`] or longer.
    pub slow_puts: Vec<Span>,
    /// The longest time that a put held the index; the wait for the lock is not part of it.
    pub worst_put_ns: u64,
}

/// What the connections have in common.
///
/// The counters are read when all workers have ended, which orders everything before it, so relaxed is enough.
#[derive(Debug, Default)]
struct Tally {
    requests: AtomicU64,
    errors: AtomicU64,
    worst_put_ns: AtomicU64,
    slow_puts: Mutex<Vec<Span>>,
}

impl Tally {
    fn note_put(&self, put: &Put) {
        let took_ns = put.end_ns.saturating_sub(put.start_ns);
        self.worst_put_ns.fetch_max(took_ns, Ordering::Relaxed);
        if took_ns >= SLOW_PUT_NS {
            let span = Span { start_ns: put.start_ns, end_ns: put.end_ns };
            self.slow_puts.lock().unwrap_or_else(PoisonError::into_inner).push(span);
        }
    }

    fn report(&self) -> ServerReport {
        let mut slow_puts = self.slow_puts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        slow_puts.sort_by_key(|span| span.start_ns);
        ServerReport {
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            slow_puts,
            worst_put_ns: self.worst_put_ns.load(Ordering::Relaxed),
        }
    }
}

/// Serves `index` on a free port of this machine, on `workers` threads, until `stop` is sent to or dropped.
///
/// `ready` is told the address as soon as clients can connect. Connections that are open when the server stops are
/// closed.
///
/// # Errors
///
/// If the threads or the port cannot be had.
pub fn serve(
    index: Arc<dyn Index>,
    workers: usize,
    ready: impl FnOnce(SocketAddr),
    stop: oneshot::Receiver<()>,
) -> Result<ServerReport, String> {
    if workers == 0 {
        return Err("a server needs at least one worker".to_owned());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("server")
        .enable_io()
        .build()
        .map_err(|error| format!("the server's threads: {error}"))?;
    let tally = Arc::new(Tally::default());
    let outcome = runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        ready(listener.local_addr()?);
        tokio::select! {
            outcome = accept(&listener, &index, &tally) => outcome,
            _ = stop => Ok(()),
        }
    });
    runtime.shutdown_timeout(SHUTDOWN_LIMIT);
    outcome.map_err(|error| format!("the server's socket: {error}"))?;
    Ok(tally.report())
}

/// Starts a task for each connection, and ends only with an error.
async fn accept(listener: &TcpListener, index: &Arc<dyn Index>, tally: &Arc<Tally>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (index, tally) = (Arc::clone(index), Arc::clone(tally));
        tokio::spawn(async move {
            if converse(stream, &*index, &tally).await.is_err() {
                tally.errors.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// Answers the requests of one connection until the client closes it or sends what cannot be understood.
async fn converse(mut stream: TcpStream, index: &dyn Index, tally: &Tally) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut inbox = vec![0; INBOX_BYTES];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut inbox[filled..]).await?;
        if read == 0 {
            let whole = filled == 0;
            return if whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        filled += read;
        let (frames, rest) = inbox[..filled].as_chunks::<REQUEST_BYTES>();
        let (rest, taken) = (rest.len(), frames.len() * REQUEST_BYTES);
        let batch = Batch::answering(frames, index, tally);
        stream.write_all(&batch.outbox).await?;
        if let Some(error) = batch.error {
            return Err(error);
        }
        inbox.copy_within(taken..taken + rest, 0);
        filled = rest;
    }
}

/// The replies to the requests of one read.
struct Batch {
    outbox: Vec<u8>,
    /// Why the connection has to be closed after them.
    error: Option<io::Error>,
}

impl Batch {
    fn answering(frames: &[[u8; REQUEST_BYTES]], index: &dyn Index, tally: &Tally) -> Self {
        let mut batch = Self { outbox: Vec::new(), error: None };
        let mut answered = 0;
        for frame in frames {
            match Request::decode(frame) {
                Ok(request) => {
                    batch.push(&answer(&request, index, tally));
                    answered += 1;
                }
                Err(bad) => {
                    batch.push(&Reply::refusing(bad));
                    batch.error = Some(io::Error::new(io::ErrorKind::InvalidData, bad));
                    break;
                }
            }
        }
        tally.requests.fetch_add(answered, Ordering::Relaxed);
        batch
    }

    /// Adds a reply, made in a buffer of its own as services make it, so that every request allocates and frees.
    fn push(&mut self, reply: &Reply) {
        let sizes = REPLY_BUFFER_BYTES.end() - REPLY_BUFFER_BYTES.start() + 1;
        let more = mixed([reply.id]) % sizes as u64;
        let mut buffer = Vec::with_capacity(REPLY_BUFFER_BYTES.start() + usize::try_from(more).unwrap_or(0));
        buffer.extend_from_slice(&reply.encode());
        // Without this the compiler may see that the buffer is only copied, and leave it out.
        self.outbox.extend_from_slice(&black_box(buffer));
    }
}

/// Does what is asked.
fn answer(request: &Request, index: &dyn Index, tally: &Tally) -> Reply {
    let value = match request.op {
        Op::Len => return Reply::with_length(request.id, index.len()),
        Op::Get => index.get(request.key),
        Op::Put => {
            let put = index.put(request.key, request.value);
            tally.note_put(&put);
            put.previous
        }
    };
    let status = if value.is_some() { Status::Found } else { Status::Absent };
    Reply { id: request.id, status, value: value.unwrap_or_default() }
}
