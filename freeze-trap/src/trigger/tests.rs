//! Aim: the trigger goes off when the rules say so and never otherwise.
//!
//! Method: cases by hand for each rule; then random histories, each judged a second time by a model that keeps the
//! whole history and looks through all of it again for every answer.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// Two probes that take 2 and 3 failures.
fn trigger(rules: Rules) -> Trigger {
    Trigger::new(rules, [2, 3])
}

fn answer(began_ns: u64, failed: bool) -> Answer {
    Answer { began_ns, took_ns: SECOND / 2, failure: failed.then(|| "no answer".to_owned()), since_ns: None }
}

/// Shows an answer half a second after its request.
fn show(trigger: &mut Trigger, probe: usize, began_ns: u64, failed: bool) -> Option<Event> {
    trigger.see(probe, &answer(began_ns, failed), began_ns + SECOND / 2)
}

fn onset(probe: usize, frozen_ns: u64, failures: u32) -> Onset {
    Onset { probe, frozen_ns, failures, found: "no answer".into() }
}

/// Fails a probe in each second of a range, and gives what came of it.
fn fail(trigger: &mut Trigger, probe: usize, seconds: std::ops::Range<u64>) -> Vec<Event> {
    seconds.filter_map(|second| show(trigger, probe, second * SECOND, true)).collect()
}

#[test]
fn failures_in_a_row_set_it_off_once() {
    let mut trigger = trigger(Rules::default());
    assert_eq!(fail(&mut trigger, 0, 10..11), []);
    assert_eq!(show(&mut trigger, 0, 11 * SECOND, false), None);
    assert_eq!(fail(&mut trigger, 0, 12..13), [], "a success came between");
    assert_eq!(fail(&mut trigger, 0, 13..20), [Event::Capture(onset(0, 12 * SECOND, 2))]);
    assert!(trigger.is_capturing());
    let recovered = Event::Recovered { probe: 0, at_ns: 20 * SECOND + SECOND / 2 };
    assert_eq!(show(&mut trigger, 0, 20 * SECOND, false), Some(recovered));
    assert_eq!(show(&mut trigger, 0, 21 * SECOND, false), None, "it recovers once");
}

#[test]
fn the_freeze_begins_where_the_first_failure_says() {
    let mut trigger = trigger(Rules::default());
    let long_ago = Answer { since_ns: Some(3 * SECOND), ..answer(10 * SECOND, true) };
    assert_eq!(trigger.see(0, &long_ago, 10 * SECOND), None);
    let event = show(&mut trigger, 0, 11 * SECOND, true);
    assert_eq!(event, Some(Event::Capture(onset(0, 3 * SECOND, 2))));
}

#[test]
fn probes_count_apart() {
    let mut trigger = trigger(Rules::default());
    assert_eq!(fail(&mut trigger, 1, 0..2), []);
    assert_eq!(fail(&mut trigger, 0, 2..3), []);
    assert_eq!(fail(&mut trigger, 1, 3..4), [Event::Capture(onset(1, 0, 3))]);
}

#[test]
fn what_freezes_during_a_capture_belongs_to_it() {
    let mut trigger = trigger(Rules::default());
    fail(&mut trigger, 0, 0..2);
    assert_eq!(fail(&mut trigger, 1, 2..6), [Event::Suppressed(onset(1, 2 * SECOND, 3), Why::Capturing)]);
    trigger.captured(17 * SECOND);
    assert_eq!(fail(&mut trigger, 1, 17..200), [], "the same freeze, however long it lasts");
    assert_eq!(fail(&mut trigger, 0, 17..200), []);
    assert_eq!(trigger.suppressed(), Suppressed { capturing: 1, ..Suppressed::default() });
}

