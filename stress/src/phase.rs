//! What a child's main thread is doing, shared with its canaries.
//!
//! Each [`scenario`](crate::scenario) has a list of phases; [`stage`](crate::stage) sets the current one, the
//! [`canary`](crate::canary) threads read it before and after every measurement, and [`report`](crate::report) prints
//! one row for each.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::record::Span;

/// One stretch of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Its name in tables, in lower case.
    pub name: &'static str,
    /// Whether the main thread works on memory in it.
    pub is_busy: bool,
}

impl Phase {
    /// A phase in which the main thread works on memory.
    pub const fn busy(name: &'static str) -> Self {
        Self { name, is_busy: true }
    }

    /// A phase in which nothing happens but what the allocator does by itself.
    pub const fn quiet(name: &'static str) -> Self {
        Self { name, is_busy: false }
    }
}

/// Where the child is. Two moments are equal if no phase began or ended between them: a phase that comes again is
/// another moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(u32);

impl Moment {
    const BETWEEN: u8 = u8::MAX - 1;
    const ENDED: u8 = u8::MAX;

    const fn place(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// The phase's position in the scenario's list; `None` between two, where the harness is at work and what is felt
    /// says nothing of the allocator.
    pub fn phase(self) -> Option<usize> {
        (self.place() < Self::BETWEEN).then(|| usize::from(self.place()))
    }

    /// Whether it is all over.
    pub const fn is_end(self) -> bool {
        self.place() == Self::ENDED
    }
}

/// The phases to charge for a wait during which a phase began or ended, each once, and from when on it counts.
///
/// A wait that starts in a busy phase may end only after it (a doubling ends by freeing the old table), and a wait that
/// starts in a quiet phase may be caused by the busy one that follows, or even outlast it. So the whole of it belongs
/// to every busy phase it touched, or to the quiet ones if it touched none. Only what it lasted before the first phase
/// that it touched, while the harness was at work, does not count.
pub fn charged<'spans>(spans: &'spans [Span], wait: &Range<u64>) -> (u64, Vec<&'spans str>) {
    let is_touched = |span: &&Span| span.start_ns < wait.end && wait.start < span.end_ns;
    let touched = || spans.iter().filter(is_touched);
    let from_ns = touched().next().map_or(wait.start, |first| first.start_ns.max(wait.start));
    let any_busy = touched().any(|span| span.is_busy);
    let mut names: Vec<_> =
        touched().filter(|span| span.is_busy || !any_busy).map(|span| span.phase.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    (from_ns, names)
}

/// The current moment, set by one thread and read by the canaries.
#[derive(Debug)]
pub struct PhaseCell(AtomicU32);

impl PhaseCell {
    /// A cell before the first phase.
    pub const fn new() -> Self {
        Self(AtomicU32::new(Moment::BETWEEN as u32))
    }

    /// Enters the phase at `index`, which is below 254.
    pub fn set(&self, index: usize) {
        self.step(u8::try_from(index).unwrap_or(Moment::BETWEEN));
    }

    /// Leaves the phase; the next one comes later.
    pub fn leave(&self) {
        self.step(Moment::BETWEEN);
    }

    /// Tells the canaries to stop.
    pub fn end(&self) {
        self.step(Moment::ENDED);
    }

    /// Goes to a place; the bytes above it count the steps. Only one thread steps.
    fn step(&self, place: u8) {
        let steps = (self.0.load(Ordering::SeqCst) >> 8).wrapping_add(1);
        self.0.store((steps << 8) | u32::from(place), Ordering::SeqCst);
    }

    /// The moment now.
    pub fn get(&self) -> Moment {
        Moment(self.0.load(Ordering::SeqCst))
    }
}

impl Default for PhaseCell {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans of ten nanoseconds with one between each and the next.
    fn spans(names: &[&str]) -> Vec<Span> {
        let span = |(start_ns, name): (u64, &&str)| Span {
            phase: (*name).to_owned(),
            is_busy: !matches!(*name, "control" | "after" | "idle"),
            start_ns,
            end_ns: start_ns + 9,
        };
        (0..).step_by(10).zip(names).map(span).collect()
    }

    const ONCE: &[&str] = &["control", "doubling", "after", "drop", "idle"];
    const AGAIN: &[&str] = &["wave", "free", "wave", "free"];

    fn phases(names: &[&str], wait: Range<u64>) -> Vec<String> {
        charged(&spans(names), &wait).1.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_wait_across_a_change_is_charged_to_the_busy_side() {
        assert_eq!(phases(ONCE, 5..12), ["doubling"]);
        assert_eq!(phases(ONCE, 15..22), ["doubling"]);
        assert_eq!(phases(ONCE, 25..45), ["drop"]);
        assert_eq!(phases(ONCE, 15..32), ["doubling", "drop"]);
        assert_eq!(phases(&["control", "after"], 5..15), ["after", "control"]);
    }

    #[test]
    fn phases_that_come_again_are_charged_once() {
        assert_eq!(phases(AGAIN, 15..25), ["free", "wave"]);
        assert_eq!(phases(AGAIN, 5..25), ["free", "wave"]);
        assert_eq!(phases(&["wave", "idle", "wave"], 15..25), ["wave"]);
    }

    #[test]
    fn what_a_wait_lasted_before_the_first_phase_does_not_count() {
        let spans = spans(ONCE);
        assert_eq!(charged(&spans[1..], &(3..15)), (10, vec!["doubling"]));
        assert_eq!(charged(&spans, &(12..50)), (12, vec!["doubling", "drop"]));
        assert_eq!(charged(&spans, &(15..70)).0, 15, "what ends between two phases is charged in full");
        assert!(charged(&spans, &(19..20)).1.is_empty());
    }

    #[test]
    fn the_cell_tells_a_phase_from_the_same_one_later() {
        let cell = PhaseCell::new();
        assert_eq!(cell.get().phase(), None);
        cell.set(3);
        let first = cell.get();
        assert_eq!((first, first.phase()), (cell.get(), Some(3)));
        cell.leave();
        assert_eq!((cell.get().phase(), cell.get().is_end()), (None, false));
        cell.set(3);
        assert_eq!(cell.get().phase(), Some(3));
        assert_ne!(cell.get(), first);
        cell.end();
        assert_eq!((cell.get().phase(), cell.get().is_end()), (None, true));
    }
}
