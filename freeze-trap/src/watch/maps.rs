//! When the maps of the watched processes are read, which takes their mmap_lock for reading: on a thread of its own, so
//! that nothing else waits if the lock is not to be had, and only while the service is well.
//!
//! Invariant: no read begins while a probe fails, has no answer for longer than usual, or a capture is under way, not
//! even one that was asked for before. One that has begun may wait for a lock that is not to be had; that is told.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::clock::now_ns;
use crate::quantity;
use crate::symbols::MapsCache;

/// How long after a process was first seen, or has executed another program, its maps are read: it is mapped piece by
/// piece, and libraries come later.
const FIRST_NS: [u64; 4] = [20_000_000, 300_000_000, 2_000_000_000, 10_000_000_000];
/// And then every so often, as plugins may be loaded at any time.
const AGAIN_NS: u64 = 60_000_000_000;
/// Processes that have ended and are still known: a capture may be about them.
const ENDED_MAX: usize = 64;
/// Requests that wait. One that finds no room is made again.
const REQUESTS_MAX: usize = 64;
/// A read that takes longer is told.
const STUCK_NS: u64 = 1_000_000_000;

/// What is known, shared with the thread that reads and the one that gives names.
pub type Shared = Arc<Mutex<MapsCache>>;

/// Nobody leaves the cache half changed.
pub fn lock(shared: &Shared) -> MutexGuard<'_, MapsCache> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Process {
    name: String,
    since_ns: u64,
    reads: usize,
    next_ns: u64,
}

impl Process {
    fn new(name: String, now_ns: u64) -> Self {
        Process { name, since_ns: now_ns, reads: 0, next_ns: now_ns + FIRST_NS[0] }
    }

    /// Its maps are being read; plans the next time.
    fn read(&mut self, now_ns: u64) {
        self.reads += 1;
        let planned_ns = FIRST_NS.get(self.reads).map(|after_ns| self.since_ns + after_ns);
        self.next_ns = planned_ns.filter(|at_ns| *at_ns > now_ns).unwrap_or(now_ns + AGAIN_NS);
    }
}

/// Between the main loop and the thread that reads.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    is_open: bool,
    /// Nobody wants maps any more.
    is_over: bool,
    /// The process whose maps are being read, and since when.
    reading: Option<(i32, u64)>,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until the maps of a process may be read. Gives whether anybody wants them.
    fn pass(&self, pid: i32) -> bool {
        let is_closed = |state: &mut GateState| !state.is_open && !state.is_over;
        let passed = self.changed.wait_while(self.lock(), is_closed);
        let mut state = passed.unwrap_or_else(PoisonError::into_inner);
        state.reading = Some((pid, now_ns()));
        !state.is_over
    }
}

/// Keeps the maps up to date.
#[derive(Debug)]
pub struct Maps {
    shared: Shared,
    gate: Arc<Gate>,
    /// The read that was told to be stuck.
    told: Option<(i32, u64)>,
    requests: SyncSender<i32>,
    /// One for each process whose maps were read.
    news: Receiver<()>,
    processes: HashMap<i32, Process>,
    ended: VecDeque<i32>,
}

/// What the thread does until nobody asks any more.
fn keep_reading(requests: &Receiver<i32>, news: &Sender<()>, shared: &Shared, gate: &Gate) {
    for pid in requests {
        if !gate.pass(pid) {
            return;
        }
        let mut read = MapsCache::new();
        let result = read.read(pid);
        gate.set(|state| state.reading = None);
        // A process that is gone, or of another user, keeps what is known; unknown frames are told in the report.
        if result.is_ok() {
            lock(shared).absorb(read);
            if news.send(()).is_err() {
                return;
            }
        }
    }
}

impl Maps {
    /// Starts the thread. It ends by itself when this is dropped, unless it waits for a lock.
    /// # Errors
    /// No thread can be started.
    pub fn start() -> Result<Maps> {
        let shared = Shared::default();
        let theirs = Arc::clone(&shared);
        let gate = Arc::<Gate>::default();
        let their_gate = Arc::clone(&gate);
        let (requests, receiver) = sync_channel(REQUESTS_MAX);
        let (sender, news) = channel();
        let keep = move || keep_reading(&receiver, &sender, &theirs, &their_gate);
        let thread = thread::Builder::new().name("maps".into()).spawn(keep);
        thread.context("no thread for reading maps")?;
        let (processes, ended) = (HashMap::new(), VecDeque::new());
        Ok(Maps { shared, gate, told: None, requests, news, processes, ended })
    }

    /// What is known.
    #[must_use]
    pub fn shared(&self) -> Shared {
        Arc::clone(&self.shared)
    }

