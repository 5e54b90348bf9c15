//! The runner: builds the children, plays every workload under every allocator, reports. Called by `main`.

mod backing;
mod build;
mod contender;
mod csv;
mod launch;
mod machine;
mod options;
mod results;
mod startup;
mod table;

use std::path::Path;

use allocator_bench::workload::Workload;
use anyhow::Result;

use csv::CsvFile;
use launch::Play;
use machine::Machine;
pub use options::Options;
use results::{Results, Row};
use startup::STARTUP;

/// How much shorter than a measured run the discarded one is.
const WARM_UP_SHARE: f64 = 0.25;

/// Runs the whole comparison; `false` if a child failed or gave another result than the others.
///
/// # Errors
/// If nothing can be measured at all: a bad combination of options, children that cannot be built or found, or a CSV
/// file that cannot be written.
pub fn run(options: &Options) -> Result<bool> {
    let contenders = options.contenders()?;
    build::require_optimised(options.no_build)?;
    if !options.no_build {
        build::build_children()?;
    }
    let directory = build::children_directory(&contenders)?;
    let machine = Machine::read();
    let mut csv = options.csv.as_deref().map(|path| CsvFile::open(path, &machine)).transpose()?;
    println!("{machine}\n{options}\n");

    let rows = rows(options, machine.available_kib);
    let mut sound = true;
    let mut results = Results::new(rows, contenders.clone());
    if !results.rows.is_empty() {
        backing::touch(options.prefault_mib, machine.available_kib)?;
        play_all(&mut results, options.rounds(), &directory, csv.as_mut())?;
        println!("{}", table::workloads(&results));
        sound &= results.is_sound();
    }
    if options.includes(STARTUP) {
        let startup = startup::measure(&contenders, &directory, options.startup_runs(), csv.as_mut())?;
        println!("{}", table::startup(&startup));
        sound &= startup.is_sound();
    }
    Ok(sound)
}

/// One row for each workload and number of threads that was asked for.
fn rows(options: &Options, available_kib: u64) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for workload in allocator_bench::workload::ALL.iter().filter(|workload| options.includes(workload.name)) {
        let scale = affordable_scale(workload, options.scale_of(workload), available_kib);
        if scale < options.scale_of(workload) {
            eprintln!("{}: scale cut to {scale:.3}, the memory available does not allow more", workload.name);
        }
        for threads in options.threads() {
            let threads = threads.min(workload.max_threads);
            if !rows.iter().any(|row| row.workload.name == workload.name && row.threads == threads) {
                rows.push(Row { workload, threads, scale });
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

/// Plays all rows: first a short discarded round, then `rounds` measured ones.
fn play_all(results: &mut Results, rounds: u32, directory: &Path, mut csv: Option<&mut CsvFile>) -> Result<()> {
    for round in 0..=rounds {
        match round {
            0 => eprintln!("warm-up round"),
            _ => eprintln!("round {round} of {rounds}"),
        }
        for row_index in 0..results.rows.len() {
            let row = results.rows[row_index].clone();
            for position in 0..results.contenders.len() {
                let contender_index = rotated(position, round as usize + row_index, results.contenders.len());
                let contender = results.contenders[contender_index];
                let cell = &mut results.cells[row_index][contender_index];
                if cell.failure.is_some() {
                    continue;
                }
                let scale = if round == 0 { row.scale * WARM_UP_SHARE } else { row.scale };
                let play = Play { workload: row.workload.name, threads: row.threads, scale };
                match launch::play(&contender.path_in(directory), &play) {
                    Err(error) => {
                        eprintln!("{} on {}: {error:#}", contender.name(), row.workload.name);
                        cell.failure = Some(format!("{error:#}"));
                    }
                    Ok(_) if round == 0 => {}
                    Ok(sample) => {
                        cell.samples.push(sample);
                        if let Some(csv) = csv.as_mut() {
                            csv.append(&play, contender, round, &sample)?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// The index of whoever has its turn at `position`, when everybody moves up by one from round to round.
fn rotated(position: usize, round: usize, count: usize) -> usize {
    (position + round) % count
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::contender::Contender;
    use super::{Options, affordable_scale, rotated, rows};
    use allocator_bench::workload;

    #[test]
    fn everyone_is_first_once() {
        let firsts: Vec<usize> = (0..4).map(|round| rotated(0, round, 4)).collect();
        assert_eq!(firsts, [0, 1, 2, 3]);
        let mut turn: Vec<usize> = (0..4).map(|position| rotated(position, 7, 4)).collect();
        turn.sort_unstable();
        assert_eq!(turn, [0, 1, 2, 3]);
    }

    #[test]
    fn scale_is_cut_for_growing_workloads_only() {
        let (grow, churn) = (workload::find("vec_grow").expect("exists"), workload::find("churn").expect("exists"));
        assert_eq!(affordable_scale(grow, 1.0, 4096 * 1024), 0.5);
        assert_eq!(affordable_scale(grow, 0.25, u64::MAX), 0.25);
        assert_eq!(affordable_scale(churn, 1.0, 1024), 1.0);
    }

    #[test]
    fn threads_beyond_the_limit_do_not_repeat_a_row() {
        let options = Options::parse_from("allocator-bench --workload vec_grow --threads 1,2,4".split(' '));
        let rows = rows(&options, u64::MAX);
        assert_eq!(rows.iter().map(|row| row.threads).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn contenders_have_names_of_binaries() {
        assert_eq!(Contender::Antifreeze.name(), "antifreeze");
        assert!(Contender::System.path_in(std::path::Path::new("dir")).ends_with("dir/bench-system"));
    }
}
