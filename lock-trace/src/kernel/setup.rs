//! Finds out whether a process can be traced, and opens all events that a trace takes. `Tracer::attach` calls it.

use std::collections::HashSet;
use std::fs::File;
use std::io;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::SysconfVar;

use crate::calls::CALLS;
use crate::kernel::address_space::{self, AddressSpace};
use crate::kernel::now_ns;
use crate::kernel::perf::{Kind, Perf, Scope, Tracepoint};
use crate::kernel::process::{self, Process};
use crate::kernel::record::{Decoder, Formats, Role};
use crate::kernel::rings::{ALL_THREADS, Rings, processors};
use crate::kernel::tracefs::Tracefs;
use crate::options::Options;
use crate::unavailable::{Missing, Unavailable};

/// Events that are recording.
pub(crate) struct Session {
    pub(crate) process: Process,
    pub(crate) rings: Rings,
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
    let rings = Rings::open(options.ring_bytes, demand.missing())?;
    let mut setup = Setup { process, formats, decoder, rings };
    setup.watch_lock(address_space.mm)?;
    setup.watch_calls()?;
    Ok(Session {
        process,
        rings: setup.rings,
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
    formats: Formats,
    decoder: Decoder,
    rings: Rings,
}

impl Setup {
    /// Everything that happens to the lock, by whatever thread.
    fn watch_lock(&mut self, mm: u64) -> Result<(), Missing> {
        let filter = format!("mm=={mm:#x}");
        let points = [
            (self.formats.start.id, Role::Start),
            (self.formats.acquired.id, Role::Acquired),
            (self.formats.released.id, Role::Released),
        ];
        for (id, role) in points {
            let point = Tracepoint { contents: role.contents(), ..Tracepoint::bare(id) };
            self.watch(point, ALL_THREADS, &filter, role)?;
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
                    self.watch(Tracepoint { inherit: true, ..Tracepoint::bare(id) }, tid, &filter, role)?;
                }
            }
        }
    }

    fn watch(&mut self, point: Tracepoint, tid: i32, filter: &str, role: Role) -> Result<(), Missing> {
        for id in self.rings.watch(point, tid, filter)? {
            self.decoder.assign(id, role);
        }
        Ok(())
    }
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
