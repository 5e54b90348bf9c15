//! How many bytes one call may cover: learned from what calls took. Pure. Called by `governor::pace`.
//!
//! Invariant: the step is whole slices. It grows to at most twice its size on each call, and shrinks at once when a
//! call took too long. A wary one then stays as it is for a while: among hugepages there may be small pages, which cost
//! twenty times as much, and a chunk at a time is fast enough. Below a chunk it goes only when calls over chunks are
//! too slow three times in a row, or, if it is not wary, more than a fifth of them: then the pages are small, and no
//! hugepage is cut; one slow call may be the machine's.

use crate::limits::{CHUNK_BYTES, SLICE_BYTES};
use crate::units::Nanos;

/// What a call over the budget adds to the suspicion that a chunk is too much. A call over a chunk that is within it
/// takes 1 away; all, if the step is wary: then that chunk was a hugepage.
const SUSPICION_OF_SLOW: u32 = 4;
/// The suspicion from which on a step may be less than a chunk: three slow calls in a row.
const SUSPICION_MAX: u32 = 3 * SUSPICION_OF_SLOW;
/// Calls within the budget after which a wary step grows again: after a first overrun, and at most, after four times as
/// many each time. With the most no more than one call in a thousand is an overrun, whatever the mixture of pages.
const CALM_CALLS: u32 = 16;
const CALM_CALLS_MAX: u32 = 4096;

/// The current step for one kind of range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    bytes: usize,
    bytes_max: usize,
    budget: Nanos,
    /// How much speaks for it that calls over a chunk or less take longer than the budget.
    suspicion: u32,
    /// Whether it is wary.
    wary: bool,
    /// Calls since the last overrun, and how many it takes until the step grows.
    calm: u32,
    calm_needed: u32,
}

impl Step {
    /// One chunk to begin with: in the default budget on most machines, whatever the pages are. At most `bytes_max`.
    pub(crate) const fn new(bytes_max: usize, budget: Nanos) -> Self {
        Step { bytes: CHUNK_BYTES, bytes_max, budget, suspicion: 0, wary: false, calm: 0, calm_needed: 0 }
    }

    /// The same, wary.
    pub(crate) const fn wary(self) -> Self {
        Step { wary: true, ..self }
    }

    /// Bytes that the next call may cover.
    pub(crate) const fn bytes(self) -> usize {
        self.bytes
    }

