//! Instructions of single operations under each allocator, counted by valgrind's callgrind: they repeat exactly where
//! times do not. What the loop around an operation takes is in the count, the same for all.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use allocator_bench::child::OPERATION_ARG;
use allocator_bench::contender::Contender;
use allocator_bench::operation::Operation;
use anyhow::Result;

use super::build;
use super::launch::Failure;
use super::options::Selection;
use super::report::new_table;

const VALGRIND: &str = "valgrind";

/// Rounds in the shorter run, after which an allocator is at its usual work, and how many more in the longer one.
const FIRST_ROUNDS: usize = 50;
const MORE_ROUNDS: usize = 200;

/// Far longer than a run takes; some allocators do not get along with valgrind.
const DEADLINE: Duration = Duration::from_secs(120);

/// Prints a table of all operations; `false` if a child failed.
///
/// # Errors
/// If nothing can be counted: children that cannot be built or found.
pub fn run(selection: &Selection) -> Result<bool> {
    let contenders = selection.contenders()?;
    let directory = build::prepare(&contenders, selection.no_build, false)?;
    if !has_valgrind() {
        println!("skipped: there is no {VALGRIND}, which counts the instructions; install it");
        return Ok(true);
    }
    let (mut failures, mut rows) = (vec![None; contenders.len()], Vec::new());
    for operation in Operation::ALL {
        let mut row = vec![operation.to_string()];
        for (&contender, failed) in contenders.iter().zip(&mut failures) {
            // Who does not run under valgrind is not tried again.
            row.push(match *failed {
                Some(mark) => String::from(mark),
                None => match per_operation(&contender.bench_in(&directory), operation) {
                    Ok(instructions) => format!("{instructions:.1}"),
                    Err(failure) => {
                        eprintln!("{contender} on {operation}: {failure}");
                        failed.insert(failure.mark()).to_string()
                    }
                },
            });
        }
        rows.push(row);
    }
    let header = ["instructions".to_owned()].into_iter().chain(contenders.iter().map(Contender::to_string)).collect();
    println!("{}", new_table(header, rows, 1));
    Ok(failures.iter().all(Option::is_none))
}

/// Whether valgrind can be started.
pub fn has_valgrind() -> bool {
    Command::new(VALGRIND).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Instructions that one operation takes under the allocator of `binary`.
fn per_operation(binary: &Path, operation: Operation) -> Result<f64, Failure> {
    let few = instructions(binary, operation, FIRST_ROUNDS)?;
    let many = instructions(binary, operation, FIRST_ROUNDS + MORE_ROUNDS)?;
    Ok(many.saturating_sub(few) as f64 / (MORE_ROUNDS * operation.per_round()) as f64)
}

fn instructions(binary: &Path, operation: Operation, rounds: usize) -> Result<u64, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
    let log = tempfile::NamedTempFile::new().map_err(|error| failed(&error))?;
    let mut command = Command::new(VALGRIND);
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(format!("--log-file={}", log.path().display())).arg(binary);
    command.args([OPERATION_ARG, &operation.to_string(), &rounds.to_string()]);
    super::launch::output_of(&mut command, DEADLINE)?;
    let said = std::fs::read_to_string(log.path()).map_err(|error| failed(&error))?;
    collected(&said).ok_or_else(|| Failure::Failed(format!("{VALGRIND} gave no count: {}", said.trim())))
}

/// The count in what callgrind says at its end.
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected : "))?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::collected;

    #[test]
    fn the_count_is_found() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 123456\n==7==\n"), Some(123_456));
        assert_eq!(collected("==7== valgrind: no such file\n"), None);
    }
}
