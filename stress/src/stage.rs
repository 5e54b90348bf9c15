//! The stage on which a scenario plays in the child: phases, canaries, figures, and the talk with the harness.
//!
//! [`child`](crate::child) sets it up, the [`scenario`](crate::scenario) uses it, and what was noted becomes the
//! child's [`Record`].

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::canary::{Canary, Kind};
use crate::clock;
use crate::hooks::Hooks;
use crate::idle::{self, Back, IdleSample};
use crate::memory;
use crate::phase::{Phase, PhaseCell};
use crate::record::{CanaryRecord, Figure, Record, Span, Unit};
use crate::scenario::PREWARM;
use crate::talk::{self, Line};

/// Room for what is looked at while nothing happens: ten minutes.
const IDLE_SAMPLES: usize = 6000;

/// Where a scenario plays.
pub struct Stage<'hooks> {
    hooks: &'hooks dyn Hooks,
    phases: &'static [Phase],
    /// Whether a harness listens and answers.
    is_watched: bool,
    cell: Arc<PhaseCell>,
    canaries: Vec<Canary>,
    start_ns: u64,
    /// Calls for writing that the allocator had counted when the scenario began.
    writes_before: Option<u64>,
    spans: Vec<Span>,
    figures: Vec<Figure>,
    idle: Vec<IdleSample>,
    notes: Vec<String>,
}

impl<'hooks> Stage<'hooks> {
    /// A stage for a scenario with these phases, with the canaries waiting.
    pub fn new(
        hooks: &'hooks dyn Hooks,
        phases: &'static [Phase],
        kinds: &[Kind],
        is_watched: bool,
    ) -> Result<Self, String> {
        let cell = Arc::new(PhaseCell::new());
        let canaries: Result<Vec<_>, _> = kinds.iter().map(|kind| Canary::new(*kind, phases, &cell)).collect();
        Ok(Self {
            hooks,
            phases,
            is_watched,
            cell,
            canaries: canaries?,
            start_ns: 0,
            writes_before: None,
            spans: Vec::with_capacity(64),
            figures: Vec::with_capacity(32),
            // Growing would be work for the allocator that is watched.
            idle: Vec::with_capacity(IDLE_SAMPLES),
            notes: Vec::new(),
        })
    }

