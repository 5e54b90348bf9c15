//! Where samples of pressure come from: the process's memory cgroup, the kernel's measure of stalls, the machine's
//! memory. Called by the governor's thread.
//!
//! Invariant: allocates nothing and takes no mmap_lock. A descriptor is kept only if the thread has a table of its own.
//! Without any of the files, samples are empty.

use super::head_room::HeadRoom;
use super::pressure::Sample;
use crate::os::Os;
use crate::os::cgroup::{Cgroup, Kind};
use crate::os::path::PathBuffer;
use crate::os::stall::{MACHINE_STALLS, Stalls};
use crate::units::Nanos;

/// How often the source looks whether the process was moved to another cgroup, and for files that were missing.
const REFRESH: Nanos = Nanos::from_millis(60_000);
/// Asks to be told when some tasks stalled for 100 ms within one second. Needs `CAP_SYS_RESOURCE`.
const TRIGGER: &[u8] = b"some 100000 1000000\0";

/// The file that tells of stalls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StallFile {
    /// That of the cgroup.
    Cgroup,
    /// That of the machine.
    Machine,
    Missing,
}

/// The trigger in that file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trigger {
    Untried,
    /// Its descriptor.
    Open(i32),
    /// Refused or lost, until the next look round.
    Closed,
}

/// Samples pressure.
pub(crate) struct PressureSource {
    cgroup: Cgroup,
    /// When the source last looked round; `None` before the first time.
    refreshed_at: Option<Nanos>,
    stall_file: StallFile,
    /// Whether a trigger may be kept open.
    keeps_trigger: bool,
    trigger: Trigger,
    /// Whether the next sample's counts are of other files than the last one's.
    counts_anew: bool,
}

impl PressureSource {
    /// Has not looked yet. `keeps_trigger`: the thread's descriptors are its own.
    pub(crate) const fn new(keeps_trigger: bool) -> Self {
        PressureSource {
            cgroup: Cgroup::new(),
            refreshed_at: None,
            stall_file: StallFile::Missing,
            keeps_trigger,
            trigger: Trigger::Untried,
            counts_anew: true,
        }
    }

    /// What is seen at `now`.
    ///
    /// With a trigger one system call for stalls, otherwise four; four for the machine; for the cgroup four for events
    /// (eight in version 1), and twelve (eight) for each level up to the mount. Measured on a virtual machine with two
    /// processors, Linux 6.18, version 1, three levels, no trigger: 40 calls in 62 µs. Once a minute 12 µs more, or 0.2
    /// ms if the process was moved.
    pub(crate) fn sample(&mut self, os: &impl Os, now: Nanos) -> Sample {
        self.follow(os, now);
        let counts_anew = core::mem::take(&mut self.counts_anew);
        let stall_told = self.told(os);
        // Where the trigger speaks up, the totals say how bad it is. At first they are what later ones compare with.
        let asks = counts_anew || stall_told || !matches!(self.trigger, Trigger::Open(_));
        Sample {
            counts_anew,
            events: self.cgroup.events(os),
            stall_told,
            stalls: if asks { self.stalls_in(os, self.stall_file) } else { None },
            room: HeadRoom::read(os, &self.cgroup),
        }
    }

    /// Bytes that can be made warm at `now` before a limit of a cgroup or the end of the machine's memory comes near;
    /// `u64::MAX` if nothing is known. The system calls of a sample for the machine and the levels.
    pub(crate) fn bytes_to_warm(&mut self, os: &impl Os, now: Nanos) -> u64 {
        self.follow(os, now);
        HeadRoom::read(os, &self.cgroup).bytes_to_warm()
    }

    /// Looks round if it is time to.
    fn follow(&mut self, os: &impl Os, now: Nanos) {
        if self.refreshed_at.is_some_and(|at| now.since(at) < REFRESH) {
            return;
        }
        self.refreshed_at = Some(now);
        let moved = self.cgroup.refresh(os);
        if moved {
            self.forget(os);
        }
        let file_before = self.stall_file;
        if moved || file_before == StallFile::Missing {
            self.stall_file = self.find_stall_file(os);
        }
        if self.trigger == Trigger::Closed {
            self.trigger = Trigger::Untried;
        }
        self.counts_anew |= moved || self.stall_file != file_before;
    }

    /// The file of the cgroup if it tells, else that of the machine.
    fn find_stall_file(&self, os: &impl Os) -> StallFile {
        let tells = |file: &StallFile| self.stalls_in(os, *file).is_some();
        [StallFile::Cgroup, StallFile::Machine].into_iter().find(tells).unwrap_or(StallFile::Missing)
    }

    fn stalls_in(&self, os: &impl Os, file: StallFile) -> Option<Stalls> {
        Stalls::read(os, self.stall_path(file)?.as_c_str())
    }

    fn stall_path(&self, file: StallFile) -> Option<PathBuffer> {
        match file {
            StallFile::Cgroup if self.cgroup.kind() == Kind::V2 => self.cgroup.file(b"memory.pressure"),
            StallFile::Machine => PathBuffer::of(&[MACHINE_STALLS.to_bytes()]),
            _ => None,
        }
    }

