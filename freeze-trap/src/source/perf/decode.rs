//! Records of the rings as [`Happening`]s.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use lock_trace::events::{Contents, Field, Format, Sample, Switch, Tracefs, Tracepoint, switch, thread_event};
use lock_trace::{EventKind, Missing, Mode};

use super::place;
use super::state::{Happening, What};
use crate::event::Sleep;
use crate::source::wire::sleep_of;

/// States of a thread that does not come back: EXIT_DEAD and EXIT_ZOMBIE.
const DEAD: u64 = 0x30;
/// The thread wanted to run on.
const PREEMPTED: u64 = 0x100;

/// What the samples of an event are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// `sched_switch`, of the thread that leaves.
    SwitchOut,
    /// `sched_switch`, of the thread that comes.
    SwitchIn,
    /// A switch that is not told by the tracepoint.
    Switch,
    /// `mmap_lock_start_locking`.
    Start,
    /// `mmap_lock_acquire_returned`.
    Acquired,
    /// `mmap_lock_released`.
    Released,
}

/// The tracepoints and their fields.
pub(super) struct Formats {
    switch: Format,
    start: Format,
    pub(super) acquired: Format,
    released: Format,
}

impl Formats {
    pub(super) fn read(tracefs: &Tracefs) -> Result<Self, Missing> {
        Ok(Formats {
            switch: tracefs.format("sched/sched_switch")?,
            start: tracefs.format("mmap_lock/mmap_lock_start_locking")?,
            acquired: tracefs.format("mmap_lock/mmap_lock_acquire_returned")?,
            released: tracefs.format("mmap_lock/mmap_lock_released")?,
        })
    }
}

impl Role {
    fn contents(self) -> Contents {
        match self {
            Role::SwitchOut | Role::Released => place::CONTENTS,
            Role::Switch => place::CONTENTS_ONLY,
            Role::SwitchIn | Role::Start | Role::Acquired => Contents::default(),
        }
    }

    /// The tracepoint that is to be recorded.
    pub(super) fn point(self, formats: &Formats) -> Tracepoint {
        let format = match self {
            Role::SwitchOut | Role::SwitchIn | Role::Switch => &formats.switch,
            Role::Start => &formats.start,
            Role::Acquired => &formats.acquired,
            Role::Released => &formats.released,
        };
        Tracepoint { contents: self.contents(), ..Tracepoint::bare(format.id) }
    }
}

/// Fields that are read, found once.
struct Fields {
    prev_comm: Field,
    prev_pid: Field,
    prev_state: Field,
    next_pid: Field,
    start: [Field; 2],
    acquired: [Field; 2],
    /// Old kernels tell of successes only.
    success: Option<Field>,
    released: [Field; 2],
}

/// Makes happenings of records.
pub(super) struct Decoder {
    /// `None` where no tracepoints are recorded.
    fields: Option<Fields>,
    roles: HashMap<u64, Role>,
    watched: HashSet<i32>,
    /// Address spaces, and the watched processes whose they are.
    spaces: HashMap<u64, i32>,
    has_births: bool,
    executed: Vec<i32>,
}

/// Address space and mode.
fn lock_fields(format: &Format) -> Option<[Field; 2]> {
    Some([format.field("mm")?, format.field("write")?])
}

impl Decoder {
    /// One for switches alone.
    pub(super) fn of_switches() -> Self {
        Decoder {
            fields: None,
            roles: HashMap::new(),
            watched: HashSet::new(),
            spaces: HashMap::new(),
            has_births: false,
            executed: Vec::new(),
        }
    }

    /// `None` if the kernel's tracepoints lack a field.
    pub(super) fn new(formats: &Formats) -> Option<Self> {
        let fields = Fields {
            prev_comm: formats.switch.field("prev_comm")?,
            prev_pid: formats.switch.field("prev_pid")?,
            prev_state: formats.switch.field("prev_state")?,
            next_pid: formats.switch.field("next_pid")?,
            start: lock_fields(&formats.start)?,
            acquired: lock_fields(&formats.acquired)?,
            success: formats.acquired.field("success"),
            released: lock_fields(&formats.released)?,
        };
        Some(Decoder { fields: Some(fields), ..Self::of_switches() })
    }

    /// Says what the samples of an event are.
    pub(super) fn assign(&mut self, id: u64, role: Role) {
        self.roles.insert(id, role);
    }

