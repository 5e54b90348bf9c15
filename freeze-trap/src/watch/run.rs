//! The main loop: some fifty turns a second, in each of which the source is emptied, probes are heard, and what is due
//! is done. Started by `watch`.
//!
//! Invariant: nothing in a turn waits for the target, the disk or the network: its maps are read, reports are written,
//! and probes are asked on threads of their own. What fails is told once, and the watch goes on.

use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, exit};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::capture::{Facts, Trap};
use super::complaints::Complaints;
use super::end::{End, status};
use super::maps::Maps;
use super::metrics::Metrics;
use super::pace::Begun;
use super::restart::Restart;
use super::running::Runs;
use super::samples::Sample;
use super::schedule::{Schedule, TURN_NS};
use super::signals::{Came, ENDS, Signals};
use super::state::State;
use super::writer::{Outcome, Writer};
use super::{own, say};
use crate::clock::now_ns;
use crate::event::Interval;
use crate::probe::Board;
use crate::quantity;
use crate::source::Source;
use crate::target::{self, Ended, Target};
use crate::trigger::{Event, Onset, Why};

/// Signals that come one after the other within this time are one: timeout(1) sends its signal to the trap, and then to
/// all of its process group.
const TWICE_NS: u64 = 200_000_000;

/// A watch under way.
pub struct Run {
    /// The trap.
    pub trap: Trap,
    /// The probes.
    pub board: Board,
    /// What happens to captures. Ended before the source is taken down.
    pub writer: Writer,
    /// Where intervals come from.
    pub source: Box<dyn Source>,
    /// What is watched.
    pub target: Target,
    /// What is mapped where.
    pub maps: Maps,
    /// What is told to Prometheus.
    pub metrics: Metrics,
    /// Where the state goes.
    pub directory: PathBuf,
    /// What the user says.
    pub signals: Signals,
    /// One capture is enough.
    pub once: bool,
    /// The command is to be started again when it ends.
    pub restart: Option<Restart>,
    /// What is done when.
    pub schedule: Schedule,
    /// The processes of now.
    pub pids: Vec<i32>,
    /// The target may have been started before the trap, and it has not been looked yet which processes there are.
    pub may_run_already: bool,
    /// What was told.
    pub complaints: Complaints,
    /// Why it is to end, if it is.
    pub end: Option<End>,
    /// Captures that were written.
    pub captured: u64,
}

impl Run {
    /// Watches until the end.
    #[must_use]
    pub fn run(mut self) -> ExitCode {
        while self.goes_on() {
            let begun_ns = now_ns();
            self.turn(begun_ns);
            self.rest(begun_ns + TURN_NS);
        }
        self.finish()
    }

    /// Until there is a reason to end; a command that was passed the signal is waited for.
    fn goes_on(&mut self) -> bool {
        let Some(end) = self.end else { return true };
        if !matches!(end, End::Signal(_)) || !self.target.is_command() {
            return false;
        }
        let ended = self.target.ended();
        self.end = ended.map(End::Target).or(self.end);
        ended.is_none()
    }

    /// Waits until a time, and hears what came meanwhile.
    fn rest(&mut self, until_ns: u64) {
        thread::sleep(Duration::from_nanos(until_ns.saturating_sub(now_ns())));
        for came in self.signals.came() {
            self.hear(came);
        }
    }

    fn hear(&mut self, came: Came) {
        let now_ns = now_ns();
        let is_end = ENDS.contains(&came.signal);
        if is_end && self.schedule.signal_ns.is_some_and(|before_ns| now_ns - before_ns < TWICE_NS) {
            return;
        }
        if came.from_process
            && let Err(error) = self.target.pass_on(came.signal)
        {
            self.complaints.tell("the command", &error);
        }
        if !is_end {
            return;
        }
        self.schedule.signal_ns = Some(now_ns);
        if let Some(End::Signal(_)) = self.end {
            say(format_args!("{} again: ends at once", came.signal));
            self.save();
            // Without waiting for threads, as it is for that that the signal was sent twice.
            exit(128 + came.signal as i32);
        }
        say(format_args!("{}: ends", came.signal));
        self.end = Some(End::Signal(came.signal));
        self.end_capture();
    }

