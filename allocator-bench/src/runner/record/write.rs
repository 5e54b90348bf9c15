//! Writes a record, run by run, so that a comparison that is broken off leaves what it has.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use allocator_bench::contender::Contender;
use anyhow::{Context, Result, bail};

use super::HEADINGS;
use super::columns::{Line, names};
use crate::runner::cell::Run;
use crate::runner::launch::{Failure, Play};
use crate::runner::machine::{Machine, version_of};
use crate::runner::schedule::Round;

/// How many records of one machine and day may be kept.
const PER_DAY_MAX: u32 = 99;

/// A record that is being written.
#[derive(Debug)]
pub struct RecordFile {
    writer: csv::Writer<File>,
    path: PathBuf,
}

impl RecordFile {
    /// Creates `DIRECTORY/MACHINE/DATE.csv`, or `DATE-2.csv` and so on if that is there already.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(directory: &Path, machine: &Machine, contenders: &[Contender], command: &str) -> Result<Self> {
        let directory = directory.join(machine.slug());
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let (mut file, path) = new_file(&directory, &machine.date)?;
        let Machine { date, cpu, cores, kernel, thp, commit, available_kib: _ } = machine;
        let values: [&str; HEADINGS.len()] = [date, cpu, &cores.to_string(), kernel, thp, commit, command];
        let write = |file: &mut File| -> io::Result<()> {
            for (heading, value) in HEADINGS.iter().zip(values) {
                writeln!(file, "# {heading}: {}", value.replace('\n', " "))?;
            }
            for &contender in contenders {
                writeln!(file, "# version {contender}: {}", version_of(contender))?;
            }
            Ok(())
        };
        write(&mut file).with_context(|| format!("cannot write to {}", path.display()))?;
        let mut record = Self { writer: csv::Writer::from_writer(file), path };
        record.write(&names())?;
        Ok(record)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds one run.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(
        &mut self,
        play: &Play,
        contender: Contender,
        round: Round,
        outcome: &Result<Run, Failure>,
    ) -> Result<()> {
        let Play { workload, threads, scale, deadline: _ } = play.clone();
        self.write(&Line { workload, threads, scale, contender, round, outcome: outcome.clone() }.fields())
    }

    fn write(&mut self, fields: &[String]) -> Result<()> {
        let written = self.writer.write_record(fields).map_err(io::Error::from).and_then(|()| self.writer.flush());
        written.with_context(|| format!("cannot write to {}", self.path.display()))
    }
}

fn new_file(directory: &Path, date: &str) -> Result<(File, PathBuf)> {
    for number in 1..=PER_DAY_MAX {
        let name = if number == 1 { format!("{date}.csv") } else { format!("{date}-{number}.csv") };
        let path = directory.join(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", path.display())),
        }
    }
    bail!("{} has {PER_DAY_MAX} records of {date} already; remove some", directory.display())
}
