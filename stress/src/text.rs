//! A report as a terminal shows it: tables, the machine, and a reading in plain words.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use lock_trace::IntervalKind;

use crate::locks::LockSummary;
use crate::record::{millis, time};
use crate::report::Report;
use crate::scenario::{CONTROL, after_control};
use crate::summary::{Summary, Wait, distinct};

/// A run is marked if a hugepage fault before it took so many times the best: its memory was not backed.
const SLOW_FAULT_FACTOR: u64 = 3;

/// The tables, the machine and the reading.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}\n", figures(report));
    if report.summaries.iter().any(|summary| !summary.waits.is_empty()) {
        let _ = writeln!(text, "{}\n", waits(report));
    }
    let _ = match &report.untraced {
        None => writeln!(text, "{}\nThe longest wait for mmap_lock:\n{}", locks(report), blame(report)),
        Some(why) => writeln!(text, "mmap_lock was not traced, so the kernel did not judge: {why}\n"),
    };
    let rounds =
        if report.rounds == 1 { "Of one round".to_owned() } else { format!("Medians of {} rounds", report.rounds) };
    let _ = writeln!(text, "{rounds}; \"worst\" is the median of their worst. Machine: {}.", report.machine);
    if report.cold {
        let _ = writeln!(text, "Cold run: some may have paid for memory the host had not backed.");
    }
    let _ = writeln!(text, "{}", reading_of_faults(report));
    for run in &report.runs {
        for note in &run.record.notes {
            let _ = writeln!(text, "{} in round {}: {note}", run.record.allocator, run.round);
        }
    }
    let _ = writeln!(text, "{}", reading_of_waits(report));
    let _ = writeln!(text, "\nTargets:");
    for target in &report.targets {
        let _ = writeln!(text, "- {target}");
    }
    text
}

/// One column for each allocator, so that many figures stay readable; the one to its left names what is in a row.
fn columns(report: &Report, what: &str) -> Table {
    // A long name takes two lines.
    let names = report.summaries.iter().map(|summary| summary.allocator.replace('-', "-\n"));
    table([what.to_owned()].into_iter().chain(names), 1)
}

/// One row for each figure.
fn figures(report: &Report) -> Table {
    let all = || report.summaries.iter().flat_map(|summary| &summary.figures);
    let mut table = columns(report, "Figure");
    for name in distinct(all().map(|figure| figure.name.as_str())) {
        let unit = all().find(|figure| figure.name == name).map_or("", |figure| figure.unit.shown());
        let cell = |summary: &Summary| match summary.figure(name) {
            None => "-".to_owned(),
            Some(figure) => figure.median.map_or_else(|| "never".to_owned(), |value| figure.unit.cell(value)),
        };
        table.add_row([format!("{name} ({unit})")].into_iter().chain(report.summaries.iter().map(cell)));
    }
    table
}

/// What the canaries felt: one row for each phase and allocator, the 99.9th percentile and the worst of each canary.
fn waits(report: &Report) -> Table {
    let all = || report.summaries.iter().flat_map(|summary| &summary.waits);
    let kinds = distinct(all().map(|wait| wait.kind.as_str()));
    let headings = kinds.iter().flat_map(|kind| ["p99.9", "worst"].map(|what| format!("{kind}\n{what}\n(ms)")));
    let mut table = table(["Phase".to_owned(), "Allocator".to_owned()].into_iter().chain(headings), 2);
    for phase in report.plan.scenario().phases().iter().map(|phase| phase.name) {
        for summary in report.summaries.iter().filter(|summary| summary.waits.iter().any(|wait| wait.phase == phase)) {
            let cells = kinds.iter().flat_map(|kind| {
                let cell = |field: fn(&Wait) -> u64| {
                    summary.wait(kind, phase).map_or_else(|| "-".to_owned(), |wait| millis(field(wait)))
                };
                [cell(|wait| wait.p999_ns), cell(|wait| wait.worst_ns)]
            });
            table.add_row([phase.to_owned(), summary.allocator.clone()].into_iter().chain(cells));
        }
    }
    table
}

/// What the kernel told of `mmap_lock`.
fn locks(report: &Report) -> Table {
    let told: Vec<_> = report.summaries.iter().map(|summary| summary.locks.as_ref().map(LockSummary::rows)).collect();
    let mut table = columns(report, "mmap_lock, by the kernel");
    for (index, (name, _)) in told.iter().flatten().next().into_iter().flatten().enumerate() {
        let values = told.iter().map(|rows| rows.as_ref().map_or("-", |rows| &rows[index].1));
        table.add_row([*name].into_iter().chain(values));
    }
    table
}

