//! The trap without its surroundings: what it is shown goes into the flight recorder, answers of probes set it off, and
//! at the end of a window everything that is known is handed over to be explained. Driven by the main loop.
//!
//! Invariant: no clock, no file, and no source in here. Memory is bounded by the recorder's limits, the probes' answers
//! that are kept, and the samples.

use std::collections::{BTreeMap, HashSet};

use super::running::Runs;
use super::samples::{Sample, Samples};
use super::timeline::Timeline;
use crate::analysis::{Circumstances, Running};
use crate::event::Interval;
use crate::freeze::{Machine, MemoryPoint, Seen, Target, Trigger as Cause, Window};
use crate::probe::Answer;
use crate::recorder::{Limits, Recorder, stacks_of};
use crate::source::{Losses, Totals};
use crate::stack::{StackId, Stacks};
use crate::trigger::{Event, Onset, Trigger};

/// What does not change while it watches.
#[derive(Clone, Debug)]
pub struct Setting {
    /// How long a capture goes on after the trap went off.
    pub window_ns: u64,
    /// How much of the time before a freeze is told.
    pub history_ns: u64,
    /// How long a service that was started may take until its probes succeed.
    pub grace_ns: u64,
    /// Intervals that are kept at most.
    pub intervals_max: usize,
    /// What is watched, as on the command line.
    pub target: String,
    /// The source's name.
    pub source: String,
    /// What a privilege or option that is missing would add.
    pub missing: Vec<String>,
    /// The machine.
    pub machine: Machine,
}

/// What is asked of the machine when the trap goes off, and again at the end.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When.
    pub at_ns: u64,
    /// The processes' memory.
    pub memory: MemoryPoint,
    /// What the threads have run.
    pub runs: Runs,
    /// The processes with their names.
    pub processes: Vec<(i32, String)>,
}

/// A capture under way.
#[derive(Clone, Debug)]
struct Capture {
    onset: Onset,
    begun: Facts,
    trigger_wall: String,
    /// When the probe that set the trap off was well again, with the counts and times of then.
    recovered: Option<(u64, Sample, Runs)>,
}

/// All that is known of a freeze.
#[derive(Debug)]
pub struct Evidence {
    /// Intervals of the window.
    pub intervals: Vec<Interval>,
    /// Their stacks, without names.
    pub stacks: Stacks,
    /// When.
    pub window: Window,
    /// The source's totals at the window's start and end.
    pub totals: Option<(Totals, Totals)>,
    /// Time that the cgroup was refused while frozen.
    pub throttled_ns: Option<u64>,
    /// What the threads ran while frozen.
    pub running: Vec<Running>,
    /// The rest.
    pub circumstances: Circumstances,
}

impl Evidence {
    /// The stacks that the intervals refer to.
    #[must_use]
    pub fn stack_ids(&self) -> HashSet<StackId> {
        self.intervals.iter().flat_map(stacks_of).collect()
    }
}

/// Probes that have had no success since the service was started.
#[derive(Clone, Debug, Default)]
struct Starting {
    probes: HashSet<usize>,
    until_ns: u64,
}

/// The trap.
#[derive(Debug)]
pub struct Trap {
    setting: Setting,
    /// What happened lately.
    pub recorder: Recorder,
    /// What the probes said lately.
    pub timeline: Timeline,
    trigger: Trigger,
    samples: Samples,
    /// Nothing was seen before.
    armed_ns: u64,
    /// Whose failures do not count, as the service is only starting.
    starting: Starting,
    capture: Option<Capture>,
}

impl Trap {
    /// Armed at a time, with probes of these names.
    #[must_use]
    pub fn new(setting: Setting, trigger: Trigger, probes: impl IntoIterator<Item = String>, now_ns: u64) -> Trap {
        // What sets the trap off began some failures ago, so that more is kept than a report tells.
        let history_ns = setting.history_ns.saturating_mul(2).saturating_add(setting.window_ns);
        Trap {
            recorder: Recorder::new(Limits { history_ns, intervals_max: setting.intervals_max }),
            timeline: Timeline::new(history_ns, probes),
            trigger,
            samples: Samples::new(history_ns),
            armed_ns: now_ns,
            starting: Starting::default(),
            capture: None,
            setting,
        }
    }

    /// Until when a capture goes on, if one is under way.
    #[must_use]
    pub fn capture_ends_ns(&self) -> Option<u64> {
        self.capture.as_ref().map(|capture| capture.begun.at_ns.saturating_add(self.setting.window_ns))
    }

    /// What was suppressed, and when captures began.
    #[must_use]
    pub fn trigger(&self) -> &Trigger {
        &self.trigger
    }

    /// From when on a report of a freeze that began then tells.
    fn window_start_ns(&self, frozen_ns: u64) -> u64 {
        let asked_ns = frozen_ns.saturating_sub(self.setting.history_ns);
        asked_ns.max(self.armed_ns).max(self.recorder.complete_from_ns().min(frozen_ns))
    }

