//! The trap's own resources: rights, limits, memory that stays in memory, processor time. Called when the trap starts,
//! and for reports and metrics.
//!
//! Invariant: what is raised here is the trap's alone: a command that it starts gets the limits that the trap was
//! given.

use nix::sys::mman::{MlockAllFlags, mlockall, munlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, UsageWho, getrlimit, getrusage, setrlimit};

use crate::source::permits;

/// Rights to look into other processes, by number (include/uapi/linux/capability.h): CAP_SYS_PTRACE, CAP_SYSLOG,
/// CAP_PERFMON, CAP_BPF.
const TRACING: [libc::c_ulong; 4] = [19, 34, 38, 39];

/// Keeps the rights to look into other processes from commands: those of `--exec`, and of probes. A trap that is not
/// root has them from its surroundings, and would hand them on. Other rights may be meant for the command, and stay.
pub fn keep_rights() {
    for right in TRACING {
        // SAFETY: it takes numbers alone. It fails for a kernel without that right, which cannot be handed on either.
        unsafe {
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_LOWER, right, 0 as libc::c_ulong, 0 as libc::c_ulong)
        };
    }
}

/// Limits as the trap was given them: soft and hard, of descriptors and of locked memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    given: [Option<(u64, u64)>; 2],
}

/// Those that are raised.
const RESOURCES: [Resource; 2] = [Resource::RLIMIT_NOFILE, Resource::RLIMIT_MEMLOCK];

impl Limits {
    /// Raises the limits as far as it is permitted.
    #[must_use]
    pub fn raise() -> Limits {
        let given = RESOURCES.map(|resource| getrlimit(resource).ok());
        if let [Some((_, files)), Some((_, locked))] = given {
            // What is refused stays as it is; the parts that need more say so.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, files, files);
            if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_err() {
                let _ = setrlimit(Resource::RLIMIT_MEMLOCK, locked, locked);
            }
        }
        Limits { given }
    }

    /// Does something under the limits that the trap was given: starts the command.
    pub fn as_given<T>(&self, act: impl FnOnce() -> T) -> T {
        let raised = RESOURCES.map(|resource| getrlimit(resource).ok());
        for (resource, (given, raised)) in RESOURCES.into_iter().zip(self.given.into_iter().zip(raised)) {
            let (Some((soft, _)), Some((_, hard))) = (given, raised) else { continue };
            // The hard limit stays: a trap without CAP_SYS_RESOURCE could not raise it again.
            let _ = setrlimit(resource, soft, hard);
        }
        let result = act();
        for (resource, raised) in RESOURCES.into_iter().zip(raised) {
            let Some((soft, hard)) = raised else { continue };
            let _ = setrlimit(resource, soft, hard);
        }
        result
    }
}

/// Keeps the memory of the trap in memory, so that it works while the machine swaps. Pages are taken when they are
/// first touched, not before.
/// # Errors
/// Why that cannot be, with what would help.
pub fn lock_memory() -> Result<(), String> {
    let help = "give CAP_IPC_LOCK or `ulimit -l unlimited` (LimitMEMLOCK=infinity in a unit of systemd)";
    let refused = |why: String| format!("the trap's memory can be swapped out: {why}; {help}");
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(|error| refused(error.to_string()))?;
    if soft != RLIM_INFINITY && !permits::has("CAP_IPC_LOCK") {
        // Below a limit, memory would be locked for now, and what is asked for later would be refused.
        return Err(refused(format!("only {soft} bytes may be locked")));
    }
    let all = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE;
    let on_touch = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(all | on_touch).map_err(|error| refused(format!("mlockall: {error}")))
}

/// Gives back what was needed for a moment, as for the kernel's types or the names of a program: the C library would
/// keep it. Takes some milliseconds. Locked memory cannot be given back, so that [`lock_memory`] is owed afterwards.
pub fn give_back() {
    // It fails for nobody who has locked memory.
    let _ = munlockall();
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches nothing but free memory of the allocator, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Processor time that the trap has taken since it started, in nanoseconds, without that of commands.
#[must_use]
pub fn cpu_ns() -> u64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return 0 };
    let ns = |time: nix::sys::time::TimeVal| {
        time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_usec().cast_unsigned() * 1_000
    };
    ns(usage.user_time()) + ns(usage.system_time())
}

/// Resident memory of the trap, in bytes.
#[must_use]
pub fn resident_bytes() -> u64 {
    let pid = std::process::id().cast_signed();
    crate::target::process::memory_bytes(pid).map_or(0, |[_, resident_bytes]| resident_bytes)
}