    /// Whether the trigger has fired. Opens it the first time.
    fn told(&mut self, os: &impl Os) -> bool {
        if self.keeps_trigger && self.trigger == Trigger::Untried {
            self.trigger = self.open_trigger(os).map_or(Trigger::Closed, Trigger::Open);
        }
        let Trigger::Open(fd) = self.trigger else { return false };
        os.trigger_fired(fd).unwrap_or_else(|_| {
            self.forget(os);
            false
        })
    }

    fn open_trigger(&self, os: &impl Os) -> Option<i32> {
        let path = self.stall_path(self.stall_file)?;
        os.open_trigger(path.as_c_str(), TRIGGER).ok()
    }

    /// Gives the trigger up.
    fn forget(&mut self, os: &impl Os) {
        if let Trigger::Open(fd) = self.trigger {
            os.close(fd);
        }
        self.trigger = Trigger::Closed;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::governor::pressure::{Level, Pressure};
    use crate::os::cgroup::Events;
    use crate::os::fake::FakeOs;

    const CGROUP: &str = "/sys/fs/cgroup/app";

    fn at(millis: u64) -> Nanos {
        Nanos::from_millis(1_000_000 + millis)
    }

    fn set(os: &FakeOs, directory: &str, name: &str, text: &str) {
        os.files.set(&std::format!("{directory}/{name}"), text);
    }

    fn set_stalls(os: &FakeOs, path: &str, some_us: u64, full_us: u64) {
        os.files.set(path, std::format!("some avg10=0.00 total={some_us}\nfull avg10=0.00 total={full_us}\n"));
    }

    /// A machine with 6400 KiB of memory, half of it free, and stalls.
    fn bare() -> FakeOs {
        let os = FakeOs::new();
        os.files.set("/proc/meminfo", "MemTotal: 6400 kB\nMemFree: 1 kB\nMemAvailable: 3200 kB\n");
        set_stalls(&os, "/proc/pressure/memory", 0, 0);
        os
    }

    /// The same with a cgroup of version 2.
    fn contained() -> FakeOs {
        let os = bare();
        os.files.set("/proc/self/cgroup", "0::/app\n");
        os.files.set("/proc/self/mountinfo", "26 23 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        set(&os, CGROUP, "memory.current", "1000\n");
        set(&os, CGROUP, "memory.high", "max\n");
        set(&os, CGROUP, "memory.max", "1048576\n");
        set(&os, CGROUP, "memory.events", "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n");
        set_stalls(&os, "/sys/fs/cgroup/app/memory.pressure", 10, 5);
        os
    }

    #[test]
    fn a_sample_has_all_that_a_contained_machine_tells() {
        let os = contained();
        let mut source = PressureSource::new(true);
        let sample = source.sample(&os, at(0));
        assert!(sample.counts_anew && !sample.stall_told);
        assert_eq!(sample.events, Some(Events { max: 2, oom: 3 }));
        assert_eq!(sample.stalls, Some(Stalls { some_us: 10, full_us: 5 }));
        assert_eq!(sample.room.bytes(), 1_048_576 / 16 * 15 - 1000);
        assert!(!source.sample(&os, at(1)).counts_anew);
        assert_eq!(os.files.open_count(), 0);
    }

    #[test]
    fn head_room_ends_at_the_nearest_limit() {
        let os = contained();
        let mut source = PressureSource::new(true);
        assert_eq!(source.bytes_to_warm(&os, at(0)), 1_048_576 / 8 * 7 - 1000);
        set(&os, CGROUP, "memory.high", "80000\n");
        assert_eq!(source.bytes_to_warm(&os, at(0)), 59_000);
        set(&os, CGROUP, "memory.current", "65000\n");
        assert_eq!(source.bytes_to_warm(&os, at(0)), 0);
        set(&os, CGROUP, "memory.stat", "anon 9\ninactive_file 6000\n");
        assert_eq!(source.bytes_to_warm(&os, at(0)), 1000, "file cache is room");
        assert!(source.sample(&os, at(0)).counts_anew, "asking for head-room does not hide that counts are new");
        assert_eq!(PressureSource::new(true).bytes_to_warm(&bare(), at(0)), (3200 - 400) << 10);
        assert_eq!(PressureSource::new(true).bytes_to_warm(&FakeOs::new(), at(0)), u64::MAX);
    }

    #[test]
    fn without_files_there_is_never_pressure() {
        let os = FakeOs::new();
        let (mut source, mut pressure) = (PressureSource::new(true), Pressure::new());
        for second in 0..300 {
            let sample = source.sample(&os, at(second * 1000));
            assert_eq!(Sample { counts_anew: false, ..sample }, Sample::new());
            assert_eq!(pressure.observe(at(second * 1000), sample), Level::None);
        }
        // `meminfo` each time; the other files once a minute.
        assert!(os.files.opens() < 300 + 5 * 5, "{}", os.files.opens());
    }

    #[test]
    fn files_that_turn_garbled_or_vanish_are_no_pressure() {
        let os = contained();
        let (mut source, mut pressure) = (PressureSource::new(true), Pressure::new());
        pressure.observe(at(0), source.sample(&os, at(0)));
        for name in ["memory.current", "memory.max", "memory.events", "memory.pressure"] {
            set(&os, CGROUP, name, "???");
        }
        os.files.set("/proc/meminfo", "");
        assert_eq!(pressure.observe(at(1000), source.sample(&os, at(1000))), Level::None);
        os.files.remove("/");
        assert_eq!(pressure.observe(at(2000), source.sample(&os, at(2000))), Level::None);
    }

    #[test]
    fn what_happens_in_the_cgroup_becomes_pressure() {
        let os = contained();
        let (mut source, mut pressure) = (PressureSource::new(true), Pressure::new());
        let mut level = |millis| pressure.observe(at(millis), source.sample(&os, at(millis)));
        assert_eq!(level(0), Level::None);
        set(&os, CGROUP, "memory.current", "900000\n");
        set_stalls(&os, "/sys/fs/cgroup/app/memory.pressure", 60_010, 5);
        assert_eq!(level(1000), Level::Some);
        assert_eq!(level(4000), Level::None);
        set(&os, CGROUP, "memory.events", "max 3\noom 3\n");
        set(&os, CGROUP, "memory.current", "1048576\n");
        set(&os, CGROUP, "memory.stat", "anon 500000\ninactive_file 500000\n");
        assert_eq!(level(5000), Level::None, "half of it is file cache");
        set(&os, CGROUP, "memory.events", "max 4\noom 3\n");
        set(&os, CGROUP, "memory.stat", "anon 1000000\ninactive_file 10000\n");
        assert_eq!(level(6000), Level::Critical);
    }

    #[test]
    fn without_stalls_of_the_cgroup_those_of_the_machine_are_read() {
        let os = contained();
        os.files.remove("/sys/fs/cgroup/app/memory.pressure");
        set_stalls(&os, "/proc/pressure/memory", 7, 6);
        assert_eq!(PressureSource::new(true).sample(&os, at(0)).stalls, Some(Stalls { some_us: 7, full_us: 6 }));
    }

    #[test]
    fn totals_are_read_only_when_the_trigger_has_fired() {
        let os = contained();
        os.files.permit_triggers(true);
        let mut source = PressureSource::new(true);
        let first = source.sample(&os, at(0));
        assert!(first.stalls.is_some(), "what later totals are compared with");
        let quiet = source.sample(&os, at(1000));
        assert_eq!((quiet.stall_told, quiet.stalls), (false, None));
        os.files.fire();
        let told = source.sample(&os, at(2000));
        assert!(told.stall_told && told.stalls.is_some());
        assert!(!source.sample(&os, at(3000)).stall_told);
        assert_eq!(os.files.open_count(), 1);
    }

    #[test]
    fn a_broken_trigger_is_closed_and_tried_again_a_minute_later() {
        let os = contained();
        os.files.permit_triggers(true);
        let mut source = PressureSource::new(true);
        source.sample(&os, at(0));
        os.files.break_triggers();
        assert!(source.sample(&os, at(1000)).stalls.is_some(), "read instead");
        assert_eq!(os.files.open_count(), 0);
        assert!(source.sample(&os, at(59_000)).stalls.is_some());
        assert!(source.sample(&os, at(60_000)).stalls.is_none());
        assert_eq!(os.files.open_count(), 1);
    }

    #[test]
    fn without_a_table_of_its_own_it_reads_and_keeps_nothing_open() {
        let os = contained();
        os.files.permit_triggers(true);
        let mut source = PressureSource::new(false);
        for second in 0..100 {
            assert!(source.sample(&os, at(second * 1000)).stalls.is_some());
            assert_eq!(os.files.open_count(), 0);
        }
    }

    #[test]
    fn a_move_to_another_cgroup_starts_counts_and_trigger_anew() {
        let os = contained();
        os.files.permit_triggers(true);
        let mut source = PressureSource::new(true);
        source.sample(&os, at(0));
        os.files.set("/proc/self/cgroup", "0::/next\n");
        set(&os, "/sys/fs/cgroup/next", "memory.current", "5\n");
        set(&os, "/sys/fs/cgroup/next", "memory.events", "high 100\nmax 200\noom 300\n");
        set_stalls(&os, "/sys/fs/cgroup/next/memory.pressure", 1, 1);
        assert_eq!(source.sample(&os, at(59_999)).events, Some(Events { max: 2, oom: 3 }));
        let moved = source.sample(&os, at(60_000));
        assert!(moved.counts_anew);
        assert_eq!(moved.events, Some(Events { max: 200, oom: 300 }));
        assert_eq!(os.files.open_count(), 1, "the old trigger is closed");
    }

    #[test]
    fn this_machine_can_be_sampled() {
        let mut source = PressureSource::new(true);
        let first = source.sample(&crate::os::Linux, at(0));
        let second = source.sample(&crate::os::Linux, at(1000));
        assert!(first.counts_anew && !second.counts_anew);
        assert_eq!(first.events.is_some(), second.events.is_some());
        source.forget(&crate::os::Linux);
    }
}
