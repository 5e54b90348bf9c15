//! What a child's main thread is doing, shared with its canaries.
//!
//! [`child`](crate::child) sets the phase, the [`canary`](crate::canary) threads read it before and after every
//! measurement, and [`report`](crate::report) prints one row for each phase.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

/// One stretch of the replay. Busy and quiet phases alternate, but for the first two quiet ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The map is allocated and filled to its last free slot.
    Fill,
    /// The allocator makes memory warm for the table to come, if it was asked to; the main thread waits for it.
    Prewarm,
    /// Nothing happens: what the canaries feel here is the machine, not the allocator.
    Control,
    /// The one insert that makes the map double.
    Doubling,
    /// The doubled map is left alone for a moment, and then every entry is read and checked.
    AfterDoubling,
    /// The map is dropped.
    Drop,
    /// Nothing happens any more; an allocator may still be giving memory back.
    Idle,
}

impl Phase {
    /// Every phase, in the order in which a replay goes through them.
    pub const ALL: [Self; 7] =
        [Self::Fill, Self::Prewarm, Self::Control, Self::Doubling, Self::AfterDoubling, Self::Drop, Self::Idle];

    /// The position in [`Phase::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether the main thread works on memory in this phase.
    pub const fn is_busy(self) -> bool {
        matches!(self, Self::Fill | Self::Doubling | Self::Drop)
    }

    /// The phases to charge for a measurement that began in `begin` and ended in `end`.
    ///
    /// A wait that starts in a busy phase may end only after it (the doubling ends by freeing the old table), and a
    /// wait that starts in a quiet phase may be caused by the busy one that follows, or even outlast it. So a
    /// measurement that saw the phase change belongs to every busy phase it touched; one that did not belongs where it
    /// was.
    pub fn charged(begin: Self, end: Self) -> impl Iterator<Item = Self> {
        let touched = move |phase: &Self| begin <= *phase && *phase <= end;
        let busy = Self::ALL.into_iter().any(|phase| touched(&phase) && phase.is_busy());
        Self::ALL.into_iter().filter(move |phase| touched(phase) && (phase.is_busy() || !busy))
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fill => "fill",
            Self::Prewarm => "prewarm",
            Self::Control => "idle before (control)",
            Self::Doubling => "doubling",
            Self::AfterDoubling => "after doubling",
            Self::Drop => "drop",
            Self::Idle => "idle afterwards",
        })
    }
}

/// Where the replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// In a phase.
    In(Phase),
    /// Between two: the harness is at work, and what is felt now says nothing of the allocator.
    Between,
    /// It is over.
    Ended,
}

impl Moment {
    /// The phases to charge for a measurement that began at one moment and ended at another. What began or ended
    /// between two phases belongs to the one it touched.
    pub fn charged(begin: Self, end: Self) -> impl Iterator<Item = Phase> {
        let span = match (begin, end) {
            (Self::In(begin), Self::In(end)) => Some((begin, end)),
            (Self::In(only), _) | (_, Self::In(only)) => Some((only, only)),
            _ => None,
        };
        span.into_iter().flat_map(|(begin, end)| Phase::charged(begin, end))
    }
}

/// The current moment, set by one thread and read by the canaries.
#[derive(Debug)]
pub struct PhaseCell(AtomicU8);

impl PhaseCell {
    const BETWEEN: u8 = u8::MAX - 1;
    const ENDED: u8 = u8::MAX;

    /// A cell before the first phase.
    pub const fn new() -> Self {
        Self(AtomicU8::new(Self::BETWEEN))
    }

    /// Enters `phase`.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::SeqCst);
    }

    /// Leaves the phase; the next one comes later.
    pub fn leave(&self) {
        self.0.store(Self::BETWEEN, Ordering::SeqCst);
    }

    /// Tells the canaries to stop.
    pub fn end(&self) {
        self.0.store(Self::ENDED, Ordering::SeqCst);
    }

    /// The moment now.
    pub fn get(&self) -> Moment {
        match self.0.load(Ordering::SeqCst) {
            Self::ENDED => Moment::Ended,
            index => Phase::ALL.get(usize::from(index)).map_or(Moment::Between, |phase| Moment::In(*phase)),
        }
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

    fn charged(begin: Phase, end: Phase) -> Vec<Phase> {
        Phase::charged(begin, end).collect()
    }

    #[test]
    fn index_is_the_position_in_all() {
        for (index, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase.index(), index);
        }
    }

    #[test]
    fn a_measurement_inside_a_phase_is_charged_to_it() {
        for phase in Phase::ALL {
            assert_eq!(charged(phase, phase), [phase]);
        }
    }

    #[test]
    fn a_measurement_across_a_change_is_charged_to_the_busy_side() {
        assert_eq!(charged(Phase::Control, Phase::Doubling), [Phase::Doubling]);
        assert_eq!(charged(Phase::Doubling, Phase::AfterDoubling), [Phase::Doubling]);
        assert_eq!(charged(Phase::AfterDoubling, Phase::Idle), [Phase::Drop]);
        assert_eq!(charged(Phase::Doubling, Phase::Drop), [Phase::Doubling, Phase::Drop]);
    }

    #[test]
    fn what_touches_one_phase_and_none_is_charged_to_the_phase() {
        let charged = |begin, end| Moment::charged(begin, end).collect::<Vec<_>>();
        let [fill, control, doubling] = [Phase::Fill, Phase::Control, Phase::Doubling].map(Moment::In);
        assert_eq!(charged(fill, Moment::Between), [Phase::Fill]);
        assert_eq!(charged(Moment::Between, doubling), [Phase::Doubling]);
        assert_eq!(charged(control, Moment::Ended), [Phase::Control]);
        assert_eq!(charged(Moment::Between, Moment::Between), []);
        assert_eq!(charged(fill, control), [Phase::Fill], "the phase that was left out is not charged");
    }

    #[test]
    fn the_cell_gives_back_what_was_set_until_the_end() {
        let cell = PhaseCell::new();
        assert_eq!(cell.get(), Moment::Between);
        for phase in Phase::ALL {
            cell.set(phase);
            assert_eq!(cell.get(), Moment::In(phase));
        }
        cell.leave();
        assert_eq!(cell.get(), Moment::Between);
        cell.end();
        assert_eq!(cell.get(), Moment::Ended);
    }
}
