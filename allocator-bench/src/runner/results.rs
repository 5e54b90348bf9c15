//! All samples of a comparison, and what follows from them: medians, ratios, means over workloads.

use allocator_bench::sample::Sample;
use allocator_bench::summary::{geometric_mean, median};
use allocator_bench::workload::Workload;

use super::contender::Contender;

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is played.
    pub workload: &'static Workload,
    /// On how many threads, or pairs of threads.
    pub threads: usize,
    /// At what length.
    pub scale: f64,
}

/// The runs of one allocator in one row.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// One sample for each round.
    pub samples: Vec<Sample>,
    /// Why there are no more of them.
    pub failure: Option<String>,
}

impl Cell {
    /// Median wall time, unless the child failed.
    pub fn wall_ns(&self) -> Option<u64> {
        self.median_of(|sample| sample.wall_ns)
    }

    /// Median of the peak memory, unless the child failed.
    pub fn peak_rss_kib(&self) -> Option<u64> {
        self.median_of(|sample| sample.peak_rss_kib)
    }

    fn median_of(&self, figure: impl Fn(&Sample) -> u64) -> Option<u64> {
        if self.failure.is_some() { None } else { median(self.samples.iter().map(figure)) }
    }
}

/// The samples of all rows.
#[derive(Clone, Debug)]
pub struct Results {
    /// The lines.
    pub rows: Vec<Row>,
    /// The columns.
    pub contenders: Vec<Contender>,
    /// One cell for each row and contender.
    pub cells: Vec<Vec<Cell>>,
}

impl Results {
    /// Results without any sample yet.
    pub fn new(rows: Vec<Row>, contenders: Vec<Contender>) -> Self {
        let cells = vec![vec![Cell::default(); contenders.len()]; rows.len()];
        Self { rows, contenders, cells }
    }

    /// Median wall time of antifreeze over that of the fastest other allocator.
    pub fn ratio_to_best_peer(&self, row: usize) -> Option<f64> {
        let (mut own_ns, mut best_ns) = (None, None::<u64>);
        for (contender, cell) in self.contenders.iter().zip(&self.cells[row]) {
            let Some(wall_ns) = cell.wall_ns() else { continue };
            match contender {
                Contender::Antifreeze => own_ns = Some(wall_ns),
                _ => best_ns = Some(best_ns.map_or(wall_ns, |best_ns| best_ns.min(wall_ns))),
            }
        }
        Some(own_ns? as f64 / best_ns? as f64)
    }

    /// Geometric mean of a figure for one contender, over the rows in which every contender has it.
    pub fn geometric_mean(&self, contender: usize, figure: impl Fn(&Cell) -> Option<u64>) -> Option<f64> {
        let complete = self.cells.iter().filter(|cells| cells.iter().all(|cell| figure(cell).is_some()));
        geometric_mean(complete.filter_map(|cells| figure(&cells[contender])).map(|value| value as f64))
    }

    /// Whether no child failed and every row has the same checksum throughout.
    pub fn is_sound(&self) -> bool {
        let failed = self.cells.iter().flatten().any(|cell| cell.failure.is_some());
        !failed && (0..self.rows.len()).all(|row| self.checksums_agree(row))
    }

    /// Whether all runs of that row computed the same.
    pub fn checksums_agree(&self, row: usize) -> bool {
        let mut checksums = self.cells[row].iter().flat_map(|cell| &cell.samples).map(|sample| sample.checksum);
        let first = checksums.next();
        checksums.all(|checksum| Some(checksum) == first)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Contender, Results, Row, Sample};
    use allocator_bench::workload;

    fn cell(walls_ns: &[u64]) -> Cell {
        let sample = |&wall_ns| Sample { wall_ns, peak_rss_kib: 10 * wall_ns, ..Sample::default() };
        Cell { samples: walls_ns.iter().map(sample).collect(), failure: None }
    }

    fn results(walls_ns: [&[u64]; 4]) -> Results {
        let row = Row { workload: &workload::ALL[0], threads: 1, scale: 1.0 };
        let mut results = Results::new(vec![row], Contender::ALL.to_vec());
        results.cells = vec![walls_ns.iter().map(|walls_ns| cell(walls_ns)).collect()];
        results
    }

    #[test]
    fn ratio_compares_medians_with_the_fastest_peer() {
        let mut results = results([&[30, 10, 20], &[50, 50, 50], &[8, 8, 900], &[16, 16, 16]]);
        assert_eq!(results.ratio_to_best_peer(0), Some(2.5));
        results.cells[0][2].failure = Some("hung".to_owned());
        assert_eq!(results.ratio_to_best_peer(0), Some(1.25));
        results.cells[0][0].samples.clear();
        assert_eq!(results.ratio_to_best_peer(0), None);
    }

    #[test]
    fn failure_or_another_checksum_is_unsound() {
        let mut results = results([&[1], &[1], &[1], &[1]]);
        assert!(results.is_sound());
        results.cells[0][3].samples[0].checksum = 1;
        assert!(!results.checksums_agree(0) && !results.is_sound());
        results.cells[0][3].samples.clear();
        assert!(results.is_sound());
        results.cells[0][3].failure = Some("failed".to_owned());
        assert!(!results.is_sound());
    }

    #[test]
    fn means_leave_incomplete_rows_out() {
        let mut results = results([&[4], &[4], &[4], &[4]]);
        results.rows.push(results.rows[0].clone());
        results.cells.push(vec![cell(&[9]), cell(&[9]), cell(&[9]), Cell::default()]);
        let mean = results.geometric_mean(0, Cell::wall_ns).expect("one row is complete");
        assert!((mean - 4.0).abs() < 1e-9);
        let mean_kib = results.geometric_mean(1, Cell::peak_rss_kib).expect("one row is complete");
        assert!((mean_kib - 40.0).abs() < 1e-9);
    }
}
