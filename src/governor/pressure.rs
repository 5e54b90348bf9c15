//! How badly others need the memory that we keep: a level made of samples. Pure; samples come from `pressure_source`.
//!
//! Invariant: a level lasts for [`HOLD`] after its last cause, so that it does not flap; what is not known is never a
//! cause. Nor is that a cgroup ran into its limit as long as it is full of file cache only, or that tasks stall where
//! there is plenty of memory: that is how the kernel makes room for more cache, or for hugepages.

use super::head_room::HeadRoom;
use crate::os::cgroup::Events;
use crate::os::stall::Stalls;
use crate::units::Nanos;

/// How long a level stays after its last cause: longer than the memory given back in one go takes to be felt.
const HOLD: Nanos = Nanos::from_millis(2000);
/// How long ago the sample before may be if what was counted since then is to say something of now.
const RECENT: Nanos = Nanos::from_millis(10_000);
/// Parts of a hundred of the time in which some tasks, and all tasks, may stall before that is pressure.
const SOME_STALL_PERCENT: u64 = 5;
const FULL_STALL_PERCENT: u64 = 2;
/// With less than these parts of the machine's memory left, it is short.
const MACHINE_SOME_DIVISOR: u64 = 32;
const MACHINE_CRITICAL_DIVISOR: u64 = 64;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    /// Nobody waits for memory.
    None,
    /// It gets tight: give back sooner.
    Some,
    /// Tasks stall or are killed: give back now.
    Critical,
}

/// What was seen at one moment. A machine that tells nothing gives false and `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sample {
    /// Whether the counts below are of another cgroup or file than those of the sample before.
    pub(crate) counts_anew: bool,
    /// What happened in the cgroup since it was made.
    pub(crate) events: Option<Events>,
    /// Whether the kernel told of a stall since the sample before.
    pub(crate) stall_told: bool,
    /// Time stalled; `None` also if it was not asked for.
    pub(crate) stalls: Option<Stalls>,
    /// What can still be taken.
    pub(crate) room: HeadRoom,
}

impl Sample {
    /// Nothing known.
    #[cfg(test)]
    pub(crate) const fn new() -> Self {
        Sample { counts_anew: false, events: None, stall_told: false, stalls: None, room: HeadRoom::new() }
    }
}

/// The level and what it follows from.
pub(crate) struct Pressure {
    /// The counts seen last, with their time.
    events: Option<(Nanos, Events)>,
    stalls: Option<(Nanos, Stalls)>,
    /// When there was last a cause for each level, or for a worse one.
    some_at: Option<Nanos>,
    critical_at: Option<Nanos>,
}

impl Pressure {
    /// No pressure.
    pub(crate) const fn new() -> Self {
        Pressure { events: None, stalls: None, some_at: None, critical_at: None }
    }

    /// Learns what was seen at `now`; the level from now on.
    pub(crate) fn observe(&mut self, now: Nanos, sample: Sample) -> Level {
        let cause = self.cause(now, sample);
        if cause >= Level::Critical {
            self.critical_at = Some(now);
        }
        if cause >= Level::Some {
            self.some_at = Some(now);
        }
        let lasts = |at: Option<Nanos>| at.is_some_and(|at| now.since(at) <= HOLD);
        match () {
            () if lasts(self.critical_at) => Level::Critical,
            () if lasts(self.some_at) => Level::Some,
            () => Level::None,
        }
    }

    /// The worst of all causes in a sample.
    fn cause(&mut self, now: Nanos, sample: Sample) -> Level {
        if sample.counts_anew {
            (self.events, self.stalls) = (None, None);
        }
        let events = self.judge_events(now, sample.events, &sample.room);
        let stalls = self.judge_stalls(now, sample.stalls);
        let told = if sample.stall_told { Level::Some } else { Level::None };
        let stalls = if sample.room.is_ample() { Level::None } else { stalls.max(told) };
        let is_short = sample.room.is_near_high() || sample.room.is_near_max();
        let cgroup = if is_short { Level::Some } else { Level::None };
        events.max(stalls).max(cgroup).max(judge_machine(&sample.room))
    }

