//! The canaries: threads that do what every thread of a service does now and then, and note how long it took.
//!
//! [`stage`](crate::stage) starts them before a scenario touches memory and collects what they felt in each phase.
//!
//! A canary's turns are due once in a period, on a schedule that does not move. A turn counts from when the canary woke
//! up for it, so that the lateness of timers is nobody's wait; but one that was due before the turn before was over
//! counts from when it was due. Turns that fall into a wait are left out, and the
//! [`Recorder`] counts them. So whatever keeps a canary from its turns is in the record, also
//! where it is in the part of a turn that is not measured.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock;
use crate::latency::Recorder;
use crate::memory::{self, Mapping};
use crate::phase::{Phase, PhaseCell};
use crate::record::{CanaryRecord, PhaseLatency, Span};

/// Sizes of the small blocks, taken in turn.
const SMALL_BYTES: [usize; 6] = [16, 40, 96, 256, 700, 2048];
/// The size of the large block.
pub const LARGE_BYTES: usize = 64 * 1024;

/// One turn; gives when the part that is measured was over.
pub type Action = Box<dyn FnMut() -> Result<u64, String> + Send>;

/// What a canary does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Allocates, fills and frees a small block and one of 64 KiB.
    Block,
    /// Maps and unmaps a page, and so needs `mmap_lock` for writing.
    Map,
    /// Maps a page and touches it for the first time; unmapping it is not measured.
    Fault,
    /// Starts a thread, and waits until it runs; how it ends is not measured.
    Thread,
}

impl Kind {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Block, Self::Map, Self::Fault, Self::Thread];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Map => "map",
            Self::Fault => "fault",
            Self::Thread => "thread",
        }
    }

    /// The name of its thread, at most 15 bytes.
    const fn thread_name(self) -> &'static str {
        match self {
            Self::Block => "canary block",
            Self::Map => "canary map",
            Self::Fault => "canary fault",
            Self::Thread => "canary thread",
        }
    }

    /// The time from one turn to the next. As long as a wait that anybody would notice: where there are few processors,
    /// turns five times as often made the canaries wait for one another (the limit's worst was 3.4 to 4.3 ms instead of
    /// 0.4 to 0.6 ms), and the doubling take a tenth longer.
    pub const fn period(self) -> Duration {
        match self {
            Self::Block | Self::Map | Self::Fault => Duration::from_millis(1),
            // A thread costs some tens of microseconds of other cores too.
            Self::Thread => Duration::from_millis(5),
        }
    }

    /// What is done in every turn. It is measured up to the time that it gives, a time of the [`clock`]; what it does
    /// after that puts the next turn off.
    pub fn action(self) -> Result<Action, String> {
        let page_bytes = NonZeroUsize::new(memory::page_bytes()).ok_or("the page size is zero")?;
        let map = move || Mapping::new(page_bytes).map_err(|error| format!("mmap: {error}"));
        let unmap = |mapping: Mapping| mapping.unmap().map_err(|error| format!("munmap: {error}"));
        Ok(match self {
            Self::Block => blocks(),
            Self::Map => Box::new(move || {
                unmap(map()?)?;
                Ok(clock::now_ns())
            }),
            Self::Fault => Box::new(move || {
                let mut mapping = map()?;
                mapping.touch(0);
                let end_ns = clock::now_ns();
                unmap(mapping)?;
                Ok(end_ns)
            }),
            Self::Thread => Box::new(|| {
                let thread = thread::Builder::new().spawn(clock::now_ns);
                let thread = thread.map_err(|error| format!("a thread could not be started: {error}"))?;
                thread.join().map_err(|_| "a thread that does nothing panicked".to_owned())
            }),
        })
    }
}

/// Allocates, fills, checks and frees two blocks.
fn blocks() -> Action {
    let mut turns = (0_u8..=u8::MAX).cycle().zip(SMALL_BYTES.into_iter().cycle());
    Box::new(move || {
        let (pattern, small_bytes) = turns.next().unwrap_or((0, LARGE_BYTES));
        let small = black_box(vec![pattern; small_bytes]);
        let large = black_box(vec![!pattern; LARGE_BYTES]);
        // A byte in every cache line or so is enough to notice another owner, and costs little of the latency.
        let intact =
            small.iter().all(|byte| *byte == pattern) && large.iter().step_by(61).all(|byte| *byte == !pattern);
        // The last first: the limit takes nothing else back.
        drop(large);
        drop(small);
        let end_ns = clock::now_ns();
        if intact { Ok(end_ns) } else { Err("a block changed while it was in use".to_owned()) }
    })
}

/// When the turns are due.
#[derive(Debug)]
struct Schedule {
    due_ns: u64,
    period_ns: u64,
}

impl Schedule {
    /// The first due time after a turn that was measured up to `end_ns`.
    fn skip(&mut self, end_ns: u64) {
        let periods = end_ns.saturating_sub(self.due_ns) / self.period_ns + 1;
        self.due_ns += periods * self.period_ns;
    }
}

/// A canary that waits, or is at work; it stops when its phase cell has ended.
#[derive(Debug)]
pub struct Canary {
    kind: Kind,
    start: Sender<u64>,
    thread: JoinHandle<Result<Recorder, String>>,
}

impl Canary {
    /// Starts the thread, which waits for [`begin`](Self::begin).
    pub fn new(kind: Kind, phases: &'static [Phase], cell: &Arc<PhaseCell>) -> Result<Self, String> {
        Self::with_action(kind, phases, cell, kind.action()?)
    }

