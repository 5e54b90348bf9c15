//! Whether a server that speaks the protocol of Redis answers PING. Each request has a connection of its own, so that
//! accepting is watched as well.

use std::io::{self, ErrorKind, Read, Write};

use super::step::Step;
use super::{Ask, Failure, Probe, tcp};

/// The longest answer that is read.
const ANSWER_BYTES: usize = 256;

/// Errors by which a server says that it lives but does not talk to strangers.
const ALIVE: [&str; 3] = ["-NOAUTH", "-NOPERM", "-DENIED"];

/// Such a probe.
#[derive(Debug)]
pub(super) struct Resp {
    address: String,
}

impl Resp {
    pub(super) fn new(address: String) -> Self {
        Resp { address }
    }
}

/// Reads up to the first end of line, or of the connection.
fn line(stream: &mut std::net::TcpStream, ask: &Ask) -> Result<String, Failure> {
    let (mut buffer, mut filled) = ([0; ANSWER_BYTES], 0);
    loop {
        let Some(left) = ask.left() else { return Err(ask.late()) };
        let read = stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut buffer[filled..]));
        match read {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if is_late(&error) || error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("no answer to PING: {error}").into()),
        }
        if buffer[..filled].contains(&b'\n') {
            break;
        }
    }
    let text = String::from_utf8_lossy(&buffer[..filled]);
    Ok(text.lines().next().unwrap_or("").to_owned())
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Probe for Resp {
    fn ask(&mut self, ask: &Ask) -> Result<(), Failure> {
        let mut stream = tcp::connect(&self.address, ask)?;
        ask.progress.set(Step::Answer);
        let Some(left) = ask.left() else { return Err(ask.late()) };
        let sent = stream.set_write_timeout(Some(left)).and_then(|()| stream.write_all(b"*1\r\n$4\r\nPING\r\n"));
        sent.map_err(|error| if is_late(&error) { ask.late() } else { error.to_string().into() })?;
        let answer = line(&mut stream, ask)?;
        let alive = answer.starts_with(['+', '$']) || ALIVE.iter().any(|start| answer.starts_with(start));
        if alive {
            return Ok(());
        }
        Err(match answer.as_str() {
            "" => "the connection ended without an answer to PING".to_owned().into(),
            other => format!("PING was answered with `{}`", other.chars().take(100).collect::<String>()).into(),
        })
    }
}