    /// What there is to do now.
    fn turn(&mut self, now_ns: u64) {
        if self.schedule.processes.is_due(now_ns) {
            self.look_for_processes(now_ns);
        }
        self.take();
        if self.board.wants_intervals() && self.schedule.unfinished.is_due(now_ns) {
            let begun = Begun::at(now_ns);
            let unfinished = self.unfinished();
            unfinished.iter().for_each(|interval| self.board.see(interval));
            self.schedule.unfinished.done(begun);
        }
        self.hear_probes();
        if self.schedule.counts.is_due(now_ns) {
            let begun = Begun::at(now_ns);
            let sample = self.count();
            self.show(&sample);
            self.trap.sample(sample);
            self.schedule.counts.done(begun);
        }
        if self.trap.capture_ends_ns().is_some_and(|ends_ns| now_ns >= ends_ns) {
            self.end_capture();
        }
        self.look_at_maps(now_ns);
        while let Some(outcome) = self.writer.outcome() {
            self.written(outcome);
        }
        if self.schedule.over_ns.is_some_and(|over_ns| now_ns >= over_ns) {
            self.end.get_or_insert(End::Time);
        }
    }

    /// Reads maps while the service is well; before a probe fails, its answer is late.
    fn look_at_maps(&mut self, now_ns: u64) {
        if let Some(text) = self.maps.stuck(now_ns) {
            say(text);
        }
        if !self.trap.is_calm(now_ns) || self.board.is_late(now_ns) {
            self.maps.hold();
            return;
        }
        self.maps.read(now_ns);
        self.maps.show(|known| self.source.learn(known));
    }

    /// Looks which processes there are, and whether it is over.
    fn look_for_processes(&mut self, now_ns: u64) {
        let begun = Begun::at(now_ns);
        match self.target.processes() {
            Ok(pids) => self.watch(pids, now_ns),
            Err(error) => self.complaints.tell("processes", &error),
        }
        match self.target.ended() {
            Some(Ended::Command(status)) if self.restart.is_some() && self.end.is_none() => {
                self.start_again(status, now_ns);
            }
            Some(ended) => {
                self.end.get_or_insert(End::Target(ended));
            }
            None => {}
        }
        self.schedule.processes.done(begun);
    }

    /// Starts the command again that has ended, unless it was started only just now.
    fn start_again(&mut self, status: ExitStatus, now_ns: u64) {
        match self.restart.as_mut().and_then(|restart| restart.start(now_ns)) {
            Some(Ok(target)) => {
                say(format_args!("{} has ended ({status}), and is started again", self.target.name()));
                self.target = target;
            }
            Some(Err(error)) => self.complaints.tell("it cannot be started again", &error),
            None => {}
        }
    }

    fn watch(&mut self, pids: Vec<i32>, now_ns: u64) {
        self.maps.watch(&target::names(&pids), now_ns);
        // Whoever runs already when it is looked for the first time was not started just now.
        let was_there = std::mem::take(&mut self.may_run_already);
        if pids == self.pids {
            return;
        }
        if let Err(error) = self.source.watch(&pids) {
            self.complaints.tell("not all processes are watched", &error);
        }
        self.board.watch(&pids);
        let is_new = !self.pids.iter().any(|pid| pids.contains(pid));
        if is_new {
            // Those that were frozen are gone.
            self.end_capture();
        }
        if is_new && !was_there {
            self.trap.restarted(now_ns);
        }
        match pids.as_slice() {
            [] => say(format_args!("{} has no process now", self.target.name())),
            _ if is_new => say(format_args!("{} has {} now", self.target.name(), list(&pids))),
            _ => {}
        }
        let mut figures = self.metrics.figures();
        figures.processes = pids.len();
        figures.starts += u64::from(is_new && !was_there && !pids.is_empty());
        drop(figures);
        self.pids = pids;
    }