    /// What a capture under way will ask for.
    fn needed_ns(&self) -> Option<u64> {
        self.capture.as_ref().map(|capture| capture.onset.frozen_ns.saturating_sub(self.setting.history_ns))
    }

    /// Takes counts.
    pub fn sample(&mut self, sample: Sample) {
        let needed_ns = self.needed_ns();
        self.samples.push(sample, needed_ns);
    }

    /// Takes the answer of a probe. [`Trap::begin`] is owed for [`Event::Capture`], [`Trap::recovered`] for
    /// [`Event::Recovered`].
    pub fn answer(&mut self, probe: usize, answer: Answer, now_ns: u64) -> Option<Event> {
        if answer.failure.is_none() {
            self.starting.probes.remove(&probe);
        }
        let counts = !self.is_starting(probe, now_ns);
        let event = if counts { self.trigger.see(probe, &answer, now_ns) } else { None };
        let needed_ns = self.needed_ns();
        self.timeline.push(probe, answer, needed_ns);
        event
    }

    /// Whether a failure of a probe would lead to an event; whether the service has ended should be known before.
    #[must_use]
    pub fn would_go_off(&mut self, probe: usize, now_ns: u64) -> bool {
        !self.is_starting(probe, now_ns) && self.trigger.would_go_off(probe, now_ns)
    }

    /// The service was started: failures until then do not count, nor do those of a probe before its first success, if
    /// that comes within the grace that is given to it.
    pub fn restarted(&mut self, now_ns: u64) {
        self.trigger.forget_failures();
        let probes = (0..self.timeline.len()).collect();
        self.starting = Starting { probes, until_ns: now_ns.saturating_add(self.setting.grace_ns) };
    }

    fn is_starting(&self, probe: usize, now_ns: u64) -> bool {
        now_ns < self.starting.until_ns && self.starting.probes.contains(&probe)
    }

    /// Whether nothing is wrong as far as is known: no capture is under way, and no probe's last answer was a failure
    /// that counts. Then the service may be asked for more.
    #[must_use]
    pub fn is_calm(&self, now_ns: u64) -> bool {
        let is_well = |probe: usize| !self.timeline.has_failed(probe) || self.is_starting(probe, now_ns);
        self.capture.is_none() && (0..self.timeline.len()).all(is_well)
    }

    /// Begins a capture.
    pub fn begin(&mut self, onset: Onset, facts: Facts, trigger_wall: String) {
        self.recorder.pin(self.window_start_ns(onset.frozen_ns), onset.frozen_ns);
        self.capture = Some(Capture { onset, begun: facts, trigger_wall, recovered: None });
    }

    /// Takes note that the service is well again, with counts and times of now: the frozen time is over, the window of
    /// a capture goes on.
    pub fn recovered(&mut self, at_ns: u64, sample: Sample, runs: Runs) {
        if let Some(capture) = &mut self.capture {
            capture.recovered.get_or_insert((at_ns, sample, runs));
            self.recorder.thawed(at_ns);
        }
    }

