//! The server in threads of its own. The scenario [`service`](crate::scenario::service) starts it before it begins and
//! stops it after it is over, as both takes `mmap_lock` for writing.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::index::Index;
use super::server::{ServerReport, serve};

/// The server in its threads.
pub struct Serving {
    /// Where it listens.
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<ServerReport, String>>,
}

impl Serving {
    /// Starts so many threads that serve, and waits until they do.
    pub fn start(index: Arc<dyn Index>, workers: u32) -> Result<Self, String> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let serve = move || {
            let tell = |address| {
                let _ = ready.send(address);
            };
            serve(index, workers as usize, tell, stopped)
        };
        let thread = thread::Builder::new().name("serve".to_owned()).spawn(serve);
        let thread = thread.map_err(|error| format!("the server could not be started: {error}"))?;
        match is_ready.recv() {
            Ok(address) => Ok(Self { address, stop, thread }),
            Err(_) => Err(joined(thread).err().unwrap_or_else(|| "the server ended at once".to_owned())),
        }
    }

    /// Stops serving, and gives what came of it.
    pub fn stop(self) -> Result<ServerReport, String> {
        drop(self.stop);
        joined(self.thread)
    }
}

/// What a thread came to.
pub(super) fn joined<T>(thread: JoinHandle<Result<T, String>>) -> Result<T, String> {
    thread.join().unwrap_or_else(|_| Err("a thread of the service panicked".to_owned()))
}