/// The longest wait for `mmap_lock` beside each allocator, and who held it meanwhile.
fn blame(report: &Report) -> String {
    let mut text = String::new();
    for summary in &report.summaries {
        let traces = report.runs.iter().filter(|run| run.record.allocator == summary.allocator);
        let waits = traces.filter_map(|run| run.locks.as_ref()).flat_map(|trace| &trace.kept);
        let waits = waits.filter(|interval| interval.kind == IntervalKind::Wait && !interval.outsider);
        let Some(wait) = waits.max_by_key(|wait| wait.duration_ns) else { continue };
        let holder = wait.blame.iter().max_by_key(|blame| blame.overlap_ns).map_or_else(String::new, |blame| {
            let (ns, mode) = (time(blame.overlap_ns), blame.mode);
            format!(", of which \"{}\" held it {ns} ({mode}) in {}", blame.thread, blame.activity)
        });
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "- {}: \"{}\" waited {} in {}{holder}.",
            summary.allocator,
            wait.thread,
            time(wait.duration_ns),
            wait.activity
        );
    }
    text
}

fn table(headings: impl Iterator<Item = String>, left: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(headings);
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// How fast memory could be had right before each child, and for whom it was not.
fn reading_of_faults(report: &Report) -> String {
    let faults = || report.runs.iter().map(|run| run.fault_ns).filter(|ns| *ns > 0);
    let (Some(best_ns), Some(worst_ns)) = (faults().min(), faults().max()) else {
        return "The scenario asks for no memory that the host is made to back.".to_owned();
    };
    let slow: Vec<_> = report
        .runs
        .iter()
        .filter(|run| run.fault_ns > best_ns.saturating_mul(SLOW_FAULT_FACTOR))
        .map(|run| format!("{} in round {} ({})", run.record.allocator, run.round, time(run.fault_ns)))
        .collect();
    let marked = if slow.is_empty() {
        format!("none took more than {SLOW_FAULT_FACTOR} times the best")
    } else {
        format!("not comparable, as it took more than {SLOW_FAULT_FACTOR} times the best: {}", slow.join(", "))
    };
    format!("A fault of 2 MiB right before each child took {} to {}; {marked}.", time(best_ns), time(worst_ns))
}

/// The longest wait of any canary after the control, in the middle and in the worst round, and what the machine does by
/// itself.
fn reading_of_waits(report: &Report) -> String {
    let counted = after_control(report.plan.scenario().phases());
    let counts = |wait: &&Wait| counted.iter().any(|phase| phase.name == wait.phase);
    let all = || report.summaries.iter().flat_map(|summary| &summary.waits);
    let said = |summary: &Summary| {
        let waits = || summary.waits.iter().filter(counts);
        let longest = waits().max_by_key(|wait| wait.worst_ns)?;
        let worst_ns = waits().map(|wait| wait.worst_any_round_ns).max()?;
        let worst = if report.rounds > 1 { format!("; worst round {}", time(worst_ns)) } else { String::new() };
        let ns = time(longest.worst_ns);
        Some(format!("{} {ns} (canary {}, {}{worst})", summary.allocator, longest.kind, longest.phase))
    };
    let waits: Vec<_> = report.summaries.iter().filter_map(said).collect();
    if waits.is_empty() {
        return "There were no canaries, or no phase was long enough for them.".to_owned();
    }
    let control = all().filter(|wait| wait.phase == CONTROL).map(|wait| wait.worst_any_round_ns).max();
    let noise = control.map_or_else(String::new, |ns| {
        format!(" Before that, with nothing going on, this machine made a canary wait up to {}.", time(ns))
    });
    format!("Longest wait of another thread after the control, median of the rounds: {}.{noise}", waits.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn report() -> Report {
        samples::report(vec![
            samples::run(1, samples::record("antifreeze", 150_000)),
            samples::run(1, samples::record("system", 1_000_000_000)),
            samples::run(2, samples::record("antifreeze", 130_000)),
            samples::run(2, samples::record("system", 3_000_000_000)),
        ])
    }

    #[test]
    fn the_text_has_units_numbers_the_machine_and_a_reading() {
        let text = text(&report());
        for part in [
            "doubling",
            "(ms)",
            "(MiB)",
            "never",
            "2000",
            "Linux 6.1, 2 x Some CPU, transparent huge pages: madvise",
            "antifreeze in round 1: A note.",
            "A fault of 2 MiB right before each child took 100 µs to 100 µs; none took more than 3 times the best.",
            "antifreeze 140 µs (canary map, doubling; worst round 150 µs)",
            "system 2.00 s (canary map, doubling; worst round 3.00 s)",
            "with nothing going on, this machine made a canary wait up to 3.00 s.",
            "Targets:",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("Cold run"));
    }

    #[test]
    fn a_run_on_memory_that_was_slow_to_get_is_marked() {
        let mut report = report();
        report.runs[1].fault_ns = 300_000;
        report.runs[3].fault_ns = 300_001;
        assert!(reading_of_faults(&report).ends_with("3 times the best: system in round 2 (300 µs)."));
    }

    #[test]
    fn what_was_not_traced_is_said() {
        let report = Report { untraced: Some("no reason".to_owned()), ..report() };
        assert!(text(&report).contains("the kernel did not judge: no reason"));
    }
}
