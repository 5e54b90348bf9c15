//! How much memory can still be taken: before a cgroup slows us down or refuses, before the machine has none left. Pure
//! but for [`HeadRoom::read`]; called by `pressure` and `pressure_source`.
//!
//! Invariant: with several cgroups on the way up, the one that would be felt first counts. File cache is not counted as
//! used, as the kernel's `MemAvailable` does not: a container that reads many files is always full of it, and nobody is
//! short of anything.

use crate::os::Os;
use crate::os::cgroup::{Cgroup, Usage};
use crate::os::vmstat::Available;

/// The last part of `memory.high` that is left alone: beyond the limit every allocation is slowed down, and what other
/// tasks of the cgroup take is not known beforehand.
const HIGH_MARGIN_DIVISOR: u64 = 8;
/// The last part of a hard limit that is left alone.
const MAX_MARGIN_DIVISOR: u64 = 16;
/// The last part of the machine's memory that is left alone.
pub(super) const MACHINE_MARGIN_DIVISOR: u64 = 16;
/// Where more than this part of a limit is used, it may be reached soon.
const TIGHT_PERCENT: u128 = 75;
/// How near to a margin it is worth asking how much of the use is file cache: more than is warmed between two looks.
const NEAR_BYTES: i64 = 128 << 20;

/// What is known of limits and of what is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HeadRoom {
    /// Bytes up to the margin before the cgroups' `high` and `max`, negative within the margin; `None` without limit.
    high_bytes: Option<i64>,
    max_bytes: Option<i64>,
    /// Bytes up to twice these margins.
    warm_bytes: Option<i64>,
    /// Whether some limit is more than [`TIGHT_PERCENT`] used; `None` without limits.
    limits_tight: Option<bool>,
    /// Memory of the machine, if it is known.
    pub(crate) machine: Option<Available>,
}

impl HeadRoom {
    /// Nothing known: no limits.
    pub(crate) const fn new() -> Self {
        HeadRoom { high_bytes: None, max_bytes: None, warm_bytes: None, limits_tight: None, machine: None }
    }

    /// What `cgroup`, its ancestors and the machine have.
    pub(crate) fn read(os: &impl Os, cgroup: &Cgroup) -> Self {
        let mut room = HeadRoom { machine: Available::read(os), ..Self::new() };
        for level in cgroup.levels() {
            let Some(mut usage) = level.usage(os) else { continue };
            let mut own = HeadRoom::new();
            own.add(usage);
            if smaller(own.high_bytes, own.max_bytes).is_some_and(|bytes| bytes < NEAR_BYTES) {
                usage.usage_bytes = usage.usage_bytes.saturating_sub(level.cache_bytes(os));
            }
            room.add(usage);
        }
        room
    }

    /// Takes one more cgroup in. Its usage is without what costs nothing to give up.
    pub(crate) fn add(&mut self, usage: Usage) {
        let left = |limit: u64, divisor: u64| signed(limit - limit / divisor).saturating_sub(signed(usage.usage_bytes));
        let high = usage.high_bytes.map(|limit| left(limit, HIGH_MARGIN_DIVISOR));
        let max = usage.max_bytes.map(|limit| left(limit, MAX_MARGIN_DIVISOR));
        self.high_bytes = smaller(self.high_bytes, high);
        self.max_bytes = smaller(self.max_bytes, max);
        let warm_high = usage.high_bytes.map(|limit| left(limit, HIGH_MARGIN_DIVISOR / 2));
        let warm_max = usage.max_bytes.map(|limit| left(limit, MAX_MARGIN_DIVISOR / 2));
        self.warm_bytes = smaller(self.warm_bytes, smaller(warm_high, warm_max));
        for limit in [usage.high_bytes, usage.max_bytes].into_iter().flatten() {
            self.limits_tight = either(self.limits_tight, Some(is_tight(usage.usage_bytes, limit)));
        }
    }

    /// Whether some limit, or the machine, is more than three quarters used; `None` if nothing is known.
    fn tight(&self) -> Option<bool> {
        let machine = self
            .machine
            .map(|machine| is_tight(machine.total_bytes.saturating_sub(machine.available_bytes), machine.total_bytes));
        either(self.limits_tight, machine)
    }

    /// Whether there is plenty left everywhere, as far as is known; not if nothing is known.
    pub(crate) fn is_ample(&self) -> bool {
        self.tight() == Some(false)
    }

    /// Whether the use of a cgroup is within the margin before its `high`.
    pub(crate) fn is_near_high(&self) -> bool {
        self.high_bytes.is_some_and(|bytes| bytes <= 0)
    }

    /// Whether the use of a cgroup is within the margin before its hard limit.
    pub(crate) fn is_near_max(&self) -> bool {
        self.max_bytes.is_some_and(|bytes| bytes <= 0)
    }

    /// Bytes that can be taken without coming into any margin; `u64::MAX` if nothing is known.
    pub(crate) fn bytes(&self) -> u64 {
        self.with_machine(smaller(self.high_bytes, self.max_bytes))
    }

