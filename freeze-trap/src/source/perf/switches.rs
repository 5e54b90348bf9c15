//! Perf events where tracefs cannot be read, so that the numbers of tracepoints are not known: time off the processor
//! with stacks, and nothing of mmap_lock but what the stacks of those that wait for it show.
//!
//! Why a thread sleeps is not recorded. It is asked of `/proc` while it does, so that it is known of what takes longer
//! than a tenth of a second or so; of the rest it is only known who wanted to run on.
//!
//! Needs root, CAP_PERFMON, or `kernel.perf_event_paranoid=0`, and a descriptor for each thread that there is at first
//! and each processor; threads that are born later are seen at once.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use lock_trace::events::{SLACK_NS, threads};

use super::decode::{Decoder, Role};
use super::place::CONTENTS_ONLY;
use super::reader::Reader;
use crate::clock::now_ns;
use crate::event::{Interval, Sleep};
use crate::source::sampling::sleep_of;
use crate::source::{Bounds, Losses, Source, Totals};
use crate::stack::Stacks;

/// The events at work.
pub struct Switches {
    reader: Reader,
    /// Each process, with its events.
    watched: HashMap<i32, Vec<u64>>,
}

impl Switches {
    /// Opens the rings. Takes some milliseconds, 4 MiB for each processor, and a kilobyte for each thread, of which it
    /// watches at most `threads_max`.
    /// # Errors
    /// The kernel does not permit it; the message says what would help.
    pub fn arm(bounds: &Bounds, threads_max: usize) -> Result<Self> {
        let (rings, decoder) = (super::open_rings()?, Decoder::of_switches());
        Ok(Switches {
            reader: Reader::new(rings, decoder, CONTENTS_ONLY, bounds, threads_max),
            watched: HashMap::new(),
        })
    }

    /// What it cannot see, a line each with what would help.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let lock = "without tracefs, perf events do not tell who holds mmap_lock: let this user read it, or use BPF";
        let mut missing = vec![String::from(lock)];
        missing.extend(self.reader.missing());
        missing
    }

    /// Opens the events of all threads, also of those that are born meanwhile and have inherited some: what is told
    /// twice counts once.
    fn open(&mut self, pid: i32) -> Result<Vec<u64>> {
        let (mut known, mut events) = (HashSet::new(), Vec::new());
        loop {
            let new: Vec<i32> = threads(pid.cast_unsigned()).into_iter().filter(|tid| known.insert(*tid)).collect();
            if new.is_empty() {
                return Ok(events);
            }
            for tid in new {
                let ids = self.reader.rings.watch_switches(CONTENTS_ONLY, tid)?;
                ids.iter().for_each(|id| self.reader.decoder.assign(*id, Role::Switch));
                events.extend(ids);
            }
        }
    }
}

impl Source for Switches {
    fn name(&self) -> &'static str {
        "perf events on switches"
    }

    fn watch(&mut self, pids: &[i32]) -> Result<()> {
        let gone: Vec<i32> = self.watched.keys().copied().filter(|pid| !pids.contains(pid)).collect();
        for ids in gone.iter().filter_map(|pid| self.watched.remove(pid)).collect::<Vec<_>>() {
            self.reader.end(&ids);
        }
        let new: Vec<i32> = pids.iter().copied().filter(|pid| !self.watched.contains_key(pid)).collect();
        self.reader.decoder.watch(pids.iter().map(|pid| (*pid, None)));
        for pid in new {
            let events = self.open(pid)?;
            self.watched.insert(pid, events);
        }
        let living: Vec<i32> = pids.iter().flat_map(|pid| threads(pid.cast_unsigned())).collect();
        self.reader.state.keep_threads(&living);
        Ok(())
    }

    fn take(&mut self, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) -> Result<()> {
        let now_ns = now_ns();
        self.reader.advance(now_ns.saturating_sub(SLACK_NS));
        for (pid, tid) in self.reader.state.unexplained(now_ns) {
            if let Some(sleep) = sleep_of(pid, tid).filter(|sleep| *sleep != Sleep::Runnable) {
                self.reader.state.is_off_because(tid, sleep);
            }
        }
        self.reader.finished(stacks, each);
        Ok(())
    }

    fn unfinished(&mut self, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) -> Result<()> {
        self.reader.unfinished(stacks, each);
        Ok(())
    }

    fn totals(&mut self) -> Result<Option<Totals>> {
        Ok(None)
    }

    fn losses(&mut self) -> Result<Losses> {
        Ok(self.reader.losses())
    }
}
