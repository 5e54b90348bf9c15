//! The command line of the runner, with its defaults for the full and the quick mode.

use std::fmt;
use std::path::PathBuf;

use allocator_bench::workload::{self, Workload};
use anyhow::{Result, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;

use super::contender::Contender;
use super::startup::STARTUP;

const FULL_ROUNDS: u32 = 5;
const QUICK_ROUNDS: u32 = 3;
const FULL_STARTUP_RUNS: u32 = 300;
const QUICK_STARTUP_RUNS: u32 = 120;

/// Plays whole workloads under antifreeze and other allocators, each run in its own process, and compares them.
#[derive(Clone, Debug, Parser)]
#[command(name = "allocator-bench", after_help = workload_list())]
pub struct Options {
    /// A fraction of the work and fewer rounds: a good minute on two cores
    #[arg(long)]
    pub quick: bool,

    /// Measured rounds, after one that is discarded [default: 5, with --quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// Length of every workload, 1 being the full one [default: 1, with --quick 0.15 or more]
    #[arg(long, value_name = "FACTOR", value_parser = parse_scale)]
    scale: Option<f64>,

    /// Play only this workload (may be repeated)
    #[arg(long = "workload", value_name = "NAME", value_parser = workload_names(), hide_possible_values = true)]
    workloads: Vec<String>,

    /// Run only this allocator (may be repeated)
    #[arg(long = "allocator", value_name = "NAME")]
    allocators: Vec<Contender>,

    /// Numbers of threads, or of producer and consumer pairs, separated by commas
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,2",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,

    /// Append every run to this file, with a header if the file is new
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,

    /// MiB of memory to touch and free first, 0 for none [default: 6144, at most 40 % of what is available]
    ///
    /// On a virtual machine the first touch of a page can be many times slower than all later ones, because the
    /// hypervisor has yet to back it; whoever runs first would pay for that.
    #[arg(long, value_name = "MIB")]
    pub prefault_mib: Option<u64>,

    /// Do not build the children first, use those beside this binary
    #[arg(long)]
    pub no_build: bool,
}

impl Options {
    /// Measured rounds.
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { QUICK_ROUNDS } else { FULL_ROUNDS })
    }

    /// Length of a workload.
    pub fn scale_of(&self, workload: &Workload) -> f64 {
        self.scale.unwrap_or(if self.quick { workload.quick_scale } else { 1.0 })
    }

    /// How often an empty child is started under each allocator.
    pub fn startup_runs(&self) -> u32 {
        if self.quick { QUICK_STARTUP_RUNS } else { FULL_STARTUP_RUNS }
    }

    /// The numbers of threads, in the order given.
    pub fn threads(&self) -> impl Iterator<Item = usize> {
        self.threads.iter().map(|&threads| usize::from(threads))
    }

    /// Whether the workload of that name is to be played.
    pub fn includes(&self, name: &str) -> bool {
        self.workloads.is_empty() || self.workloads.iter().any(|wanted| wanted == name)
    }

    /// The allocators to run, in the order of the report.
    ///
    /// # Errors
    /// If one was asked for that this build does not have.
    pub fn contenders(&self) -> Result<Vec<Contender>> {
        for contender in &self.allocators {
            ensure!(
                contender.is_built(),
                "{0} is not part of this build; it takes the feature `{0}`",
                contender.name()
            );
        }
        let wanted = |contender: &Contender| self.allocators.is_empty() || self.allocators.contains(contender);
        Ok(Contender::ALL.into_iter().filter(Contender::is_built).filter(wanted).collect())
    }
}

impl fmt::Display for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} rounds after a short discarded one, ", self.rounds())?;
        match (self.scale, self.quick) {
            (Some(scale), _) => write!(formatter, "scale {scale}"),
            (None, true) => write!(formatter, "quick mode"),
            (None, false) => write!(formatter, "full mode"),
        }
    }
}

fn parse_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale > 0.0 && scale <= 100.0 => Ok(scale),
        _ => Err("expected a number above 0, up to 100".to_owned()),
    }
}

fn workload_names() -> PossibleValuesParser {
    workload::ALL.iter().map(|workload| workload.name).chain([STARTUP]).collect::<Vec<_>>().into()
}

fn workload_list() -> String {
    let mut text = String::from("Workloads:\n");
    for workload in &workload::ALL {
        text += &format!("  {:<15} {}\n", workload.name, workload.description);
    }
    text + &format!("  {STARTUP:<15} start and end of a process that does nothing\n")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Contender, Options};
    use allocator_bench::workload;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(format!("allocator-bench {line}").split_whitespace())
    }

    #[test]
    fn command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn defaults_depend_on_the_mode() {
        let full = parse("").expect("no option is required");
        let grow = workload::find("vec_grow").expect("exists");
        assert_eq!((full.rounds(), full.scale_of(grow)), (5, 1.0));
        assert_eq!(full.threads().collect::<Vec<_>>(), [1, 2]);
        assert!(full.includes("churn") && full.includes("startup"));
        let quick = parse("--quick --rounds 7").expect("valid");
        assert_eq!((quick.rounds(), quick.scale_of(grow)), (7, 0.25));
        assert_eq!(parse("--quick --scale 2").expect("valid").scale_of(grow), 2.0);
    }

    #[test]
    fn choices_narrow_the_run() {
        let options = parse("--workload churn --workload larson --allocator system --threads 4").expect("valid");
        assert!(options.includes("larson") && !options.includes("large"));
        assert_eq!(options.contenders().expect("system is always built"), [Contender::System]);
        assert_eq!(options.threads().collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn bad_input_is_refused() {
        for line in [
            "--workload nothing",
            "--allocator none",
            "--threads 0",
            "--threads a",
            "--rounds 0",
            "--scale 0",
            "--scale nan",
        ] {
            assert!(parse(line).is_err(), "`{line}` was accepted");
        }
    }
}
