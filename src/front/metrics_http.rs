//! Statistics over HTTP, for scrapers: `GET /metrics` and `GET /stats.json`. Feature `metrics-http`; the program lends
//! a thread and a listening socket.
//!
//! Invariant: one request at a time, within [`EXCHANGE_TIME_MAX`] each; whatever a client sends or leaves out, the next
//! one is served.

extern crate std;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::vec::Vec;

use crate::stats::{BufferTooSmall, Stats};

/// The longest that one client, slow or silent, keeps the others waiting.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(5);
/// The longest that a refused client may take to read why.
const LINGER_TIME_MAX: Duration = Duration::from_millis(500);
/// Most bytes of a request: scrapers send a few hundred.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// After a failed accept: the process may be short of descriptors for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const PROMETHEUS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON_TYPE: &str = "application/json";

/// Answers `GET /metrics` with the statistics in the format of Prometheus and `GET /stats.json` with the same as JSON,
/// on the calling thread, for ever. Needs the feature `metrics-http`.
///
/// One request at a time, of at most 8 KiB and five seconds. Other paths get 404, other methods 405, and what is not a
/// request of HTTP/1 gets 400. There is no encryption and no authentication: listen where only the scraper comes.
///
/// ```no_run
/// let listener = std::net::TcpListener::bind("127.0.0.1:9464")?;
/// std::thread::spawn(move || antifreeze::serve_metrics(listener));
/// # Ok::<(), std::io::Error>(())
/// ```
/// # Errors
/// The listener cannot accept, now or any more. No client causes that.
pub fn serve_metrics(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(false)?;
    let mut body = Vec::new();
    loop {
        match listener.accept() {
            // What goes wrong with one client is that client's.
            Ok((client, _)) => drop(serve(&client, &mut body)),
            // The socket does not listen.
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(error),
            // The client left first, or something is short.
            Err(_) => sleep(ACCEPT_PAUSE),
        }
    }
}

/// What to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Prometheus,
    Json,
    BadRequest,
    NotFound,
    NotAllowed,
}

impl Answer {
    /// The status line and the headers that only this answer has.
    fn head(self) -> &'static str {
        match self {
            Answer::Prometheus | Answer::Json => "HTTP/1.1 200 OK\r\n",
            Answer::BadRequest => "HTTP/1.1 400 Bad Request\r\n",
            Answer::NotFound => "HTTP/1.1 404 Not Found\r\n",
            Answer::NotAllowed => "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n",
        }
    }
}

/// One client, from its request to its end. `body` is a buffer that is kept from client to client.
fn serve(client: &TcpStream, body: &mut Vec<u8>) -> io::Result<()> {
    let deadline = Instant::now() + EXCHANGE_TIME_MAX;
    let mut request = [0; REQUEST_BYTES_MAX];
    let answer = answer(receive(client, &mut request, deadline)?);
    let (kind, length) = match answer {
        Answer::Prometheus => (PROMETHEUS_TYPE, fill(body, |stats, buffer| stats.prometheus(buffer).map(str::len))),
        Answer::Json => (JSON_TYPE, fill(body, |stats, buffer| stats.json(buffer).map(str::len))),
        Answer::BadRequest | Answer::NotFound | Answer::NotAllowed => ("text/plain", 0),
    };
    let mut head = Vec::new();
    write!(head, "{}Content-Type: {kind}\r\nContent-Length: {length}\r\n", answer.head())?;
    head.extend_from_slice(b"Cache-Control: no-store\r\nConnection: close\r\n\r\n");
    send(client, &head, deadline)?;
    send(client, body.get(..length).unwrap_or_default(), deadline)?;
    client.shutdown(Shutdown::Write)?;
    if length == 0 {
        discard(client, Instant::now() + LINGER_TIME_MAX);
    }
    Ok(())
}

/// Prints the current statistics into `body`, which grows as needed; gives the length.
fn fill(body: &mut Vec<u8>, print: impl Fn(&Stats, &mut [u8]) -> Result<usize, BufferTooSmall>) -> usize {
    let stats = super::stats();
    match print(&stats, body) {
        Ok(length) => length,
        Err(small) => {
            body.resize(small.bytes_needed, 0);
            print(&stats, body).unwrap_or(0)
        }
    }
}

/// Time left until `deadline`.
/// # Errors
/// `TimedOut`: none.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Reads up to the end of the headers, to the end of the buffer, or to the end of what the client sends.
/// # Errors
/// The client is too slow, gone, or has sent nothing.
fn receive<'a>(mut client: &TcpStream, buffer: &'a mut [u8], deadline: Instant) -> io::Result<&'a [u8]> {
    let mut length = 0;
    while let Some(room @ [_, ..]) = buffer.get_mut(length..) {
        client.set_read_timeout(Some(left(deadline)?))?;
        match client.read(room) {
            Ok(0) if length == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if headers(buffer.get(..length).unwrap_or_default()).is_some() {
            break;
        }
    }
    Ok(buffer.get(..length).unwrap_or_default())
}

