//! `freeze-trap check`: what this machine and this process's rights permit. Tries each source, and tells the facts that
//! decide about them, with what would help. Called by the command line.
//!
//! Invariant: it changes nothing, and leaves nothing behind.

use std::fmt;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::source::choose::{Tried, try_each};
use crate::source::permits::{Fact, permits};

/// What the exit status says, for the help.
pub const STATUSES: &str = "0  the best source, BPF on tracepoints, works
  1  only lesser sources work";

/// Columns of a terminal that text fits in.
const COLUMNS: usize = 80;
/// Of these, what is before what was found.
const INDENT: &str = "      ";

/// How it is said.
#[derive(Clone, Debug, Default, Args)]
pub struct Options {
    /// Say it as JSON
    #[arg(long)]
    pub json: bool,
}

/// What is permitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Each source, the best first.
    pub sources: Vec<Tried>,
    /// What matters to them and to probes.
    pub facts: Vec<Fact>,
}

impl Check {
    /// Tries everything. Takes up to a second.
    #[must_use]
    pub fn of_this_machine() -> Check {
        Check { sources: try_each(), facts: permits() }
    }

    /// Whether the best source works.
    #[must_use]
    pub fn is_best(&self) -> bool {
        self.sources.first().is_some_and(|best| best.works)
    }

    /// The source that the trap would use.
    #[must_use]
    pub fn chosen(&self) -> Option<&str> {
        self.sources.iter().find(|source| source.works).map(|source| source.name.as_str())
    }
}

fn wrapped(formatter: &mut fmt::Formatter, first: &str, text: &str) -> fmt::Result {
    let options = textwrap::Options::new(COLUMNS).initial_indent(first).subsequent_indent(INDENT);
    textwrap::wrap(text, options).iter().try_for_each(|line| writeln!(formatter, "{line}"))
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        writeln!(formatter, "Sources, the best first:")?;
        for source in &self.sources {
            wrapped(formatter, if source.works { "  yes " } else { "  no  " }, &source.name)?;
            source.notes.iter().try_for_each(|note| wrapped(formatter, &format!("{INDENT}- "), note))?;
        }
        writeln!(formatter, "\nWhat decides about them, and about probes:")?;
        for fact in &self.facts {
            wrapped(formatter, "  ", &format!("{}: {}", fact.name, fact.found))?;
            fact.help.iter().try_for_each(|help| wrapped(formatter, &format!("{INDENT}> "), help))?;
        }
        match self.chosen() {
            Some(source) => wrapped(formatter, "\n", &format!("The trap would use {source}.")),
            None => wrapped(formatter, "\n", "The trap cannot work here."),
        }
    }
}

/// Says what is permitted. The status is that of [`STATUSES`].
/// # Errors
/// It cannot be put as JSON.
pub fn run(options: &Options) -> Result<ExitCode> {
    let check = Check::of_this_machine();
    if options.json {
        println!("{}", serde_json::to_string_pretty(&check)?);
    } else {
        print!("{check}");
    }
    Ok(if check.is_best() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_fits_a_terminal_and_tells_everything() {
        let mut check = Check::of_this_machine();
        check.sources[0].notes.push("a rather long reason ".repeat(20));
        let text = check.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        let words: Vec<&str> = text.split_whitespace().collect();
        let plain = words.join(" ");
        for name in check.sources.iter().map(|one| &one.name).chain(check.facts.iter().map(|one| &one.name)) {
            assert!(plain.contains(name.as_str()), "{name}: {text}");
        }
        assert!(text.ends_with(&format!("The trap would use {}.\n", check.chosen().expect("samples always work"))));
    }

    #[test]
    fn the_status_and_the_choice_are_those_of_the_best_that_works() {
        let tried = |name: &str, works| Tried { name: name.into(), works, notes: Vec::new() };
        let check = |sources| Check { sources, facts: Vec::new() };
        let best = check(vec![tried("a", true), tried("b", true)]);
        assert_eq!((best.is_best(), best.chosen()), (true, Some("a")));
        let lesser = check(vec![tried("a", false), tried("b", true)]);
        assert_eq!((lesser.is_best(), lesser.chosen()), (false, Some("b")));
        assert!(check(vec![tried("a", false)]).to_string().contains("cannot work"));
    }

    #[test]
    fn json_gives_all_of_it_back() {
        let check = Check::of_this_machine();
        assert_eq!(serde_json::from_str::<Check>(&serde_json::to_string(&check).unwrap()).unwrap(), check);
    }
}
