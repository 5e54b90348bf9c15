//! What each probe answered lately, for the time line of a report. Filled by the main loop.
//!
//! Invariant: bounded, by time and by number.

use std::collections::VecDeque;

use crate::freeze::ProbeLine;
use crate::probe::Answer;

/// Answers of one probe that are kept at most.
const POINTS_MAX: usize = 2048;

/// The answers of all probes.
#[derive(Debug)]
pub struct Timeline {
    history_ns: u64,
    probes: Vec<(String, VecDeque<Answer>)>,
}

impl Timeline {
    /// Of probes with these names, without answers; those that are older than this may go.
    #[must_use]
    pub fn new(history_ns: u64, names: impl IntoIterator<Item = String>) -> Self {
        Timeline { history_ns, probes: names.into_iter().map(|name| (name, VecDeque::new())).collect() }
    }

    /// Takes an answer of the probe of that number. What a capture may still ask for, from `needed_ns` on, stays.
    pub fn push(&mut self, probe: usize, answer: Answer, needed_ns: Option<u64>) {
        let Some((_, answers)) = self.probes.get_mut(probe) else { return };
        let oldest_ns = answer.ended_ns().saturating_sub(self.history_ns);
        let oldest_ns = needed_ns.map_or(oldest_ns, |needed_ns| needed_ns.min(oldest_ns));
        answers.push_back(answer);
        while answers.len() > POINTS_MAX || answers.front().is_some_and(|first| first.ended_ns() < oldest_ns) {
            answers.pop_front();
        }
    }

    /// The name of the probe of that number.
    #[must_use]
    pub fn name(&self, probe: usize) -> &str {
        self.probes.get(probe).map_or("", |(name, _)| name)
    }

    /// How many probes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.probes.len()
    }

    /// Whether the latest answer of a probe was a failure.
    #[must_use]
    pub fn has_failed(&self, probe: usize) -> bool {
        let last = self.probes.get(probe).and_then(|(_, answers)| answers.back());
        last.is_some_and(|last| last.failure.is_some())
    }

    /// What they answered in a window.
    #[must_use]
    pub fn lines(&self, start_ns: u64, end_ns: u64) -> Vec<ProbeLine> {
        let is_inside = |answer: &&Answer| answer.ended_ns() >= start_ns && answer.began_ns <= end_ns;
        let point = |answer: &Answer| (answer.began_ns, answer.took_ns, answer.failure.clone());
        let line = |(name, answers): &(String, VecDeque<Answer>)| ProbeLine {
            name: name.clone(),
            points: answers.iter().filter(is_inside).map(point).collect(),
        };
        self.probes.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(began_ns: u64, failure: Option<&str>) -> Answer {
        Answer { began_ns, took_ns: 10, failure: failure.map(str::to_owned), since_ns: None }
    }

    #[test]
    fn answers_of_the_window_are_told_and_old_ones_go() {
        let mut timeline = Timeline::new(100, ["a".to_owned(), "b".to_owned()]);
        assert!(!timeline.has_failed(1));
        for at_ns in (0..1000).step_by(10) {
            timeline.push(0, answer(at_ns, None), None);
        }
        timeline.push(1, answer(990, Some("no")), None);
        assert!(timeline.has_failed(1) && !timeline.has_failed(0) && timeline.len() == 2);
        assert!(timeline.probes[0].1.len() <= 12);
        let lines = timeline.lines(950, 980);
        assert_eq!(lines[0].points.iter().map(|point| point.0).collect::<Vec<_>>(), [940, 950, 960, 970, 980]);
        assert!(lines[1].points.is_empty());
        for at_ns in 0..10_000 {
            timeline.push(1, answer(1000 + at_ns, None), Some(0));
        }
        assert_eq!(timeline.probes[1].1.len(), POINTS_MAX);
        assert!(!timeline.has_failed(1));
    }
}
