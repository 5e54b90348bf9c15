//! The promises and how to say which of them hold: a promise has conditions, a condition a text with numbers in it.
//! Pure; called by `explain`.
//!
//! Invariant: nothing is decided and nothing worded here; that is done in the one table, `conditions`.

use super::amount;
use super::conditions::PROMISES;
use super::situation::Situation;
use crate::text::Text;

/// A promise and all that may stand against it.
pub(super) struct Promise {
    pub(super) name: &'static str,
    pub(super) conditions: &'static [Condition],
}

/// Something that may be the case.
pub(super) struct Condition {
    pub(super) weight: Weight,
    pub(super) holds: fn(&Situation) -> bool,
    pub(super) text: &'static [Part],
}

/// What a condition does to its promise.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Weakens,
    /// Nothing, but it is worth saying.
    Note,
}

/// A piece of a text.
pub(super) enum Part {
    Words(&'static str),
    Number(fn(&Situation) -> u64),
    Bytes(fn(&Situation) -> u64),
    /// Nanoseconds.
    Time(fn(&Situation) -> u64),
}

impl Part {
    fn print(&self, out: &mut Text, situation: &Situation) {
        match self {
            Part::Words(words) => out.str(words),
            Part::Number(number) => out.number(number(situation)),
            Part::Bytes(bytes) => amount::bytes(out, bytes(situation)),
            Part::Time(time) => amount::time(out, time(situation)),
        }
    }
}

/// A line for each promise that is kept and for each reason that weakens one, and a line for each note.
pub(super) fn print(out: &mut Text, situation: &Situation) {
    for promise in &PROMISES {
        let line = |out: &mut Text, word: &str, text: &[Part]| {
            out.str(promise.name);
            out.str(word);
            text.iter().for_each(|part| part.print(out, situation));
            out.str("\n");
        };
        if !situation.started {
            line(out, ": not started", &[]);
            continue;
        }
        let held = |weight| {
            let conditions = promise.conditions.iter();
            conditions.filter(move |condition| condition.weight == weight && (condition.holds)(situation))
        };
        if held(Weight::Weakens).next().is_none() {
            line(out, ": kept", &[]);
        }
        held(Weight::Weakens).for_each(|condition| line(out, ": weakened: ", condition.text));
        held(Weight::Note).for_each(|condition| line(out, ": note: ", condition.text));
    }
}
