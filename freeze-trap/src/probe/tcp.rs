//! Whether a port accepts connections. `resp` connects in the same way.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Instant;

use super::step::Step;
use super::{Ask, Failure, Probe, left};

/// Such a probe.
#[derive(Debug)]
pub(super) struct Tcp {
    address: String,
}

impl Tcp {
    pub(super) fn new(address: String) -> Self {
        Tcp { address }
    }
}

/// Connects to the first of a host's addresses that can be connected to. One that drops packets leaves half of the time
/// to those after it.
/// # Errors
/// None can be, or the deadline is over.
pub(super) fn connect_first(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut failure = ErrorKind::TimedOut.into();
    for (index, address) in addresses.iter().enumerate() {
        let Some(left) = left(deadline) else { break };
        let share = if index + 1 < addresses.len() { left / 2 } else { left };
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = io::Error::new(error.kind(), format!("no connection to {address}: {error}")),
        }
    }
    Err(failure)
}

/// Connects to a host and port.
pub(super) fn connect(address: &str, ask: &Ask) -> Result<TcpStream, Failure> {
    ask.progress.set(Step::Lookup);
    // This has no bound of its own. Where it hangs, the schedule counts.
    let found = address.to_socket_addrs().map_err(|error| format!("{address} is not found: {error}"))?;
    let found: Vec<SocketAddr> = found.collect();
    if ask.left().is_none() {
        return Err(ask.late());
    }
    if found.is_empty() {
        return Err(format!("{address} is not found").into());
    }
    ask.progress.set(Step::Connect);
    connect_first(&found, ask.deadline).map_err(|error| match ask.left() {
        Some(_) => error.to_string().into(),
        None => ask.late(),
    })
}

impl Probe for Tcp {
    fn ask(&mut self, ask: &Ask) -> Result<(), Failure> {
        connect(&self.address, ask).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use nix::sys::socket::{Backlog, listen};

    use super::*;

    /// A port that accepts.
    fn good() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn an_address_that_drops_packets_leaves_time_for_the_next() {
        let ((listener, full), (_good, address)) = (good(), good());
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let _queued = TcpStream::connect(full).unwrap();
        let stream = connect_first(&[full, address], Instant::now() + Duration::from_secs(2)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        // The last one has all of the time that the others have left.
        let refusing = good().1;
        let deadline = Instant::now() + Duration::from_millis(300);
        let error = connect_first(&[refusing, full], deadline).unwrap_err();
        assert_eq!((error.kind(), left(deadline)), (ErrorKind::TimedOut, None));
    }

    #[test]
    fn whoever_refuses_is_named() {
        let (refusing, (_good, address)) = (good().1, good());
        let deadline = Instant::now() + Duration::from_secs(30);
        let error = connect_first(&[refusing], deadline).unwrap_err();
        assert!(error.to_string().starts_with(&format!("no connection to {refusing}: ")), "{error}");
        assert_eq!(connect_first(&[refusing, address], deadline).unwrap().peer_addr().unwrap(), address);
    }
}