    fn judge_events(&mut self, now: Nanos, events: Option<Events>, room: &HeadRoom) -> Level {
        let Some(events) = events else { return Level::None };
        // The first counts are old history; so is what happened while nobody looked.
        let before = self.events.replace((now, events)).filter(|(then, _)| now.since(*then) <= RECENT);
        match before {
            Some((_, before)) if events.oom > before.oom => Level::Critical,
            Some((_, before)) if events.max > before.max && room.is_near_max() => Level::Critical,
            _ => Level::None,
        }
    }

    fn judge_stalls(&mut self, now: Nanos, stalls: Option<Stalls>) -> Level {
        let Some(total) = stalls else { return Level::None };
        let Some((then, before)) = self.stalls else {
            self.stalls = Some((now, total));
            return Level::None;
        };
        let time_us = now.since(then).0 / 1000;
        if time_us == 0 {
            // Too soon to tell; the next sample compares with the one before.
            return Level::None;
        }
        self.stalls = Some((now, total));
        let more_than = |total_us: u64, before_us: u64, percent: u64| {
            total_us.saturating_sub(before_us).saturating_mul(100) > time_us.saturating_mul(percent)
        };
        match () {
            () if more_than(total.full_us, before.full_us, FULL_STALL_PERCENT) => Level::Critical,
            () if more_than(total.some_us, before.some_us, SOME_STALL_PERCENT) => Level::Some,
            () => Level::None,
        }
    }
}