/// Writes all of `bytes`.
/// # Errors
/// The client is too slow or gone.
fn send(mut client: &TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        client.set_write_timeout(Some(left(deadline)?))?;
        match client.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads what a refused client still sends: to close a socket with bytes unread in it takes the answer away from the
/// client.
fn discard(mut client: &TcpStream, deadline: Instant) {
    let mut bytes = [0; REQUEST_BYTES_MAX];
    while let Ok(time) = left(deadline) {
        if client.set_read_timeout(Some(time)).is_err() || !client.read(&mut bytes).is_ok_and(|count| count > 0) {
            break;
        }
    }
}

/// The request line and the headers, if their end, an empty line, has come.
fn headers(request: &[u8]) -> Option<&[u8]> {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n")?;
    request.get(..end)
}

/// What to answer to a request, whole or cut off.
fn answer(request: &[u8]) -> Answer {
    let Some(head) = headers(request).and_then(|head| core::str::from_utf8(head).ok()) else {
        return Answer::BadRequest;
    };
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Answer::BadRequest;
    };
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_header = |line: &str| line.split_once(':').is_some_and(|(name, _)| !name.is_empty() && !name.contains(' '));
    if !is_method || target.is_empty() || !lines.all(is_header) {
        return Answer::BadRequest;
    }
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    match (method, path) {
        ("GET", "/metrics") => Answer::Prometheus,
        ("GET", "/stats.json") => Answer::Json,
        ("GET", _) if !path.starts_with('/') => Answer::BadRequest,
        ("GET", _) => Answer::NotFound,
        _ => Answer::NotAllowed,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::format;
    use std::net::SocketAddr;
    use std::os::fd::AsRawFd;
    use std::string::{String, ToString};
    use std::sync::mpsc;
    use std::thread::{JoinHandle, spawn};

    use super::*;
    use crate::stats::exposition;
    use crate::stats::table::METRICS;

    /// A server on a port of its own.
    struct Server {
        address: SocketAddr,
        listener: TcpListener,
        thread: JoinHandle<io::Result<()>>,
    }

    impl Server {
        fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let lent = listener.try_clone().unwrap();
            Server { address, listener, thread: spawn(move || serve_metrics(lent)) }
        }

        fn connect(&self) -> TcpStream {
            let client = TcpStream::connect(self.address).unwrap();
            client.set_read_timeout(Some(EXCHANGE_TIME_MAX * 4)).unwrap();
            client
        }

        /// The whole answer to what is sent.
        fn answer_to(&self, request: impl AsRef<[u8]>) -> String {
            let mut client = self.connect();
            client.write_all(request.as_ref()).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        }

        fn get(&self, path: &str) -> String {
            self.answer_to(format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n"))
        }

        /// Ends the server by ending the listening, and gives what it returned.
        fn end(self) -> io::Result<()> {
            // SAFETY: the descriptor is open, and `shutdown` touches no memory.
            assert_eq!(unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RDWR) }, 0);
            self.thread.join().expect("the server does not panic")
        }
    }

    /// Headers and body, with the length checked.
    fn parts(answer: &str) -> (&str, &str) {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        (head, body)
    }

    #[test]
    fn metrics_are_served_in_the_format_of_prometheus() {
        let server = Server::start();
        for path in ["/metrics", "/metrics?name=any"] {
            let answer = server.get(path);
            let (head, body) = parts(&answer);
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
            assert_eq!(exposition::parse(body).unwrap().len(), METRICS.len());
        }
        server.end().unwrap_err();
    }

    #[test]
    fn statistics_are_served_as_json() {
        let server = Server::start();
        let answer = server.get("/stats.json");
        let (head, body) = parts(&answer);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nContent-Type: application/json\r\n"));
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json.as_object().unwrap().len(), METRICS.len());
        server.end().unwrap_err();
    }

    #[test]
    fn a_request_in_pieces_is_answered() {
        let server = Server::start();
        let mut client = server.connect();
        for piece in ["GET /met", "rics HTTP/1.0\r\nHo", "st: here\r", "\n\r", "\n"] {
            client.write_all(piece.as_bytes()).unwrap();
            sleep(Duration::from_millis(20));
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        server.end().unwrap_err();
    }

    #[test]
    fn other_paths_are_not_found() {
        let server = Server::start();
        for path in ["/", "/metrics/", "/METRICS", "/stats", "//metrics", "/..", "/%6detrics", "/?/metrics"] {
            let answer = server.get(path);
            assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{path}: {answer}");
            assert_eq!(parts(&answer).1, "");
        }
        server.end().unwrap_err();
    }

    #[test]
    fn other_methods_are_not_allowed() {
        let server = Server::start();
        for method in ["POST", "HEAD", "PUT", "DELETE", "OPTIONS", "GETS"] {
            let answer = server.answer_to(format!("{method} /metrics HTTP/1.1\r\nHost: here\r\n\r\nbody"));
            let (head, body) = parts(&answer);
            assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n"), "{method}: {head}");
            assert_eq!(body, "");
        }
        server.end().unwrap_err();
    }

    #[test]
    fn what_is_no_request_is_bad() {
        for request in [
            "\r\n\r\n",
            "GET\r\n\r\n",
            "GET /metrics\r\n\r\n",
            "GET /metrics HTTP/2.0\r\n\r\n",
            "GET /metrics HTTP/1.1 \r\n\r\n",
            "GET  /metrics HTTP/1.1\r\n\r\n",
            "GET metrics HTTP/1.1\r\n\r\n",
            "get /metrics HTTP/1.1\r\n\r\n",
            " GET /metrics HTTP/1.1\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nno header\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost : here\r\n\r\n",
            "GET /metrics HTTP/1.1\r\n: here\r\n\r\n",
            "GET /metrics HTTP/1.1\n\n",
            "GET /metrics HTTP/1.1\r\nHost: here\r\n",
        ] {
            assert_eq!(answer(request.as_bytes()), Answer::BadRequest, "{request:?}");
        }
        assert_eq!(answer(b"GET /\xff HTTP/1.1\r\n\r\n"), Answer::BadRequest);
        assert_eq!(answer(b"GET /metrics HTTP/1.1\r\n\r\n"), Answer::Prometheus, "no headers at all");
    }

    #[test]
    fn bad_and_overlong_requests_are_refused_and_told_so() {
        let server = Server::start();
        let long = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(4 * REQUEST_BYTES_MAX));
        let binary: Vec<u8> = (0..=255).cycle().take(2 * REQUEST_BYTES_MAX).collect();
        for request in [long.as_bytes(), &binary, b"\x16\x03\x01\x02\r\n\r\n"] {
            let answer = server.answer_to(request);
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
            assert_eq!(parts(&answer).1, "");
        }
        server.end().unwrap_err();
    }

    #[test]
    fn a_client_that_is_still_sending_is_not_cut_off_from_its_answer() {
        let server = Server::start();
        let mut client = server.connect();
        let mut answer = String::new();
        // The server has read its fill and answered before the second part comes.
        client.write_all(&[b'G'; REQUEST_BYTES_MAX + 1000]).unwrap();
        sleep(LINGER_TIME_MAX / 5);
        client.write_all(&[b'G'; 1000]).unwrap();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        server.end().unwrap_err();
    }

    #[test]
    fn a_request_cut_off_is_bad() {
        let server = Server::start();
        let mut client = server.connect();
        client.write_all(b"GET /metrics HT").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        server.end().unwrap_err();
    }

    #[test]
    fn clients_that_leave_do_not_end_it() {
        let server = Server::start();
        for round in 0..20 {
            let mut client = server.connect();
            if round % 2 == 0 {
                client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
            }
            drop(client);
        }
        assert!(server.get("/metrics").starts_with("HTTP/1.1 200 OK\r\n"));
        server.end().unwrap_err();
    }

    #[test]
    fn a_client_that_drips_or_keeps_silent_is_left_in_time() {
        let server = Server::start();
        let silent = server.connect();
        let mut dripping = server.connect();
        let (stop, stopped) = mpsc::channel::<()>();
        let drip = spawn(move || {
            // Each byte comes well within the time that the last read was given.
            while stopped.recv_timeout(Duration::from_millis(200)).is_err() {
                let _ = dripping.write_all(b"G");
            }
        });
        let start = Instant::now();
        assert!(server.get("/metrics").starts_with("HTTP/1.1 200 OK\r\n"));
        let waited = start.elapsed();
        stop.send(()).unwrap();
        drip.join().unwrap();
        drop(silent);
        assert!(waited >= EXCHANGE_TIME_MAX && waited < EXCHANGE_TIME_MAX * 3, "{waited:?}");
        server.end().unwrap_err();
    }

    #[test]
    fn it_returns_when_nobody_listens_any_more() {
        let server = Server::start();
        assert!(server.get("/metrics").starts_with("HTTP/1.1 200"));
        assert_eq!(server.end().unwrap_err().kind().to_string(), "invalid input parameter");
    }

    #[test]
    fn a_listener_that_does_not_block_is_made_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let lent = listener.try_clone().unwrap();
        let server = Server { address, listener, thread: spawn(move || serve_metrics(lent)) };
        sleep(Duration::from_millis(50));
        assert!(server.get("/stats.json").starts_with("HTTP/1.1 200"));
        server.end().unwrap_err();
    }
}
