//! All probes: a thread for each that has to ask somebody, and one place that the main loop fetches answers from.
//!
//! Invariant: no call here waits for a probe, but for [`Drop`], which waits a moment.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::duration::ns;
use super::lock::LockProbe;
use super::schedule::Schedule;
use super::step::{Progress, Step};
use super::{Answer, Ask, Kind, Probe, Spec};
use super::{command, heartbeat_file, heartbeat_socket, http, pressure, resp, stalled, tcp};
use crate::clock::now_ns;
use crate::event::Interval;

/// The stack of a probe's thread. TLS with the checks of debug builds takes a third of it.
pub(super) const STACK_BYTES: usize = 512 << 10;

/// How long the end waits for requests that are under way, so that files and children are cleared away.
const END_WAIT: Duration = Duration::from_secs(2);

/// The probes of a command line.
#[derive(Debug)]
pub struct Board {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    spec: Spec,
    how: How,
}

#[derive(Debug)]
enum How {
    Asked { shared: Arc<Shared>, thread: JoinHandle<()> },
    Shown(LockProbe),
}

/// What a probe's thread shares with the main loop.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// What the request does. The probe keeps it up to date, without the lock of the rest.
    progress: Arc<Progress>,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    pids: Arc<[i32]>,
    ending: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The probe of a specification; `None` for those that are shown intervals.
fn open(spec: &Spec, progress: &Arc<Progress>) -> Result<Option<Box<dyn Probe>>> {
    Ok(Some(match &spec.kind {
        Kind::Http { url, status, insecure, within } => {
            Box::new(http::Http::new(url.clone(), status.clone(), *insecure, *within, progress))
        }
        Kind::Tcp { address, .. } => Box::new(tcp::Tcp::new(address.clone())),
        Kind::Resp { address, .. } => Box::new(resp::Resp::new(address.clone())),
        Kind::Command { line, .. } => Box::new(command::Shell::new(line.clone())),
        Kind::HeartbeatFile { path, older } => Box::new(heartbeat_file::HeartbeatFile::new(path.clone(), ns(*older))),
        Kind::HeartbeatSocket { path, older, mode } => {
            Box::new(heartbeat_socket::HeartbeatSocket::bind(path, ns(*older), *mode)?)
        }
        Kind::StalledThreads { lasting, share } => Box::new(stalled::Stalled::new(ns(*lasting), *share)),
        Kind::Pressure { resource, full, over, cgroup } => {
            Box::new(pressure::Pressure::open(*resource, *full, *over, cgroup.as_deref())?)
        }
        Kind::Lock { .. } => return Ok(None),
    }))
}

/// What a probe's thread does until the end.
fn keep_asking(probe: &mut dyn Probe, shared: &Shared, within: Duration) {
    let mut state = shared.lock();
    while !state.ending {
        match state.schedule.begin(now_ns()) {
            Err(wait_ns) => {
                let waited = shared.changed.wait_timeout(state, Duration::from_nanos(wait_ns));
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            Ok(()) => {
                let pids = Arc::clone(&state.pids);
                let progress = &*shared.progress;
                // Before anybody can look what this one does.
                progress.set(Step::default());
                drop(state);
                let result = probe.ask(&Ask { within, deadline: Instant::now() + within, pids: &pids, progress });
                state = shared.lock();
                state.schedule.end(now_ns(), result);
            }
        }
    }
}

impl Board {
    /// Starts probes, each asked every `every` unless it says otherwise.
    /// # Errors
    /// A socket cannot be bound, there is no such pressure file, or a thread cannot be started.
    pub fn start(specs: Vec<Spec>, every: Duration) -> Result<Board> {
        let mut board = Board { entries: Vec::with_capacity(specs.len()) };
        let first_ns = now_ns();
        for spec in specs {
            let within = spec.within();
            let every_ns = ns(spec.every(every));
            let progress = Arc::default();
            let probe = open(&spec, &progress).with_context(|| format!("probe `{spec}`"))?;
            let how = match (probe, &spec.kind) {
                (Some(mut probe), _) => {
                    let schedule = Schedule::new(first_ns, every_ns, ns(within));
                    let state = State { schedule, pids: Arc::from([]), ending: false };
                    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), progress });
                    let theirs = Arc::clone(&shared);
                    let thread = thread::Builder::new()
                        .name("probe".into())
                        .stack_size(STACK_BYTES)
                        .spawn(move || keep_asking(&mut *probe, &theirs, within))
                        .with_context(|| format!("no thread for probe `{spec}`"))?;
                    How::Asked { shared, thread }
                }
                (None, Kind::Lock { time, over }) => How::Shown(LockProbe::new(*time, ns(*over), every_ns, first_ns)),
                (None, _) => anyhow::bail!("probe `{spec}` cannot be asked"),
            };
            board.entries.push(Entry { spec, how });
        }
        Ok(board)
    }

    /// The probes, in the order in which they were given; [`Board::take`] counts them from 0 in the same order.
    pub fn specs(&self) -> impl Iterator<Item = &Spec> {
        self.entries.iter().map(|entry| &entry.spec)
    }

    /// Says which processes are watched from now on.
    pub fn watch(&self, pids: &[i32]) {
        for entry in &self.entries {
            if let How::Asked { shared, .. } = &entry.how {
                let mut state = shared.lock();
                if *state.pids != *pids {
                    state.pids = Arc::from(pids);
                }
            }
        }
    }

    /// Shows an interval to the probes that watch mmap_lock: each that the source tells, and what is not over.
    pub fn see(&mut self, interval: &Interval) {
        for entry in &mut self.entries {
            if let How::Shown(probe) = &mut entry.how {
                probe.see(interval);
            }
        }
    }

    /// Whether some request is under way for much longer than usual: the service may be frozen, and not known to be.
    #[must_use]
    pub fn is_late(&self, now_ns: u64) -> bool {
        self.entries.iter().any(|entry| match &entry.how {
            How::Asked { shared, .. } => shared.lock().schedule.is_late(now_ns),
            How::Shown(_) => false,
        })
    }

    /// Whether some probe watches mmap_lock, so that [`Board::see`] wants to be called.
    #[must_use]
    pub fn wants_intervals(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.how, How::Shown(_)))
    }

    /// Gives the answers since the last call, with the number of the probe; those of one probe are in order. A request
    /// whose bound is over has failed when this is called, so call it often: some ten times a second.
    pub fn take(&mut self, now_ns: u64, mut each: impl FnMut(usize, Answer)) {
        for (index, entry) in self.entries.iter_mut().enumerate() {
            match &mut entry.how {
                How::Asked { shared, .. } => {
                    let mut state = shared.lock();
                    state.schedule.look(now_ns, shared.progress.step());
                    while let Some(answer) = state.schedule.take() {
                        each(index, answer);
                    }
                }
                How::Shown(probe) => {
                    if let Some(answer) = probe.take(now_ns) {
                        each(index, answer);
                    }
                }
            }
        }
    }
}

impl Drop for Board {
    /// Ends the threads. One whose request hangs in the kernel is left behind; it ends with the process.
    fn drop(&mut self) {
        for entry in &self.entries {
            if let How::Asked { shared, .. } = &entry.how {
                shared.lock().ending = true;
                shared.changed.notify_all();
            }
        }
        let deadline = Instant::now() + END_WAIT;
        for entry in self.entries.drain(..) {
            let How::Asked { thread, .. } = entry.how else { continue };
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(2));
            }
            if thread.is_finished() {
                // A panic has been printed when it happened.
                let _ = thread.join();
            }
        }
    }
}
