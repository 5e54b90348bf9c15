//! Records of the kernel as [`Event`]s. The collector gives it each record of the rings.

use std::collections::HashMap;

use perf_event_open_sys::bindings;

use crate::event::{Context, Event, EventKind};
use crate::kernel::format::{Field, Format};
use crate::kernel::registers;
use crate::kernel::sample::{Contents, Cursor, Sample};

/// Bytes that follow each record that is no sample: process and thread, time, processor, number of the event.
const TRAILER_BYTES: usize = 32;

/// What the samples of an event are.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    /// `mmap_lock_start_locking`.
    Start,
    /// `mmap_lock_acquire_returned`.
    Acquired,
    /// `mmap_lock_released`.
    Released,
    /// `sys_enter`, opened for this thread and inherited by those that it starts.
    Enter(i32),
    /// `sys_exit`, opened for this thread and inherited by those that it starts.
    Exit(i32),
}

/// The tracepoints and their fields.
pub(crate) struct Formats {
    pub(crate) start: Format,
    pub(crate) acquired: Format,
    pub(crate) released: Format,
    pub(crate) enter: Format,
    pub(crate) exit: Format,
}

/// Fields that are read, found once.
struct Fields {
    start_write: Field,
    acquired_write: Field,
    /// Kernels before 5.15 or so do not have it and tell of successes only.
    success: Option<Field>,
    released_write: Field,
    enter_id: Field,
    args: Field,
    exit_id: Field,
}

/// Makes events of records.
pub(crate) struct Decoder {
    pid: i32,
    fields: Fields,
    roles: HashMap<u64, Role>,
    /// For each thread, the one whose events its system calls are taken from: itself if it was there when the events
    /// were opened, or else the one of the thread that started it. A thread born while they were being opened has
    /// some of its own and some that it inherited, and would count twice.
    roots: HashMap<i32, i32>,
}

/// The common part of a record.
struct Stamp {
    pid: i32,
    tid: i32,
    time_ns: u64,
    cpu: u32,
}

impl Decoder {
    /// `Err` names a field that the kernel's format lacks.
    pub(crate) fn new(pid: i32, formats: &Formats) -> Result<Decoder, &'static str> {
        let fields = Fields {
            start_write: formats.start.field("write").ok_or("write")?,
            acquired_write: formats.acquired.field("write").ok_or("write")?,
            success: formats.acquired.field("success"),
            released_write: formats.released.field("write").ok_or("write")?,
            enter_id: formats.enter.field("id").ok_or("id")?,
            args: formats.enter.field("args").ok_or("args")?,
            exit_id: formats.exit.field("id").ok_or("id")?,
        };
        Ok(Decoder { pid, fields, roles: HashMap::new(), roots: HashMap::new() })
    }

    /// Says what the samples of an event are.
    pub(crate) fn assign(&mut self, id: u64, role: Role) {
        self.roles.insert(id, role);
        if let Role::Enter(tid) | Role::Exit(tid) = role {
            self.roots.insert(tid, tid);
        }
    }

    /// The event that a record tells of; `None` for records that do not matter.
    pub(crate) fn decode(&mut self, record: &[u8]) -> Option<Event> {
        if let Some(sample) = Sample::parse(record, |id| self.roles.get(&id).map(|role| role.contents())) {
            return self.sample(&sample);
        }
        let event = thread_event(record)?;
        match event.kind {
            EventKind::ThreadStarted { parent } => {
                if let Some(root) = self.roots.get(&parent).copied().filter(|_| event.pid == self.pid) {
                    self.roots.entry(event.tid).or_insert(root);
                }
            }
            EventKind::ThreadEnded => drop(self.roots.remove(&event.tid)),
            _ => {}
        }
        Some(event)
    }

    fn sample(&mut self, sample: &Sample) -> Option<Event> {
        let role = *self.roles.get(&sample.id)?;
        let write = |field: Field| field.number(sample.raw).map(|number| number != 0);
        let fields = &self.fields;
        let kind = match role {
            Role::Start => EventKind::Start { write: write(fields.start_write)?, context: context(sample) },
            Role::Acquired => EventKind::Acquired {
                write: write(fields.acquired_write)?,
                success: fields.success.map_or(Some(true), write)?,
                context: context(sample),
            },
            Role::Released => EventKind::Released { write: write(fields.released_write)? },
            Role::Enter(root) | Role::Exit(root) => {
                if sample.pid != self.pid || *self.roots.entry(sample.tid).or_insert(root) != root {
                    return None;
                }
                self.call(role, sample.raw)?
            }
        };
        Some(Event { time_ns: sample.time_ns, tid: sample.tid, pid: sample.pid, cpu: Some(sample.cpu), kind })
    }

    fn call(&self, role: Role, raw: &[u8]) -> Option<EventKind> {
        if matches!(role, Role::Exit(_)) {
            return Some(EventKind::Exit { number: self.fields.exit_id.number(raw)? as i64 });
        }
        let mut args = [0; 6];
        for (at, arg) in args.iter_mut().enumerate() {
            *arg = self.fields.args.element(raw, at)?;
        }
        Some(EventKind::Enter { number: self.fields.enter_id.number(raw)? as i64, args })
    }
}

impl Role {
    /// What the samples hold.
    pub(crate) fn contents(self) -> Contents {
        match self {
            Role::Start | Role::Acquired => Contents { registers: registers::MASK, ..Contents::default() },
            Role::Released | Role::Enter(_) | Role::Exit(_) => Contents::default(),
        }
    }
}