    /// Bytes that can be made warm ahead of need: up to twice the margins of cgroups, as what the program takes besides
    /// would be pressure otherwise, at which all that is warm is given back. `u64::MAX` if nothing is known.
    pub(crate) fn bytes_to_warm(&self) -> u64 {
        self.with_machine(self.warm_bytes)
    }

    /// What the cgroups leave, or the machine if that is less.
    fn with_machine(&self, cgroups: Option<i64>) -> u64 {
        let machine = self.machine.map(|machine| {
            signed(machine.available_bytes).saturating_sub(signed(machine.total_bytes / MACHINE_MARGIN_DIVISOR))
        });
        smaller(cgroups, machine).map_or(u64::MAX, |bytes| u64::try_from(bytes).unwrap_or(0))
    }
}

fn is_tight(used_bytes: u64, limit_bytes: u64) -> bool {
    u128::from(used_bytes) * 100 > u128::from(limit_bytes) * TIGHT_PERCENT
}

/// Whether one of two facts holds, as far as they are known.
fn either(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one || other),
        (one, other) => one.or(other),
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The smaller of two numbers, where `None` is none.
fn smaller(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(levels: &[(Option<u64>, Option<u64>, u64)], machine: Option<(u64, u64)>) -> HeadRoom {
        let machine = machine.map(|(available_bytes, total_bytes)| Available { available_bytes, total_bytes });
        let mut room = HeadRoom { machine, ..HeadRoom::new() };
        for (high_bytes, max_bytes, usage_bytes) in levels.iter().copied() {
            room.add(Usage { high_bytes, max_bytes, usage_bytes });
        }
        room
    }

    #[test]
    fn the_tightest_limit_with_its_margin_counts() {
        for (levels, machine, bytes, is_short) in [
            (&[][..], None, u64::MAX, false),
            (&[(None, None, 500)], None, u64::MAX, false),
            (&[(Some(800), None, 500)], None, 200, false),
            (&[(None, Some(1600), 500)], None, 1000, false),
            (&[(Some(800), Some(1600), 699)], None, 1, false),
            (&[(Some(800), Some(1600), 700)], None, 0, true),
            (&[(None, Some(1600), 1500)], None, 0, true),
            (&[(None, Some(1600), 5000)], None, 0, true),
            // The ancestor has more left than the cgroup, then less.
            (&[(None, Some(1600), 500), (None, Some(16_000), 600)], None, 1000, false),
            (&[(None, Some(1600), 500), (None, Some(16_000), 14_990)], None, 10, false),
            (&[(None, Some(1600), 1500), (None, Some(16_000), 600)], None, 0, true),
            // The machine.
            (&[(None, Some(1600), 500)], Some((900, 6400)), 500, false),
            (&[(None, Some(1600), 500)], Some((300, 6400)), 0, false),
            (&[], Some((6400, 6400)), 6000, false),
            // No limit of anything is too large.
            (&[(Some(u64::MAX), Some(u64::MAX), u64::MAX)], Some((u64::MAX, u64::MAX)), 0, true),
            (&[(Some(0), Some(0), 0)], None, 0, true),
        ] {
            let room = room(levels, machine);
            let found = (room.bytes(), room.is_near_high() || room.is_near_max());
            assert_eq!(found, (bytes, is_short), "{levels:?} {machine:?}");
        }
    }

    #[test]
    fn warming_stays_away_from_what_is_pressure() {
        for (levels, machine, bytes) in [
            (&[][..], None, u64::MAX),
            (&[(Some(800), None, 500)], None, 100),
            (&[(None, Some(1600), 500)], None, 900),
            (&[(None, Some(1600), 1450)], None, 0),
            (&[(None, Some(1600), 500), (Some(8000), Some(9000), 5500)], None, 500),
            (&[(None, Some(1600), 500)], Some((900, 6400)), 500),
        ] {
            assert_eq!(room(levels, machine).bytes_to_warm(), bytes, "{levels:?} {machine:?}");
        }
    }

    #[test]
    fn three_quarters_of_anything_are_tight_and_nothing_known_is_neither_tight_nor_ample() {
        for (levels, machine, tight) in [
            (&[][..], None, None),
            (&[(None, None, 500)], None, None),
            (&[(None, Some(1000), 750)], None, Some(false)),
            (&[(None, Some(1000), 751)], None, Some(true)),
            (&[(Some(1000), None, 751)], None, Some(true)),
            (&[(None, Some(1000), 751), (None, Some(10_000), 800)], None, Some(true)),
            (&[(None, Some(1000), 500), (None, Some(10_000), 7_501)], None, Some(true)),
            (&[], Some((250, 1000)), Some(false)),
            (&[], Some((249, 1000)), Some(true)),
            (&[(None, Some(1000), 500)], Some((249, 1000)), Some(true)),
            (&[(None, Some(1000), 751)], Some((900, 1000)), Some(true)),
        ] {
            let room = room(levels, machine);
            assert_eq!(room.tight(), tight, "{levels:?} {machine:?}");
        }
    }
}
