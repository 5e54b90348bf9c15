//! Aim: the trap's memory does not grow, however long it watches.
//!
//! Method: four hours pass in seconds: the trap without its surroundings is shown thousands of rounds of intervals,
//! answers of probes, restarts and some captures, with times that are made up, while the allocator of this program
//! counts what is in use. The same rounds with a leak of one KiB each have to be noticed.

#[path = "long_run/counting.rs"]
mod counting;

use counting::in_use_bytes;
use freeze_trap::event::{Interval, Kind, Sleep, Thread, Waker};
use freeze_trap::freeze::{Machine, MemoryPoint};
use freeze_trap::probe::Answer;
use freeze_trap::source::{Losses, Totals};
use freeze_trap::stack::StackPair;
use freeze_trap::symbols::Namer;
use freeze_trap::trigger::{Event, Rules, Trigger};
use freeze_trap::watch::capture::{Facts, Setting, Trap};
use freeze_trap::watch::disk::Disk;
use freeze_trap::watch::maps::Maps;
use freeze_trap::watch::metrics::Metrics;
use freeze_trap::watch::running::Runs;
use freeze_trap::watch::samples::Sample;
use lock_trace::Mode;

const S: u64 = 1_000_000_000;
/// Rounds until all is as full as it gets, and those that are compared with the ones after them.
const WARM: usize = 3000;
const COMPARED: usize = 6000;
/// A round is a second; every so many there is a restart, or a capture.
const RESTART_EVERY: usize = 40;
const CAPTURE_EVERY: usize = 750;
const PROBES: usize = 3;
/// Between a table that happens to double once, some 2 MiB, and a leak of one KiB in each round, which comes to 6 MiB.
const GROWTH_MAX: usize = 3 << 20;
/// Of all captures on disk.
const DISK_BYTES: u64 = 4 << 20;

/// The trap and what it is connected to.
struct Long {
    trap: Trap,
    maps: Maps,
    metrics: Metrics,
    namer: Namer,
    disk: Disk,
    now_ns: u64,
    captures: usize,
}

impl Long {
    fn new(directory: &std::path::Path) -> Long {
        let names = || (0..PROBES).map(|probe| format!("probe {probe}"));
        let setting = Setting {
            window_ns: 15 * S,
            history_ns: 10 * S,
            grace_ns: 2 * S,
            intervals_max: 4096,
            target: "unit a.service".into(),
            source: "none".into(),
            missing: Vec::new(),
            machine: Machine::default(),
        };
        let trigger = Trigger::new(Rules::default(), [2; PROBES]);
        Long {
            trap: Trap::new(setting, trigger, names(), S),
            maps: Maps::start().unwrap(),
            metrics: Metrics::new("none", names()),
            namer: Namer::new(),
            disk: Disk::open(directory, DISK_BYTES).unwrap(),
            now_ns: S,
            captures: 0,
        }
    }

    /// Intervals with threads, names and stacks that were never seen before, and some that were.
    fn intervals(&mut self, round: usize, pid: i32) -> Vec<Interval> {
        let own = std::process::id().cast_signed();
        let code = [Long::new as *const (), Long::round as *const (), peak as *const ()];
        let code = code.map(|function| function.addr() as u64 + 4);
        let stacks = &mut self.trap.recorder.stacks;
        let mut interval = |number: usize| {
            let tid = pid + (number % 50) as i32;
            let kernel = stacks.intern_names(&[format!("function_{}", number % 300), "schedule".to_owned()]);
            let new = (round * 1000 + number) as u64;
            let user =
                if number.is_multiple_of(2) { stacks.intern(pid, &[new, 7], 0) } else { stacks.intern(own, &code, 0) };
            let stack = StackPair { kernel, user };
            let thread = Thread { pid, tid, name: format!("worker-{}", number % 50) };
            let end_ns = self.now_ns + number as u64 * 1_000_000;
            let waker = Some(Waker { thread: thread.clone(), at_ns: end_ns, stack });
            let kind = match number % 3 {
                0 => Kind::OffCpu { sleep: Sleep::Uninterruptible, waker },
                1 => Kind::Hold { mode: Mode::Write },
                _ => Kind::Wait { mode: Mode::Read },
            };
            let start_ns = end_ns.saturating_sub(30_000_000);
            Interval { kind, thread, owner_pid: pid, start_ns, end_ns, unfinished: false, call: None, stack }
        };
        (0..200).map(&mut interval).collect()
    }

    fn sample(&self) -> Sample {
        let row = || vec![self.now_ns; 64];
        let totals = Totals { holds: [row(), row()], waits: [row(), row()], ..Totals::default() };
        let (at_ns, dropped) = (self.now_ns, self.trap.recorder.dropped());
        Sample {
            at_ns,
            totals: Some(totals),
            losses: Losses::default(),
            unwatched_threads: 0,
            throttled_ns: Some(1),
            own_cpu_ns: 1,
            dropped,
        }
    }

