//! What a person sees while the children run: which one, in which phase, and how long it may still take.
//!
//! Where standard error is no terminal, each child gets one line when it begins.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::candidates::Candidate;
use crate::harness::Event;

/// How long children have taken so far, and from that, how long the others may take.
#[derive(Debug)]
struct Forecast {
    /// Every child of the run, in the order in which they run: its allocator, and how long it took.
    children: Vec<(String, Option<Duration>)>,
}

impl Forecast {
    fn new(candidates: &[Candidate], rounds: u32) -> Self {
        let in_round = |round: u32| {
            let first = (round as usize) % candidates.len().max(1);
            candidates.iter().cycle().skip(first).take(candidates.len())
        };
        let children = (0..rounds).flat_map(in_round).map(|candidate| (candidate.allocator.clone(), None));
        Self { children: children.collect() }
    }

    /// The next child took so long.
    fn done(&mut self, time: Duration) {
        if let Some((_, took)) = self.children.iter_mut().find(|(_, took)| took.is_none()) {
            *took = Some(time);
        }
    }

    /// What is left: for each child what the same allocator took last, or the mean of all. `None` before the first is
    /// done.
    fn left(&self) -> Option<Duration> {
        let known: Vec<_> = self.children.iter().filter_map(|(_, took)| *took).collect();
        let mean = known.iter().sum::<Duration>().checked_div(u32::try_from(known.len()).ok()?)?;
        let waiting = self.children.iter().filter(|(_, took)| took.is_none());
        let estimate = |(allocator, _): &(String, Option<Duration>)| {
            let own = self.children.iter().rev().find(|(name, took)| name == allocator && took.is_some());
            own.and_then(|(_, took)| *took).unwrap_or(mean)
        };
        Some(waiting.map(estimate).sum())
    }
}

/// A progress bar.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    forecast: Forecast,
    rounds: u32,
    began: Instant,
    child: String,
    /// Whether there is somebody to draw for.
    draws: bool,
}

impl Progress {
    /// A bar for every candidate in so many rounds.
    pub fn new(candidates: &[Candidate], rounds: u32) -> Self {
        let bar = ProgressBar::new(u64::from(rounds) * candidates.len() as u64);
        let draws = io::stderr().is_terminal();
        if draws {
            bar.enable_steady_tick(Duration::from_millis(250));
        } else {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        // A template that is not understood leaves the bar as it is by default.
        let bar = match ProgressStyle::with_template("{spinner} [{elapsed_precise}] {bar:24} {pos}/{len} {msg}") {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        let forecast = Forecast::new(candidates, rounds);
        Self { bar, forecast, rounds, began: Instant::now(), child: String::new(), draws }
    }

    /// Shows what is going on.
    pub fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Preparing { round, allocator } => {
                self.began = Instant::now();
                self.child = format!("round {round} of {}: {allocator}", self.rounds);
                if !self.draws {
                    eprintln!("{}{}", self.child, self.left());
                }
                self.say("taking memory that the host backs");
            }
            Event::Phase { name } => self.say(name),
            Event::Done => {
                self.forecast.done(self.began.elapsed());
                self.bar.inc(1);
            }
        }
    }

    fn say(&self, what: &str) {
        self.bar.set_message(format!("{}, {what}{}", self.child, self.left()));
    }

    /// How long it may still take, to be put behind what is going on.
    fn left(&self) -> String {
        self.forecast.left().map_or_else(String::new, |left| format!("; about {} left", HumanDuration(left)))
    }

    /// Removes the bar.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_what_the_same_allocator_took_before() {
        let candidate = |name: &str| Candidate { allocator: name.to_owned(), program: name.into() };
        let mut forecast = Forecast::new(&[candidate("a"), candidate("b")], 2);
        let names: Vec<_> = forecast.children.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "b", "a"]);
        assert_eq!(forecast.left(), None);
        let seconds = Duration::from_secs;
        forecast.done(seconds(2));
        assert_eq!(forecast.left(), Some(seconds(6)), "the mean for b, twice, and a as before");
        forecast.done(seconds(4));
        assert_eq!(forecast.left(), Some(seconds(6)), "b 4, a 2");
        forecast.done(seconds(4));
        forecast.done(seconds(2));
        assert_eq!(forecast.left(), Some(seconds(0)));
    }
}
