//! What is reported of a child that the kernel killed for want of memory, where that is a result and not a failure:
//! such a child reports nothing itself.
//!
//! [`harness`](crate::harness) notes what it hears of each child.

use crate::clock;
use crate::record::{Record, Span};
use crate::scenario::Scenario;

/// What was heard of a child so far.
#[derive(Debug, Default)]
pub struct Heard {
    start_ns: u64,
    spans: Vec<Span>,
}

impl Heard {
    /// The child is ready: its scenario begins.
    pub fn begin(&mut self) {
        self.start_ns = clock::now_ns();
    }

    /// The child enters a phase; what is between this and the end of the last one is not heard.
    pub fn enter(&mut self, phase: &str, scenario: &dyn Scenario) {
        let now_ns = self.end_last();
        let is_busy = scenario.phases().iter().any(|known| known.name == phase && known.is_busy);
        self.spans.push(Span { phase: phase.to_owned(), is_busy, start_ns: now_ns, end_ns: now_ns });
    }

    fn end_last(&mut self) -> u64 {
        let now_ns = clock::now_ns().saturating_sub(self.start_ns);
        self.spans.last_mut().into_iter().for_each(|last| last.end_ns = now_ns);
        now_ns
    }

    /// The record of a child that is gone.
    pub fn record(mut self, allocator: &str, scenario: &dyn Scenario) -> Record {
        self.end_last();
        let last = self.spans.last().map_or("before the first phase".to_owned(), |last| {
            let times = self.spans.iter().filter(|span| span.phase == last.phase).count();
            format!("in the phase \"{}\" when it came for time number {times}", last.phase)
        });
        Record {
            allocator: allocator.to_owned(),
            version: String::new(),
            start_ns: self.start_ns,
            figures: scenario.figures_of_killed(&self.spans),
            spans: self.spans,
            canaries: Vec::new(),
            idle: Vec::new(),
            giving_back: None,
            write_lock_calls: None,
            notes: vec![format!("The kernel killed the process at the memory limit, {last}.")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::cgroup::Waves;

    #[test]
    fn what_was_heard_is_told_of_one_that_was_killed() {
        let waves = Waves { limit_bytes: 1 << 30, waves: 5, top_percent: 90, control_ms: 5, idle_ms: 5 };
        let mut heard = Heard::default();
        heard.begin();
        ["control", "wave", "free", "wave"].iter().for_each(|phase| heard.enter(phase, &waves));
        let record = heard.record("some", &waves);
        assert_eq!(record.figure("waves done"), Some(1));
        let spans: Vec<_> = record.spans.iter().map(|span| (span.phase.as_str(), span.is_busy)).collect();
        assert_eq!(spans, [("control", false), ("wave", true), ("free", true), ("wave", true)]);
        assert!(record.spans.windows(2).all(|pair| pair[0].end_ns == pair[1].start_ns));
        let note =
            "The kernel killed the process at the memory limit, in the phase \"wave\" when it came for time number 2.";
        assert_eq!(record.notes, [note]);
        assert!(Heard::default().record("some", &waves).notes[0].ends_with("before the first phase."));
    }
}
