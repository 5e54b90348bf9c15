//! One perf event: opening it, its filter, its count or the ring that it writes to, and how much it lost. A thin cover
//! over perf_event_open(2) and its ioctls.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use perf_event_open_sys as sys;
use sys::bindings;

use crate::kernel::sample::Contents;

/// What each record of an event begins with, in the order in which the kernel writes it.
const SAMPLE: bindings::perf_event_sample_format = bindings::PERF_SAMPLE_IDENTIFIER
    | bindings::PERF_SAMPLE_TID
    | bindings::PERF_SAMPLE_TIME
    | bindings::PERF_SAMPLE_CPU;

/// What to record.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Names, births and deaths of threads.
    Threads,
    /// A tracepoint.
    Tracepoint(Tracepoint),
    /// Switches of the thread, and of those that it starts later: a sample when it leaves a processor, and records.
    Switches(Contents),
    /// How often a tracepoint is passed; nothing is recorded. Counted is the next program that the thread starts, from
    /// its first instruction on, in all its threads; not the thread itself.
    CountInProgram {
        /// Its number.
        id: u64,
    },
}

/// A tracepoint that is to be recorded.
#[derive(Clone, Copy, Debug)]
pub struct Tracepoint {
    /// Its number, of its [`Format`](crate::events::Format).
    pub id: u64,
    /// What its samples hold.
    pub contents: Contents,
    /// Also in threads that the thread starts later.
    pub inherit: bool,
}

impl Tracepoint {
    /// One whose samples hold nothing more than the tracepoint's fields.
    #[must_use]
    pub fn bare(id: u64) -> Tracepoint {
        Tracepoint { id, contents: Contents::default(), inherit: false }
    }
}

/// Which thread, on which processor; -1 is any.
#[derive(Clone, Copy)]
pub(crate) struct Scope {
    pub(crate) tid: i32,
    pub(crate) cpu: i32,
}

/// An open event.
pub(crate) struct Perf {
    fd: File,
    /// The number by which its records are known.
    pub(crate) id: u64,
    counts_losses: bool,
}

impl Perf {
    /// Opens an event, recording already, but to no ring. `wakeup_bytes` matters for one that has its own ring.
    pub(crate) fn open(kind: Kind, scope: Scope, wakeup_bytes: u32) -> io::Result<Perf> {
        if matches!(kind, Kind::CountInProgram { .. }) {
            return Self::open_as(kind, scope, wakeup_bytes, false);
        }
        let newest = Self::open_as(kind, scope, wakeup_bytes, true);
        match newest {
            // Linux before 6.0 does not count losses for each event.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Self::open_as(kind, scope, wakeup_bytes, false),
            result => result,
        }
    }

