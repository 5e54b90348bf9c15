//! The options behind a probe's address, as in `tcp:host:80,within=1s`. Used by `spec` alone.
//!
//! Invariant: whoever takes all options that a kind knows, and then asks [`Options::finish`], has overlooked none.

use std::time::Duration;

use super::duration;

/// Text options; each is taken once.
#[derive(Debug)]
pub(super) struct Options<'a> {
    /// The whole text, for errors.
    spec: &'a str,
    left: Vec<(&'a str, Option<&'a str>)>,
    known: &'static [&'static str],
}

/// The nearest of some words, if one is near enough that a slip of the hand explains it.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &&str| strsim::damerau_levenshtein(&word.to_lowercase(), name);
    let best = known.iter().copied().min_by_key(distance)?;
    (distance(&best) <= if best.len() < 5 { 1 } else { 2 }).then_some(best)
}

/// `; did you mean ...?`, if something is near, and the list of what is accepted.
pub(super) fn suggestion(word: &str, known: &[&str]) -> String {
    let list = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`? Accepted: {list}"),
        None => format!("accepted: {list}"),
    }
}

fn name_and_value(part: &str) -> (&str, Option<&str>) {
    match part.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (part.trim(), None),
    }
}

impl<'a> Options<'a> {
    /// Splits a text whose address has no comma in it.
    pub(super) fn split(spec: &'a str, text: &'a str, known: &'static [&'static str]) -> (&'a str, Self) {
        let mut parts = text.split(',');
        let address = parts.next().unwrap_or("");
        let left = parts.map(name_and_value).collect();
        (address, Options { spec, left, known })
    }

    /// Splits a text whose address may have commas in it: a URL, a command. The options are the parts at the end whose
    /// names are known.
    /// # Errors
    /// The last part that belongs to the address looks like a misspelt option.
    pub(super) fn split_end(
        spec: &'a str,
        text: &'a str,
        known: &'static [&'static str],
    ) -> Result<(&'a str, Self), String> {
        let (mut address, mut left) = (text, Vec::new());
        while let Some((before, part)) = address.rsplit_once(',') {
            let (name, value) = name_and_value(part);
            if !known.contains(&name) {
                if value.is_some() && nearest(name, known).is_some() {
                    let hint = suggestion(name, known);
                    return Err(format!("`{spec}`: `{name}` is not an option here; {hint}"));
                }
                break;
            }
            left.push((name, value));
            address = before;
        }
        left.reverse();
        Ok((address, Options { spec, left, known }))
    }

    /// An error about the whole text.
    pub(super) fn wrong<T>(&self, what: impl std::fmt::Display) -> Result<T, String> {
        Err(format!("`{}`: {what}", self.spec))
    }

    /// A flag or the value of an option; the last one counts.
    fn take(&mut self, name: &str) -> Option<Option<&'a str>> {
        debug_assert!(self.known.contains(&name), "an option that `split` does not know");
        let found = self.left.iter().rev().find(|(left, _)| *left == name).map(|(_, value)| *value);
        self.left.retain(|(left, _)| *left != name);
        found
    }

    /// Whether a word without a value is there.
    /// # Errors
    /// It has a value.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, String> {
        match self.take(name) {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(value)) => self.wrong(format!("`{name}` takes no value, and was given `{value}`")),
        }
    }

    /// The value of an option.
    /// # Errors
    /// There is none, or `read` refuses it.
    pub(super) fn value<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(None | Some("")) => self.wrong(format!("`{name}` needs a value: `{name}=...`")),
            Some(Some(value)) => match read(value) {
                Ok(value) => Ok(Some(value)),
                Err(error) => self.wrong(format!("`{name}`: {error}")),
            },
        }
    }

    /// A duration.
    /// # Errors
    /// It is none.
    pub(super) fn duration(&mut self, name: &str) -> Result<Option<Duration>, String> {
        self.value(name, duration::parse)
    }

    /// Looks whether something is left.
    /// # Errors
    /// Something is, which no kind of this name takes.
    pub(super) fn finish(self) -> Result<(), String> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => self.wrong(format!("`{name}` is not an option here; {}", suggestion(name, self.known))),
        }
    }
}

/// A share like `20%`, as a fraction.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    match number {
        Some(number) if (0.0..=100.0).contains(&number) => Ok(number / 100.0),
        _ => Err(format!("`{text}` is no share; write one from `0%` to `100%`")),
    }
}

/// A whole number from 1 on.
pub(super) fn count(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("`{text}` is not accepted; write a whole number from 1 on")),
    }
}