    /// Ends the capture that is under way: at the end of its window, or early. `unfinished` are the intervals that are
    /// not over; all that has ended has been shown to the recorder.
    pub fn end(&mut self, unfinished: Vec<Interval>, end: &Sample, facts: Facts) -> Option<Evidence> {
        let capture = self.capture.take()?;
        let Capture { onset, begun, trigger_wall, recovered } = capture;
        self.trigger.captured(end.at_ns);
        self.recorder.unpin();
        let window = Window {
            start_ns: self.window_start_ns(onset.frozen_ns),
            frozen_ns: onset.frozen_ns,
            trigger_ns: begun.at_ns,
            recovered_ns: recovered.as_ref().map(|(at_ns, ..)| *at_ns),
            end_ns: end.at_ns,
            trigger_wall,
        };
        let start = self.samples.before(window.start_ns).cloned().unwrap_or_else(|| end.clone());
        let frozen = self.samples.before(window.frozen_ns).cloned().unwrap_or_else(|| end.clone());
        let (frozen_end, runs) = recovered.map_or((end.clone(), facts.runs), |(_, sample, runs)| (sample, runs));
        let is_inside = |one: &&Interval| one.end_ns >= window.start_ns && one.start_ns <= window.end_ns;
        let mut intervals: Vec<Interval> = self.recorder.intervals().filter(is_inside).cloned().collect();
        intervals.extend(unfinished.into_iter().filter(|one| is_inside(&one)));
        let used: HashSet<StackId> = intervals.iter().flat_map(stacks_of).collect();
        let processes: BTreeMap<i32, String> = begun.processes.into_iter().chain(facts.processes).collect();
        let name = self.timeline.name(onset.probe).to_owned();
        let circumstances = Circumstances {
            target: Target { name: self.setting.target.clone(), processes: processes.into_iter().collect() },
            trigger: Cause { probe: name, found: onset.found, failures: onset.failures },
            memory: vec![begun.memory, facts.memory],
            probes: self.timeline.lines(window.start_ns, window.end_ns),
            seen: Seen {
                source: self.setting.source.clone(),
                losses: Losses {
                    intervals: end.losses.intervals.saturating_sub(start.losses.intervals),
                    threads: end.losses.threads.saturating_sub(start.losses.threads)
                        + self.samples.unwatched_threads_max(window.start_ns).max(end.unwatched_threads),
                },
                dropped: end.dropped.saturating_sub(start.dropped),
                unknown_frames: (0, 0),
                own_cpu_ns: end.own_cpu_ns.saturating_sub(start.own_cpu_ns),
                missing: self.setting.missing.clone(),
            },
            machine: self.setting.machine.clone(),
        };
        Some(Evidence {
            stacks: self.recorder.stacks.only(&used),
            intervals,
            totals: start.totals.zip(end.totals.clone()),
            throttled_ns: frozen.throttled_ns.zip(frozen_end.throttled_ns).map(|(from, to)| to.saturating_sub(from)),
            running: begun.runs.until(&runs),
            window,
            circumstances,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Kind, Sleep, Thread};
    use crate::stack::StackPair;
    use crate::trigger::Rules;

    const S: u64 = 1_000_000_000;

    fn trap() -> Trap {
        let setting = Setting {
            window_ns: 5 * S,
            history_ns: 5 * S,
            grace_ns: 0,
            intervals_max: 100,
            target: "unit a.service".into(),
            source: "none".into(),
            missing: Vec::new(),
            machine: Machine::default(),
        };
        Trap::new(setting, Trigger::new(Rules::default(), [1]), ["probe".to_owned()], 0)
    }

    fn facts(at_ns: u64) -> Facts {
        let memory = MemoryPoint { at_ns, resident_bytes: 0, virtual_bytes: 0, faults: [0; 2], threads: 0 };
        Facts { at_ns, memory, runs: Runs::default(), processes: Vec::new() }
    }

    fn onset() -> Onset {
        Onset { probe: 0, frozen_ns: 2 * S, failures: 1, found: String::new() }
    }

    /// What a capture says was lost, of a source that had lost as many threads and left out as many each second.
    fn lost_threads(each_second: &[(u64, u64)]) -> u64 {
        let mut trap = trap();
        let samples = (1..).zip(each_second).map(|(second, &(threads, unwatched_threads))| {
            let losses = Losses { intervals: 0, threads };
            Sample { at_ns: second * S, losses, unwatched_threads, ..Sample::default() }
        });
        let mut samples: Vec<Sample> = samples.collect();
        let end = samples.pop().unwrap();
        samples.into_iter().for_each(|sample| trap.sample(sample));
        trap.begin(onset(), facts(3 * S), String::new());
        let evidence = trap.end(Vec::new(), &end, facts(end.at_ns)).unwrap();
        evidence.circumstances.seen.losses.threads
    }

    #[test]
    fn threads_that_are_left_out_all_the_time_are_lost_though_nothing_changes() {
        assert_eq!(lost_threads(&[(0, 8000), (0, 8000), (0, 8000), (0, 8000)]), 8000);
        assert_eq!(lost_threads(&[(70, 0), (71, 0), (72, 0), (73, 0)]), 3, "those before do not count");
        assert_eq!(lost_threads(&[(0, 8000), (0, 8000), (0, 8000), (0, 0)]), 8000, "the service has ended");
    }

    #[test]
    fn sleeps_after_the_freeze_do_not_take_the_place_of_waits_in_it() {
        let off = |start_ns: u64, lasts_ns: u64| Interval {
            kind: Kind::OffCpu { sleep: Sleep::Interruptible, waker: None },
            thread: Thread { pid: 1, tid: 2, name: "worker".into() },
            owner_pid: 1,
            start_ns,
            end_ns: start_ns + lasts_ns,
            unfinished: false,
            call: None,
            stack: StackPair::default(),
        };
        let mut trap = trap();
        trap.begin(onset(), facts(3 * S), String::new());
        trap.recorder.keep((0..50).map(|_| off(2 * S, S / 2)));
        trap.recovered(3 * S, Sample::default(), Runs::default());
        trap.recorder.keep((0..500).map(|_| off(4 * S, S)));
        let end = Sample { at_ns: 8 * S, ..Sample::default() };
        let evidence = trap.end(Vec::new(), &end, facts(8 * S)).unwrap();
        assert_eq!(evidence.intervals.iter().filter(|one| one.start_ns == 2 * S).count(), 50);
    }
}
