//! Reads a record back.

use std::collections::HashMap;
use std::path::Path;

use allocator_bench::contender::Contender;
use anyhow::{Context, Result, ensure};

use super::HEADINGS;
use super::columns::{Line, check_names};
use crate::runner::cell::Cell;
use crate::runner::results::{Results, Row};
use crate::runner::schedule::Round;
use crate::runner::startup::STARTUP;

/// A record, read.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was measured.
    pub results: Results,
    headings: HashMap<String, String>,
}

impl Record {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is not a whole record.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not a record", path.display()))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// If it is not a whole record.
    pub fn parse(text: &str) -> Result<Self> {
        let comments = text.lines().filter_map(|line| line.strip_prefix("# "));
        let headings: HashMap<String, String> = comments
            .filter_map(|comment| comment.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for heading in HEADINGS {
            ensure!(headings.contains_key(heading), "there is no line `# {heading}: ..`");
        }
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
        let names: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
        check_names(&names)?;
        let mut results = Results::default();
        for fields in reader.records() {
            let fields = fields?;
            let number = fields.position().map_or(0, csv::Position::line);
            let line = Line::parse(&names, &fields).with_context(|| format!("line {number}"))?;
            place(&mut results, line);
        }
        ensure!(!results.rows.is_empty() || !results.startup.is_empty(), "there is no run in it");
        Ok(Self { results, headings })
    }

    /// What is said under one of [`HEADINGS`].
    pub fn heading(&self, name: &str) -> &str {
        self.headings.get(name).map_or("unknown", String::as_str)
    }

    /// The version of an allocator.
    pub fn version_of(&self, contender: Contender) -> &str {
        self.heading(&format!("version {contender}"))
    }

    /// What was measured on what, in one line.
    pub fn caption(&self) -> String {
        format!(
            "{} ({} cores), Linux {}, transparent hugepages on {}, commit {}, {}",
            self.heading("cpu"),
            self.heading("cores"),
            self.heading("kernel"),
            self.heading("thp"),
            self.heading("commit"),
            self.heading("date")
        )
    }
}

/// Puts a line into its cell, which may be the first of its row or column.
fn place(results: &mut Results, line: Line) {
    let index = column(results, line.contender);
    let cell = if line.workload == STARTUP {
        results.startup.resize(results.contenders.len(), Cell::default());
        &mut results.startup[index]
    } else {
        let row = row(results, &line);
        &mut results.cells[row][index]
    };
    match line.outcome {
        Ok(run) => cell.add(run),
        Err(failure) => cell.failure = Some(failure),
    }
}

/// The column of a contender, in the order of all of them, which may have to be put in first.
fn column(results: &mut Results, contender: Contender) -> usize {
    if let Some(index) = results.position(contender) {
        return index;
    }
    let rank = |wanted: Contender| Contender::ALL.into_iter().position(|contender| contender == wanted);
    let index = results.contenders.partition_point(|&other| rank(other) < rank(contender));
    results.contenders.insert(index, contender);
    results.cells.iter_mut().for_each(|cells| cells.insert(index, Cell::default()));
    if !results.startup.is_empty() {
        results.startup.insert(index, Cell::default());
    }
    index
}

/// The row of a line, in the order of their first lines. Its scale is that of the measured rounds.
fn row(results: &mut Results, line: &Line) -> usize {
    let same = |row: &Row| row.workload == line.workload && row.threads == line.threads;
    let index = results.rows.iter().position(same).unwrap_or_else(|| {
        results.rows.push(Row { workload: line.workload.clone(), threads: line.threads, scale: line.scale });
        results.cells.push(vec![Cell::default(); results.contenders.len()]);
        results.rows.len() - 1
    });
    if matches!(line.round, Round::Timed(_)) {
        results.rows[index].scale = line.scale;
    }
    index
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use allocator_bench::counts::Counts;
    use allocator_bench::sample::Sample;

    use super::{Contender, Record, Round};
    use crate::runner::cell::Run;
    use crate::runner::launch::{Failure, Play};
    use crate::runner::machine::Machine;
    use crate::runner::record::RecordFile;

    fn play(workload: &str, scale: f64) -> Play {
        Play { workload: workload.to_owned(), threads: 2, scale, deadline: Duration::from_secs(9) }
    }

    fn write(directory: &Path) -> anyhow::Result<std::path::PathBuf> {
        let machine = Machine { cpu: "Some CPU, 2 GHz".to_owned(), cores: 2, ..Machine::read() };
        let contenders = [Contender::Antifreeze, Contender::Mimalloc];
        let mut record = RecordFile::create(directory, &machine, &contenders, "--quick")?;
        let timed = |wall_ns| Ok(Run::Timed(Sample { wall_ns, ..Sample::default() }.into()));
        let counted = Ok(Run::Counted(Counts { lock_writes: 3, ..Counts::default() }));
        record.append(&play("churn", 0.25), Contender::Mimalloc, Round::Counted, &counted)?;
        record.append(&play("churn", 1.0), Contender::Mimalloc, Round::Timed(1), &timed(10))?;
        record.append(&play("churn", 1.0), Contender::Antifreeze, Round::Timed(1), &timed(5))?;
        let hung = Failure::Hung { after: Duration::from_secs(9) };
        record.append(&play("large", 1.0), Contender::Antifreeze, Round::WarmUp, &Err(hung))?;
        record.append(&play("startup", 1.0), Contender::Antifreeze, Round::Timed(1), &timed(7))?;
        Ok(record.path().to_path_buf())
    }

    #[test]
    fn what_is_written_reads_back_in_its_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = write(directory.path()).expect("the directory is empty");
        assert!(path.parent().is_some_and(|parent| parent.ends_with("some-cpu-2-ghz-2-cores")), "{path:?}");
        let record = Record::read(&path).expect("it was just written");
        let results = &record.results;
        assert_eq!(results.contenders, [Contender::Antifreeze, Contender::Mimalloc]);
        assert_eq!(results.rows.iter().map(|row| row.workload.as_str()).collect::<Vec<_>>(), ["churn", "large"]);
        assert_eq!(results.rows[0].scale, 1.0);
        assert_eq!(results.ratio_to_best_peer(0), Some(0.5));
        assert_eq!(results.cells[0][1].counts.map(|counts| counts.lock_writes), Some(3));
        assert_eq!(results.cells[1][0].failure.as_ref().map(Failure::mark), Some("HUNG"));
        assert_eq!(results.startup[0].wall_ns(), Some(7));
        assert!(record.caption().contains("Some CPU, 2 GHz (2 cores)"), "{}", record.caption());
        assert_eq!(record.version_of(Contender::Mimalloc), crate::runner::machine::version_of(Contender::Mimalloc));
    }

    #[test]
    fn a_record_is_never_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let [first, second] = [(); 2].map(|()| write(directory.path()).expect("there is room"));
        assert_ne!(first, second);
        assert!(second.to_string_lossy().ends_with("-2.csv"), "{second:?}");
    }

    #[test]
    fn other_files_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = write(directory.path()).expect("the directory is empty");
        let text = std::fs::read_to_string(&path).expect("it was written");
        for (broken, reason) in [
            ("a,b\n1,2\n".to_owned(), "no line `# date"),
            (text.replace("wall_ns", "wall_ms"), "no column wall_ns"),
            (text.replace(",mimalloc,1,10,", ",mimalloc,1,ten,"), "wall_ns is `ten`"),
            (text.replace(",mimalloc,", ",nothing,"), "no allocator is called `nothing`"),
            (text.lines().take(10).map(|line| format!("{line}\n")).collect(), "no run"),
        ] {
            let error = format!("{:#}", Record::parse(&broken).expect_err(reason));
            assert!(error.contains(reason), "{error}");
        }
        let error = format!("{:#}", Record::read(directory.path()).expect_err("it is a directory"));
        assert!(error.contains("cannot read"), "{error}");
    }
}