#[test]
fn after_a_capture_there_is_a_pause_and_what_lasts_longer_is_captured_then() {
    let mut trigger = trigger(Rules::default());
    fail(&mut trigger, 0, 0..2);
    trigger.captured(17 * SECOND);
    show(&mut trigger, 0, 20 * SECOND, false);
    let suppressed = Event::Suppressed(onset(0, 30 * SECOND, 2), Why::Cooldown);
    assert_eq!(fail(&mut trigger, 0, 30..40), [suppressed]);
    // The pause ends at 77. That is the 48th failure since 30.
    let captured = Event::Capture(onset(0, 30 * SECOND, 48));
    assert_eq!(fail(&mut trigger, 0, 40..90), [captured]);
    assert_eq!(trigger.suppressed(), Suppressed { cooldown: 1, ..Suppressed::default() });
}

#[test]
fn an_hour_has_so_many_captures() {
    let mut trigger = trigger(Rules { cooldown_ns: 0, captures_per_hour: 2 });
    let mut freeze = |second: u64| {
        let events = fail(&mut trigger, 0, second..second + 2);
        if trigger.is_capturing() {
            trigger.captured((second + 2) * SECOND);
        }
        show(&mut trigger, 0, (second + 2) * SECOND, false);
        events
    };
    assert!(matches!(freeze(100)[..], [Event::Capture(_)]));
    assert!(matches!(freeze(200)[..], [Event::Capture(_)]));
    assert!(matches!(freeze(300)[..], [Event::Suppressed(_, Why::Hourly)]));
    assert!(matches!(freeze(3699)[..], [Event::Suppressed(_, Why::Hourly)]));
    assert!(matches!(freeze(3702)[..], [Event::Capture(_)]), "the first is an hour ago");
    assert!(matches!(freeze(3706)[..], [Event::Suppressed(_, Why::Hourly)]));
    assert_eq!(trigger.suppressed(), Suppressed { hourly: 3, ..Suppressed::default() });
}

#[test]
fn a_restart_forgets_failures() {
    let mut trigger = trigger(Rules::default());
    fail(&mut trigger, 0, 0..1);
    trigger.forget_failures();
    assert_eq!(fail(&mut trigger, 0, 1..2), []);
    assert_eq!(fail(&mut trigger, 0, 2..3), [Event::Capture(onset(0, SECOND, 2))]);
    trigger.forget_failures();
    assert_eq!(show(&mut trigger, 0, 4 * SECOND, false), None);
}

/// Something that happens after a while.
#[derive(Clone, Copy, Debug)]
enum Step {
    Answer { probe: usize, failed: bool },
    Captured,
}

/// The whole history, looked through again for every question.
#[derive(Default)]
struct Model {
    /// Probe, when it began, whether it failed, when it was seen.
    answers: Vec<(usize, u64, bool, u64)>,
    /// Index into the answers, and when.
    captures: Vec<(usize, u64)>,
    ends: Vec<u64>,
    /// Index into the answers of refusals, and why.
    refused: Vec<(usize, Why)>,
}

impl Model {
    /// Indices of the row of failures that the last answer ends.
    fn row(&self) -> Vec<usize> {
        let last = self.answers.last().unwrap().0;
        let own = self.answers.iter().enumerate().rev().filter(|(_, answer)| answer.0 == last);
        let mut row: Vec<usize> = own.take_while(|(_, answer)| answer.2).map(|(index, _)| index).collect();
        row.reverse();
        row
    }

    fn is_capturing(&self) -> bool {
        self.captures.len() > self.ends.len()
    }

