//! Plays all rows under all allocators, each run in a process of its own: first a round in which the kernel counts (or,
//! where it may not, a short one that is thrown away), then the measured rounds, then more of them for rows that are
//! not decided, then one with probes.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use allocator_bench::contender::Contender;
use allocator_bench::rng::Rng;
use allocator_bench::sample::Sample;
use allocator_bench::workload;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use super::backing::Backing;
use super::cell::{Run, Timed};
use super::distance::Distance;
use super::launch::{Failure, Play};
use super::record::RecordFile;
use super::results::{Results, Row};
use super::{counting, launch};

/// How much shorter than a measured run others are.
const SHORT_SHARE: f64 = 0.25;

/// No workload is cut to less than this share of its length: shorter runs are mostly start-up.
const CUT_SHARE_MIN: f64 = 0.2;

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

impl Round {
    /// A number for the order of the allocators.
    fn turn(self) -> usize {
        match self {
            Round::WarmUp | Round::Counted | Round::Probed => 0,
            Round::Timed(number) => number as usize,
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Round::WarmUp => formatter.write_str("first round, thrown away"),
            Round::Counted => formatter.write_str("first round, counted"),
            Round::Timed(number) => write!(formatter, "round {number}"),
            Round::Probed => formatter.write_str("last round, with probes"),
        }
    }
}

/// How everything is played.
#[derive(Clone, Debug)]
pub struct Schedule<'a> {
    /// Where the children are.
    pub directory: &'a Path,
    /// What comes before the measured rounds.
    pub first: Round,
    /// Measured rounds of all rows.
    pub rounds: u32,
    /// Measured rounds at most of a row that is not decided by then.
    pub rounds_max: u32,
    /// Whether a round with probes follows.
    pub probed: bool,
    /// Whether the round in which the kernel counts is short.
    pub hurried: bool,
    /// What all rounds may take together, if that is limited: workloads are cut on a machine that is too slow for them.
    pub budget: Option<Duration>,
    /// How long a child may take at most.
    pub deadline: Duration,
    /// The memory that is touched before each run.
    pub backing: Backing,
}

