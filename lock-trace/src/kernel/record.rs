//! Records of the kernel as [`Event`]s. The collector gives it each record of the rings.

use std::collections::HashMap;

use perf_event_open_sys::bindings;

use crate::event::{Context, Event, EventKind};
use crate::kernel::format::{Field, Format};
use crate::kernel::registers;

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
        let mut header = Cursor(record);
        let (kind, misc) = (header.u32()?, header.u16()?);
        header.u16()?;
        let body = header.0;
        match kind {
            bindings::PERF_RECORD_SAMPLE => self.sample(body),
            bindings::PERF_RECORD_LOST => {
                let mut cursor = Cursor(body);
                cursor.u64()?;
                let count = cursor.u64()?;
                Some(trailer(body)?.event(EventKind::Lost { count }))
            }
            bindings::PERF_RECORD_COMM => {
                let mut cursor = Cursor(body);
                let mut stamp = trailer(body)?;
                (stamp.pid, stamp.tid) = (cursor.i32()?, cursor.i32()?);
                let text = cursor.0.split(|byte| *byte == 0).next()?;
                let exec = u32::from(misc) & bindings::PERF_RECORD_MISC_COMM_EXEC != 0;
                Some(stamp.event(EventKind::Comm { name: String::from_utf8_lossy(text).into_owned(), exec }))
            }
            bindings::PERF_RECORD_FORK | bindings::PERF_RECORD_EXIT => self.birth_or_death(kind, body),
            _ => None,
        }
    }

    fn birth_or_death(&mut self, kind: u32, body: &[u8]) -> Option<Event> {
        let mut cursor = Cursor(body);
        let (pid, _parent_pid, tid, parent) = (cursor.i32()?, cursor.i32()?, cursor.i32()?, cursor.i32()?);
        let stamp = Stamp { pid, tid, ..trailer(body)? };
        if kind == bindings::PERF_RECORD_FORK {
            if let Some(root) = self.roots.get(&parent).copied().filter(|_| pid == self.pid) {
                self.roots.entry(tid).or_insert(root);
            }
            return Some(stamp.event(EventKind::ThreadStarted { parent }));
        }
        self.roots.remove(&tid);
        Some(stamp.event(EventKind::ThreadEnded))
    }

    fn sample(&mut self, body: &[u8]) -> Option<Event> {
        let mut cursor = Cursor(body);
        let role = *self.roles.get(&cursor.u64()?)?;
        let (pid, tid, time_ns, cpu) = (cursor.i32()?, cursor.i32()?, cursor.u64()?, cursor.u32()?);
        cursor.u32()?;
        let stamp = Stamp { pid, tid, time_ns, cpu };
        let raw_bytes = cursor.u32()? as usize;
        let raw = cursor.take(raw_bytes)?;
        let write = |field: Field| field.number(raw).map(|number| number != 0);
        let fields = &self.fields;
        let kind = match role {
            Role::Start => EventKind::Start { write: write(fields.start_write)?, context: context(&mut cursor)? },
            Role::Acquired => EventKind::Acquired {
                write: write(fields.acquired_write)?,
                success: fields.success.map_or(Some(true), write)?,
                context: context(&mut cursor)?,
            },
            Role::Released => EventKind::Released { write: write(fields.released_write)? },
            Role::Enter(root) | Role::Exit(root) => {
                if pid != self.pid || *self.roots.entry(tid).or_insert(root) != root {
                    return None;
                }
                self.call(role, raw)?
            }
        };
        Some(stamp.event(kind))
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

/// The mm that a sample of `acquired` tells of.
pub(crate) fn address_space(record: &[u8], acquired: &Format) -> Option<u64> {
    let mut cursor = Cursor(record);
    if cursor.u32()? != bindings::PERF_RECORD_SAMPLE {
        return None;
    }
    // The rest of the header; number, process and thread, time, processor.
    cursor.take(4 + 8 + 8 + 8 + 8)?;
    let raw_bytes = cursor.u32()? as usize;
    acquired.field("mm")?.number(cursor.take(raw_bytes)?)
}

/// Reads the registers, which follow the tracepoint's own data.
fn context(cursor: &mut Cursor) -> Option<Context> {
    if registers::MASK == 0 {
        return Some(Context::Unknown);
    }
    let has_registers = cursor.u64()? != u64::from(bindings::PERF_SAMPLE_REGS_ABI_NONE);
    Some(registers::context(if has_registers { Some(cursor.u64()?) } else { None }))
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

/// Bytes that are still to be read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_ne_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        self.u32().map(u32::cast_signed)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.take(8)?.try_into().ok()?))
    }
}