    /// Learns that a call over `bytes` took `time`: as many bytes as fit half of the budget at this rate. Calls over
    /// the same bytes differ by a half and more.
    pub(crate) fn learn(&mut self, bytes: usize, time: Nanos) {
        if bytes <= CHUNK_BYTES && time > self.budget {
            self.suspicion = (self.suspicion + SUSPICION_OF_SLOW).min(SUSPICION_MAX);
        } else if bytes == CHUNK_BYTES {
            self.suspicion = if self.wary { 0 } else { self.suspicion.saturating_sub(1) };
        }
        self.calm = self.calm.saturating_add(1);
        if self.wary && bytes > CHUNK_BYTES && time > self.budget {
            self.calm = 0;
            self.calm_needed = self.calm_needed.saturating_mul(4).clamp(CALM_CALLS, CALM_CALLS_MAX);
        } else if self.calm / 4 >= self.calm_needed {
            // All went well for long enough to forget the last overrun.
            self.calm_needed /= 4;
        }
        let affordable = (bytes as u64).saturating_mul(self.budget.0 / 2) / time.0.max(1);
        let affordable = usize::try_from(affordable).unwrap_or(usize::MAX);
        // A short piece tells little of a long one: it never makes the step grow.
        let may_grow = bytes >= self.bytes && (self.calm >= self.calm_needed || self.bytes < CHUNK_BYTES);
        let most = if may_grow { self.bytes * 2 } else { self.bytes };
        let step = affordable.min(most);
        let may_split = self.suspicion >= SUSPICION_MAX || self.bytes < CHUNK_BYTES;
        let (unit, least) =
            if step < CHUNK_BYTES && may_split { (SLICE_BYTES, SLICE_BYTES) } else { (CHUNK_BYTES, CHUNK_BYTES) };
        self.bytes = (step / unit * unit).clamp(least, self.bytes_max);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    const BUDGET: Nanos = Nanos(250_000);
    const MOST: usize = 64 << 20;

    /// Calls at `ns_per_mib` over and over; gives the steps.
    fn steps(ns_per_mib: u64, from: Step) -> std::vec::Vec<Step> {
        let mut step = from;
        let calls = (0..20).map(|_| {
            let bytes = step.bytes();
            step.learn(bytes, Nanos(((bytes >> 10) as u64 * ns_per_mib) >> 10));
            step
        });
        calls.collect()
    }

    #[test]
    fn cheap_calls_double_the_step_up_to_the_most() {
        let steps = steps(3_000, Step::new(MOST, BUDGET));
        let first: std::vec::Vec<_> = steps.iter().take(5).map(|step| step.bytes() / CHUNK_BYTES).collect();
        assert_eq!(first, [2, 4, 8, 16, 20], "no further than half of the budget");
        assert!(steps.iter().all(|step| (step.bytes() >> 20) as u64 * 3_000 <= BUDGET.0));
        let free = self::steps(1, Step::new(MOST, BUDGET));
        assert_eq!(free.last().map(|step| step.bytes()), Some(MOST));
    }

    #[test]
    fn a_wary_step_forgets_its_overruns_after_long_calm() {
        let mut step = Step::new(MOST, BUDGET).wary();
        for _ in 0..8 {
            step.learn(2 * CHUNK_BYTES, Nanos(BUDGET.0 + 1));
        }
        assert_eq!((step.bytes(), step.calm_needed), (CHUNK_BYTES, CALM_CALLS_MAX));
        let calm = |step: &mut Step, calls: u32| (0..calls).for_each(|_| step.learn(step.bytes(), Nanos(1)));
        calm(&mut step, CALM_CALLS_MAX - 1);
        assert_eq!(step.bytes(), CHUNK_BYTES);
        calm(&mut step, 16);
        assert_eq!(step.bytes(), MOST);
        calm(&mut step, 3 * CALM_CALLS_MAX);
        assert!(step.calm_needed < CALM_CALLS_MAX, "{step:?}");
    }

    #[test]
    fn small_pages_at_usual_cost_stay_at_a_chunk() {
        for ns_per_mib in [75_000, 80_000, 120_000] {
            for step in steps(ns_per_mib, Step::new(MOST, BUDGET)) {
                assert!(step.bytes() == CHUNK_BYTES, "{step:?} at {ns_per_mib}");
            }
        }
    }

    #[test]
    fn slow_pages_or_a_small_budget_make_steps_of_slices() {
        for (ns_per_mib, budget) in [(400_000, BUDGET), (75_000, Nanos(20_000))] {
            let steps = steps(ns_per_mib, Step::new(MOST, budget));
            let last = steps.last().unwrap().bytes();
            assert!(last < CHUNK_BYTES && last.is_multiple_of(SLICE_BYTES), "{last}");
            assert!(((last >> 10) as u64 * ns_per_mib) >> 10 <= budget.0, "{last}");
        }
    }

    #[test]
    fn an_overrun_shrinks_the_step_at_once_but_one_does_not_split_chunks() {
        let mut step = Step { bytes: MOST, ..Step::new(MOST, BUDGET) };
        step.learn(MOST, Nanos(BUDGET.0 * 16));
        assert_eq!(step.bytes(), CHUNK_BYTES);
        step.learn(CHUNK_BYTES, Nanos(BUDGET.0 * 100));
        step.learn(CHUNK_BYTES, Nanos(BUDGET.0 * 100));
        assert_eq!(step.bytes(), CHUNK_BYTES, "twice may be the machine");
        step.learn(CHUNK_BYTES, Nanos(BUDGET.0 * 100));
        assert_eq!(step.bytes(), SLICE_BYTES);
    }

    #[test]
    fn chunks_that_take_about_the_budget_are_split_but_a_few_slow_calls_split_none() {
        let overruns = |slow_of: &dyn Fn(u32) -> bool| {
            let mut step = Step::new(MOST, BUDGET);
            let mut over = 0;
            for call in 0..1000 {
                let chunk_ns = BUDGET.0 * if slow_of(call) { 11 } else { 9 } / 10;
                let ns = chunk_ns * step.bytes() as u64 / CHUNK_BYTES as u64;
                over += u32::from(ns > BUDGET.0);
                step.learn(step.bytes(), Nanos(ns));
            }
            (over, step.bytes())
        };
        for (every, over_max) in [(2, 5), (4, 10)] {
            let (over, bytes) = overruns(&|call| call % every == 0);
            assert!(over <= over_max && bytes < CHUNK_BYTES, "one in {every}: {over} overruns, {bytes} at the end");
        }
        assert_eq!(overruns(&|call| call % 6 == 0), (167, CHUNK_BYTES));
    }

    #[test]
    fn chunks_with_few_pages_among_slow_ones_do_not_mend_the_step_for_long() {
        let mut numbers = crate::lockfree::tests::Numbers::new(7);
        let mut step = Step::new(MOST, BUDGET);
        let mut over = 0;
        for _ in 0..10_000 {
            // Between 200 and 300 us for a chunk; one in ten is nearly empty.
            let chunk_ns = if numbers.below(10) == 0 { 20_000 } else { 200_000 + numbers.below(100_000) };
            let ns = chunk_ns * step.bytes() as u64 / CHUNK_BYTES as u64;
            over += u32::from(ns > BUDGET.0);
            step.learn(step.bytes(), Nanos(ns));
        }
        assert!(over < 1_000, "{over} of 10000");
    }

    #[test]
    fn a_wary_step_splits_only_after_slow_calls_in_a_row() {
        let mut step = Step::new(MOST, BUDGET).wary();
        for call in 0..1000 {
            step.learn(step.bytes(), Nanos(if call % 3 == 2 { 6_000 } else { BUDGET.0 + 1 }));
            assert!(step.bytes() >= CHUNK_BYTES, "{step:?}");
        }
    }

    #[test]
    fn steps_of_slices_grow_back() {
        let mut step = Step { bytes: SLICE_BYTES, suspicion: SUSPICION_MAX, ..Step::new(MOST, BUDGET) };
        for _ in 0..12 {
            step.learn(step.bytes(), Nanos(1_000));
        }
        assert_eq!(step.bytes(), MOST);
    }

    #[test]
    fn a_wary_step_grows_again_only_after_more_and_more_calls_that_went_well() {
        let mut step = Step::new(MOST, BUDGET).wary();
        let mut waits = std::vec::Vec::new();
        for _ in 0..7 {
            while step.bytes() < 8 * CHUNK_BYTES {
                step.learn(step.bytes(), Nanos(1_000));
            }
            step.learn(step.bytes(), Nanos(BUDGET.0 * 16));
            assert_eq!(step.bytes(), CHUNK_BYTES);
            let calls = (1..).find(|_| {
                step.learn(step.bytes(), Nanos(1_000));
                step.bytes() > CHUNK_BYTES
            });
            waits.push(calls.unwrap_or(0));
        }
        assert_eq!(waits, [16, 64, 256, 1024, 4096, 4096, 4096]);
    }

    #[test]
    fn a_short_piece_does_not_make_the_step_grow() {
        let mut step = Step { bytes: 8 * CHUNK_BYTES, ..Step::new(MOST, BUDGET) };
        step.learn(CHUNK_BYTES, Nanos(1));
        assert_eq!(step.bytes(), 8 * CHUNK_BYTES);
    }
}
