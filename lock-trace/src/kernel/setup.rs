//! Finds out whether a process can be traced, and opens all events that a trace takes. `Tracer::attach` calls it.

use std::collections::HashSet;
use std::fs::File;
use std::io;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

use crate::calls::CALLS;
use crate::kernel::address_space::{self, AddressSpace};
use crate::kernel::now_ns;
use crate::kernel::perf::{Kind, Perf, Scope};
use crate::kernel::process::{self, Process};
use crate::kernel::record::{Decoder, Formats, Role};
use crate::kernel::ring::{Ring, ring_bytes};
use crate::kernel::tracefs::Tracefs;
use crate::options::Options;
use crate::unavailable::{Missing, Unavailable};

/// All threads, on one processor.
const ALL_THREADS: i32 = -1;

/// Events that are recording.
pub(crate) struct Session {
    pub(crate) process: Process,
    /// One for each processor.
    pub(crate) rings: Vec<Ring>,
    /// Events that write to these rings.
    pub(crate) events: Vec<Perf>,
    pub(crate) decoder: Decoder,
    /// From when on everything is recorded.
    pub(crate) start_ns: u64,
    _address_space: AddressSpace,
}

/// Begins to record.
pub(crate) fn begin(pid: u32, options: &Options) -> Result<Session, Unavailable> {
    let process = Process { pid };
    let (formats, memory, demand) = check(process)?;
    let address_space = address_space::learn(process, memory, &formats.acquired)?;
    let unknown = |field: &str| Missing::Tracepoint {
        name: String::from("mmap_lock:* or raw_syscalls:*"),
        why: format!("there is no field {field}"),
    };
    let decoder = Decoder::new(pid.cast_signed(), &formats).map_err(unknown)?;
    let mut setup = Setup { process, demand, formats, decoder, rings: Vec::new(), events: Vec::new() };
    setup.open_rings(ring_bytes(options.ring_bytes))?;
    setup.watch_lock(address_space.mm)?;
    setup.watch_calls()?;
    Ok(Session {
        process,
        rings: setup.rings.into_iter().map(|(ring, _)| ring).collect(),
        events: setup.events,
        decoder: setup.decoder,
        start_ns: now_ns(),
        _address_space: address_space,
    })
}

/// Looks for everything that could be missing, so that all of it can be told at once. Gives what was found, and the
/// demand as it was before any descriptor was taken for the trace.
fn check(process: Process) -> Result<(Formats, File, Demand), Unavailable> {
    if !process.exists() {
        return Err(Missing::Process { pid: process.pid }.into());
    }
    let mut missing = Vec::new();
    let demand = Demand::of(process);
    if demand.exceeds(descriptor_limit()) {
        missing.push(demand.missing());
    }
    if let Err(error) = Perf::open(Kind::Threads, Scope { tid: ALL_THREADS, cpu: 0 }, 0) {
        missing.push(refusal(&error));
    }
    let formats = formats().map_err(|these| missing.extend(these)).ok();
    let memory = address_space::open(process).map_err(|this| missing.push(this)).ok();
    match (formats, memory) {
        (Some(formats), Some(memory)) if missing.is_empty() => Ok((formats, memory, demand)),
        _ => Err(Unavailable { missing }),
    }
}

/// How many descriptors a trace takes.
#[derive(Clone, Copy)]
struct Demand {
    threads: usize,
    cpus: usize,
    /// Those that are open before.
    open: usize,
}

impl Demand {
    /// To be asked before the trace takes any: without descriptors, threads cannot be counted.
    fn of(process: Process) -> Demand {
        Demand {
            threads: process.threads().len().max(1),
            cpus: usize::try_from(processors(SysconfVar::_NPROCESSORS_ONLN)).unwrap_or(1),
            // They cannot be listed when none is left.
            open: process::open_descriptors().unwrap_or_else(descriptor_limit),
        }
    }

    /// On each processor a ring, the three points of the lock, and two for each thread.
    fn events(self) -> usize {
        self.cpus * (2 * self.threads + 4)
    }

    /// Whether they are more than may be open.
    fn exceeds(self, limit: usize) -> bool {
        self.open + self.events() > limit
    }

    fn missing(self) -> Missing {
        let Demand { threads, cpus, open } = self;
        // The rest is for threads that are born meanwhile, and for the caller.
        Missing::Descriptors { threads, cpus, wanted: open + self.events() + 256 }
    }
}

/// How many descriptors may be open.
fn descriptor_limit() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).ok().and_then(|(soft, _)| usize::try_from(soft).ok()).unwrap_or(usize::MAX / 2)
}

fn formats() -> Result<Formats, Vec<Missing>> {
    let tracefs = Tracefs::open().map_err(|missing| vec![missing])?;
    let mut missing = Vec::new();
    let mut format = |name: &str| tracefs.format(name).map_err(|this| missing.push(this)).ok();
    let all = [
        format("mmap_lock/mmap_lock_start_locking"),
        format("mmap_lock/mmap_lock_acquire_returned"),
        format("mmap_lock/mmap_lock_released"),
        format("raw_syscalls/sys_enter"),
        format("raw_syscalls/sys_exit"),
    ];
    match all {
        [Some(start), Some(acquired), Some(released), Some(enter), Some(exit)] => {
            Ok(Formats { start, acquired, released, enter, exit })
        }
        _ => Err(missing),
    }
}

