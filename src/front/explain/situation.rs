//! The facts that promises depend on: read here, judged in `promises`. Called by `explain`.
//!
//! Invariant: allocates nothing; what cannot be read is unknown, and unknown never makes a promise stronger.

use crate::arena::{Commitment, Standing};
use crate::limits::SLICE_BYTES;
use crate::options::{Governor, Options};
use crate::os::cgroup::{Cgroup, Kind, Usage};
use crate::os::machine::Machine;
use crate::os::stall::Stalls;
use crate::os::{Os, environ};
use crate::stats::Stats;
use crate::thread::engine::Engine;

/// The memory cgroup of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Group {
    pub(super) kind: Kind,
    /// Limits and use of the cgroup itself.
    pub(super) own: Option<Usage>,
    /// Bytes up to the nearest limit, its own or that of a cgroup above; `None` if there is no limit.
    pub(super) head_room_bytes: Option<u64>,
    /// Whether it tells of stalls.
    pub(super) stalls: bool,
}

/// All facts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// Whether the allocator has taken its address space.
    pub(super) started: bool,
    /// Options in force; the defaults before the start.
    pub(super) options: Options,
    pub(super) environment_ignored: bool,
    pub(super) machine: Machine,
    pub(super) group: Group,
    /// Whether several ranges can be purged in one call.
    pub(super) scatters: bool,
    pub(super) standing: Standing,
    /// Bytes taken from the explicit hugepage pool.
    pub(super) pool_bytes: u64,
    /// Without `memory`.
    pub(super) stats: Stats,
}

impl Group {
    /// Nothing known.
    pub(super) const NONE: Group = Group { kind: Kind::None, own: None, head_room_bytes: None, stalls: false };

    fn read(os: &impl Os, cgroup: &Cgroup) -> Self {
        let mut group = Group { kind: cgroup.kind(), ..Self::NONE };
        cgroup.levels().filter_map(|level| level.usage(os)).for_each(|usage| group.add(usage));
        if group.kind == Kind::V2 {
            let file = cgroup.file(b"memory.pressure");
            group.stalls = file.is_some_and(|file| Stalls::read(os, file.as_c_str()).is_some());
        }
        group
    }

    /// Takes one more cgroup in, the process's own first.
    fn add(&mut self, usage: Usage) {
        self.own = self.own.or(Some(usage));
        for limit in [usage.high_bytes, usage.max_bytes].into_iter().flatten() {
            let left = limit.saturating_sub(usage.usage_bytes);
            self.head_room_bytes = Some(self.head_room_bytes.map_or(left, |bytes| bytes.min(left)));
        }
    }
}

impl Situation {
    /// Asks the kernel and the engine. `cgroup` is filled.
    pub(super) fn read<O: Os>(engine: &Engine<O>, started: bool, options: Options, cgroup: &mut Cgroup) -> Self {
        let arena = engine.arena();
        let os = arena.kernel().os();
        cgroup.refresh(os);
        Situation {
            started,
            options,
            environment_ignored: environ::is_ignored(),
            machine: Machine::read(os),
            group: Group::read(os, cgroup),
            scatters: os.can_purge_scattered(),
            standing: arena.standing(),
            pool_bytes: arena.pool_bytes() as u64,
            stats: arena.kernel().counters().snapshot(),
        }
    }

    /// Whether pages are too large for the allocator to start.
    pub(super) fn pages_too_large(&self) -> bool {
        self.machine.page_bytes > SLICE_BYTES
    }

    pub(super) fn is_stepped(&self) -> bool {
        matches!(self.standing.commitment, Some(Commitment::Stepped(_)))
    }

    /// Whether the kernel gave less address space than was wanted, which is halved until it agrees.
    pub(super) fn is_narrowed(&self) -> bool {
        self.standing.first_bytes <= self.standing.wanted_bytes / 2
    }

    pub(super) fn ticks(&self) -> bool {
        self.options.governor == Governor::Tick
    }

    /// Calls for writing since start-up that the program's threads made.
    pub(super) fn application_write_calls(&self) -> u64 {
        self.stats.write_lock_calls.saturating_sub(self.stats.commit.governor.calls)
    }

    /// Calls that have a budget, and the longest of them in nanoseconds.
    pub(super) fn budgeted(&self) -> (u64, u64) {
        let Stats { commit, purge, warm, .. } = &self.stats;
        let all = [commit, purge, warm];
        let longest = all.iter().flat_map(|call| [call.application.time.max_ns, call.governor.time.max_ns]).max();
        (all.iter().map(|call| call.calls()).sum(), longest.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::fake::FakeOs;
    use std::boxed::Box;

    fn level(high_bytes: Option<u64>, max_bytes: Option<u64>, usage_bytes: u64) -> Usage {
        Usage { high_bytes, max_bytes, usage_bytes }
    }

    #[test]
    fn the_nearest_limit_on_the_way_up_leaves_the_head_room() {
        for (levels, head_room_bytes) in [
            (&[][..], None),
            (&[level(None, None, 5)], None),
            (&[level(Some(80), None, 5)], Some(75)),
            (&[level(Some(80), Some(40), 5)], Some(35)),
            (&[level(None, Some(40), 5), level(None, Some(100), 90)], Some(10)),
            (&[level(None, Some(40), 50)], Some(0)),
        ] {
            let mut group = Group::NONE;
            levels.iter().for_each(|usage| group.add(*usage));
            assert_eq!((group.head_room_bytes, group.own), (head_room_bytes, levels.first().copied()), "{levels:?}");
        }
    }

    #[test]
    fn facts_come_from_the_files_of_the_machine_and_from_the_engine() {
        let os = FakeOs::new().narrow(1 << 30);
        os.files.set("/proc/self/cgroup", "0::/app\n");
        os.files.set("/proc/self/mountinfo", "26 23 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        os.files.set("/sys/fs/cgroup/app/memory.current", "100\n");
        os.files.set("/sys/fs/cgroup/app/memory.max", "300\n");
        os.files.set("/sys/fs/cgroup/app/memory.pressure", "some total=0\nfull total=0\n");
        let engine: &'static Engine<FakeOs> = Box::leak(Box::new(Engine::new(os)));
        let mut cgroup = Cgroup::new();
        let before = Situation::read(engine, false, Options::new(), &mut cgroup);
        assert_eq!((before.standing.count, before.standing.commitment), (0, None));
        assert!(engine.start(&Options::new()));
        let after = Situation::read(engine, true, Options::new(), &mut Cgroup::new());
        assert_eq!((after.standing.count, after.standing.commitment), (1, Some(Commitment::Ready)));
        assert!(after.is_narrowed() && !after.is_stepped());
        assert_eq!(after.group.head_room_bytes, Some(200));
        assert!(after.group.stalls && !after.machine.psi);
        assert_eq!(cgroup.directory(), b"/sys/fs/cgroup/app");
        assert_eq!(engine.arena().kernel().os().files.open_count(), 0);
    }
}