    /// Says what events are no more.
    pub(super) fn forget(&mut self, ids: &[u64]) {
        self.roles.retain(|id, _| !ids.contains(id));
    }

    /// Says which processes are watched, with their address spaces where these are known.
    pub(super) fn watch(&mut self, processes: impl Iterator<Item = (i32, Option<u64>)>) {
        (self.watched, self.spaces) = (HashSet::new(), HashMap::new());
        for (pid, space) in processes {
            self.watched.insert(pid);
            self.spaces.extend(space.map(|space| (space, pid)));
        }
    }

    /// Whether threads of watched processes were born.
    pub(super) fn has_births(&self) -> bool {
        self.has_births
    }

    /// Whoever asked has taken care of them.
    pub(super) fn forget_births(&mut self) {
        self.has_births = false;
    }

    /// The watched processes that have another address space since the last call.
    pub(super) fn executed(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.executed)
    }

    fn is_watched(&self, pid: i32) -> bool {
        self.watched.contains(&pid)
    }

    /// What a record tells; `None` for records that do not matter.
    pub(super) fn decode(&mut self, record: &[u8]) -> Option<Happening> {
        let contents = |id: u64| self.roles.get(&id).map(|role| role.contents());
        if let Some(sample) = Sample::parse(record, contents) {
            return self.sample(record, &sample);
        }
        if let Some(switch) = switch(record) {
            let what = match switch {
                Switch { leaves: false, .. } => What::Arrived,
                Switch { preempted: true, .. } => What::Preempted,
                Switch { .. } => return None,
            };
            return Some(Happening { time_ns: switch.time_ns, pid: switch.pid, tid: switch.tid, what });
        }
        let event = thread_event(record)?;
        let happening = |what| Happening { time_ns: event.time_ns, pid: event.pid, tid: event.tid, what };
        match event.kind {
            EventKind::ThreadStarted { .. } if self.is_watched(event.pid) => self.has_births = true,
            EventKind::Comm { exec: true, .. } if self.is_watched(event.pid) => self.executed.push(event.pid),
            EventKind::Lost { count } => return Some(happening(What::Lost { count })),
            // With tracepoints, it is seen to leave the processor for the last time, which comes later.
            EventKind::ThreadEnded if self.fields.is_none() => return Some(happening(What::Died)),
            _ => {}
        }
        None
    }

    fn sample(&self, record: &[u8], sample: &Sample) -> Option<Happening> {
        let Some(fields) = &self.fields else {
            let what = What::Left { sleep: Sleep::Other, name: String::new(), place: Arc::from(record) };
            let (time_ns, pid, tid) = (sample.time_ns, sample.pid, sample.tid);
            return self.is_watched(pid).then_some(Happening { time_ns, pid, tid, what });
        };
        let number = |field: Field| field.number(sample.raw);
        let lock = |[space, write]: [Field; 2]| {
            let space = number(space)?;
            let mode = if number(write)? == 0 { Mode::Read } else { Mode::Write };
            // What was recorded before a change of the filter is of no matter.
            Some((space, *self.spaces.get(&space)?, mode))
        };
        let (mut pid, mut tid) = (sample.pid, sample.tid);
        let what = match self.roles.get(&sample.id)? {
            Role::SwitchOut => {
                tid = number(fields.prev_pid)? as i32;
                let state = number(fields.prev_state)?;
                if state & DEAD != 0 {
                    What::Died
                } else if self.is_watched(pid) {
                    let state = if state & PREEMPTED == 0 { state as u32 } else { 0 };
                    let name = fields.prev_comm.text(sample.raw)?;
                    What::Left { sleep: sleep_of(state), name, place: Arc::from(record) }
                } else {
                    return None;
                }
            }
            Role::Switch => return None,
            Role::SwitchIn => {
                (pid, tid) = (0, number(fields.next_pid)? as i32);
                What::Arrived
            }
            Role::Start => {
                let (space, owner, mode) = lock(fields.start)?;
                What::Start { space, owner, mode }
            }
            Role::Acquired => {
                let (space, _, mode) = lock(fields.acquired)?;
                What::Acquired { space, mode, success: fields.success.map_or(Some(1), number)? != 0 }
            }
            Role::Released => {
                let (space, _, _) = lock(fields.released)?;
                What::Released { space, place: Arc::from(record) }
            }
        };
        Some(Happening { time_ns: sample.time_ns, pid, tid, what })
    }
}