/// What it means that a first event cannot be opened.
pub(crate) fn refusal(error: &io::Error) -> Missing {
    let why = error.to_string();
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            Missing::Privilege { why, paranoid: process::setting("perf_event_paranoid") }
        }
        _ => Missing::PerfEvents { why },
    }
}

struct Setup {
    process: Process,
    demand: Demand,
    formats: Formats,
    decoder: Decoder,
    /// Rings and their processors.
    rings: Vec<(Ring, i32)>,
    events: Vec<Perf>,
}

impl Setup {
    fn open_rings(&mut self, bytes: usize) -> Result<(), Missing> {
        // Some may be off.
        for cpu in 0..processors(SysconfVar::_NPROCESSORS_CONF) {
            let scope = Scope { tid: ALL_THREADS, cpu };
            let wakeup_bytes = u32::try_from(bytes / 4).unwrap_or(u32::MAX);
            let Some(perf) = self.open(Kind::Threads, scope, wakeup_bytes)? else { continue };
            let ring = Ring::new(perf, bytes).map_err(|error| Missing::RingMemory {
                ring_bytes: bytes,
                mlock_kib: process::setting("perf_event_mlock_kb"),
                why: error.to_string(),
            })?;
            self.rings.push((ring, cpu));
        }
        Ok(())
    }

    /// Everything that happens to the lock, by whatever thread.
    fn watch_lock(&mut self, mm: u64) -> Result<(), Missing> {
        let filter = format!("mm=={mm:#x}");
        let points = [
            (self.formats.start.id, true, Role::Start),
            (self.formats.acquired.id, true, Role::Acquired),
            (self.formats.released.id, false, Role::Released),
        ];
        for (id, registers, role) in points {
            let kind = Kind::Tracepoint { id, registers, inherit: false };
            self.watch(kind, ALL_THREADS, &filter, role)?;
        }
        Ok(())
    }

    /// The system calls of the process's threads, also of those that are born meanwhile and later.
    fn watch_calls(&mut self) -> Result<(), Missing> {
        let filter = call_filter();
        let mut known = HashSet::new();
        loop {
            let threads: Vec<i32> = self.process.threads().into_iter().filter(|tid| known.insert(*tid)).collect();
            if threads.is_empty() {
                return Ok(());
            }
            for tid in threads {
                for (id, role) in [(self.formats.enter.id, Role::Enter(tid)), (self.formats.exit.id, Role::Exit(tid))] {
                    let kind = Kind::Tracepoint { id, registers: false, inherit: true };
                    self.watch(kind, tid, &filter, role)?;
                }
            }
        }
    }

    /// Opens an event on every processor, and has it write to the ring there.
    fn watch(&mut self, kind: Kind, tid: i32, filter: &str, role: Role) -> Result<(), Missing> {
        for at in 0..self.rings.len() {
            let scope = Scope { tid, cpu: self.rings[at].1 };
            let Some(perf) = self.open(kind, scope, 0)? else { continue };
            let step = |step: &str, error: io::Error| Missing::Step { step: step.to_owned(), why: error.to_string() };
            perf.set_filter(filter).map_err(|error| step(&format!("the filter {filter}"), error))?;
            self.decoder.assign(perf.id, role);
            perf.send_to(&self.rings[at].0.perf).map_err(|error| step("joining an event to a ring", error))?;
            self.events.push(perf);
        }
        Ok(())
    }

    /// Opens an event. `None` if there is nothing to open it on: the processor is off, or the thread has ended.
    fn open(&self, kind: Kind, scope: Scope, wakeup_bytes: u32) -> Result<Option<Perf>, Missing> {
        let error = match Perf::open(kind, scope, wakeup_bytes) {
            Ok(perf) => return Ok(Some(perf)),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::ENODEV | libc::ESRCH) => Ok(None),
            // Threads were born meanwhile, or the machine has no more.
            Some(libc::EMFILE | libc::ENFILE) => Err(self.demand.missing()),
            Some(libc::EPERM | libc::EACCES) => Err(refusal(&error)),
            _ => Err(Missing::Step { step: String::from("perf_event_open"), why: error.to_string() }),
        }
    }
}

/// A number of processors: those that the machine has, or those that are on.
fn processors(which: SysconfVar) -> i32 {
    let count = sysconf(which).ok().flatten();
    count.and_then(|count| i32::try_from(count).ok()).unwrap_or(1)
}

/// Lets the traced calls through. Neighbours become ranges, because the kernel tries one term after the other for each
/// system call that the process makes.
fn call_filter() -> String {
    let mut numbers: Vec<i64> = CALLS.iter().map(|call| call.number).collect();
    numbers.sort_unstable();
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    let terms: Vec<String> = runs
        .map(|run| match run {
            [one] => format!("id=={one}"),
            [first, .., last] => format!("(id>={first}&&id<={last})"),
            [] => String::new(),
        })
        .collect();
    terms.join("||")
}
