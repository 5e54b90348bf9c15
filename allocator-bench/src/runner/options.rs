//! The command line, with its defaults for the full and the quick mode.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use allocator_bench::contender::Contender;
use allocator_bench::workload::{self, Workload};
use anyhow::{Result, ensure};
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};

use super::startup::STARTUP;

const FULL_ROUNDS: u32 = 5;
const QUICK_ROUNDS: u32 = 3;
/// How many times the rounds of the others a row has at most that is not decided.
const UNDECIDED_FACTOR: u32 = 3;
const FULL_STARTUP_RUNS: u32 = 100;
const QUICK_STARTUP_RUNS: u32 = 60;
/// What the rounds of the quick mode may take; the rest of its three minutes is for memory that is touched at first,
/// starts of empty processes, and guesses that fall short.
const QUICK_BUDGET: Duration = Duration::from_secs(115);

/// Plays whole workloads under antifreeze and other allocators, each run in its own process, and compares them.
#[derive(Clone, Debug, Parser)]
#[command(name = "allocator-bench", after_help = workload_list(), args_conflicts_with_subcommands = true)]
pub struct Options {
    /// Something else than to compare workloads.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to compare.
    #[command(flatten)]
    pub comparison: Comparison,
}

/// What else can be done.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Count the instructions of single operations under each allocator, by valgrind
    Instructions(Selection),
    /// Print the table of a record, in Markdown
    Table {
        /// The record
        #[arg(value_name = "FILE.csv")]
        record: PathBuf,
    },
    /// Draw the plots of a record anew, beside it
    Plots {
        /// The record
        #[arg(value_name = "FILE.csv")]
        record: PathBuf,
    },
}

/// Which allocators, and where their binaries come from.
#[derive(Args, Clone, Debug)]
pub struct Selection {
    /// Run only this allocator (may be repeated)
    #[arg(long = "allocator", value_name = "NAME", value_parser = contender_names(), hide_possible_values = true)]
    allocators: Vec<String>,

    /// Do not build the children first, use those beside this binary
    #[arg(long)]
    pub no_build: bool,
}

/// How workloads are compared.
#[derive(Args, Clone, Debug)]
pub struct Comparison {
    /// A fraction of the work and fewer rounds: under three minutes, by less work still where a machine is slow
    #[arg(long)]
    pub quick: bool,

    /// Measured rounds [default: 5, with --quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// Measured rounds at most of rows whose rounds disagree on whether antifreeze lost [default: three times --rounds;
    /// as --rounds with --quick, or if that is 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds_max: Option<u32>,

    /// Length of every workload, 1 being the full one [default: 1, with --quick about 0.15]
    #[arg(long, value_name = "FACTOR", value_parser = parse_scale)]
    scale: Option<f64>,

    /// Play only this workload (may be repeated)
    #[arg(long = "workload", value_name = "NAME", value_parser = workload_names(), hide_possible_values = true)]
    workloads: Vec<String>,

    /// The allocators.
    #[command(flatten)]
    pub selection: Selection,

    /// Numbers of threads, or of producer and consumer pairs, separated by commas
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,2",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,

    /// Leave out the rounds that count system calls and time single calls
    #[arg(long)]
    pub times_only: bool,

    /// Write every run to DIR/MACHINE/DATE.csv, and plots beside it; `results` is the place for those that are kept
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,

    /// Kill a child that takes longer
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=86400))]
    deadline: u64,

    /// MiB of memory to touch and free first [default: 6144, at most 40 % of what is available]
    ///
    /// On a virtual machine the first touch of a page can be many times slower than all later ones, because the
    /// hypervisor has yet to back it; whoever runs first would pay for that. As it may take free memory back at any
    /// time, what a run is likely to need is touched just before it as well. With 0, nothing is touched at all.
    #[arg(long, value_name = "MIB")]
    pub prefault_mib: Option<u64>,
}

impl Selection {
    /// The allocators to run, in the order of the report.
    ///
    /// # Errors
    /// If one was asked for that this build does not have.
    pub fn contenders(&self) -> Result<Vec<Contender>> {
        let asked: Vec<Contender> = self.allocators.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
        for contender in &asked {
            ensure!(contender.is_built(), "{contender} is not part of this build; it takes the feature `{contender}`");
        }
        Ok(Contender::built().filter(|contender| asked.is_empty() || asked.contains(contender)).collect())
    }
}