    fn see(&mut self, rules: Rules, needed: &[usize], probe: usize, began_ns: u64, failed: bool) -> Option<Event> {
        let now_ns = began_ns + SECOND / 2;
        let index = self.answers.len();
        self.answers.push((probe, began_ns, failed, now_ns));
        if !failed {
            let &(set_off, _) = self.captures.last()?;
            let set_off_by = self.answers[set_off].0;
            let already = self.answers[set_off..index].iter().any(|answer| answer.0 == probe && !answer.2);
            return (set_off_by == probe && !already).then_some(Event::Recovered { probe, at_ns: now_ns });
        }
        let row = self.row();
        let in_capture = self.captures.iter().any(|(capture, _)| row.contains(capture))
            || self.refused.iter().any(|(refused, why)| *why == Why::Capturing && row.contains(refused));
        if row.len() < needed[probe] || in_capture {
            return None;
        }
        let onset = Onset {
            probe,
            frozen_ns: self.answers[row[0]].1,
            failures: row.len() as u32,
            found: "no answer".to_owned(),
        };
        let lately = self.captures.iter().filter(|(_, at_ns)| now_ns - at_ns < HOUR_NS).count();
        let why = if self.is_capturing() {
            Why::Capturing
        } else if self.ends.iter().any(|end_ns| now_ns - end_ns < rules.cooldown_ns) {
            Why::Cooldown
        } else if lately >= rules.captures_per_hour {
            Why::Hourly
        } else {
            self.captures.push((index, now_ns));
            return Some(Event::Capture(onset));
        };
        let told = self.refused.iter().any(|(refused, before)| *before == why && row.contains(refused));
        self.refused.push((index, why));
        (!told).then_some(Event::Suppressed(onset, why))
    }
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let answer = (0..2_usize, prop::bool::weighted(0.75)).prop_map(|(probe, failed)| Step::Answer { probe, failed });
    let step = prop_oneof![5 => answer, 1 => Just(Step::Captured)];
    // Mostly seconds, and now and then a good part of an hour.
    let wait = prop_oneof![20 => 1..20_u64, 1 => 600..2000_u64];
    prop::collection::vec((wait, step), 1..200)
}

proptest! {
    #[test]
    fn it_agrees_with_a_model_that_looks_through_the_whole_history(
        steps in steps(),
        cooldown in 0..100_u64,
        captures_per_hour in 1..4_usize,
    ) {
        let rules = Rules { cooldown_ns: cooldown * SECOND, captures_per_hour };
        let mut trigger = trigger(rules);
        let mut model = Model::default();
        let mut now_ns = 0;
        for (wait, step) in steps {
            now_ns += wait * SECOND;
            match step {
                Step::Answer { probe, failed } => {
                    let expected = model.see(rules, &[2, 3], probe, now_ns, failed);
                    if failed {
                        prop_assert_eq!(trigger.would_go_off(probe, now_ns + SECOND / 2), expected.is_some());
                    }
                    prop_assert_eq!(show(&mut trigger, probe, now_ns, failed), expected);
                }
                Step::Captured if model.is_capturing() => {
                    model.ends.push(now_ns);
                    trigger.captured(now_ns);
                }
                Step::Captured => {}
            }
            prop_assert_eq!(trigger.is_capturing(), model.is_capturing());
        }
    }

    #[test]
    fn captures_on_disk_stay_within_the_bound_and_the_newest_stay(
        bound in 1..1000_u64,
        sizes in prop::collection::vec(0..600_u64, 1..60),
    ) {
        let mut shelf = Shelf::new(bound, []);
        let mut there: Vec<(usize, u64)> = Vec::new();
        for (name, bytes) in sizes.into_iter().enumerate() {
            match shelf.put(name, bytes) {
                Err(error) => {
                    prop_assert_eq!(error, TooLarge { bytes, bound_bytes: bound });
                    prop_assert!(bytes > bound);
                }
                Ok(surplus) => {
                    let names: Vec<usize> = there.iter().map(|(name, _)| *name).collect();
                    prop_assert!(names.starts_with(&surplus), "the oldest go first");
                    if let Some(last) = surplus.last() {
                        let kept: u64 = there.iter().filter(|(name, _)| name >= last).map(|(_, bytes)| bytes).sum();
                        prop_assert!(kept + bytes > bound, "one went without need");
                    }
                    there.retain(|(name, _)| !surplus.contains(name));
                    there.push((name, bytes));
                }
            }
            let used: u64 = there.iter().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!((shelf.used_bytes(), shelf.len()), (used, there.len()));
            prop_assert!(used <= bound);
        }
    }
}

#[test]
fn a_shelf_begins_with_what_is_there() {
    let mut shelf = Shelf::new(100, [("old", 60), ("new", 40)]);
    assert_eq!(shelf.put("next", 30), Ok(vec!["old"]));
    assert_eq!(shelf.put("huge", 101), Err(TooLarge { bytes: 101, bound_bytes: 100 }));
    assert_eq!(shelf.put("all", 100), Ok(vec!["new", "next"]));
}
