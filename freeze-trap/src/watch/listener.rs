//! Answers `GET /metrics` over HTTP/1.1, on a thread of its own: one request on each connection, one after the other.
//!
//! Invariant: whatever a client sends or leaves out, the trap goes on and the next client has its turn, after two
//! seconds at most. Only the head of a request is read, and of that at most 8 KiB; nothing is reserved because a client
//! says so.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::metrics::Metrics;

/// How long a client may take to send its request, and again to take the answer.
const WAIT: Duration = Duration::from_secs(1);
/// What a request may have up to the empty line.
const HEAD_MAX: usize = 8 << 10;
/// The pause after a connection could not be accepted, as without descriptors.
const REFUSED_WAIT: Duration = Duration::from_millis(100);

/// Begins to listen, and gives the address.
/// # Errors
/// The address is taken, or may not be used.
pub fn listen(address: SocketAddr, metrics: Metrics) -> Result<SocketAddr> {
    let server = TcpListener::bind(address).with_context(|| format!("--metrics {address}"))?;
    let own = server.local_addr().context("--metrics: no address")?;
    let serve = move || {
        loop {
            match server.accept() {
                // A client that has left, or never says what it wants, does not need an answer.
                Ok((stream, _)) => drop(serve(stream, &metrics)),
                Err(_) => thread::sleep(REFUSED_WAIT),
            }
        }
    };
    thread::Builder::new().name("metrics".into()).spawn(serve).context("no thread for metrics")?;
    Ok(own)
}

/// Hears one client.
fn serve(mut stream: TcpStream, metrics: &Metrics) -> io::Result<()> {
    let head = head(&mut stream)?;
    let answer = answer(head.as_deref(), metrics);
    let deadline = Instant::now() + WAIT;
    let mut left = answer.as_slice();
    while !left.is_empty() {
        stream.set_write_timeout(Some(until(deadline)?))?;
        let written = stream.write(left)?;
        left = &left[written..];
    }
    stream.shutdown(Shutdown::Write)
}

/// The time that is left.
fn until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The lines of a request before the empty one; `None` if they are too long.
fn head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let deadline = Instant::now() + WAIT;
    let mut read = [0; HEAD_MAX];
    let mut length = 0;
    while length < HEAD_MAX {
        stream.set_read_timeout(Some(until(deadline)?))?;
        match stream.read(&mut read[length..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            more => length += more,
        }
        if let Some(end) = read[..length].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            return Ok(Some(String::from_utf8_lossy(&read[..end]).into_owned()));
        }
    }
    Ok(None)
}

/// The whole answer to a request with this head.
fn answer(head: Option<&str>, metrics: &Metrics) -> Vec<u8> {
    let Some(head) = head else {
        return response("431 Request Header Fields Too Large", "the head is too long\n", true);
    };
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return response("400 Bad Request", "only HTTP/1.1 is understood\n", true);
    };
    let with_body = method == "GET";
    match (method, target.split('?').next()) {
        ("GET" | "HEAD", Some("/metrics")) => response("200 OK", &metrics.figures().page(), with_body),
        ("GET" | "HEAD", _) => response("404 Not Found", "there is only /metrics\n", with_body),
        _ => response("405 Method Not Allowed\r\nAllow: GET, HEAD", "only GET is answered\n", true),
    }
}

/// An answer; one to HEAD has no body, and says how long it would be.
fn response(status: &str, body: &str, with_body: bool) -> Vec<u8> {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let length = body.len();
    let body = if with_body { body } else { "" };
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_get_the_answers_of_http() {
        let metrics = Metrics::new("a", []);
        for (head, status) in [
            (Some("GET /metrics HTTP/1.1\r\nHost: a"), "200 OK"),
            (Some("GET /metrics?x=y HTTP/1.0"), "200 OK"),
            (Some("GET / HTTP/1.1"), "404 "),
            (Some("POST /metrics HTTP/1.1"), "405 "),
            (Some("GET /metrics HTTP/9.9"), "400 "),
            (Some("GET  /metrics HTTP/1.1"), "400 "),
            (Some(""), "400 "),
            (None, "431 "),
        ] {
            let answer = String::from_utf8(answer(head, &metrics)).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head:?}: {answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        }
        let head_only = String::from_utf8(answer(Some("HEAD /metrics HTTP/1.1"), &metrics)).unwrap();
        assert!(head_only.ends_with("\r\n\r\n") && !head_only.contains("Content-Length: 0"), "{head_only}");
    }
}
