//! All runs of a comparison, and what follows from them: ratios, means over workloads.

use std::fmt;

use allocator_bench::contender::Contender;
use allocator_bench::summary::{geometric_mean, median_ratio};

use super::cell::{Cell, Timed};
use super::distance::Distance;

/// A row whose ratio to the best peer is above this is lost.
pub const LOST_RATIO: f64 = 1.15;

/// A row in which the rounds of an allocator spread by more than this share of their median is not to be relied on.
pub const WIDE_SPREAD: f64 = 0.25;

/// One line of the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What is played.
    pub workload: String,
    /// On how many threads, or pairs of threads.
    pub threads: usize,
    /// At what length, in the rounds that are timed.
    pub scale: f64,
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {}", self.workload, threads_text(self.threads))
    }
}

/// `1 thread`, `2 threads`.
pub fn threads_text(count: usize) -> String {
    if count == 1 { "1 thread".to_owned() } else { format!("{count} threads") }
}

/// The runs of all rows.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The columns.
    pub contenders: Vec<Contender>,
    /// The lines.
    pub rows: Vec<Row>,
    /// One cell for each row and contender.
    pub cells: Vec<Vec<Cell>>,
    /// The most memory that a run of each row has taken so far, whatever the run was for.
    pub peaks_kib: Vec<u64>,
    /// Starts of a process that does nothing: one cell for each contender, or none at all.
    pub startup: Vec<Cell>,
}

impl Results {
    /// Results without any run yet.
    pub fn new(rows: Vec<Row>, contenders: Vec<Contender>) -> Self {
        let cells = vec![vec![Cell::default(); contenders.len()]; rows.len()];
        let peaks_kib = vec![0; rows.len()];
        Self { rows, contenders, cells, peaks_kib, startup: Vec::new() }
    }

    /// The runs of one contender beside those of another, round by round; none if one of them failed.
    fn beside(&self, row: usize, contender: usize, base: usize) -> impl Iterator<Item = (&Timed, &Timed)> + Clone {
        let [cell, base] = [contender, base].map(|index| &self.cells[row][index]);
        let rounds = cell.timed.iter().zip(&base.timed);
        (cell.failure.is_none() && base.failure.is_none()).then_some(rounds).into_iter().flatten()
    }

    /// Wall time of one contender over that of another: the median of the ratios within each round. What disturbs the
    /// machine lasts longer than a row takes, so the two runs of a round suffer alike, and those of two rounds do not.
    /// Where the processors moved between the two runs of every round, it is that of all rounds.
    fn time_ratio(&self, row: usize, contender: usize, base: usize) -> Option<f64> {
        let walls_ns = |(own, base): (&Timed, &Timed)| (own.sample.wall_ns, base.sample.wall_ns);
        let rounds = self.beside(row, contender, base);
        median_ratio(rounds.clone().filter(have_distance_alike).map(walls_ns))
            .or_else(|| median_ratio(rounds.map(walls_ns)))
    }

    /// Wall time of antifreeze over that of the fastest other allocator: the greatest of its ratios to them.
    pub fn ratio_to_best_peer(&self, row: usize) -> Option<f64> {
        let own = self.position(Contender::Antifreeze)?;
        self.peers().filter_map(|peer| self.time_ratio(row, own, peer)).max_by(f64::total_cmp)
    }

