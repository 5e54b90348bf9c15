//! The CSV file that every measured run is appended to, so that runs of several days and machines can share one file.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use allocator_bench::sample::Sample;
use anyhow::{Context, Result, ensure};

use super::contender::Contender;
use super::launch::Play;
use super::machine::Machine;

const HEADER: &str =
    "cpu,kernel,thp,commit,workload,threads,scale,allocator,round,wall_ns,cpu_ns,peak_rss_kib,minor_faults";

/// A CSV file open for appending.
#[derive(Debug)]
pub struct CsvFile {
    file: File,
    path: PathBuf,
    machine_fields: String,
}

impl CsvFile {
    /// Opens or creates the file; a new one gets the header.
    ///
    /// # Errors
    /// If it cannot be opened, or holds something else already.
    pub fn open(path: &Path, machine: &Machine) -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        if file.metadata()?.len() == 0 {
            writeln!(file, "{HEADER}").with_context(|| format!("cannot write to {}", path.display()))?;
        } else {
            let mut start = vec![0; HEADER.len() + 1];
            file.seek(SeekFrom::Start(0))?;
            let same = file.read_exact(&mut start).is_ok() && start.strip_suffix(b"\n") == Some(HEADER.as_bytes());
            ensure!(same, "{} has other columns; choose another file", path.display());
        }
        let fields = [&machine.cpu, &machine.kernel, &machine.thp, &machine.commit];
        let machine_fields = fields.map(|field| quoted(field)).join(",");
        Ok(Self { file, path: path.to_path_buf(), machine_fields })
    }

    /// Adds one run.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, play: &Play, contender: Contender, round: u32, sample: &Sample) -> Result<()> {
        let Play { workload, threads, scale } = play;
        let Sample { wall_ns, cpu_ns, peak_rss_kib, minor_faults, checksum: _ } = sample;
        let line = format!(
            "{},{workload},{threads},{scale},{},{round},{wall_ns},{cpu_ns},{peak_rss_kib},{minor_faults}\n",
            self.machine_fields,
            contender.name()
        );
        self.file.write_all(line.as_bytes()).with_context(|| format!("cannot write to {}", self.path.display()))
    }
}

/// A field as it stands in a CSV file: in quotes if need be.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{CsvFile, HEADER, Machine, Play, Sample, quoted};
    use crate::runner::contender::Contender;

    fn append_one(path: &Path) -> anyhow::Result<()> {
        let machine = Machine {
            cpu: "Some CPU, 2 GHz".to_owned(),
            kernel: "6.1".to_owned(),
            thp: "madvise".to_owned(),
            commit: "abc".to_owned(),
            available_kib: 0,
        };
        let play = Play { workload: "churn", threads: 2, scale: 0.25 };
        let sample = Sample { wall_ns: 1, cpu_ns: 2, peak_rss_kib: 3, minor_faults: 4, checksum: 5 };
        CsvFile::open(path, &machine)?.append(&play, Contender::Mimalloc, 7, &sample)
    }

    #[test]
    fn second_run_appends_without_a_header() {
        let path = std::env::temp_dir().join(format!("allocator-bench-{}.csv", std::process::id()));
        append_one(&path).expect("the file is new");
        append_one(&path).expect("the file has our header");
        let text = std::fs::read_to_string(&path).expect("it was written");
        std::fs::write(&path, "other,columns\n1,2\n").expect("it is ours");
        let refused = append_one(&path);
        std::fs::remove_file(&path).expect("it is ours");

        let line = "\"Some CPU, 2 GHz\",6.1,madvise,abc,churn,2,0.25,mimalloc,7,1,2,3,4";
        assert_eq!(text, format!("{HEADER}\n{line}\n{line}\n"));
        assert_eq!(HEADER.split(',').count(), line.split(',').count() - 1);
        assert!(refused.expect_err("columns differ").to_string().contains("other columns"));
    }

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a \"b\""), "\"a \"\"b\"\"\"");
    }
}