    /// Says which processes there are now, with their names: another name is another program.
    pub fn watch(&mut self, processes: &[(i32, String)], now_ns: u64) {
        let gone = |pid: &i32| !processes.iter().any(|(one, _)| one == pid);
        let gone: Vec<i32> = self.processes.keys().copied().filter(gone).collect();
        for pid in gone {
            self.processes.remove(&pid);
            self.ended.push_back(pid);
        }
        for (pid, name) in processes {
            if self.processes.get(pid).is_none_or(|known| known.name != *name) {
                self.processes.insert(*pid, Process::new(name.clone(), now_ns));
                self.ended.retain(|ended| ended != pid);
            }
        }
        if self.ended.len() > ENDED_MAX {
            self.ended.drain(..self.ended.len() - ENDED_MAX);
            let known: Vec<i32> = self.processes.keys().chain(&self.ended).copied().collect();
            lock(&self.shared).forget_all_but(&known);
        }
    }

    /// Shows what is known, if something has been read since the last call. Not while names are being given.
    pub fn show(&self, show: impl FnOnce(&MapsCache)) {
        let Ok(known) = self.shared.try_lock() else { return };
        if self.news.try_iter().count() > 0 {
            show(&known);
        }
    }

    /// From now on no read begins, until [`Maps::read`] is called.
    pub fn hold(&self) {
        self.gate.lock().is_open = false;
    }

    /// What is to be told of maps that are being read for more than a second; each time once. What holds the read up is
    /// not known: it takes mmap_lock, then reads the unwinding tables of the files, and needs a processor for both.
    pub fn stuck(&mut self, now_ns: u64) -> Option<String> {
        let reading = self.gate.lock().reading?;
        let lasts_ns = now_ns.saturating_sub(reading.1);
        if lasts_ns < STUCK_NS || self.told == Some(reading) {
            return None;
        }
        self.told = Some(reading);
        let (pid, lasts) = (reading.0, quantity::time(lasts_ns));
        Some(format!(
            "reading the maps of process {pid} takes {lasts} already: its mmap_lock is held, or disk or processor are busy"
        ))
    }

    /// Asks for the maps that are due. To be called while the service is well.
    pub fn read(&mut self, now_ns: u64) {
        self.gate.set(|state| state.is_open = true);
        for (pid, process) in self.processes.iter_mut().filter(|(_, process)| now_ns >= process.next_ns) {
            if self.requests.try_send(*pid).is_err() {
                return;
            }
            process.read(now_ns);
        }
    }
}

impl Drop for Maps {
    fn drop(&mut self) {
        self.gate.set(|state| state.is_over = true);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_asked_for_is_not_read_once_the_service_is_not_well() {
        let mut maps = Maps::start().unwrap();
        let own = std::process::id().cast_signed();
        maps.hold();
        maps.requests.send(own).unwrap();
        // Long enough for a thread that does not care.
        thread::sleep(Duration::from_millis(200));
        assert!(!lock(&maps.shared).knows(own) && maps.gate.lock().reading.is_none());
        maps.read(0);
        while !lock(&maps.shared).knows(own) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_read_that_is_stuck_is_told_once() {
        let mut maps = Maps::start().unwrap();
        assert_eq!(maps.stuck(STUCK_NS), None);
        maps.gate.set(|state| state.reading = Some((7, 1000)));
        assert_eq!(maps.stuck(STUCK_NS), None, "it is not long enough");
        let told = maps.stuck(STUCK_NS + 1500).unwrap();
        assert!(told.contains("process 7 takes 1.0 s already"), "{told}");
        // All that the thread may wait for.
        assert!(["mmap_lock", "disk", "processor"].iter().all(|cause| told.contains(cause)), "{told}");
        assert_eq!(maps.stuck(STUCK_NS * 2), None);
        maps.gate.set(|state| state.reading = Some((7, 3000)));
        assert!(maps.stuck(STUCK_NS * 3).unwrap().contains("takes 3.0 s"));
    }

    #[test]
    fn maps_are_read_often_at_first_and_again_after_an_exec() {
        let mut maps = Maps::start().unwrap();
        let own = std::process::id().cast_signed();
        let named = |name: &str| [(own, name.to_owned())];
        maps.watch(&named("sh"), 1);
        let mut reads = Vec::new();
        let mut watch = |maps: &mut Maps, from_ns: u64, to_ns: u64| {
            for now_ns in (from_ns..to_ns).step_by(10_000_000) {
                let before = maps.processes[&own].reads;
                maps.read(now_ns);
                if maps.processes[&own].reads > before {
                    reads.push(now_ns / 1_000_000);
                }
            }
            std::mem::take(&mut reads)
        };
        assert_eq!(watch(&mut maps, 0, 75_000_000_000), [30, 310, 2010, 10010, 70010]);
        maps.watch(&named("server"), 75_000_000_000);
        assert_eq!(watch(&mut maps, 75_000_000_000, 76_000_000_000), [75020, 75300]);
        let known = || lock(&maps.shared).knows(own);
        while !known() {
            thread::yield_now();
        }
    }

    #[test]
    fn the_ended_are_forgotten_in_the_end() {
        let mut maps = Maps::start().unwrap();
        for pid in 1..1000 {
            maps.watch(&[(pid, "a".to_owned())], 0);
        }
        assert_eq!((maps.processes.len(), maps.ended.len()), (1, ENDED_MAX));
    }
}