/// What a record tells that is no sample: names, births and ends of threads, and losses. `None` for all others.
#[must_use]
pub fn thread_event(record: &[u8]) -> Option<Event> {
    let mut cursor = Cursor(record);
    let (kind, misc) = (cursor.u32()?, cursor.u16()?);
    cursor.u16()?;
    let mut stamp = trailer(cursor.0)?;
    let kind = match kind {
        bindings::PERF_RECORD_LOST => {
            cursor.u64()?;
            EventKind::Lost { count: cursor.u64()? }
        }
        bindings::PERF_RECORD_COMM => {
            (stamp.pid, stamp.tid) = (cursor.i32()?, cursor.i32()?);
            let text = cursor.0.split(|byte| *byte == 0).next()?;
            let exec = u32::from(misc) & bindings::PERF_RECORD_MISC_COMM_EXEC != 0;
            EventKind::Comm { name: String::from_utf8_lossy(text).into_owned(), exec }
        }
        bindings::PERF_RECORD_FORK | bindings::PERF_RECORD_EXIT => {
            let (pid, _parent_pid, tid, parent) = (cursor.i32()?, cursor.i32()?, cursor.i32()?, cursor.i32()?);
            (stamp.pid, stamp.tid) = (pid, tid);
            if kind == bindings::PERF_RECORD_FORK {
                EventKind::ThreadStarted { parent }
            } else {
                EventKind::ThreadEnded
            }
        }
        _ => return None,
    };
    Some(stamp.event(kind))
}

/// That a thread left a processor or came back to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// The process.
    pub pid: i32,
    /// The thread.
    pub tid: i32,
    /// It left.
    pub leaves: bool,
    /// It left although it wanted to run on.
    pub preempted: bool,
}

/// The switch that a record tells; `None` for all others.
#[must_use]
pub fn switch(record: &[u8]) -> Option<Switch> {
    let mut cursor = Cursor(record);
    let (kind, misc) = (cursor.u32()?, u32::from(cursor.u16()?));
    cursor.u16()?;
    if kind != bindings::PERF_RECORD_SWITCH {
        return None;
    }
    let Stamp { pid, tid, time_ns, .. } = trailer(cursor.0)?;
    let leaves = misc & bindings::PERF_RECORD_MISC_SWITCH_OUT != 0;
    let preempted = leaves && misc & bindings::PERF_RECORD_MISC_SWITCH_OUT_PREEMPT != 0;
    Some(Switch { time_ns, pid, tid, leaves, preempted })
}

/// The mm that a sample of `acquired` tells of.
pub(crate) fn address_space(record: &[u8], acquired: &Format) -> Option<u64> {
    acquired.field("mm")?.number(Sample::parse(record, |_| Some(Contents::default()))?.raw)
}

/// How the thread came to ask for the lock, as its registers tell.
fn context(sample: &Sample) -> Context {
    if registers::MASK == 0 {
        return Context::Unknown;
    }
    registers::context(sample.registers().and_then(|mut registers| registers.next()))
}

/// What stands at the end of records that are no samples.
fn trailer(body: &[u8]) -> Option<Stamp> {
    let mut cursor = Cursor(body.get(body.len().checked_sub(TRAILER_BYTES)?..)?);
    let (pid, tid, time_ns, cpu) = (cursor.i32()?, cursor.i32()?, cursor.u64()?, cursor.u32()?);
    Some(Stamp { pid, tid, time_ns, cpu })
}

impl Stamp {
    fn event(self, kind: EventKind) -> Event {
        Event { time_ns: self.time_ns, tid: self.tid, pid: self.pid, cpu: Some(self.cpu), kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record that is no sample, of thread 8 of process 7 at 5000 ns.
    fn record(kind: u32, misc: u32, body: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        let words = [u64::from(7_u32) | 8 << 32, 5000, 1, 99];
        record.extend(kind.to_ne_bytes());
        record.extend((misc as u16).to_ne_bytes());
        record.extend((8 + body.len() as u16 + TRAILER_BYTES as u16).to_ne_bytes());
        record.extend(body);
        words.into_iter().for_each(|word| record.extend(word.to_ne_bytes()));
        record
    }

    #[test]
    fn switches_tell_their_direction() {
        let misc = [0, bindings::PERF_RECORD_MISC_SWITCH_OUT];
        let misc = [misc[0], misc[1], misc[1] | bindings::PERF_RECORD_MISC_SWITCH_OUT_PREEMPT];
        let told = misc.map(|misc| switch(&record(bindings::PERF_RECORD_SWITCH, misc, &[])).expect("a switch"));
        assert_eq!(told.map(|one| (one.leaves, one.preempted)), [(false, false), (true, false), (true, true)]);
        assert!(told.iter().all(|one| (one.pid, one.tid, one.time_ns) == (7, 8, 5000)));
        assert_eq!(switch(&record(bindings::PERF_RECORD_EXIT, 0, &[0; 24])), None);
    }

    #[test]
    fn losses_are_told_with_their_number() {
        let body: Vec<u8> = [99_u64, 12].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let event = thread_event(&record(bindings::PERF_RECORD_LOST, 0, &body)).expect("an event");
        assert_eq!((event.kind, event.time_ns), (EventKind::Lost { count: 12 }, 5000));
        assert!(thread_event(&record(bindings::PERF_RECORD_SWITCH, 0, &[])).is_none());
    }
}
