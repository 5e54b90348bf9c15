//! Signs of life of a service for the probe `heartbeat-socket`. Copy [`Heart`] into the service.
//!
//! `freeze-trap watch --exec target/debug/examples/heartbeat /tmp/alive --probe
//! heartbeat-socket:/tmp/alive,older=500ms` shows it: every ten seconds the example freezes for one.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Sends signs of life. Never waits and never fails: while no trap listens, they are lost.
struct Heart {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Heart {
    /// Beats to the socket that the trap makes at a path, now or later.
    fn new(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Heart { socket, path })
    }

    /// Beats once. Costs a system call: call it some times a second, where work gets done, such as after each turn of
    /// the event loop. A thread that does nothing else would go on beating while the others are frozen.
    fn beat(&self) {
        // Nobody listens, or the queue is full: the next one will do.
        let _ = self.socket.send_to(&[1], &self.path);
    }
}

fn main() -> io::Result<()> {
    let path = std::env::args_os().nth(1).ok_or_else(|| io::Error::other("give the path of the trap's socket"))?;
    let heart = Heart::new(path.into())?;
    loop {
        for _ in 0..100 {
            heart.beat();
            // The work.
            thread::sleep(Duration::from_millis(100));
        }
        // The freeze.
        thread::sleep(Duration::from_secs(1));
    }
}