fn judge_machine(room: &HeadRoom) -> Level {
    match room.machine {
        Some(machine) if machine.available_bytes < machine.total_bytes / MACHINE_CRITICAL_DIVISOR => Level::Critical,
        Some(machine) if machine.available_bytes < machine.total_bytes / MACHINE_SOME_DIVISOR => Level::Some,
        _ => Level::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::cgroup::Usage;
    use crate::os::vmstat::Available;

    fn at(millis: u64) -> Nanos {
        Nanos::from_millis(1_000_000 + millis)
    }

    fn with_events(max: u64, oom: u64) -> Sample {
        Sample { events: Some(Events { max, oom }), ..Sample::new() }
    }

    /// In a cgroup that has just hit its limit once more than `with_events(5, 5)` says.
    fn hit(sample: Sample) -> Sample {
        Sample { events: with_events(6, 5).events, ..sample }
    }

    fn with_stalls(some_us: u64, full_us: u64) -> Sample {
        Sample { stalls: Some(Stalls { some_us, full_us }), ..Sample::new() }
    }

    fn with_machine(available_bytes: u64, total_bytes: u64) -> Sample {
        let mut sample = Sample::new();
        sample.room.machine = Some(Available { available_bytes, total_bytes });
        sample
    }

    fn with_usage(high_bytes: Option<u64>, max_bytes: Option<u64>, usage_bytes: u64) -> Sample {
        let mut sample = Sample::new();
        sample.room.add(Usage { high_bytes, max_bytes, usage_bytes });
        sample
    }

    /// The level at the second of two samples, one second apart.
    fn second(first: Sample, second: Sample) -> Level {
        let mut pressure = Pressure::new();
        assert_eq!(pressure.observe(at(0), first), Level::None, "{first:?}");
        pressure.observe(at(1000), second)
    }

    #[test]
    fn each_cause_has_its_level() {
        let quiet = Sample::new();
        for (first, next, expected) in [
            (quiet, quiet, Level::None),
            // Events that rise; those before the first sample, and counts that fall, do not.
            (with_events(5, 5), with_events(5, 5), Level::None),
            (with_events(5, 5), with_events(5, 6), Level::Critical),
            (with_events(5, 5), with_events(0, 0), Level::None),
            (quiet, with_events(9, 9), Level::None),
            (with_events(5, 5), Sample { counts_anew: true, ..with_events(9, 9) }, Level::None),
            // The limit was hit: by the reading of files, or because memory is short.
            (with_events(5, 5), with_events(6, 5), Level::None),
            (with_events(5, 5), hit(with_usage(None, Some(1600), 1499)), Level::None),
            (with_events(5, 5), hit(with_usage(None, Some(1600), 1500)), Level::Critical),
            (with_events(5, 5), hit(with_usage(Some(800), Some(1600), 700)), Level::Some),
            // Stalls, of a second: 5 % is 50 ms, 2 % is 20 ms.
            (with_stalls(700, 700), with_stalls(50_700, 20_700), Level::None),
            (with_stalls(700, 700), with_stalls(50_701, 20_700), Level::Some),
            (with_stalls(700, 700), with_stalls(50_700, 20_701), Level::Critical),
            (with_stalls(700, 700), with_stalls(0, 0), Level::None),
            (with_stalls(0, 0), with_stalls(u64::MAX, u64::MAX), Level::Critical),
            (quiet, with_stalls(50_701, 20_701), Level::None),
            (with_stalls(0, 0), Sample { counts_anew: true, ..with_stalls(90_000, 90_000) }, Level::None),
            (quiet, Sample { stall_told: true, ..quiet }, Level::Some),
            // They are nobody's want of memory where there is plenty.
            (with_stalls(0, 0), Sample { room: with_machine(1601, 6400).room, ..with_stalls(0, 90_000) }, Level::None),
            (
                with_stalls(0, 0),
                Sample { room: with_machine(1599, 6400).room, ..with_stalls(0, 90_000) },
                Level::Critical,
            ),
            (quiet, Sample { stall_told: true, ..with_usage(None, Some(1600), 1200) }, Level::None),
            (quiet, Sample { stall_told: true, ..with_usage(None, Some(1600), 1201) }, Level::Some),
            // Use of cgroups: an eighth before `high`, a sixteenth before `max`.
            (quiet, with_usage(Some(800), None, 699), Level::None),
            (quiet, with_usage(Some(800), None, 700), Level::Some),
            (quiet, with_usage(None, Some(1600), 1499), Level::None),
            (quiet, with_usage(None, Some(1600), 1500), Level::Some),
            (quiet, with_usage(None, None, u64::MAX), Level::None),
            // The machine: a thirty-second part, a sixty-fourth.
            (quiet, with_machine(200, 6400), Level::None),
            (quiet, with_machine(199, 6400), Level::Some),
            (quiet, with_machine(100, 6400), Level::Some),
            (quiet, with_machine(99, 6400), Level::Critical),
            // The worst counts.
            (with_events(0, 0), Sample { stall_told: true, ..with_events(0, 1) }, Level::Critical),
        ] {
            assert_eq!(second(first, next), expected, "{first:?} {next:?}");
        }
    }

    #[test]
    fn a_level_lasts_two_seconds_after_its_last_cause() {
        let mut pressure = Pressure::new();
        let told = Sample { stall_told: true, ..Sample::new() };
        let quiet = Sample::new();
        let critical = with_machine(1, 6400);
        for (millis, sample, expected) in [
            (0, quiet, Level::None),
            (100, told, Level::Some),
            (1500, told, Level::Some),
            (3400, quiet, Level::Some),
            (3500, quiet, Level::Some),
            (3501, quiet, Level::None),
            (4000, critical, Level::Critical),
            (5000, told, Level::Critical),
            (6000, quiet, Level::Critical),
            (6001, quiet, Level::Some),
            (7000, quiet, Level::Some),
            (7001, quiet, Level::None),
            (20_000, quiet, Level::None),
        ] {
            assert_eq!(pressure.observe(at(millis), sample), expected, "at {millis} ms");
        }
    }

    #[test]
    fn what_happened_while_nobody_looked_is_history() {
        for (millis, expected) in [(10_000, Level::Critical), (10_001, Level::None), (3_600_000, Level::None)] {
            let mut pressure = Pressure::new();
            pressure.observe(at(0), with_events(0, 0));
            assert_eq!(pressure.observe(at(millis), with_events(0, 1)), expected, "after {millis} ms");
        }
    }

    #[test]
    fn stalls_are_measured_from_the_last_time_they_were_read() {
        let mut pressure = Pressure::new();
        pressure.observe(at(0), with_stalls(0, 0));
        pressure.observe(at(500), Sample::new());
        // 60 ms of 1000, not of 500.
        assert_eq!(pressure.observe(at(1000), with_stalls(60_000, 0)), Level::Some);
        // At the same moment nothing can be said, and nothing is lost.
        let mut pressure = Pressure::new();
        pressure.observe(at(0), with_stalls(0, 0));
        assert_eq!(pressure.observe(at(0), with_stalls(60_000, 0)), Level::None);
        assert_eq!(pressure.observe(at(1000), with_stalls(60_000, 0)), Level::Some);
    }

    #[test]
    fn a_machine_that_tells_nothing_is_never_under_pressure() {
        let mut pressure = Pressure::new();
        for second in 0..100 {
            assert_eq!(pressure.observe(at(second * 1000), Sample::new()), Level::None);
        }
    }
}