impl Schedule<'_> {
    /// Plays all rows. Who fails is left out from then on in that row; the others go on.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub fn play(&self, results: &mut Results, mut record: Option<&mut RecordFile>) -> Result<()> {
        let all: Vec<usize> = (0..results.rows.len()).collect();
        let rounds = u64::from(1 + self.rounds + u32::from(self.probed));
        let bar = ProgressBar::new(rounds * (all.len() * results.contenders.len()) as u64).with_style(style());
        let start = Instant::now();
        self.play_round(self.first, &all, results, &bar, record.as_deref_mut())?;
        self.cut_to_budget(results, start.elapsed(), &bar);
        for number in 1..=self.rounds {
            self.play_round(Round::Timed(number), &all, results, &bar, record.as_deref_mut())?;
        }
        for number in self.rounds + 1..=self.rounds_max {
            let undecided =
                all.iter().copied().filter(|&row| results.is_undecided(row, self.rounds as usize)).collect::<Vec<_>>();
            if undecided.is_empty() {
                break;
            }
            bar.inc_length((undecided.len() * results.contenders.len()) as u64);
            self.play_round(Round::Timed(number), &undecided, results, &bar, record.as_deref_mut())?;
        }
        if self.probed {
            self.play_round(Round::Probed, &all, results, &bar, record)?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn play_round(
        &self,
        round: Round,
        rows: &[usize],
        results: &mut Results,
        bar: &ProgressBar,
        mut record: Option<&mut RecordFile>,
    ) -> Result<()> {
        let count = results.contenders.len();
        if bar.is_hidden() {
            eprintln!("{round}: {} rows", rows.len());
        }
        let _held = (round == Round::Counted).then(counting::hold);
        for &row in rows {
            for index in order(round.turn(), &results.rows[row], count) {
                let contender = results.contenders[index];
                bar.set_message(format!("{round}: {} under {contender}", results.rows[row].workload));
                if results.cells[row][index].failure.is_none() {
                    self.run(results, (row, index), round, bar, record.as_deref_mut())?;
                }
                bar.inc(1);
            }
        }
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
        if let Err(error) = self.backing.touch_for_run(results.peaks_kib[row]) {
            bar.suspend(|| eprintln!("{}: {error:#}", results.rows[row]));
        }
        let outcome = self.outcome(&play, contender, round, &mut results.peaks_kib[row]);
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

    /// Plays it, and notes its peak where it tells one.
    fn outcome(&self, play: &Play, contender: Contender, round: Round, peak_kib: &mut u64) -> Result<Run, Failure> {
        let bench = contender.bench_in(self.directory);
        let mut note_peak = |sample: &Sample| *peak_kib = (*peak_kib).max(sample.peak_rss_kib);
        match round {
            Round::Timed(_) if is_parallel(play) => {
                let (sample, distance) = Distance::around(|| launch::play(&bench, play).inspect(note_peak));
                Ok(Run::Timed(Timed { sample: sample?, distance }))
            }
            Round::WarmUp | Round::Timed(_) => {
                launch::play(&bench, play).inspect(note_peak).map(|sample| Run::Timed(sample.into()))
            }
            Round::Counted => {
                let (sample, counts) = counting::play(&bench, play)?;
                note_peak(&sample);
                Ok(Run::Counted(counts))
            }
            Round::Probed => launch::probe(&contender.probe_in(self.directory), play).map(Run::Probed),
        }
    }

    /// After the first round: makes the workloads of those to come, of all allocators alike, short enough for the
    /// budget.
    fn cut_to_budget(&self, results: &mut Results, first_took: Duration, bar: &ProgressBar) {
        let Some(budget) = self.budget else { return };
        let probed_share = if self.probed { self.share(Round::Probed) } else { 0.0 };
        let rest_share = f64::from(self.rounds) + probed_share;
        let cut = cut_share(first_took, rest_share / self.share(self.first), budget);
        if cut < 1.0 {
            let text = format!("the machine is slow: workloads cut to {:.0} % of their quick length", cut * 100.0);
            bar.suspend(|| eprintln!("{text}"));
            results.rows.iter_mut().for_each(|row| row.scale *= cut);
        }
    }

    fn share(&self, round: Round) -> f64 {
        match round {
            // Probes make a run take three times as long, and percentiles need no more calls.
            Round::WarmUp | Round::Probed => SHORT_SHARE,
            Round::Counted if self.hurried => SHORT_SHARE,
            Round::Counted | Round::Timed(_) => 1.0,
        }
    }
}

/// Whether several threads run, so that it matters how far their processors are from each other.
fn is_parallel(play: &Play) -> bool {
    play.threads * workload::find(&play.workload).map_or(1, |workload| workload.threads_each) > 1
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {eta} left: {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The share of their length that leaves all rounds within `budget`, where the first took `first_took` and the rest is
/// `rest` times as much work.
fn cut_share(first_took: Duration, rest: f64, budget: Duration) -> f64 {
    let left = budget.saturating_sub(first_took).as_secs_f64();
    let share = left / (first_took.as_secs_f64() * rest);
    if share.is_finite() { share.clamp(CUT_SHARE_MIN, 1.0) } else { 1.0 }
}

/// The order in which `count` contenders play a row in its round number `turn`: each follows another one in each round,
/// for what one leaves behind, the next one may suffer from. Who is who differs by row.
///
/// Numbers in steps of 1, 2, .. modulo a prime: in steps of `s` each comes after the one `s` below it. Where there are
/// fewer contenders than the prime, those that do not exist are passed over, and some come after the same one twice.
pub fn order(turn: usize, row: &Row, count: usize) -> Vec<usize> {
    let prime = (count.max(2)..).find(|number| (2..*number).all(|divisor| number % divisor != 0)).unwrap_or(2);
    let step = turn % (prime - 1) + 1;
    let mut names: Vec<usize> = (0..count).collect();
    let seed = row.workload.bytes().fold(row.threads as u64, |seed, byte| seed.wrapping_mul(31) + u64::from(byte));
    Rng::new(seed).shuffle(&mut names);
    (0..prime).filter_map(|place| names.get((turn + place * step) % prime).copied()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::{CUT_SHARE_MIN, Play, Row, cut_share, is_parallel, order};

    #[test]
    fn what_would_take_too_long_is_cut() {
        let share = |first_took, rest| cut_share(Duration::from_secs(first_took), rest, Duration::from_secs(130));
        assert_eq!(share(10, 12.0), 1.0);
        assert_eq!(share(5, 13.0), 1.0, "what there is time for is not made longer");
        assert_eq!(share(30, 10.0), 1.0 / 3.0);
        assert_eq!(share(60, 13.0), CUT_SHARE_MIN);
        assert_eq!(share(200, 13.0), CUT_SHARE_MIN, "over the budget already");
        assert_eq!([share(0, 13.0), share(10, 0.0), share(0, 0.0)], [1.0; 3], "nothing to be cut");
    }

    #[test]
    fn pairs_are_two_threads() {
        let deadline = Duration::from_secs(1);
        let play = |name: &str, threads| Play { workload: name.to_owned(), threads, scale: 1.0, deadline };
        assert!(is_parallel(&play("remote", 1)) && is_parallel(&play("churn", 2)) && !is_parallel(&play("churn", 1)));
    }

    #[test]
    fn nobody_follows_the_same_one_twice() {
        let row = |workload: &str, threads| Row { workload: workload.to_owned(), threads, scale: 1.0 };
        for count in [2, 3, 5, 7] {
            let orders: Vec<_> = (0..count - 1).map(|turn| order(turn, &row("churn", 2), count)).collect();
            let pairs: BTreeSet<_> = orders.iter().flat_map(|order| order.windows(2)).collect();
            assert_eq!(pairs.len(), (count - 1) * (count - 1), "{orders:?}");
        }
        for (turn, count) in (0..20).flat_map(|turn| (1..10).map(move |count| (turn, count))) {
            let mut order = order(turn, &row("churn", 1), count);
            order.sort_unstable();
            assert!(order.iter().copied().eq(0..count), "{order:?}");
        }
        let firsts: BTreeSet<_> = (1..=7).map(|turn| order(turn, &row("churn", 1), 7)[0]).collect();
        assert_eq!(firsts.len(), 7);
        assert_ne!(order(1, &row("churn", 1), 7), order(1, &row("churn", 2), 7));
    }
}
