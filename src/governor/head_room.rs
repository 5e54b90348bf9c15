//! How much memory can still be taken: before a cgroup slows us down or refuses, before the machine has none left. Pure
//! but for [`HeadRoom::read`]; called by `pressure` and `pressure_source`.
//!
//! Invariant: with several cgroups on the way up, the one that would be felt first counts.

use crate::os::Os;
use crate::os::cgroup::{Cgroup, Usage};
use crate::os::vmstat::Available;

/// The last part of `memory.high` that is left alone: beyond the limit every allocation is slowed down, and what other
/// tasks of the cgroup take is not known beforehand.
const HIGH_MARGIN_DIVISOR: u64 = 8;
/// The last part of a hard limit that is left alone.
const MAX_MARGIN_DIVISOR: u64 = 16;
/// The last part of the machine's memory that is left alone.
const MACHINE_MARGIN_DIVISOR: u64 = 16;

/// What is known of limits and of what is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HeadRoom {
    /// Bytes up to the margin before the cgroups' `high` and `max`, negative within the margin; `None` without limit.
    high_bytes: Option<i64>,
    max_bytes: Option<i64>,
    /// Memory of the machine, if it is known.
    pub(crate) machine: Option<Available>,
}

impl HeadRoom {
    /// Nothing known: no limits.
    pub(crate) const fn new() -> Self {
        HeadRoom { high_bytes: None, max_bytes: None, machine: None }
    }

    /// What `cgroup`, its ancestors and the machine have.
    pub(crate) fn read(os: &impl Os, cgroup: &Cgroup) -> Self {
        let mut room = HeadRoom { machine: Available::read(os), ..Self::new() };
        cgroup.for_each_level(os, |usage| room.add(usage));
        room
    }

    /// Takes one more cgroup in.
    pub(crate) fn add(&mut self, usage: Usage) {
        let left = |limit: u64, divisor: u64| signed(limit - limit / divisor).saturating_sub(signed(usage.usage_bytes));
        let high = usage.high_bytes.map(|limit| left(limit, HIGH_MARGIN_DIVISOR));
        let max = usage.max_bytes.map(|limit| left(limit, MAX_MARGIN_DIVISOR));
        self.high_bytes = smaller(self.high_bytes, high);
        self.max_bytes = smaller(self.max_bytes, max);
    }

    /// Whether the use of a cgroup is within the margin before one of its limits.
    pub(crate) fn is_short(&self) -> bool {
        smaller(self.high_bytes, self.max_bytes).is_some_and(|bytes| bytes <= 0)
    }

    /// Bytes that can be taken without coming into any margin; `u64::MAX` if nothing is known.
    pub(crate) fn bytes(&self) -> u64 {
        let machine = self.machine.map(|machine| {
            signed(machine.available_bytes).saturating_sub(signed(machine.total_bytes / MACHINE_MARGIN_DIVISOR))
        });
        let least = smaller(smaller(self.high_bytes, self.max_bytes), machine);
        least.map_or(u64::MAX, |bytes| u64::try_from(bytes).unwrap_or(0))
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
            assert_eq!((room.bytes(), room.is_short()), (bytes, is_short), "{levels:?} {machine:?}");
        }
    }
}
