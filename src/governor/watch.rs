//! Watches how short memory is: the level of pressure, the head-room, trouble with hugepages, what the machine is like.
//! Called by `governor::worker` and `governor::warm`.
//!
//! Invariant: all files that the governor reads are read through here, and only as the thread may that makes the
//! rounds: a program's descriptors are none of ours.

use super::head_room::HeadRoom;
use super::head_room::MACHINE_MARGIN_DIVISOR;
use super::pressure::{Level, Pressure};
use super::pressure_source::PressureSource;
use crate::os::Os;
use crate::os::machine::Machine;
use crate::os::vmstat::HugepageTrouble;
use crate::units::Nanos;

/// Whose table of descriptors the thread has that makes the rounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Descriptors {
    /// Its own: files are opened and kept open at will.
    Own,
    /// The program's, on a thread that the program lends: files are opened for the moment of reading, none is kept.
    Lent,
    /// The program's, which does not know of the thread: no file is opened. Then nothing is known of pressure, of
    /// limits, and of hugepages.
    Foreign,
}

/// Shortest and longest time between two looks while there is memory that could be given back, in nanoseconds.
const PAUSE_NS_MIN: u64 = 10_000_000;
const PAUSE_NS_MAX: u64 = 100_000_000;
/// How fast a program is expected to take memory at most: about 1 GiB per second.
const TAKEN_BYTES_PER_NS: u64 = 1;

/// Where samples come from, and what they have come to.
pub(crate) struct Watch {
    descriptors: Descriptors,
    source: PressureSource,
    pressure: Pressure,
    /// As it was at the last look.
    room: HeadRoom,
}

impl Watch {
    /// Has not looked yet.
    pub(crate) const fn new(descriptors: Descriptors) -> Self {
        let keeps_trigger = matches!(descriptors, Descriptors::Own);
        Watch {
            descriptors,
            source: PressureSource::new(keeps_trigger),
            pressure: Pressure::new(),
            room: HeadRoom::new(),
        }
    }

    fn may_open(&self) -> bool {
        self.descriptors != Descriptors::Foreign
    }

    /// Takes a sample at `now`; the level from now on. Cost: some 40 system calls, 60 µs, none of which takes
    /// mmap_lock.
    pub(crate) fn look(&mut self, os: &impl Os, now: Nanos) -> Level {
        if !self.may_open() {
            return Level::None;
        }
        let sample = self.source.sample(os, now);
        self.room = sample.room;
        self.pressure.observe(now, sample)
    }

    /// What could still be taken at the last look before a limit came near, in bytes; `u64::MAX` if none is known.
    pub(crate) fn room_bytes(&self) -> u64 {
        self.room.bytes()
    }

    /// After how long to look again: before the program may have come to a limit.
    pub(crate) fn pause(&self) -> Nanos {
        Nanos((self.room.bytes() / TAKEN_BYTES_PER_NS).clamp(PAUSE_NS_MIN, PAUSE_NS_MAX))
    }

    /// Bytes that can be made warm before a limit comes near. Where no file tells of limits, the machine's free memory
    /// is one, less the margin that is kept of all memory.
    pub(crate) fn bytes_to_warm(&mut self, os: &impl Os, now: Nanos) -> u64 {
        let told = if self.may_open() { self.source.bytes_to_warm(os, now) } else { u64::MAX };
        if told < u64::MAX {
            return told;
        }
        os.free_memory_bytes().saturating_sub(os.facts().memory_bytes as u64 / MACHINE_MARGIN_DIVISOR)
    }

    /// Counts of hugepages that were hard to get; zeroes if they are not known.
    pub(crate) fn hugepage_trouble(&self, os: &impl Os) -> HugepageTrouble {
        if self.may_open() { HugepageTrouble::read(os) } else { HugepageTrouble::default() }
    }

    /// What the machine is like.
    pub(crate) fn machine(&self, os: &impl Os) -> Machine {
        if self.may_open() { Machine::read(os) } else { Machine::ask(os) }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::os::fake::FakeOs;

    /// A machine without memory, which permits triggers.
    fn full() -> FakeOs {
        let os = FakeOs::new();
        os.files.set("/proc/meminfo", "MemTotal: 6400 kB\nMemAvailable: 0 kB\n");
        os.files.set("/proc/vmstat", "thp_fault_fallback 7\ncompact_stall 8\n");
        os.files.set("/proc/pressure/memory", "some total=1\nfull total=0\n");
        os.files.permit_triggers(true);
        os
    }

    #[test]
    fn a_thread_with_the_descriptors_of_an_unknowing_program_opens_nothing() {
        let mut os = full();
        // Of 1 GiB.
        os.free_bytes = 256 << 20;
        let mut watch = Watch::new(Descriptors::Foreign);
        assert_eq!((watch.look(&os, os.now()), watch.bytes_to_warm(&os, os.now())), (Level::None, 192 << 20));
        assert_eq!(watch.hugepage_trouble(&os), HugepageTrouble::default());
        assert_eq!(watch.machine(&os), Machine::ask(&os));
        assert_eq!((os.files.opens(), os.files.open_count()), (0, 0));
    }

    #[test]
    fn it_looks_more_often_when_little_is_left() {
        let os = FakeOs::new();
        let mut watch = Watch::new(Descriptors::Own);
        assert_eq!(watch.pause(), Nanos(PAUSE_NS_MAX), "nothing known");
        for (available_kb, pause_ns) in [(0, PAUSE_NS_MIN), (62_500 + 50_000, 51_200_000), (900_000, PAUSE_NS_MAX)] {
            os.files.set("/proc/meminfo", std::format!("MemTotal: 1000000 kB\nMemAvailable: {available_kb} kB\n"));
            watch.look(&os, os.now());
            assert_eq!(watch.pause(), Nanos(pause_ns), "{available_kb} kB");
        }
    }

    #[test]
    fn a_lent_thread_reads_and_keeps_nothing_open_and_an_own_one_keeps_its_trigger() {
        for (descriptors, kept) in [(Descriptors::Lent, 0), (Descriptors::Own, 1)] {
            let os = full();
            let mut watch = Watch::new(descriptors);
            assert_eq!((watch.look(&os, os.now()), watch.bytes_to_warm(&os, os.now())), (Level::Critical, 0));
            assert_eq!(watch.hugepage_trouble(&os).compact_stall, 8);
            assert!(watch.machine(&os).psi);
            assert_eq!(os.files.open_count(), kept, "{descriptors:?}");
        }
    }
}
