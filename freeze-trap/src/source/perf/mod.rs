//! The second choice: perf events on tracepoints, without BPF. They see every hold of mmap_lock and every wait for it,
//! also by outsiders, and all time off the processor, with stacks; not who ended a sleep. An event of the lock costs 1
//! to 10 µs (the longer with the stack that each release is recorded with), one of the scheduler 3 µs.
//!
//! The kernel filters by address spaces and by threads. A filter cannot be changed, so events with a new one take the
//! place of the old ones when threads were born; until then, a tenth of a second or a little more, these are not seen.
//!
//! Needs Linux 5.11 and a tracefs that may be read, and root, CAP_PERFMON, or `kernel.perf_event_paranoid=-1`. Without
//! tracefs there is [`Switches`].

mod calls;
mod decode;
mod filter;
mod place;
mod reader;
mod state;
mod switches;

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use lock_trace::events::{ALL_THREADS, AddressSpace, Rings, SLACK_NS, Tracefs, threads};
use lock_trace::{Missing, Unavailable};

pub use self::switches::Switches;

use self::decode::{Decoder, Formats, Role};
use self::reader::Reader;
use super::{Bounds, Losses, Source, Totals};
use crate::clock::now_ns;
use crate::event::Interval;
use crate::stack::Stacks;

/// Bytes of the ring of each processor: some 5000 switches.
const RING_BYTES: usize = 4 << 20;
/// A filter may be as long as a page, and an address space takes 25 bytes of it.
const PROCESSES_MAX: usize = 128;
/// Threads that were born are asked for at most so often,
const RENEWAL_NS: u64 = 100_000_000;
/// and so that it takes at most one part in so many of the time.
const RENEWAL_SHARE: u64 = 20;

/// The events at work.
pub struct Perf {
    reader: Reader,
    formats: Formats,
    watched: HashMap<i32, AddressSpace>,
    /// Processes whose address space could not be learned, as when they were executing a program: tried again.
    unlearned: Vec<i32>,
    lock_events: Vec<u64>,
    switch_events: Vec<u64>,
    renewal_ns: u64,
}

/// A ring for each processor.
fn open_rings() -> Result<Rings, Missing> {
    let why = String::from("there are no file descriptors left: raise RLIMIT_NOFILE");
    Rings::open(RING_BYTES, Missing::Step { step: String::from("opening perf events"), why })
}

impl Perf {
    /// Opens the rings, and finds out whether the events would be permitted. Takes some milliseconds, 4 MiB for each
    /// processor, and a kilobyte for each thread, of which it watches at most `threads_max`.
    /// # Errors
    /// The kernel is too old or does not permit it; the message says what would help.
    pub fn arm(bounds: &Bounds, threads_max: usize) -> Result<Self> {
        let rings = open_rings();
        let formats = Tracefs::open().and_then(|tracefs| Formats::read(&tracefs));
        let (mut rings, formats) = match (rings, formats) {
            (Ok(rings), Ok(formats)) => (rings, formats),
            // All that is missing, at once.
            (rings, formats) => {
                let missing = [rings.err(), formats.err()].into_iter().flatten().collect();
                return Err(Unavailable { missing }.into());
            }
        };
        let tried = rings.watch(Role::Released.point(&formats), ALL_THREADS, "mm==0")?;
        rings.end(&tried);
        let decoder = Decoder::new(&formats).context("the kernel's tracepoints have other fields than are known")?;
        Ok(Perf {
            reader: Reader::new(rings, decoder, place::CONTENTS, bounds, threads_max),
            formats,
            watched: HashMap::new(),
            unlearned: Vec::new(),
            lock_events: Vec::new(),
            switch_events: Vec::new(),
            renewal_ns: 0,
        })
    }

