//! Plays all rows under all allocators, each run in a process of its own: first a round in which the kernel counts (or,
//! where it may not, a short one that is thrown away), then the measured rounds, then one with probes.

use std::path::Path;
use std::time::Duration;

use allocator_bench::contender::Contender;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use super::launch::{Failure, Play};
use super::record::RecordFile;
use super::results::{Results, Run};
use super::{counting, launch};

/// How much shorter than a measured run one is that is not timed, where time is dear.
const SHORT_SHARE: f64 = 0.25;

/// What a round is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Round {
    /// To have the machine warm; thrown away.
    WarmUp,
    /// The kernel counts system calls.
    Counted,
    /// Measured; from 1.
    Timed(u32),
    /// Each call is timed.
    Probed,
}

/// How everything is played.
#[derive(Clone, Debug)]
pub struct Schedule<'a> {
    /// Where the children are.
    pub directory: &'a Path,
    /// The rounds, in their order.
    pub rounds: Vec<Round>,
    /// Whether rounds that are not timed are short.
    pub hurried: bool,
    /// How long a child may take at most.
    pub deadline: Duration,
}

impl Schedule<'_> {
    /// Plays all rows. Who fails is left out from then on in that row; the others go on.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub fn play(&self, results: &mut Results, mut record: Option<&mut RecordFile>) -> Result<()> {
        let runs = self.rounds.len() * results.rows.len() * results.contenders.len();
        let bar = ProgressBar::new(runs as u64).with_style(style());
        for (turn, &round) in self.rounds.iter().enumerate() {
            if bar.is_hidden() {
                eprintln!("round {} of {}", turn + 1, self.rounds.len());
            }
            for row in 0..results.rows.len() {
                for position in 0..results.contenders.len() {
                    let index = rotated(position, turn + row, results.contenders.len());
                    let contender = results.contenders[index];
                    bar.set_message(format!("{} under {contender}", results.rows[row].workload));
                    if results.cells[row][index].failure.is_none() {
                        self.run(results, (row, index), round, &bar, record.as_deref_mut())?;
                    }
                    bar.inc(1);
                }
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn run(
        &self,
        results: &mut Results,
        (row, index): (usize, usize),
        round: Round,
        bar: &ProgressBar,
        record: Option<&mut RecordFile>,
    ) -> Result<()> {
        let contender = results.contenders[index];
        let play = Play {
            workload: results.rows[row].workload.clone(),
            threads: results.rows[row].threads,
            scale: results.rows[row].scale * self.share(round),
            deadline: self.deadline,
        };
        let outcome = self.outcome(&play, contender, round);
        if round == Round::WarmUp && outcome.is_ok() {
            return Ok(());
        }
        if let Some(record) = record {
            record.append(&play, contender, round, &outcome)?;
        }
        let cell = &mut results.cells[row][index];
        match outcome {
            Ok(run) => cell.add(run),
            Err(failure) => {
                bar.suspend(|| eprintln!("{contender} on {}: {failure}", results.rows[row]));
                cell.failure = Some(failure);
            }
        }
        Ok(())
    }

    fn outcome(&self, play: &Play, contender: Contender, round: Round) -> Result<Run, Failure> {
        match round {
            Round::WarmUp | Round::Timed(_) => launch::play(&contender.bench_in(self.directory), play).map(Run::Timed),
            Round::Counted => counting::play(&contender.bench_in(self.directory), play).map(Run::Counted),
            Round::Probed => launch::probe(&contender.probe_in(self.directory), play).map(Run::Probed),
        }
    }

    fn share(&self, round: Round) -> f64 {
        match round {
            Round::WarmUp => SHORT_SHARE,
            Round::Counted | Round::Probed if self.hurried => SHORT_SHARE,
            Round::Counted | Round::Probed | Round::Timed(_) => 1.0,
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {eta} left: {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The index of whoever has its turn at `position`, when everybody moves up by one from round to round.
pub fn rotated(position: usize, round: usize, count: usize) -> usize {
    (position + round) % count
}

#[cfg(test)]
mod tests {
    use super::rotated;

    #[test]
    fn everyone_is_first_once() {
        let firsts: Vec<usize> = (0..4).map(|round| rotated(0, round, 4)).collect();
        assert_eq!(firsts, [0, 1, 2, 3]);
        let mut turn: Vec<usize> = (0..4).map(|position| rotated(position, 7, 4)).collect();
        turn.sort_unstable();
        assert_eq!(turn, [0, 1, 2, 3]);
    }
}