    fn facts(&self, pid: i32) -> Facts {
        let at_ns = self.now_ns;
        let memory = MemoryPoint { at_ns, resident_bytes: 1, virtual_bytes: 2, faults: [3, 4], threads: 5 };
        let runs = Runs::read(&[std::process::id().cast_signed()], at_ns);
        Facts { at_ns, memory, runs, processes: vec![(pid, "server".to_owned())] }
    }

    /// A second of the service's life.
    fn round(&mut self, round: usize) {
        self.now_ns += S;
        let pid = 1_000_000 + (round / RESTART_EVERY * 100) as i32;
        if round.is_multiple_of(RESTART_EVERY) {
            self.trap.restarted(self.now_ns);
        }
        let own = (std::process::id().cast_signed(), "own".to_owned());
        self.maps.watch(&[(pid, format!("server-{pid}")), own], self.now_ns);
        if self.trap.is_calm(self.now_ns) {
            self.maps.read(self.now_ns);
            self.maps.show(|_| ());
        }
        let intervals = self.intervals(round, pid);
        self.metrics.figures().intervals += intervals.len() as u64;
        self.trap.recorder.keep(intervals);
        let sample = self.sample();
        self.trap.sample(sample);
        // The service freezes for some seconds now and then, and one probe fails by chance.
        let is_frozen = (3..8).contains(&(round % CAPTURE_EVERY));
        for probe in 0..PROBES {
            let failed = is_frozen || (round + probe).is_multiple_of(11);
            let failure = failed.then(|| format!("no answer in round {round}"));
            self.metrics.figures().probes[probe].answer(1_000_000, failed);
            let answer = Answer { began_ns: self.now_ns, took_ns: 1_000_000, failure, since_ns: None };
            match self.trap.answer(probe, answer, self.now_ns) {
                Some(Event::Capture(onset)) => {
                    let facts = self.facts(pid);
                    self.trap.begin(onset, facts, "2026-11-27T23:25:01Z".to_owned());
                }
                Some(Event::Recovered { at_ns, .. }) => {
                    let sample = self.sample();
                    self.trap.recovered(at_ns, sample, Runs::default());
                }
                Some(Event::Suppressed(..)) | None => {}
            }
        }
        if self.trap.capture_ends_ns().is_some_and(|ends_ns| self.now_ns >= ends_ns) {
            let unfinished = self.intervals(round, pid);
            let (sample, facts) = (self.sample(), self.facts(pid));
            let evidence = self.trap.end(unfinished, &sample, facts).unwrap();
            let maps = self.maps.shared();
            let freeze = freeze_trap::watch::writer::explained(evidence, &mut self.namer, &maps);
            self.disk.store(&freeze, &format!("capture-{round}")).unwrap();
            self.captures += 1;
        }
        assert!(!self.metrics.figures().page().is_empty());
    }
}

/// The most that was in use at the end of a round, in those of the range.
fn peak(long: &mut Long, rounds: std::ops::Range<usize>, leak: &mut Vec<Vec<u8>>, leak_bytes: usize) -> usize {
    let each = |round| {
        long.round(round);
        if leak_bytes > 0 {
            leak.push(vec![0; leak_bytes]);
        }
        in_use_bytes()
    };
    rounds.map(each).max().unwrap_or(0)
}

/// By how much the second half of the rounds needs more than the first, with a leak of so many bytes in each.
fn growth(leak_bytes: usize) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let mut long = Long::new(directory.path());
    let mut leak = Vec::with_capacity(WARM + 2 * COMPARED);
    let ends = [0, WARM, WARM + COMPARED, WARM + 2 * COMPARED];
    let peaks = [0, 1, 2].map(|part| peak(&mut long, ends[part]..ends[part + 1], &mut leak, leak_bytes));
    assert_eq!(long.captures, ends[3].div_ceil(CAPTURE_EVERY), "captures");
    println!("{leak_bytes} bytes leaked in a round: at most {peaks:?} bytes in use");
    peaks[2].saturating_sub(peaks[1])
}

// One test, as both count all that is in use.
#[test]
fn memory_does_not_grow_and_a_leak_would_be_noticed() {
    let (growth_bytes, with_leak_bytes) = (growth(0), growth(1024));
    assert!(growth_bytes < GROWTH_MAX, "{growth_bytes} bytes more");
    assert!(with_leak_bytes >= GROWTH_MAX, "a leak is not seen: only {with_leak_bytes} bytes more");
}