    /// Empties the source.
    fn take(&mut self) {
        let mut told = Vec::new();
        let taken = self.source.take(&mut self.trap.recorder.stacks, &mut |interval| told.push(interval));
        if let Err(error) = taken {
            self.complaints.tell("the source cannot be read", &error);
            self.metrics.figures().errors += 1;
        }
        if told.is_empty() {
            return;
        }
        told.iter().for_each(|interval| self.board.see(interval));
        self.metrics.figures().intervals += told.len() as u64;
        self.trap.recorder.keep(told);
    }

    /// What is not over.
    fn unfinished(&mut self) -> Vec<Interval> {
        let mut unfinished = Vec::new();
        let asked = self.source.unfinished(&mut self.trap.recorder.stacks, &mut |one| unfinished.push(one));
        if let Err(error) = asked {
            self.complaints.tell("the source cannot be asked what is not over", &error);
        }
        unfinished
    }

    fn hear_probes(&mut self) {
        let now_ns = now_ns();
        let mut answers = Vec::new();
        self.board.take(now_ns, |probe, answer| answers.push((probe, answer)));
        let mut has_looked = false;
        for (probe, answer) in answers {
            // Whoever has just ended does not answer either. However dear the look, it comes before a capture.
            if answer.failure.is_some()
                && !has_looked
                && (self.schedule.failures.is_due(now_ns) || self.trap.would_go_off(probe, now_ns))
            {
                let begun = Begun::at(now_ns);
                self.look_for_processes(now_ns);
                self.schedule.failures.done(begun);
                has_looked = true;
            }
            self.metrics.figures().probes[probe].answer(answer.took_ns, answer.failure.is_some());
            // What does not run, or is ending, is not frozen.
            if self.pids.is_empty() || self.end.is_some() {
                continue;
            }
            match self.trap.answer(probe, answer, now_ns) {
                Some(Event::Capture(onset)) => self.begin(onset, now_ns),
                Some(Event::Suppressed(onset, why)) => suppressed(self.trap.timeline.name(probe), &onset, why),
                Some(Event::Recovered { at_ns, .. }) => {
                    let (sample, runs) = (self.count(), Runs::read(&self.pids, now_ns));
                    self.trap.recovered(at_ns, sample, runs);
                }
                None => {}
            }
        }
    }

    fn facts(&self, at_ns: u64) -> Facts {
        let pids = &self.pids;
        let (memory, runs) = (target::memory(pids, at_ns), Runs::read(pids, at_ns));
        Facts { at_ns, memory, runs, processes: target::names(pids) }
    }

    fn begin(&mut self, onset: Onset, now_ns: u64) {
        let since = quantity::time(now_ns.saturating_sub(onset.frozen_ns));
        say(format_args!("frozen since {since}: {}: {}", self.trap.timeline.name(onset.probe), onset.found));
        let wall = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        self.trap.begin(onset, self.facts(now_ns), wall);
        // So that the bound of an hour holds though the trap were killed; not here, as the disk may be what is frozen.
        self.writer.save(self.state());
    }

    /// Ends the capture that is under way, if there is one.
    fn end_capture(&mut self) {
        if self.trap.capture_ends_ns().is_none() {
            return;
        }
        self.take();
        let unfinished = self.unfinished();
        let sample = self.count();
        let facts = self.facts(sample.at_ns);
        let Some(evidence) = self.trap.end(unfinished, &sample, facts) else { return };
        if !self.writer.write(evidence) {
            say("a capture is lost: earlier ones are still being written");
            self.metrics.figures().lost_captures[1] += 1;
        }
    }

