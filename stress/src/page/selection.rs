//! What of a report the page shows: the allocators with their colours, the phases, and one round of each allocator.
//!
//! [`page`](super) makes one [`Selection`], every part of the page reads it.

use crate::candidates::LIMIT;
use crate::harness::Run;
use crate::record::Span;
use crate::report::Report;
use crate::scenario::CONTROL;
use crate::summary::{Summary, distinct};

/// Colours that an allocator may have; one more, 0, is for the limit.
const COLOURS: usize = 9;

/// What is shown.
#[derive(Debug)]
pub struct Selection<'a> {
    /// The allocators, in the order of the report.
    pub lanes: Vec<Lane<'a>>,
    /// The phases, in the order in which they were.
    pub phases: Vec<PhaseName<'a>>,
    /// The kinds of canaries.
    pub kinds: Vec<&'a str>,
    /// The busy phase that takes the most time; times are shown from its beginning.
    pub key_phase: Option<&'a str>,
}

/// A phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseName<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether the main thread worked on memory in it.
    pub is_busy: bool,
}

/// One allocator.
#[derive(Debug)]
pub struct Lane<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its position.
    pub index: usize,
    /// Its colour and line style, by their number in the style sheet.
    pub colour: usize,
    /// Its medians.
    pub summary: &'a Summary,
    /// All its rounds.
    pub runs: Vec<&'a Run>,
    /// The round that is drawn over time: the one whose key phase has the median length.
    pub run: &'a Run,
    /// The beginning of the key phase in that round; 0 if it had none.
    pub origin_ns: u64,
}

impl<'a> Selection<'a> {
    /// Chooses what to show.
    pub fn of(report: &'a Report) -> Self {
        let key_phase = key_phase(&report.runs);
        let lane = |(index, summary): (usize, &'a Summary)| {
            let runs: Vec<_> = report.runs.iter().filter(|run| run.record.allocator == summary.allocator).collect();
            let run = typical(&runs, key_phase)?;
            let origin_ns = key_span(run, key_phase).map_or(0, |span| span.start_ns);
            let colour = if summary.allocator == LIMIT { 0 } else { 1 + index % COLOURS };
            Some(Lane { name: &summary.allocator, index, colour, summary, runs, run, origin_ns })
        };
        let waits = || report.summaries.iter().flat_map(|summary| &summary.waits);
        Self {
            lanes: report.summaries.iter().enumerate().filter_map(lane).collect(),
            phases: phases(report),
            kinds: distinct(waits().map(|wait| wait.kind.as_str())),
            key_phase,
        }
    }

    /// From when to when anything was measured, in seconds from the beginning of the key phase.
    pub fn seconds(&self) -> (f64, f64) {
        let spans = || self.lanes.iter().flat_map(|lane| lane.run.record.spans.iter().map(move |span| (lane, span)));
        let begin = spans().map(|(lane, span)| lane.seconds(span.start_ns)).reduce(f64::min);
        let end = spans().map(|(lane, span)| lane.seconds(span.end_ns)).reduce(f64::max);
        (begin.unwrap_or(0.0), end.unwrap_or(1.0))
    }

    /// The phases in which freezes count: all after the control, as what is before it prepares.
    pub fn counted(&self) -> impl Iterator<Item = &'a str> {
        let control = self.phases.iter().position(|phase| phase.name == CONTROL);
        self.phases.iter().skip(control.map_or(0, |index| index + 1)).map(|phase| phase.name)
    }

    /// Whether the kernel told of `mmap_lock` in any round that is drawn.
    pub fn is_traced(&self) -> bool {
        self.lanes.iter().any(|lane| lane.run.locks.is_some())
    }

    /// What the seconds of an axis count from.
    pub fn time_axis(&self) -> String {
        match self.key_phase {
            Some(phase) => format!("seconds from the beginning of “{phase}”"),
            None => "seconds from the beginning".to_owned(),
        }
    }
}

impl Lane<'_> {
    /// A time of the drawn round's record, in seconds from the beginning of the key phase.
    pub fn seconds(&self, record_ns: u64) -> f64 {
        (record_ns as f64 - self.origin_ns as f64) / 1e9
    }

    /// The phase in which a moment of the drawn round was.
    pub fn phase_at(&self, record_ns: u64) -> Option<&str> {
        let spans = &self.run.record.spans;
        spans.iter().find(|span| (span.start_ns..=span.end_ns).contains(&record_ns)).map(|span| span.phase.as_str())
    }
}

impl Span {
    /// How long it lasted.
    fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// The longest span of the key phase in a run.
fn key_span<'a>(run: &'a Run, key_phase: Option<&str>) -> Option<&'a Span> {
    let of_key = run.record.spans.iter().filter(|span| Some(span.phase.as_str()) == key_phase);
    of_key.max_by_key(|span| span.length_ns())
}

/// The phase whose longest spans of all runs are longest in sum. What is busy before the control is preparation, such
/// as filling a map, and only chosen if nothing is busy after it.
fn key_phase(runs: &[Run]) -> Option<&str> {
    let prepares =
        |run: &Run, span: &Span| run.record.span(CONTROL).is_some_and(|control| span.end_ns <= control.start_ns);
    let busy = |is_chosen: &dyn Fn(bool) -> bool| {
        let chosen = runs
            .iter()
            .flat_map(|run| run.record.spans.iter().filter(move |span| span.is_busy && is_chosen(prepares(run, span))));
        distinct(chosen.map(|span| span.phase.as_str()))
    };
    let mut phases = busy(&|prepares| !prepares);
    if phases.is_empty() {
        phases = busy(&|_| true);
    }
    let total_ns = |phase: &str| {
        let longest = runs.iter().filter_map(|run| key_span(run, Some(phase)));
        longest.map(Span::length_ns).fold(0, u64::saturating_add)
    };
    phases.into_iter().rev().max_by_key(|phase| total_ns(phase))
}

/// The run whose key phase has the median length; of an even number, the shorter of the two in the middle.
fn typical<'a>(runs: &[&'a Run], key_phase: Option<&str>) -> Option<&'a Run> {
    let mut runs = runs.to_vec();
    runs.sort_by_key(|run| key_span(run, key_phase).map(Span::length_ns));
    runs.get(runs.len().checked_sub(1)? / 2).copied()
}

/// All phases: those that were, and those in which something was measured.
fn phases(report: &Report) -> Vec<PhaseName<'_>> {
    let spans = || report.runs.iter().flat_map(|run| &run.record.spans);
    let measured = report.summaries.iter().flat_map(|summary| &summary.waits).map(|wait| wait.phase.as_str());
    let is_busy = |name: &str| spans().any(|span| span.phase == name && span.is_busy);
    let was = distinct(spans().map(|span| span.phase.as_str()).chain(measured));
    let planned = report.plan.scenario().phases().iter().map(|phase| phase.name);
    let names = distinct(planned.filter(|name| was.contains(name)).chain(was.iter().copied()));
    names.into_iter().map(|name| PhaseName { name, is_busy: is_busy(name) }).collect()
}
