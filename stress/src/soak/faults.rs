//! Faults injected by the kernel: a supervisor thread answers the calls that the [`filter`] hands to it, some with an
//! error.
//!
//! The filter cannot be taken back, so the supervisor stays as long as the process. Once the filter is there the
//! supervisor makes no call that it catches (nobody would answer), so it allocates nothing and never ends.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::Resource;
use nix::unistd::gettid;
use serde::{Deserialize, Serialize};

use super::filter::{self, Call};
use super::limits::Lowered;
use super::pages::Pages;
use super::schedule::Schedule;

/// How long an allocator may go on refusing after a fault, because something of it is still under way: a thread that
/// was refused memory, and for which others wait, may have lost its processor for so long.
pub const GRACE: Duration = Duration::from_millis(100);
/// No descriptor yet, and none will come.
const NOT_YET: i32 = -1;
const NEVER: i32 = -2;

/// How many faults of each kind were injected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultCounts {
    /// Calls of `mmap` that failed.
    pub mmap: u64,
    /// Calls of `mprotect` that failed.
    pub mprotect: u64,
    /// Calls of `madvise` that failed.
    pub madvise: u64,
    /// Calls of `mremap` that failed.
    pub mremap: u64,
    /// Calls of `clone` and `clone3` that failed.
    pub clone: u64,
    /// Times in which `RLIMIT_AS` was low.
    pub address_space_windows: u64,
    /// Times in which `RLIMIT_DATA` was low.
    pub data_windows: u64,
}

impl FaultCounts {
    /// All calls that failed because the supervisor said so.
    pub const fn calls(&self) -> u64 {
        self.mmap + self.mprotect + self.madvise + self.mremap + self.clone
    }
}

/// The faults of one soak.
#[derive(Debug)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    /// Whether faults are injected now.
    open: AtomicBool,
    listener: AtomicI32,
    /// The thread that is never refused anything: the one that watches the soak.
    spared: i32,
    calls: [AtomicU64; Call::ALL.len()],
    address_space_windows: AtomicU64,
    data_windows: AtomicU64,
    /// One entry: a child that was forked meanwhile has faults as well, and must know of them.
    recent: Pages<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// Time of the last fault since `started`, plus one; zero if there was none.
    last_ns: AtomicU64,
    /// Whether a limit is low now.
    is_low: AtomicBool,
}

impl Faults {
    /// Installs the filter, which works from then on but refuses nothing. The calling thread stays spared. Works once
    /// in the life of a process.
    pub fn install(seed: u64) -> io::Result<Self> {
        static INSTALLED: Mutex<bool> = Mutex::new(false);
        let mut installed = INSTALLED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if *installed {
            return Err(io::Error::other("faults were injected in this process before: the filter has its supervisor"));
        }
        let shared = Arc::new(Shared::new()?);
        let ready = Arc::new(Barrier::new(2));
        let supervisor = (shared.clone(), ready.clone());
        thread::Builder::new().name("soak-faults".to_owned()).spawn(move || {
            let (shared, ready) = supervisor;
            ready.wait();
            shared.supervise(Schedule::new(seed));
        })?;
        // A thread maps memory while it begins.
        ready.wait();
        let listener = filter::install();
        let number = listener.as_ref().map_or(NEVER, AsRawFd::as_raw_fd);
        // Release pairs with the load in `supervise`, for the descriptor.
        shared.listener.store(number, Ordering::Release);
        // The supervisor uses the descriptor for ever.
        listener.map(|listener: OwnedFd| std::mem::forget(listener))?;
        *installed = true;
        Ok(Self { shared })
    }

    /// Begins to inject faults.
    pub fn open(&self) {
        self.shared.open.store(true, Ordering::Relaxed);
    }

    /// Ends it.
    pub fn close(&self) {
        self.shared.open.store(false, Ordering::Relaxed);
    }

