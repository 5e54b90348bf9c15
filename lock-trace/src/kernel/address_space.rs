//! The kernel's pointer to the address space of a process, by which its lock is told from others. It is learned by
//! making this thread take that lock: a read of one byte from /proc/PID/mem, traced on this thread.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::kernel::format::Format;
use crate::kernel::perf::{Kind, Perf, Scope, Tracepoint};
use crate::kernel::process::Process;
use crate::kernel::record;
use crate::kernel::ring::{Ring, ring_bytes};
use crate::unavailable::Missing;

/// So often the lock is taken, so that it is told from locks that this thread takes by chance meanwhile.
const READS: usize = 16;
const RING_BYTES: usize = 16 << 10;

/// The address space of a process.
#[derive(Debug)]
pub struct AddressSpace {
    /// The kernel's pointer to it.
    pub mm: u64,
    /// While this is open, the kernel does not use that pointer for another address space, even if the process ends.
    _memory: File,
}

impl AddressSpace {
    /// Learns that of a process. `acquired` is the format of `mmap_lock/mmap_lock_acquire_returned`. Takes the
    /// process's mmap_lock a few times for reading, as briefly as can be, and so waits while another thread holds it
    /// for writing.
    ///
    /// # Errors
    /// There is no such process, it may not be looked into, or it has no address space.
    pub fn of(pid: u32, acquired: &Format) -> Result<AddressSpace, Missing> {
        let process = Process { pid };
        learn(process, open(process)?, acquired)
    }
}

/// Opens the memory of the process, without touching it.
pub(crate) fn open(process: Process) -> Result<File, Missing> {
    let pid = process.pid;
    File::open(format!("/proc/{pid}/mem")).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => Missing::Process { pid },
        Some(libc::ESRCH) => Missing::AddressSpace { pid },
        _ => Missing::Access { pid, why: error.to_string() },
    })
}

/// Learns which address space `memory` is.
pub(crate) fn learn(process: Process, memory: File, acquired: &Format) -> Result<AddressSpace, Missing> {
    let step = |step: &str, error: io::Error| Missing::Step { step: step.to_owned(), why: error.to_string() };
    let kind = Kind::Tracepoint(Tracepoint::bare(acquired.id));
    let perf = Perf::open(kind, Scope { tid: 0, cpu: -1 }, 0);
    let perf = perf.map_err(|error| step("tracing this thread", error))?;
    let ring = Ring::new(perf, ring_bytes(RING_BYTES));
    let mut ring = ring.map_err(|error| step("mapping a ring for this thread", error))?;
    let address = process.code_address().unwrap_or(0);
    let mut byte = [0];
    for _ in 0..READS {
        // Whether there is anything at the address does not matter.
        let _ = memory.read_at(&mut byte, address);
    }
    ring.perf.disable().map_err(|error| step("ending the trace of this thread", error))?;
    let mut seen: HashMap<u64, usize> = HashMap::new();
    ring.read(|bytes| {
        if let Some(mm) = record::address_space(bytes, acquired) {
            *seen.entry(mm).or_default() += 1;
        }
    });
    let most = seen.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| *count >= READS);
    let (mm, _) = most.ok_or(Missing::AddressSpace { pid: process.pid })?;
    Ok(AddressSpace { mm, _memory: memory })
}
