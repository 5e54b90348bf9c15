//! Whether the service sends signs of life: datagrams to a Unix socket that the trap binds. What is in them does not
//! matter. The example `heartbeat` shows how a service sends them without ever waiting.
//!
//! Invariant: a thread reads all the time, so that the queue, which may hold only ten, is never full for long; the
//! socket of a process that lives is not taken away from it; at the end the path is removed if it is still ours.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::board::STACK_BYTES;
use super::duration::show;
use super::{Ask, Failure, Probe};
use crate::clock::now_ns;

/// How often the reader looks whether it is to end.
const READ_WAIT: Duration = Duration::from_millis(200);

/// Such a probe.
#[derive(Debug)]
pub(super) struct HeartbeatSocket {
    path: PathBuf,
    /// Device and inode of the socket.
    file: (u64, u64),
    older_ns: u64,
    beats: Arc<Beats>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Beats {
    /// When the last one came, or the socket was bound.
    last_ns: AtomicU64,
    ending: AtomicBool,
}

/// Removes a socket that nobody listens to.
fn clear(path: &Path) -> Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => bail!("{}: {error}", path.display()),
    };
    if !file.file_type().is_socket() {
        bail!("{} is there and no socket; name a path that is free", path.display());
    }
    match UnixDatagram::unbound()?.connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("the dead socket {} cannot be removed", path.display()))
        }
        Ok(()) => bail!("a process listens at {} already; name another path", path.display()),
        // Of another type, or not ours to ask: somebody's, in any case.
        Err(error) => bail!("{} is somebody's ({error}); name another path", path.display()),
    }
}

fn read(socket: &UnixDatagram, beats: &Beats) {
    // Relaxed: a flag by itself; the end of the thread is joined.
    while !beats.ending.load(Ordering::Relaxed) {
        match socket.recv(&mut [0; 16]) {
            // Relaxed: the time alone matters.
            Ok(_) => beats.last_ns.store(now_ns(), Ordering::Relaxed),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => thread::sleep(READ_WAIT),
        }
    }
}

impl HeartbeatSocket {
    /// Binds the socket. The first sign of life is waited for from now on.
    /// # Errors
    /// The path is taken, or nothing can be made there.
    pub(super) fn bind(path: &Path, older_ns: u64, mode: u32) -> Result<Self> {
        clear(path)?;
        let socket =
            UnixDatagram::bind(path).with_context(|| format!("no socket can be made at {}", path.display()))?;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        let file = fs::symlink_metadata(path)?;
        socket.set_read_timeout(Some(READ_WAIT))?;
        let beats = Arc::new(Beats { last_ns: AtomicU64::new(now_ns()), ending: AtomicBool::new(false) });
        let theirs = Arc::clone(&beats);
        let reader = thread::Builder::new()
            .name("heartbeats".into())
            .stack_size(STACK_BYTES)
            .spawn(move || read(&socket, &theirs))?;
        let file = (file.dev(), file.ino());
        Ok(HeartbeatSocket { path: path.to_owned(), file, older_ns, beats, reader: Some(reader) })
    }
}

impl Probe for HeartbeatSocket {
    fn ask(&mut self, _ask: &Ask) -> Result<(), Failure> {
        // Relaxed: the time alone matters.
        let last_ns = self.beats.last_ns.load(Ordering::Relaxed);
        let age_ns = now_ns().saturating_sub(last_ns);
        if age_ns <= self.older_ns {
            return Ok(());
        }
        Err(Failure { what: format!("no sign of life for {}", show(age_ns)), since_ns: Some(last_ns) })
    }
}

impl Drop for HeartbeatSocket {
    fn drop(&mut self) {
        // Relaxed: a flag by itself.
        self.beats.ending.store(true, Ordering::Relaxed);
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if ours {
            // If it cannot be removed, the next one to bind finds it dead.
            let _ = fs::remove_file(&self.path);
        }
        if let Some(reader) = self.reader.take() {
            // A panic has been printed when it happened.
            let _ = reader.join();
        }
    }
}
