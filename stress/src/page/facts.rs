//! The bottom of the page: the machine, what was run, what was not measured and why, and what the children noted.

use maud::{Markup, html};
use serde_json::Value;

use super::PageError;
use super::selection::Selection;
use crate::harness::Run;
use crate::record::{Unit, time};
use crate::report::Report;

/// How to read the page, in three sentences.
pub fn reading() -> Markup {
    html! {
        p.reading {
            "Each allocator ran the same work in a process of its own, and meanwhile “canary” threads did small things "
            "that every service does and noted how long each took. "
            "A canary’s wait is a freeze that a user would feel; less is better unless a unit says “per s”. "
            "Compare a busy phase with the quiet one before it, and trust a difference only if it is larger than the "
            "spread of the rounds."
        }
    }
}

/// The facts as a list of terms.
pub fn facts(report: &Report) -> Result<Markup, PageError> {
    let machine = &report.machine;
    let told = [
        ("kernel", format!("Linux {}", machine.kernel)),
        ("processors", format!("{} × {}", machine.cpu_count, machine.cpu_model)),
        ("transparent hugepages", format!("{}, defrag {}", machine.thp_mode, machine.thp_defrag)),
        (
            "memory",
            format!("{}, {} available", Unit::Kib.said(machine.memory_kib), Unit::Kib.said(machine.available_kib)),
        ),
        ("C library", machine.c_library.clone()),
        ("compiler", machine.rustc.clone()),
        ("rounds", report.rounds.to_string()),
        ("memory of the host", warmth(report)),
    ];
    let plan = serde_json::to_value(&report.plan)?;
    Ok(html! {
        dl {
            @for (term, fact) in told { dt { (term) } dd { (fact) } }
            @for (term, fact) in flat("", &plan) { dt { (term) } dd { (fact) } }
        }
    })
}

/// Whether the children found memory that the host backs.
fn warmth(report: &Report) -> String {
    if report.cold {
        return "not held for the children: whoever got memory that the host had not backed paid for it".to_owned();
    }
    let faults = || report.runs.iter().map(|run| run.fault_ns).filter(|ns| *ns > 0);
    match (faults().min(), faults().max()) {
        (Some(best_ns), Some(worst_ns)) => format!(
            "held for the children; a hugepage fault right before they took it lasted {} to {}",
            time(best_ns),
            time(worst_ns)
        ),
        _ => "not asked for by this scenario".to_owned(),
    }
}

/// A plan's settings in words; those of a part follow its name.
fn flat(name: &str, value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Object(fields) => {
            let joined = |key: &str| format!("{name} {}", key.replace('_', " ")).trim().to_owned();
            fields.iter().flat_map(|(key, value)| flat(&joined(key), value)).collect()
        }
        Value::Null => Vec::new(),
        Value::String(text) => vec![(name.to_owned(), text.clone())],
        other => vec![(name.to_owned(), other.to_string())],
    }
}

/// What was not measured, and why.
pub fn unmeasured(selection: &Selection<'_>, report: &Report) -> Markup {
    html! {
        ul {
            @if let Some(why) = &report.untraced { li { code { "mmap_lock" } " was not traced: " (why) } }
            @for lane in &selection.lanes {
                @if report.untraced.is_none() && lane.run.locks.is_none() {
                    li { (lane.name) ": " code { "mmap_lock" } " was not traced in round " (lane.run.round) "." }
                }
                @for run in &lane.runs { (losses(lane.name, run)) }
                @if lane.run.rss.is_empty() { li { (lane.name) ": resident memory was not sampled." } }
                @for phase in &selection.phases {
                    @if lane.summary.waits.iter().all(|wait| wait.phase != phase.name) {
                        li { (lane.name) ": “" (phase.name) "” was too short for any canary to measure in." }
                    }
                }
            }
            li { "What other machines, kernels and loads do: these numbers are of this run only." }
        }
    }
}

/// What the trace of a run does not know.
fn losses(allocator: &str, run: &Run) -> Markup {
    let Some(trace) = &run.locks else { return html! {} };
    html! {
        @if trace.lost.is_incomplete() {
            li { (allocator) ", round " (run.round) ": the kernel lost " (trace.lost.records) " records of "
                code { "mmap_lock" } ", so that counts are too low and lengths may be wrong." }
        }
        @if trace.kept_dropped > 0 {
            li { (allocator) ", round " (run.round) ": " (trace.kept_dropped) " shorter holds and waits are counted, not drawn." }
        }
    }
}

/// What each allocator's rounds noted, and how long a fault took before them.
pub fn notes(selection: &Selection<'_>) -> Markup {
    html! {
        dl {
            @for lane in &selection.lanes {
                dt { (lane.name) }
                dd {
                    @if !lane.run.record.version.is_empty() { "version " (lane.run.record.version) "; " }
                    "a hugepage fault right before took at most " (time(lane.summary.fault_ns))
                    @if let Some(calls) = lane.summary.write_lock_calls {
                        "; by its own count at most " (calls) " calls took " code { "mmap_lock" } " for writing"
                    }
                    @for run in &lane.runs { @for note in &run.record.notes {
                        br;
                        "round " (run.round) ": " (note)
                    } }
                }
            }
        }
    }
}
