//! The runner: builds the children, plays every workload under every allocator, reports and records. Called by `main`.

mod backing;
mod build;
mod cell;
mod counting;
mod distance;
mod instructions;
mod launch;
mod machine;
mod markdown;
mod options;
mod plot;
mod record;
mod report;
mod results;
mod schedule;
mod startup;

use std::path::Path;

use allocator_bench::workload::Workload;
use anyhow::Result;

use backing::Backing;
use machine::Machine;
pub use options::Options;
use options::{Command, Comparison};
use record::{Record, RecordFile};
use results::{Results, Row};
use schedule::{Round, Schedule};
use startup::STARTUP;

/// Does what was asked for; `false` if a child failed or gave another result than the others.
///
/// # Errors
/// If it cannot be done at all.
pub fn run(options: &Options) -> Result<bool> {
    match &options.command {
        None => compare(&options.comparison),
        Some(Command::Instructions(selection)) => instructions::run(selection),
        Some(Command::Table { record }) => {
            println!("{}", markdown::table(&Record::read(record)?));
            Ok(true)
        }
        Some(Command::Plots { record }) => {
            draw_plots(record)?;
            Ok(true)
        }
    }
}

/// Runs the whole comparison.
fn compare(options: &Comparison) -> Result<bool> {
    options.check()?;
    let contenders = options.selection.contenders()?;
    let directory = build::prepare(&contenders, options.selection.no_build, !options.times_only)?;
    let machine = Machine::read();
    let create = |place: &Path| RecordFile::create(place, &machine, &contenders, &command_line());
    let mut record = options.record.as_deref().map(create).transpose()?;
    println!("{machine}\n{options}\n");

    let mut results = Results::new(rows(options, machine.available_kib), contenders.clone());
    if !results.rows.is_empty() {
        let backing = Backing::new(options.prefault_mib, machine.available_kib);
        backing.touch_first()?;
        let schedule = Schedule {
            directory: &directory,
            first: first_round(options),
            rounds: options.rounds(),
            rounds_max: options.rounds_max(),
            probed: !options.times_only,
            hurried: options.quick,
            budget: options.budget(),
            deadline: options.deadline(),
            backing,
        };
        schedule.play(&mut results, record.as_mut())?;
    }
    if options.includes(STARTUP) {
        let runs = (options.startup_runs(), options.deadline());
        results.startup = startup::measure(&contenders, &directory, runs, record.as_mut())?;
    }
    println!("{}", report::text(&results));
    if let Some(record) = record {
        println!("\nrecord: {}", record.path().display());
        draw_plots(record.path())?;
    }
    Ok(results.is_sound())
}

fn draw_plots(record: &Path) -> Result<()> {
    for path in plot::draw(&Record::read(record)?, record)? {
        println!("plot: {}", path.display());
    }
    Ok(())
}

/// The arguments as they were given.
fn command_line() -> String {
    std::env::args().skip(1).collect::<Vec<_>>().join(" ")
}

/// What comes before the measured rounds; says what is missing where the kernel cannot count.
fn first_round(options: &Comparison) -> Round {
    if options.times_only {
        return Round::WarmUp;
    }
    match counting::check() {
        Ok(()) => Round::Counted,
        Err(missing) => {
            eprintln!("system calls are not counted: {}", missing.to_string().replace('\n', "; "));
            Round::WarmUp
        }
    }
}

/// One row for each workload and number of threads that was asked for.
fn rows(options: &Comparison, available_kib: u64) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for workload in allocator_bench::workload::ALL.iter().filter(|workload| options.includes(workload.name)) {
        let scale = affordable_scale(workload, options.scale_of(workload), available_kib);
        if scale < options.scale_of(workload) {
            eprintln!("{}: scale cut to {scale:.3}, the memory available does not allow more", workload.name);
        }
        for threads in options.threads() {
            let threads = threads.min(workload.max_threads);
            if !rows.iter().any(|row| row.workload == workload.name && row.threads == threads) {
                rows.push(Row { workload: workload.name.to_owned(), threads, scale });
            }
        }
    }
    rows
}

/// `scale`, cut so that a workload whose memory grows with it fits into the memory available.
fn affordable_scale(workload: &Workload, scale: f64, available_kib: u64) -> f64 {
    if workload.growing_mib == 0 {
        scale
    } else {
        scale.min(available_kib as f64 / 1024.0 / workload.growing_mib as f64)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Options, affordable_scale, rows};
    use allocator_bench::workload;

    fn comparison(line: &str) -> super::Comparison {
        Options::parse_from(format!("allocator-bench {line}").split_whitespace()).comparison
    }

    #[test]
    fn scale_is_cut_for_growing_workloads_only() {
        let (grow, churn) = (workload::find("vec_grow").expect("exists"), workload::find("churn").expect("exists"));
        assert_eq!(affordable_scale(grow, 1.0, grow.growing_mib * 1024 / 2), 0.5);
        assert_eq!(affordable_scale(grow, 0.25, u64::MAX), 0.25);
        assert_eq!(affordable_scale(churn, 1.0, 1024), 1.0);
    }

    #[test]
    fn threads_beyond_the_limit_do_not_repeat_a_row() {
        let rows = rows(&comparison("--workload vec_grow --threads 1,2,4"), u64::MAX);
        assert_eq!(rows.iter().map(|row| row.threads).collect::<Vec<_>>(), [1]);
    }
}