    /// Lowers a resource limit for a while, in which the calling thread sleeps.
    pub fn lower_for(&self, resource: Resource, time: Duration) {
        let is_low = &self.shared.recent[0].is_low;
        is_low.store(true, Ordering::Relaxed);
        // A limit that cannot be changed is a fault less.
        if let Ok(lowered) = Lowered::new(resource) {
            thread::sleep(time);
            drop(lowered);
            self.shared.note_time();
            let address_space = resource == Resource::RLIMIT_AS;
            let windows = if address_space { &self.shared.address_space_windows } else { &self.shared.data_windows };
            windows.fetch_add(1, Ordering::Relaxed);
        }
        // Release pairs with the load in `explain`, for the time.
        is_low.store(false, Ordering::Release);
    }

    /// Whether a fault may be why a request that began then was refused.
    pub fn explain(&self, began: Instant) -> bool {
        self.shared.explain(began)
    }

    /// What was injected so far.
    pub fn counts(&self) -> FaultCounts {
        let calls = |call: Call| self.shared.calls[call as usize].load(Ordering::Relaxed);
        FaultCounts {
            mmap: calls(Call::Mmap),
            mprotect: calls(Call::Mprotect),
            madvise: calls(Call::Madvise),
            mremap: calls(Call::Mremap),
            clone: calls(Call::Clone),
            address_space_windows: self.shared.address_space_windows.load(Ordering::Relaxed),
            data_windows: self.shared.data_windows.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    fn new() -> io::Result<Self> {
        Ok(Self {
            started: Instant::now(),
            open: AtomicBool::new(false),
            listener: AtomicI32::new(NOT_YET),
            spared: gettid().as_raw(),
            calls: Default::default(),
            address_space_windows: AtomicU64::new(0),
            data_windows: AtomicU64::new(0),
            recent: Pages::shared(Recent::default())?,
        })
    }

    fn note_time(&self) {
        let now_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.recent[0].last_ns.fetch_max(now_ns.saturating_add(1), Ordering::Relaxed);
    }

    fn explain(&self, began: Instant) -> bool {
        // Acquire pairs with the store in `lower_for`: a limit that is not low any more has left its time.
        if self.recent[0].is_low.load(Ordering::Acquire) {
            return true;
        }
        let last_ns = self.recent[0].last_ns.load(Ordering::Relaxed);
        last_ns > 0 && self.started + Duration::from_nanos(last_ns) + GRACE >= began
    }

    /// Answers calls until the process ends.
    fn supervise(&self, mut schedule: Schedule) {
        let listener = loop {
            // Acquire pairs with the store in `install`.
            match self.listener.load(Ordering::Acquire) {
                NOT_YET => thread::sleep(Duration::from_micros(100)),
                NEVER => return,
                listener => break listener,
            }
        };
        loop {
            // SAFETY: the structure is plain data, which the kernel wants zeroed.
            let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: the descriptor is a listener, which is never closed; the kernel writes the structure.
            let received = unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notice) };
            if received == 0 {
                let mut answer = self.answer(&notice, &mut schedule);
                // SAFETY: as above; a caller that has died meanwhile is an error that matters to nobody.
                unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
            }
            // Otherwise the caller died before it was heard, or a signal came: the next one is waited for.
        }
    }

    fn answer(&self, notice: &libc::seccomp_notif, schedule: &mut Schedule) -> libc::seccomp_notif_resp {
        let refusable = self.open.load(Ordering::Relaxed) && notice.pid as i32 != self.spared;
        let call = Call::of_number(libc::c_long::from(notice.data.nr)).filter(|_| refusable);
        match call.and_then(|call| Some((call, schedule.next(call)?))) {
            Some((call, error)) => {
                self.note_time();
                self.calls[call as usize].fetch_add(1, Ordering::Relaxed);
                libc::seccomp_notif_resp { id: notice.id, val: 0, error: -error, flags: 0 }
            }
            None => {
                let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
                libc::seccomp_notif_resp { id: notice.id, val: 0, error: 0, flags }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_explains_a_refusal_at_its_time_and_for_a_moment_more() {
        let shared = Shared::new().unwrap();
        assert!(!shared.explain(shared.started), "there was no fault");
        shared.note_time();
        assert!(shared.explain(shared.started));
        assert!(!shared.explain(Instant::now() + 2 * GRACE));
        shared.recent[0].is_low.store(true, Ordering::Relaxed);
        assert!(shared.explain(Instant::now() + 2 * GRACE), "a limit is low");
    }
}