    /// What it cannot see, a line each with what would help.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.reader.missing()
    }

    /// Opens events in place of others.
    fn replace(&mut self, old: Vec<u64>, points: &[(Role, String)]) -> Result<Vec<u64>> {
        let mut new = Vec::new();
        for (role, filter) in points {
            let ids = self.reader.rings.watch(role.point(&self.formats), ALL_THREADS, filter)?;
            ids.iter().for_each(|id| self.reader.decoder.assign(*id, *role));
            new.extend(ids);
        }
        self.reader.end(&old);
        Ok(new)
    }

    fn renew_lock_events(&mut self) -> Result<()> {
        let spaces: Vec<String> = self.watched.values().map(|space| format!("mm=={:#x}", space.mm)).collect();
        let filter = spaces.join("||");
        let all = [Role::Start, Role::Acquired, Role::Released].map(|role| (role, filter.clone()));
        let points: &[_] = if spaces.is_empty() { &[] } else { &all };
        let old = std::mem::take(&mut self.lock_events);
        self.lock_events = self.replace(old, points)?;
        Ok(())
    }

    fn renew_switch_events(&mut self) -> Result<()> {
        let begun_ns = now_ns();
        let living: Vec<i32> = self.watched.keys().flat_map(|pid| threads(pid.cast_unsigned())).collect();
        self.reader.state.keep_threads(&living);
        let both = [(Role::SwitchOut, "prev_pid"), (Role::SwitchIn, "next_pid")];
        let both = both.map(|(role, field)| (role, filter::of_threads(field, &living)));
        let points: &[_] = if living.is_empty() { &[] } else { &both };
        let old = std::mem::take(&mut self.switch_events);
        self.switch_events = self.replace(old, points)?;
        let now_ns = now_ns();
        self.renewal_ns = now_ns + RENEWAL_NS.max((now_ns - begun_ns) * RENEWAL_SHARE);
        Ok(())
    }

    /// Learns the address spaces of processes. One that is gone meanwhile is left out.
    fn learn(&mut self, pids: &[i32]) -> Result<()> {
        for pid in pids {
            match AddressSpace::of(pid.cast_unsigned(), &self.formats.acquired) {
                Ok(space) => drop(self.watched.insert(*pid, space)),
                Err(Missing::Process { .. } | Missing::AddressSpace { .. }) => {
                    self.watched.remove(pid);
                    if !threads(pid.cast_unsigned()).is_empty() {
                        self.unlearned.push(*pid);
                    }
                }
                Err(missing) => return Err(missing.into()),
            }
        }
        self.reader.decoder.watch(self.watched.iter().map(|(pid, space)| (*pid, Some(space.mm))));
        self.reader.state.keep_locks(|known| self.watched.values().any(|space| space.mm == known));
        self.renew_lock_events()
    }
}

impl Source for Perf {
    fn name(&self) -> &'static str {
        "perf events on tracepoints"
    }

    fn watch(&mut self, pids: &[i32]) -> Result<()> {
        if pids.len() > PROCESSES_MAX {
            bail!("{} processes are more than perf events can watch at once ({PROCESSES_MAX})", pids.len());
        }
        let before = self.watched.len();
        self.watched.retain(|pid, _| pids.contains(pid));
        self.unlearned.retain(|pid| pids.contains(pid));
        let new: Vec<i32> = pids.iter().copied().filter(|pid| !self.watched.contains_key(pid)).collect();
        if new.is_empty() && self.watched.len() == before {
            return Ok(());
        }
        self.learn(&new)?;
        self.renew_switch_events()
    }

    fn take(&mut self, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) -> Result<()> {
        self.reader.advance(now_ns().saturating_sub(SLACK_NS));
        let executed = self.reader.decoder.executed();
        if !executed.is_empty() {
            self.learn(&executed)?;
        }
        let is_due = now_ns() >= self.renewal_ns;
        if is_due && !self.unlearned.is_empty() {
            let again = std::mem::take(&mut self.unlearned);
            self.learn(&again)?;
            self.renew_switch_events()?;
        } else if is_due && self.reader.decoder.has_births() {
            self.reader.decoder.forget_births();
            self.renew_switch_events()?;
        }
        self.reader.finished(stacks, each);
        Ok(())
    }

    fn unfinished(&mut self, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) -> Result<()> {
        self.reader.unfinished(stacks, each);
        Ok(())
    }

    fn totals(&mut self) -> Result<Option<Totals>> {
        Ok(Some(self.reader.state.totals.clone()))
    }

    fn losses(&mut self) -> Result<Losses> {
        Ok(self.reader.losses())
    }
}