    /// What follows the ratio of a row in tables: a question mark if its rounds disagree on whether it is lost, or too
    /// few of them count. The lead it takes is that of a row with the fewest rounds, which all count and agree.
    pub fn doubt(&self, row: usize) -> &'static str {
        if self.is_undecided(row, self.rounds()) { " ?" } else { "" }
    }

    /// Whether the rounds of a row disagree on whether it is lost. It is as soon as those in which antifreeze's ratio
    /// to some peer is over [`LOST_RATIO`] exceed the others by `lead`; it is not once it is the other way round for
    /// all peers (a sequential sign test). Without a peer there is nothing to disagree on.
    pub fn is_undecided(&self, row: usize, lead: usize) -> bool {
        let Some(own) = self.position(Contender::Antifreeze) else { return false };
        let leads = self.peers().filter_map(|peer| self.lead_of_lost(row, own, peer)).collect::<Vec<_>>();
        let lead = lead as i64;
        leads.iter().all(|&of_lost| of_lost < lead) && leads.iter().any(|&of_lost| of_lost > -lead)
    }

    /// By how much the rounds in which a contender's ratio to another is over [`LOST_RATIO`] exceed those in which it
    /// is not. A round in which the processors moved is neither.
    fn lead_of_lost(&self, row: usize, contender: usize, base: usize) -> Option<i64> {
        let rounds = self.beside(row, contender, base);
        let is_over =
            |(own, base): (&Timed, &Timed)| own.sample.wall_ns as f64 / base.sample.wall_ns as f64 > LOST_RATIO;
        rounds.clone().next()?;
        Some(rounds.filter(have_distance_alike).map(|round| if is_over(round) { 1 } else { -1 }).sum())
    }

    /// How many rounds all rows have had, as far as somebody has played them at all.
    pub fn rounds(&self) -> usize {
        self.row_rounds().min().unwrap_or(0)
    }

    /// How many rounds each row has had, without those in which everybody failed.
    pub fn row_rounds(&self) -> impl Iterator<Item = usize> {
        let counts = self.cells.iter().filter_map(|cells| cells.iter().map(|cell| cell.timed.len()).max());
        counts.filter(|&count| count > 0)
    }

    /// The columns but antifreeze's.
    fn peers(&self) -> impl Iterator<Item = usize> {
        (0..self.contenders.len()).filter(|&index| self.contenders[index] != Contender::Antifreeze)
    }

    /// Wall time of a contender over that of antifreeze, in one row.
    pub fn time_to_own(&self, row: usize, contender: usize) -> Option<f64> {
        self.time_ratio(row, contender, self.position(Contender::Antifreeze)?)
    }

    /// Peak memory of a contender over that of antifreeze, in one row.
    pub fn memory_to_own(&self, row: usize, contender: usize) -> Option<f64> {
        let own_kib = self.cells[row][self.position(Contender::Antifreeze)?].peak_rss_kib()?;
        Some(self.cells[row][contender].peak_rss_kib()? as f64 / own_kib as f64)
    }

    /// The column of a contender.
    pub fn position(&self, wanted: Contender) -> Option<usize> {
        self.contenders.iter().position(|&contender| contender == wanted)
    }

    /// Geometric mean of a figure for one contender, over the rows in which every contender has it.
    pub fn geometric_mean(&self, contender: usize, figure: impl Fn(&Cell) -> Option<u64>) -> Option<f64> {
        let complete = self.cells.iter().filter(|cells| cells.iter().all(|cell| figure(cell).is_some()));
        geometric_mean(complete.filter_map(|cells| figure(&cells[contender])).map(|value| value as f64))
    }

    /// The sum of a figure for one contender, over the rows in which every contender has it.
    pub fn sum(&self, contender: usize, figure: impl Fn(&Cell) -> Option<u64>) -> Option<u64> {
        let complete = self.cells.iter().filter(|cells| cells.iter().all(|cell| figure(cell).is_some()));
        let values: Vec<u64> = complete.filter_map(|cells| figure(&cells[contender])).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// How far apart the rounds of a row are, for the allocator for which that is most.
    pub fn spread(&self, row: usize) -> Option<f64> {
        self.cells[row].iter().filter_map(Cell::spread).max_by(f64::total_cmp)
    }

    /// From what to what the distance of the processors was in a row, where it is known.
    pub fn distance_ns(&self, row: usize) -> Option<(u64, u64)> {
        Distance::range_ns(self.cells[row].iter().flat_map(|cell| &cell.timed).filter_map(|timed| timed.distance))
    }

    /// Whether no child failed and every row has the same checksum throughout.
    pub fn is_sound(&self) -> bool {
        let failed = self.cells.iter().flatten().chain(&self.startup).any(|cell| cell.failure.is_some());
        !failed && (0..self.rows.len()).all(|row| self.checksums_agree(row))
    }

    /// Whether all runs of that row computed the same.
    pub fn checksums_agree(&self, row: usize) -> bool {
        let mut checksums = self.cells[row].iter().flat_map(|cell| &cell.timed).map(|timed| timed.sample.checksum);
        let first = checksums.next();
        checksums.all(|checksum| Some(checksum) == first)
    }
}

/// Whether the processors were as far from each other in both runs of a round.
fn have_distance_alike((own, base): &(&Timed, &Timed)) -> bool {
    Distance::are_alike(own.distance, base.distance)
}

#[cfg(test)]
mod tests {
    use allocator_bench::sample::Sample;

    use super::{Cell, Contender, Distance, Results, Row};
    use crate::runner::launch::Failure;

    const CONTENDERS: [Contender; 4] =
        [Contender::Antifreeze, Contender::System, Contender::Jemalloc, Contender::Mimalloc];

    fn failed() -> Option<Failure> {
        Some(Failure::Failed("broken".to_owned()))
    }

    fn cell(walls_ns: &[u64]) -> Cell {
        let timed = |&wall_ns| Sample { wall_ns, peak_rss_kib: 10 * wall_ns, ..Sample::default() }.into();
        Cell { timed: walls_ns.iter().map(timed).collect(), ..Cell::default() }
    }

    fn results(walls_ns: [&[u64]; 4]) -> Results {
        let row = Row { workload: "churn".to_owned(), threads: 1, scale: 1.0 };
        let mut results = Results::new(vec![row], CONTENDERS.to_vec());
        results.cells = vec![walls_ns.iter().map(|walls_ns| cell(walls_ns)).collect()];
        results
    }