impl Comparison {
    /// Measured rounds.
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { QUICK_ROUNDS } else { FULL_ROUNDS })
    }

    /// Measured rounds of a row that is not decided after [`rounds`](Self::rounds), at most.
    pub fn rounds_max(&self) -> u32 {
        // One round agrees with itself.
        let factor = if self.quick || self.rounds() == 1 { 1 } else { UNDECIDED_FACTOR };
        self.rounds_max.unwrap_or(self.rounds() * factor)
    }

    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// If there are to be fewer rounds at most than rounds.
    pub fn check(&self) -> Result<()> {
        let (rounds, most) = (self.rounds(), self.rounds_max());
        ensure!(most >= rounds, "--rounds-max {most} is less than the {rounds} rounds of every row");
        Ok(())
    }

    /// Length of a workload.
    pub fn scale_of(&self, workload: &Workload) -> f64 {
        self.scale.unwrap_or(if self.quick { workload.quick_scale } else { 1.0 })
    }

    /// How often an empty child is started under each allocator.
    pub fn startup_runs(&self) -> u32 {
        if self.quick { QUICK_STARTUP_RUNS } else { FULL_STARTUP_RUNS }
    }

    /// What all rounds may take, where that is limited: in quick mode, unless the length was asked for.
    pub fn budget(&self) -> Option<Duration> {
        let is_ours_to_choose = self.scale.is_none() && self.rounds.is_none() && self.rounds_max.is_none();
        (self.quick && is_ours_to_choose).then_some(QUICK_BUDGET)
    }

    /// The numbers of threads, in the order given.
    pub fn threads(&self) -> impl Iterator<Item = usize> {
        self.threads.iter().map(|&threads| usize::from(threads))
    }

    /// How long a child may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline)
    }

    /// Whether the workload of that name is to be played.
    pub fn includes(&self, name: &str) -> bool {
        self.workloads.is_empty() || self.workloads.iter().any(|wanted| wanted == name)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} rounds, ", self.rounds())?;
        if self.rounds_max() > self.rounds() {
            write!(formatter, "up to {} of rows that are not decided by then, ", self.rounds_max())?;
        }
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

fn contender_names() -> PossibleValuesParser {
    Contender::ALL.map(Contender::name).into()
}

fn workload_names() -> PossibleValuesParser {
    workload::ALL.iter().map(|workload| workload.name).chain([STARTUP]).collect::<Vec<_>>().into()
}

fn workload_list() -> String {
    let mut text = String::from("Workloads:\n");
    for workload in &workload::ALL {
        text += &format!("  {:<15} {}\n", workload.name, workload.description);
    }
    text += &format!("  {STARTUP:<15} start and end of a process that does nothing\n\nAllocators of this build: ");
    text + &Contender::built().map(Contender::name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Command, Comparison, Contender, Options};
    use allocator_bench::workload;

    fn parse_all(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(format!("allocator-bench {line}").split_whitespace())
    }

    fn parse(line: &str) -> Result<Comparison, clap::Error> {
        parse_all(line).map(|options| options.comparison)
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
        assert_eq!((quick.rounds(), quick.scale_of(grow)), (7, grow.quick_scale));
        let rounds_max = ["", "--rounds 4", "--rounds 1", "--quick", "--quick --rounds-max 9", "--rounds-max 5"];
        assert_eq!(rounds_max.map(|line| parse(line).expect("valid").rounds_max()), [15, 12, 1, 3, 9, 5]);
        assert!(parse("--rounds-max 4").expect("each is valid").check().is_err() && full.check().is_ok());
        assert_eq!(parse("--quick --scale 2").expect("valid").scale_of(grow), 2.0);
        let limited =
            ["--quick", "", "--rounds 7", "--quick --rounds 7", "--quick --scale 2", "--quick --rounds-max 9"]
                .map(|line| parse(line).expect("valid").budget().is_some());
        assert_eq!(limited, [true, false, false, false, false, false]);
    }

    #[test]
    fn choices_narrow_the_run() {
        let options =
            parse("--workload churn --workload larson --allocator system --threads 8,32 --deadline 7").expect("valid");
        assert!(options.includes("larson") && !options.includes("large"));
        assert_eq!(options.selection.contenders().expect("system is always built"), [Contender::System]);
        assert_eq!(options.threads().collect::<Vec<_>>(), [8, 32]);
        assert_eq!(options.deadline().as_secs(), 7);
    }

    #[test]
    fn commands_are_understood() {
        let table = parse_all("table a.csv").expect("valid").command;
        assert!(matches!(table, Some(Command::Table { record }) if record.ends_with("a.csv")));
        let instructions = parse_all("instructions --allocator system").expect("valid").command;
        assert!(matches!(instructions, Some(Command::Instructions(selection)) if selection.allocators == ["system"]));
    }

    #[test]
    fn bad_input_is_refused() {
        for line in [
            "--workload nothing",
            "--allocator none",
            "--threads 0",
            "--threads a",
            "--rounds 0",
            "--rounds-max 0",
            "--scale 0",
            "--scale nan",
            "--deadline 0",
            "table",
            "--quick table a.csv",
        ] {
            assert!(parse(line).is_err(), "`{line}` was accepted");
        }
    }
}