    fn written(&mut self, outcome: Outcome) {
        let mut figures = self.metrics.figures();
        match &outcome.stored {
            Ok(stored) => {
                self.captured += 1;
                figures.captures += 1;
                say(format_args!("caught: {}", outcome.sentence));
                say(format_args!("written to {} ({} bytes)", stored.path.display(), stored.bytes));
                stored.removed.iter().for_each(|old| say(format_args!("removed to make room: {}", old.display())));
            }
            Err(error) => {
                figures.lost_captures[0] += 1;
                say(format_args!("caught, and not written: {}: {error:#}", outcome.sentence));
            }
        }
        drop(figures);
        if self.once {
            self.end.get_or_insert(End::Once);
        }
    }

    /// What is counted, as it is now.
    fn count(&mut self) -> Sample {
        let totals = self.source.totals().unwrap_or_else(|error| {
            self.complaints.tell("the source cannot be asked for its totals", &error);
            None
        });
        let losses = self.source.losses().unwrap_or_else(|error| {
            self.complaints.tell("the source cannot be asked for its losses", &error);
            Default::default()
        });
        let unwatched_threads = self.source.unwatched_threads();
        if losses.threads > 0 || unwatched_threads > 0 {
            let why = anyhow!("there are more than --threads-max, or than {} can watch", self.source.name());
            self.complaints.tell("not all threads are watched", &why);
        }
        Sample {
            at_ns: now_ns(),
            totals,
            losses,
            unwatched_threads,
            throttled_ns: self.target.throttled_ns(),
            own_cpu_ns: own::cpu_ns(),
            dropped: self.trap.recorder.dropped(),
        }
    }

    /// Brings the metrics up to date.
    fn show(&mut self, sample: &Sample) {
        let mut figures = self.metrics.figures();
        figures.losses = sample.losses;
        figures.unwatched_threads = sample.unwatched_threads;
        figures.dropped = sample.dropped;
        figures.cpu_ns = sample.own_cpu_ns;
        figures.uptime_ns = sample.at_ns - self.schedule.started_ns;
        figures.resident_bytes = own::resident_bytes();
        figures.recorder = [self.trap.recorder.len(), self.trap.recorder.stacks.len()];
        figures.is_capturing = self.trap.capture_ends_ns().is_some();
        figures.suppressed = self.trap.trigger().suppressed();
    }

    fn state(&self) -> State {
        State::of(self.trap.trigger(), now_ns(), SystemTime::now())
    }

    /// Writes the state, now.
    fn save(&mut self) {
        if let Err(error) = self.state().write(&self.directory) {
            self.complaints.tell("the state cannot be written", &error.into());
        }
    }

    /// Writes what there is, and says what it has cost.
    fn finish(mut self) -> ExitCode {
        self.end_capture();
        let end = self.end;
        while self.writer.pending() > 0 {
            self.rest(now_ns() + TURN_NS);
            while let Some(outcome) = self.writer.outcome() {
                self.written(outcome);
            }
        }
        self.save();
        if self.target.is_command() && self.target.ended().is_none() {
            say(format_args!("{} goes on without the trap", self.target.name()));
        }
        let (cpu_ns, time_ns) = (own::cpu_ns(), now_ns() - self.schedule.started_ns);
        let per_minute = cpu_ns as f64 * 60.0 / time_ns.max(1) as f64;
        say(format_args!(
            "{} captured; it took {} of processor time in {}, {per_minute:.2} s a minute",
            self.captured,
            quantity::time(cpu_ns),
            quantity::time(time_ns)
        ));
        status(end, self.once, self.captured)
    }
}

/// A few numbers.
fn list(pids: &[i32]) -> String {
    match pids {
        [pid] => format!("process {pid}"),
        [first, ..] => format!("{} processes from {first} on", pids.len()),
        [] => "no process".to_owned(),
    }
}

fn suppressed(probe: &str, onset: &Onset, why: Why) {
    let why = match why {
        Why::Capturing => "frozen, which is in the capture under way",
        Why::Cooldown => "frozen, and not captured, as the last capture was only just made (--cooldown)",
        Why::Hourly => "frozen, and not captured, as there were enough in the last hour (--captures-per-hour)",
    };
    say(format_args!("{why}: {probe}: {}", onset.found));
}
