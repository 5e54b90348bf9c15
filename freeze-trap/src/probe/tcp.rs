//! Whether a port accepts connections. `resp` connects in the same way.

use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};

use super::{Ask, Failure, Probe};

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

/// Connects to the first address of a host that can be connected to.
pub(super) fn connect(address: &str, ask: &Ask) -> Result<TcpStream, Failure> {
    // This has no bound of its own. Where it hangs, the schedule counts.
    let found = address.to_socket_addrs().map_err(|error| format!("{address} is not found: {error}"))?;
    let mut failure = format!("{address} is not found").into();
    for one in found {
        let Some(left) = ask.left() else { return Err(ask.late("connecting")) };
        match TcpStream::connect_timeout(&one, left) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => failure = ask.late("connecting"),
            Err(error) => failure = format!("no connection to {one}: {error}").into(),
        }
    }
    Err(failure)
}

impl Probe for Tcp {
    fn ask(&mut self, ask: &Ask) -> Result<(), Failure> {
        connect(&self.address, ask).map(drop)
    }
}