    fn open_as(kind: Kind, scope: Scope, wakeup_bytes: u32, newest: bool) -> io::Result<Perf> {
        let mut attributes = attributes(kind, wakeup_bytes);
        if newest {
            attributes.read_format = bindings::PERF_FORMAT_LOST.into();
            if attributes.inherit() == 1 {
                attributes.set_inherit_thread(1);
            }
        }
        let flags = bindings::PERF_FLAG_FD_CLOEXEC.into();
        // SAFETY: the attributes are whole and live through the call.
        let fd = unsafe { sys::perf_event_open(&raw mut attributes, scope.tid, scope.cpu, -1, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, so nobody else owns it.
        let fd = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut id = 0;
        // SAFETY: the kernel writes the number to `id`, which lives through the call.
        check(unsafe { sys::ioctls::ID(fd.as_raw_fd(), &raw mut id) })?;
        Ok(Perf { fd, id, counts_losses: newest })
    }

    /// Lets only records through for which this expression over the tracepoint's fields is true.
    pub(crate) fn set_filter(&self, filter: &str) -> io::Result<()> {
        let filter = CString::new(filter)?;
        // SAFETY: the kernel copies the string and does not write to it.
        check(unsafe { sys::ioctls::SET_FILTER(self.fd.as_raw_fd(), filter.as_ptr().cast_mut()) })
    }

    /// Sends the records to the ring of another event on the same processor.
    pub(crate) fn send_to(&self, ring: &Perf) -> io::Result<()> {
        // SAFETY: both descriptors are open.
        check(unsafe { sys::ioctls::SET_OUTPUT(self.fd.as_raw_fd(), ring.fd.as_raw_fd()) })
    }

    /// Stops recording, also in threads that inherited the event. No record is being written after that.
    pub(crate) fn disable(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open.
        check(unsafe { sys::ioctls::DISABLE(self.fd.as_raw_fd(), 0) })
    }

    /// The value of a counter.
    pub(crate) fn count(&self) -> io::Result<u64> {
        let mut word = [0; 8];
        (&self.fd).read_exact(&mut word)?;
        Ok(u64::from_ne_bytes(word))
    }

    /// How many records found no room in the ring, if the kernel counts that.
    pub(crate) fn lost(&self) -> Option<u64> {
        if !self.counts_losses {
            return None;
        }
        // The value of the counter, then the losses.
        let mut words = [0; 16];
        (&self.fd).read_exact(&mut words).ok()?;
        Some(u64::from_ne_bytes(words[8..].try_into().ok()?))
    }
}

impl AsFd for Perf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn attributes(kind: Kind, wakeup_bytes: u32) -> bindings::perf_event_attr {
    let mut attributes = bindings::perf_event_attr {
        size: size_of::<bindings::perf_event_attr>() as u32,
        sample_type: SAMPLE.into(),
        clockid: libc::CLOCK_MONOTONIC,
        ..Default::default()
    };
    attributes.set_use_clockid(1);
    attributes.set_sample_id_all(1);
    attributes.set_watermark(1);
    attributes.__bindgen_anon_2.wakeup_watermark = wakeup_bytes;
    match kind {
        Kind::Threads => {
            attributes.type_ = bindings::PERF_TYPE_SOFTWARE;
            attributes.config = bindings::PERF_COUNT_SW_DUMMY.into();
            attributes.set_task(1);
            attributes.set_comm(1);
            attributes.set_comm_exec(1);
        }
        Kind::Tracepoint(Tracepoint { id, contents, inherit }) => {
            attributes.type_ = bindings::PERF_TYPE_TRACEPOINT;
            attributes.config = id;
            attributes.__bindgen_anon_1.sample_period = 1;
            attributes.set_inherit(inherit.into());
            contain(&mut attributes, contents);
        }
        Kind::Switches(contents) => {
            attributes.type_ = bindings::PERF_TYPE_SOFTWARE;
            attributes.config = bindings::PERF_COUNT_SW_CONTEXT_SWITCHES.into();
            attributes.__bindgen_anon_1.sample_period = 1;
            attributes.set_inherit(1);
            attributes.set_context_switch(1);
            contain(&mut attributes, contents);
        }
        Kind::CountInProgram { id } => {
            attributes.type_ = bindings::PERF_TYPE_TRACEPOINT;
            attributes.config = id;
            attributes.sample_type = 0;
            attributes.set_watermark(0);
            attributes.set_inherit(1);
            attributes.set_disabled(1);
            attributes.set_enable_on_exec(1);
        }
    }
    attributes
}

/// Asks for what samples are to hold.
fn contain(attributes: &mut bindings::perf_event_attr, contents: Contents) {
    attributes.sample_regs_user = contents.registers;
    attributes.sample_stack_user = contents.stack_bytes;
    let parts = [
        (contents.fields, bindings::PERF_SAMPLE_RAW),
        (contents.callchain, bindings::PERF_SAMPLE_CALLCHAIN),
        (contents.registers != 0, bindings::PERF_SAMPLE_REGS_USER),
        (contents.stack_bytes != 0, bindings::PERF_SAMPLE_STACK_USER),
    ];
    for (_, part) in parts.into_iter().filter(|(wanted, _)| *wanted) {
        attributes.sample_type |= u64::from(part);
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
