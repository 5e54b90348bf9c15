//! The rings of all processors, and the events that write to them. `setup` opens both, the collector reads them; other
//! programs do so as well that record tracepoints.

use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{SysconfVar, sysconf};

use crate::kernel::perf::{Kind, Perf, Scope, Tracepoint};
use crate::kernel::process;
use crate::kernel::ring::{Ring, ring_bytes};
use crate::kernel::sample::Contents;
use crate::kernel::setup::refusal;
use crate::unavailable::Missing;

/// All threads, on one processor.
pub const ALL_THREADS: i32 = -1;

/// One ring for each processor, to which names, births and ends of all threads are written, and events that write to
/// these rings.
pub struct Rings {
    /// Rings and their processors.
    rings: Vec<(Ring, i32)>,
    events: Vec<Perf>,
    /// What is said when there are no descriptors left.
    too_few_descriptors: Missing,
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rings, events) = (self.rings.len(), self.events.len());
        formatter.debug_struct("Rings").field("rings", &rings).field("events", &events).finish_non_exhaustive()
    }
}

impl Rings {
    /// Opens a ring of at least so many bytes for each processor that is on. Takes a descriptor for each; what is said
    /// when there are none left is up to the caller.
    ///
    /// # Errors
    /// The kernel has no perf events or does not permit them, or rings of that size are not permitted.
    pub fn open(bytes: usize, too_few_descriptors: Missing) -> Result<Rings, Missing> {
        let mut rings = Rings { rings: Vec::new(), events: Vec::new(), too_few_descriptors };
        let bytes = ring_bytes(bytes);
        // Some may be off.
        for cpu in 0..processors(SysconfVar::_NPROCESSORS_CONF) {
            let scope = Scope { tid: ALL_THREADS, cpu };
            let wakeup_bytes = u32::try_from(bytes / 4).unwrap_or(u32::MAX);
            let Some(perf) = rings.open_event(Kind::Threads, scope, wakeup_bytes)? else { continue };
            let ring = Ring::new(perf, bytes).map_err(|error| Missing::RingMemory {
                ring_bytes: bytes,
                mlock_kib: process::setting("perf_event_mlock_kb"),
                why: error.to_string(),
            })?;
            rings.rings.push((ring, cpu));
        }
        Ok(rings)
    }

    /// Records a tracepoint of a thread, or of [`ALL_THREADS`], on every processor, where the filter, an expression
    /// over its fields, is true. Gives the numbers by which the samples are known.
    ///
    /// # Errors
    /// The kernel does not permit it, or does not understand the filter.
    pub fn watch(&mut self, point: Tracepoint, tid: i32, filter: &str) -> Result<Vec<u64>, Missing> {
        self.add(Kind::Tracepoint(point), tid, Some(filter))
    }

    /// Records when a thread, or one that it starts later, leaves a processor: a sample, and then a record that
    /// [`switch`](crate::events::switch) reads, as is another one when it comes back. Takes no tracefs.
    ///
    /// # Errors
    /// The kernel does not permit it.
    pub fn watch_switches(&mut self, contents: Contents, tid: i32) -> Result<Vec<u64>, Missing> {
        self.add(Kind::Switches(contents), tid, None)
    }

    fn add(&mut self, kind: Kind, tid: i32, filter: Option<&str>) -> Result<Vec<u64>, Missing> {
        let step = |step: &str, error: io::Error| Missing::Step { step: step.to_owned(), why: error.to_string() };
        let before = self.events.len();
        for at in 0..self.rings.len() {
            let (ring, cpu) = &self.rings[at];
            let Some(perf) = self.open_event(kind, Scope { tid, cpu: *cpu }, 0)? else { continue };
            if let Some(filter) = filter {
                perf.set_filter(filter).map_err(|error| step(&format!("the filter {filter}"), error))?;
            }
            perf.send_to(&ring.perf).map_err(|error| step("joining an event to a ring", error))?;
            self.events.push(perf);
        }
        Ok(self.events[before..].iter().map(|perf| perf.id).collect())
    }

    /// Ends the events of these numbers. What they have recorded stays in the rings. Gives how many records of theirs
    /// found no room.
    pub fn end(&mut self, ids: &[u64]) -> u64 {
        let mut lost = 0;
        self.events.retain(|event| {
            let ends = ids.contains(&event.id);
            if ends {
                lost += event.lost().unwrap_or(0);
            }
            !ends
        });
        lost
    }

    /// Opens an event. `None` if there is nothing to open it on: the processor is off, or the thread has ended.
    fn open_event(&self, kind: Kind, scope: Scope, wakeup_bytes: u32) -> Result<Option<Perf>, Missing> {
        let error = match Perf::open(kind, scope, wakeup_bytes) {
            Ok(perf) => return Ok(Some(perf)),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::ENODEV | libc::ESRCH) => Ok(None),
            // Threads were born meanwhile, or the machine has no more.
            Some(libc::EMFILE | libc::ENFILE) => Err(self.too_few_descriptors.clone()),
            Some(libc::EPERM | libc::EACCES) => Err(refusal(&error)),
            _ => Err(Missing::Step { step: String::from("perf_event_open"), why: error.to_string() }),
        }
    }

    /// Gives each record that is in the rings now to `take`, one ring after the other.
    pub fn read(&mut self, mut take: impl FnMut(&[u8])) {
        self.rings.iter_mut().for_each(|(ring, _)| ring.read(&mut take));
    }

    /// Waits until a ring is filling up, or for so many milliseconds.
    pub fn wait(&self, at_most_ms: u8) {
        let rings = self.rings.iter();
        let mut rings: Vec<PollFd> = rings.map(|(ring, _)| PollFd::new(ring.as_fd(), PollFlags::POLLIN)).collect();
        // An interrupted wait is a short one.
        let _ = poll(&mut rings, PollTimeout::from(at_most_ms));
    }

    /// Stops recording. No record is being written after that.
    pub fn stop(&self) {
        for event in self.all() {
            // It fails for no event that is open; if it did, later records could still be told by their time.
            let _ = event.disable();
        }
    }

    /// How many records found no room, if the kernel counts that.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.all().filter_map(Perf::lost).sum()
    }

    fn all(&self) -> impl Iterator<Item = &Perf> {
        self.events.iter().chain(self.rings.iter().map(|(ring, _)| &ring.perf))
    }
}

/// A number of processors: those that the machine has, or those that are on.
pub(crate) fn processors(which: SysconfVar) -> i32 {
    let count = sysconf(which).ok().flatten();
    count.and_then(|count| i32::try_from(count).ok()).unwrap_or(1)
}