    #[test]
    fn times_are_compared_within_rounds() {
        // The second round disturbed all but jemalloc, which stumbled in the first one.
        let mut results = results([&[20, 90, 30], &[50, 250, 50], &[900, 9, 15], &[16, 72, 24]]);
        assert_eq!(results.ratio_to_best_peer(0), Some(2.0), "to jemalloc: 20 / 900, 10 and 2");
        assert_eq!(results.time_to_own(0, 1), Some(2.5), "and 2.8, 1.7");
        results.cells[0][2].failure = failed();
        assert_eq!(results.ratio_to_best_peer(0), Some(1.25));
        assert_eq!(results.time_to_own(0, 2), None);
        results.cells[0][0].timed.clear();
        assert_eq!(results.ratio_to_best_peer(0), None);
    }

    #[test]
    fn rounds_in_which_the_processors_moved_do_not_count() {
        let mut results = results([&[20, 300, 20, 200], &[10, 100, 100, 100], &[], &[]]);
        let mut at = |contender: usize, distances_ns: [(u64, u64); 4]| {
            for (timed, (line_before_ns, line_after_ns)) in
                results.cells[0][contender].timed.iter_mut().zip(distances_ns)
            {
                timed.distance = Some(Distance { line_before_ns, line_after_ns });
            }
            (results.ratio_to_best_peer(0), results.is_undecided(0, 2))
        };
        let (near, far) = ((50, 70), (330, 360));
        assert_eq!(at(0, [near, far, near, far]).0, Some(2.0), "2, 3, 0.2 and 2 while only one's is known");
        assert_eq!(at(1, [near, far, far, (360, 50)]), (Some(6.0_f64.sqrt()), false), "2 and 3");
        assert_eq!(at(1, [far, far, far, near]), (Some(3.0), true), "3, and one round decides nothing");
        assert_eq!(at(1, [far, near, far, near]), (Some(2.0), true), "none is left: all of them, which decide nothing");
        assert_eq!(results.distance_ns(0), Some((50, 360)));
    }

    #[test]
    fn rows_are_decided_once_one_side_leads() {
        let undecided = |own_ns: &[u64], peer_ns: &[u64]| results([own_ns, &[], peer_ns, &[]]).is_undecided(0, 3);
        assert!(!undecided(&[116, 120, 300], &[100; 3]) && !undecided(&[115, 100, 1], &[100; 3]));
        assert!(undecided(&[116, 120, 115], &[100; 3]));
        assert!(undecided(&[116, 120, 115, 200], &[100; 4]), "three to one");
        assert!(!undecided(&[116, 120, 115, 200, 120], &[100; 5]), "four to one");
        assert!(!undecided(&[1, 1], &[]) && undecided(&[1, 1], &[1, 1]), "nobody to compare with; too few rounds");
        // Lost to one peer is lost; not lost is so only to all.
        let two_peers = |one: &[u64], other: &[u64]| results([&[120; 3], &[], one, other]).is_undecided(0, 3);
        assert!(!two_peers(&[100; 3], &[1000, 100, 1]) && !two_peers(&[120; 3], &[130; 3]));
        assert!(two_peers(&[120; 3], &[100, 130, 130]));
    }

    #[test]
    fn memory_is_compared_by_medians() {
        let mut results = results([&[30, 10, 20], &[50, 50, 10], &[8], &[16]]);
        assert_eq!(results.memory_to_own(0, 1), Some(2.5));
        results.cells[0][2].failure = failed();
        assert_eq!(results.memory_to_own(0, 2), None);
    }

    #[test]
    fn failure_or_another_checksum_is_unsound() {
        let mut results = results([&[1], &[1], &[1], &[1]]);
        assert!(results.is_sound());
        results.cells[0][3].timed[0].sample.checksum = 1;
        assert!(!results.checksums_agree(0) && !results.is_sound());
        results.cells[0][3].timed.clear();
        assert!(results.is_sound());
        results.startup = vec![Cell { failure: failed(), ..Cell::default() }];
        assert!(!results.is_sound());
    }

    #[test]
    fn means_and_sums_leave_incomplete_rows_out() {
        let mut results = results([&[4], &[4], &[4], &[4]]);
        results.rows.push(results.rows[0].clone());
        results.cells.push(vec![cell(&[9]), cell(&[9]), cell(&[9]), Cell::default()]);
        let mean = results.geometric_mean(0, Cell::wall_ns).expect("one row is complete");
        assert!((mean - 4.0).abs() < 1e-9);
        assert_eq!(results.sum(1, Cell::peak_rss_kib), Some(40));
        assert_eq!(results.sum(1, |_| None), None);
    }

    #[test]
    fn spread_is_that_of_the_most_restless_allocator() {
        let results = results([&[10, 11, 10], &[100, 150, 100], &[7], &[]]);
        assert_eq!(results.spread(0), Some(0.5));
    }
}