    fn with_action(
        kind: Kind,
        phases: &'static [Phase],
        cell: &Arc<PhaseCell>,
        action: Action,
    ) -> Result<Self, String> {
        let recorder = Recorder::new(phases, nanos(kind.period()))?;
        let cell = Arc::clone(cell);
        let (start, started) = channel();
        let body = move || sing(kind, recorder, &cell, &started, action);
        let failed = |error| format!("the {} could not be started: {error}", kind.thread_name());
        let thread = thread::Builder::new().name(kind.thread_name().to_owned()).spawn(body).map_err(failed)?;
        Ok(Self { kind, start, thread })
    }

    /// Lets it begin; times are counted from `start_ns` of the clock.
    pub fn begin(&self, start_ns: u64) {
        // A canary that has failed says so when it is joined.
        let _ = self.start.send(start_ns);
    }

    /// What it does.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Waits for the canary to stop and gives what it recorded, charged to the phases by when they were.
    pub fn join(self, phases: &[Phase], spans: &[Span]) -> Result<CanaryRecord, String> {
        drop(self.start);
        let result = self.thread.join().unwrap_or_else(|_| Err("panicked".to_owned()));
        let mut recorder = result.map_err(|error| format!("the {} failed: {error}", self.kind.thread_name()))?;
        recorder.settle(spans);
        let latency = |(index, phase): (usize, &Phase)| {
            Some(PhaseLatency { phase: phase.name.to_owned(), latency: recorder.latency(index)? })
        };
        let phases = phases.iter().enumerate().filter_map(latency).collect();
        Ok(CanaryRecord { kind: self.kind.name().to_owned(), phases, timeline: recorder.into_timeline() })
    }
}

/// Measures until the end.
fn sing(
    kind: Kind,
    mut recorder: Recorder,
    cell: &PhaseCell,
    started: &Receiver<u64>,
    mut action: Action,
) -> Result<Recorder, String> {
    // Nobody lets it begin if the scenario failed before.
    let Ok(start_ns) = started.recv() else { return Ok(recorder) };
    let mut schedule = Schedule { due_ns: clock::now_ns(), period_ns: nanos(kind.period()) };
    let mut moment = cell.get();
    loop {
        let early_ns = schedule.due_ns.saturating_sub(clock::now_ns());
        thread::sleep(Duration::from_nanos(early_ns));
        let before = std::mem::replace(&mut moment, cell.get());
        if moment.is_end() {
            return Ok(recorder);
        }
        // A turn that is late began to wait in the turn before it.
        let (begin, begin_ns) = if early_ns > 0 { (moment, clock::now_ns()) } else { (before, schedule.due_ns) };
        let end_ns = action()?;
        recorder.record(begin, cell.get(), begin_ns.saturating_sub(start_ns)..end_ns.saturating_sub(start_ns));
        schedule.skip(end_ns);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: &[Phase] = &[Phase::quiet("first"), Phase::busy("second")];

    #[test]
    fn every_kind_measures_until_the_end() {
        let cell = Arc::new(PhaseCell::new());
        let canaries: Vec<_> = Kind::ALL.iter().map(|kind| Canary::new(*kind, PHASES, &cell).unwrap()).collect();
        cell.set(1);
        canaries.iter().for_each(|canary| canary.begin(clock::now_ns()));
        thread::sleep(Kind::Thread.period() * 50);
        cell.end();
        for canary in canaries {
            let (kind, record) = (canary.kind(), canary.join(PHASES, &[]).unwrap());
            assert_eq!(record.kind, kind.name());
            let [only] = &record.phases[..] else { panic!("{record:?}") };
            assert_eq!(only.phase, "second");
            assert!(only.latency.worst_ns > 0 && !record.timeline.worst_ns.is_empty(), "{record:?}");
        }
    }

    #[test]
    fn what_is_not_measured_puts_the_next_turn_off_and_counts_there() {
        const UNMEASURED: Duration = Duration::from_millis(5);
        let cell = Arc::new(PhaseCell::new());
        cell.set(1);
        let (turn, turns) = channel();
        let action = Box::new(move || {
            let end_ns = clock::now_ns();
            thread::sleep(UNMEASURED);
            turn.send(()).map_err(|error| error.to_string())?;
            Ok(end_ns)
        });
        let canary = Canary::with_action(Kind::Map, PHASES, &cell, action).unwrap();
        canary.begin(clock::now_ns());
        turns.iter().take(3).for_each(drop);
        cell.end();
        turns.iter().for_each(drop);
        let record = canary.join(PHASES, &[]).unwrap();
        let latency = &record.phases[0].latency;
        assert!(latency.worst_ns >= nanos(UNMEASURED - Kind::Map.period()), "{latency:?}");
        assert!(latency.p50_ns > nanos(Kind::Map.period()), "also the turns that were left out: {latency:?}");
    }

    #[test]
    fn the_schedule_does_not_move() {
        let mut schedule = Schedule { due_ns: 100, period_ns: 10 };
        for (end_ns, due_ns) in [(100, 110), (119, 120), (120, 130), (555, 560)] {
            schedule.skip(end_ns);
            assert_eq!(schedule.due_ns, due_ns);
        }
    }

    #[test]
    fn one_that_never_begins_has_nothing_to_say() {
        let canary = Canary::new(Kind::Map, PHASES, &Arc::new(PhaseCell::new())).unwrap();
        assert!(canary.join(PHASES, &[]).unwrap().phases.is_empty());
    }

    #[test]
    fn a_failing_canary_says_so() {
        let cell = Arc::new(PhaseCell::new());
        let failing = Box::new(|| Err("no luck".to_owned()));
        let canary = Canary::with_action(Kind::Map, PHASES, &cell, failing).unwrap();
        canary.begin(0);
        assert_eq!(canary.join(PHASES, &[]).unwrap_err(), "the canary map failed: no luck");
    }

    #[test]
    fn thread_names_fit_the_kernel() {
        assert!(Kind::ALL.iter().all(|kind| kind.thread_name().len() <= 15));
    }
}
