//! What a load found: latencies by phase and over time. Built by [`load`](super::load) from what was
//! [`Sent`] and the [`Answers`], and printed by `stress-load` as one line of JSON.
//!
//! A latency counts from the time a request was due, not from when it could be sent, and a request without a reply
//! counts with its age: a service that stands still cannot hide the wait of those who come meanwhile.

use serde::{Deserialize, Serialize};

use super::receiver::Answers;
use super::schedule::Schedule;
use super::sender::Sent;
use crate::latency::{self, Latency, Timeline};

/// A phase of the load, by when requests were due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadPhase {
    /// Nothing but the usual traffic.
    Before,
    /// From the put that makes the index grow until its reply, and at least a second.
    Doubling,
    /// The usual traffic again.
    After,
}

impl LoadPhase {
    /// Every phase, in order.
    pub const ALL: [Self; 3] = [Self::Before, Self::Doubling, Self::After];
}

/// What clients felt in one phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadPhaseLatency {
    /// The phase.
    pub name: LoadPhase,
    /// When it began, by `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// The latencies of the requests that were due meanwhile; `None` if none was.
    pub latency: Option<Latency>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// Replies that did not say what they had to.
    pub wrong: u64,
    /// Requests that could not be sent because their connection was gone. They have no latency.
    pub refused: u64,
    /// Requests that were sent and got no reply. Their age is counted as their latency.
    pub unanswered: u64,
}

/// What a load found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// When the first request was due, by `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// What clients felt in each phase, in order; what was due in the warm-up is in none.
    pub phases: Vec<LoadPhaseLatency>,
    /// The latencies over time, from the first request on and with the warm-up.
    pub timeline: Timeline,
    /// Requests that were due.
    pub sent: u64,
    /// Requests that got a reply.
    pub answered: u64,
    /// What went wrong.
    pub errors: Errors,
    /// The latency of the put that makes the index grow; `None` if it got no reply.
    pub trigger_latency_ns: Option<u64>,
    /// How much later than due the generator sent its requests. What is here is in the latencies too, and is not the
    /// server's fault.
    pub late: Option<Latency>,
}

impl LoadReport {
    /// What clients felt in `phase`.
    pub fn phase(&self, phase: LoadPhase) -> Option<&LoadPhaseLatency> {
        self.phases.iter().find(|entry| entry.name == phase)
    }