    /// What can be asked of the allocator.
    pub fn hooks(&self) -> &'hooks dyn Hooks {
        self.hooks
    }

    /// Whether a harness listens and answers.
    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Says that the scenario is set up, and lets the canaries begin when the harness has answered. To be called once,
    /// before the first phase: from here on the kernel is asked who takes `mmap_lock`.
    pub fn begin(&mut self) -> Result<(), String> {
        // Before the trace begins: what is counted later than this may be traced, and what is traced is counted later.
        self.writes_before = self.hooks.write_lock_calls();
        self.ask(&Line::Ready)?;
        self.start_ns = clock::now_ns();
        self.canaries.iter().for_each(|canary| canary.begin(self.start_ns));
        Ok(())
    }

    /// Does `work` in `phase`, which must be one of the scenario's, and gives its result and how many nanoseconds it
    /// took. A phase may come several times.
    pub fn play<T>(&mut self, phase: &str, work: impl FnOnce(&mut Self) -> T) -> Result<(T, u64), String> {
        let known = self.phases.iter().enumerate().find(|(_, known)| known.name == phase);
        let (index, known) = known.ok_or_else(|| format!("the scenario has no phase {phase:?}"))?;
        if self.is_watched {
            talk::say(&Line::Phase { name: phase.to_owned() })?;
        }
        let mut span = Span { phase: phase.to_owned(), is_busy: known.is_busy, start_ns: 0, end_ns: 0 };
        self.cell.set(index);
        span.start_ns = self.now_ns();
        let result = work(self);
        span.end_ns = self.now_ns();
        self.cell.leave();
        let took_ns = span.end_ns - span.start_ns;
        self.spans.push(span);
        Ok((result, took_ns))
    }

    /// Like [`play`](Self::play), and notes the time as the figure of the phase's name.
    pub fn time<T>(&mut self, phase: &str, work: impl FnOnce(&mut Self) -> T) -> Result<T, String> {
        let (result, took_ns) = self.play(phase, work)?;
        self.figure(phase, Some(took_ns), Unit::Ns);
        Ok(result)
    }

    /// Does nothing for `time` in `phase` but look at resident memory now and then, and at what is overdue; gives what
    /// was seen.
    pub fn rest(&mut self, phase: &str, time: Duration) -> Result<Vec<IdleSample>, String> {
        let first = self.idle.len();
        let (result, _) = self.play(phase, |stage| stage.look(time))?;
        result?;
        Ok(self.idle[first..].to_vec())
    }

    fn look(&mut self, time: Duration) -> Result<(), String> {
        let end_ns = self.now_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        loop {
            if self.idle.len() < self.idle.capacity() {
                self.idle.push(IdleSample {
                    at_ns: self.now_ns(),
                    rss_kib: rss_kib()?,
                    backlog_bytes: self.hooks.backlog_bytes(),
                });
            }
            let left = Duration::from_nanos(end_ns.saturating_sub(self.now_ns()));
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(idle::PERIOD));
        }
    }

    /// Says that so many bytes are about to be touched, and waits until the harness has let go of as many. To be called
    /// between two phases.
    pub fn about_to_touch(&self, bytes: u64) -> Result<(), String> {
        self.ask(&Line::About { bytes })
    }

    /// Has the allocator make one block of `block_bytes` warm in the phase `prewarm`, if it is the one that is asked
    /// beforehand; `touches_bytes` are touched by that.
    pub fn prewarm(&mut self, touches_bytes: u64, block_bytes: u64) -> Result<(), String> {
        let hooks = self.hooks;
        if hooks.prewarms() {
            self.about_to_touch(touches_bytes)?;
            let prewarmed = self.time(PREWARM, |_| hooks.prewarm(block_bytes))?;
            prewarmed.into_iter().for_each(|prewarmed| self.note(prewarmed.to_string()));
        }
        Ok(())
    }

    /// Says that the last phase is over. To be called before threads and the like are taken down, as that takes
    /// `mmap_lock` for writing; a scenario that has none need not, as [`end`](Self::end) does it.
    pub fn over(&self) -> Result<(), String> {
        self.ask(&Line::Over)
    }

    /// Says the line and waits for the answer, if there is anybody to hear it.
    pub fn ask(&self, line: &Line) -> Result<(), String> {
        if self.is_watched { talk::ask(line) } else { Ok(()) }
    }

    /// Notes a figure; `None` for what should have happened and did not.
    pub fn figure(&mut self, name: &str, value: Option<u64>, unit: Unit) {
        self.figures.push(Figure { name: name.to_owned(), value, unit });
    }

    /// Notes resident memory as a figure.
    pub fn rss_figure(&mut self, name: &str) -> Result<u64, String> {
        let rss_kib = rss_kib()?;
        self.figure(name, Some(rss_kib), Unit::Kib);
        Ok(rss_kib)
    }

    /// Notes the most memory that was resident so far as a figure.
    pub fn peak_rss_figure(&mut self, name: &str) -> Result<(), String> {
        let peak_kib = memory::peak_rss_kib().map_err(|error| format!("peak of resident memory: {error}"))?;
        self.figure(name, Some(peak_kib), Unit::Kib);
        Ok(())
    }

    /// Notes the figures `back after` and, if the allocator says, `back due`, by which
    /// [`targets::memory_back`](crate::targets::memory_back) judges.
    pub fn back_figures(&mut self, back: Back) {
        // What was not watched until it was due has not failed to come.
        if back.after_ns.is_some() || back.due_ns.is_none_or(|due_ns| due_ns <= back.watched_ns) {
            self.figure("back after", back.after_ns, Unit::Ns);
        }
        if back.due_ns.is_some() {
            self.figure("back due", back.due_ns, Unit::Ns);
        }
    }

    /// Notes a sentence that a reader should know.
    pub fn note(&mut self, sentence: String) {
        self.notes.push(sentence);
    }

    /// Nanoseconds since the scenario began.
    pub fn now_ns(&self) -> u64 {
        clock::now_ns().saturating_sub(self.start_ns)
    }

    /// Ends the canaries and gives what was noted.
    pub fn end(self) -> Result<Record, String> {
        self.over()?;
        self.cell.end();
        let join = |canary: Canary| canary.join(self.phases, &self.spans);
        let canaries = self.canaries.into_iter().map(join).collect::<Result<Vec<CanaryRecord>, _>>()?;
        Ok(Record {
            allocator: self.hooks.name().to_owned(),
            version: self.hooks.version(),
            start_ns: self.start_ns,
            spans: self.spans,
            figures: self.figures,
            canaries,
            idle: self.idle,
            giving_back: self.hooks.giving_back(),
            write_lock_calls: self.hooks.write_lock_calls().map(|calls| calls - self.writes_before.unwrap_or(0)),
            notes: self.notes,
        })
    }
}

/// Resident memory of this process, or a sentence that says why it cannot be read.
pub fn rss_kib() -> Result<u64, String> {
    memory::rss_kib().map_err(|error| format!("resident memory: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Some3;

    impl Hooks for Some3 {
        fn name(&self) -> &'static str {
            "some"
        }

        fn backlog_bytes(&self) -> Option<u64> {
            Some(3)
        }
    }

    const PHASES: &[Phase] = &[Phase::quiet("control"), Phase::busy("work")];

    #[test]
    fn what_is_played_is_recorded() {
        let mut stage = Stage::new(&Some3, PHASES, &[Kind::Map], false).unwrap();
        stage.begin().unwrap();
        stage.rest("control", Duration::from_millis(5)).unwrap();
        assert_eq!(stage.time("work", |_| 7).unwrap(), 7);
        stage.figure("never", None, Unit::Ns);
        stage.rss_figure("live").unwrap();
        stage.peak_rss_figure("peak").unwrap();
        stage.note("A word.".to_owned());
        let record = stage.end().unwrap();
        let spans: Vec<_> = record.spans.iter().map(|span| (span.phase.as_str(), span.is_busy)).collect();
        assert_eq!(spans, [("control", false), ("work", true)]);
        let work = record.span("work").unwrap();
        assert_eq!(record.figure("work"), Some(work.end_ns - work.start_ns));
        assert!(work.start_ns >= record.spans[0].end_ns && record.spans[0].end_ns >= 5_000_000);
        assert_eq!((record.figure("never"), record.figures.len(), record.notes.len()), (None, 4, 1));
        assert!(record.latency("map", "control").is_some() && record.idle[0].backlog_bytes == Some(3));
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }

    #[test]
    fn an_unknown_phase_is_refused() {
        let mut stage = Stage::new(&Some3, PHASES, &[], false).unwrap();
        assert_eq!(stage.play("lunch", |_| ()).unwrap_err(), "the scenario has no phase \"lunch\"");
    }
}