    /// Puts together what was sent and what was received. `measured_from_ns` is the end of the warm-up, `now_ns` the
    /// time up to which requests without a reply grew old.
    pub fn new(
        schedule: &Schedule,
        sent: &Sent,
        answers: &[Answers],
        measured_from_ns: u64,
        now_ns: u64,
    ) -> Result<Self, String> {
        let begins_ns = [measured_from_ns, schedule.trigger_due_ns(), sent.doubling_end_ns, sent.end_ns]
            .map(|time_ns| time_ns.min(sent.end_ns));
        let mut histograms = vec![latency::histogram()?; LoadPhase::ALL.len()];
        let mut timeline = Timeline::new();
        let mut errors = Errors { wrong: answers.iter().map(|answers| answers.wrong).sum(), ..Errors::default() };
        let mut trigger_latency_ns = None;
        for number in 0..sent.due {
            let (connection, position) = (schedule.connection(number), schedule.position(number));
            let due_ns = schedule.due_ns(number);
            let place = usize::try_from(position).unwrap_or(usize::MAX);
            let latency_ns = match answers[connection].at_ns.get(place) {
                Some(at_ns) => at_ns.saturating_sub(due_ns),
                None if position < sent.accepted[connection] => {
                    errors.unanswered += 1;
                    now_ns.saturating_sub(due_ns)
                }
                None => {
                    errors.refused += 1;
                    continue;
                }
            };
            timeline.note(due_ns - schedule.start_ns + latency_ns, latency_ns);
            if let Some(phase) = begins_ns.windows(2).position(|span| (span[0]..span[1]).contains(&due_ns)) {
                histograms[phase].saturating_record(latency_ns.max(1));
            }
            if number == schedule.trigger && place < answers[connection].at_ns.len() {
                trigger_latency_ns = Some(latency_ns);
            }
        }
        let phases = LoadPhase::ALL.into_iter().zip(&histograms).zip(begins_ns.windows(2));
        Ok(Self {
            start_ns: schedule.start_ns,
            phases: phases
                .map(|((name, histogram), span)| LoadPhaseLatency {
                    name,
                    start_ns: span[0],
                    end_ns: span[1],
                    latency: Latency::of(histogram),
                })
                .collect(),
            timeline,
            sent: sent.due,
            answered: answers.iter().map(|answers| answers.at_ns.len() as u64).sum(),
            errors,
            trigger_latency_ns,
            late: Latency::of(&sent.late),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::NS_PER_MS;
    use super::*;

    const SCHEDULE: Schedule =
        Schedule { start_ns: 1_000, rate_per_s: 1_000, connections: 2, keys: 9, seed: 1, trigger: 10, put_key: 9 };

    fn samples(phase: &LoadPhaseLatency) -> u64 {
        phase.latency.as_ref().map_or(0, |latency| latency.samples)
    }

    /// Twenty requests a millisecond apart, the doubling being of five.
    fn sent(accepted: [u64; 2]) -> Sent {
        Sent {
            due: 20,
            accepted: accepted.to_vec(),
            late: latency::histogram().unwrap(),
            doubling_end_ns: SCHEDULE.due_ns(15),
            end_ns: SCHEDULE.due_ns(20),
        }
    }

    /// The first `count` requests of a connection, each answered after `latency_ns`.
    fn answered(connection: usize, count: u64, latency_ns: u64) -> Answers {
        let at_ns = (0..count).map(|position| SCHEDULE.due_ns(SCHEDULE.number(connection, position)) + latency_ns);
        Answers { at_ns: at_ns.collect(), wrong: 0 }
    }

    #[test]
    fn latencies_belong_to_the_phase_in_which_requests_were_due() {
        let answers = [answered(0, 10, 3 * NS_PER_MS), answered(1, 10, 5 * NS_PER_MS)];
        let report = LoadReport::new(&SCHEDULE, &sent([10, 10]), &answers, SCHEDULE.due_ns(4), u64::MAX).unwrap();
        let samples: Vec<_> = report.phases.iter().map(|phase| (phase.name, samples(phase))).collect();
        assert_eq!(samples, [(LoadPhase::Before, 6), (LoadPhase::Doubling, 5), (LoadPhase::After, 5)]);
        assert_eq!(report.trigger_latency_ns, Some(3 * NS_PER_MS));
        assert_eq!((report.sent, report.answered, report.errors), (20, 20, Errors::default()));
        let doubling = report.phase(LoadPhase::Doubling).unwrap();
        assert_eq!((doubling.start_ns, doubling.end_ns), (SCHEDULE.due_ns(10), SCHEDULE.due_ns(15)));
        let worst_ns = doubling.latency.as_ref().unwrap().worst_ns;
        assert!(worst_ns.abs_diff(5 * NS_PER_MS) < 10_000, "{doubling:?}");
        assert_eq!(report.timeline.worst_ns.len(), 5, "with the warm-up: 24 ms in pieces of five");
    }

    #[test]
    fn what_was_never_answered_counts_with_its_age_and_what_was_not_sent_as_refused() {
        let answers = [answered(0, 4, 1), answered(1, 10, 1)];
        let now_ns = SCHEDULE.due_ns(100);
        let report = LoadReport::new(&SCHEDULE, &sent([7, 10]), &answers, 0, now_ns).unwrap();
        assert_eq!(report.errors, Errors { wrong: 0, refused: 3, unanswered: 3 });
        assert_eq!((report.sent, report.answered, report.trigger_latency_ns), (20, 14, None));
        let doubling = report.phase(LoadPhase::Doubling).unwrap();
        let worst_ns = doubling.latency.as_ref().unwrap().worst_ns;
        assert!(worst_ns.abs_diff(90 * NS_PER_MS) < 100_000, "{doubling:?}");
    }

    #[test]
    fn a_load_that_ended_early_has_empty_phases() {
        let sent = Sent { due: 5, doubling_end_ns: SCHEDULE.due_ns(5), end_ns: SCHEDULE.due_ns(5), ..sent([3, 2]) };
        let report = LoadReport::new(&SCHEDULE, &sent, &[answered(0, 3, 1), answered(1, 2, 1)], 0, 0).unwrap();
        let ends: Vec<_> = report.phases.iter().map(|phase| (phase.end_ns, samples(phase))).collect();
        assert_eq!(ends, [(sent.end_ns, 5), (sent.end_ns, 0), (sent.end_ns, 0)]);
    }

    #[test]
    fn reports_survive_json() {
        let report = LoadReport::new(&SCHEDULE, &sent([0, 0]), &[answered(0, 0, 0), answered(1, 0, 0)], 0, 0).unwrap();
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<LoadReport>(&text).unwrap(), report);
    }
}
