//! The bottom of the page: how the freeze was seen, what was not, and the machine.

use maud::{Markup, html};

use crate::freeze::Freeze;
use crate::report::{say, tally};

/// Processes that are named.
const PROCESSES_MAX: usize = 40;

fn list(facts: &[(&str, String)]) -> Markup {
    html! { dl { @for (term, fact) in facts { dt { (term) } dd { (fact) } } } }
}

/// The source, what it lost, and what a privilege would add.
pub(super) fn seen(freeze: &Freeze) -> Option<Markup> {
    let (seen, window) = (&freeze.seen, &freeze.window);
    let (unknown, all) = seen.unknown_frames;
    let [start, end] = [window.start_ns, window.end_ns].map(|at_ns| say::moment(at_ns, window.trigger_ns));
    let facts = [
        ("source", seen.source.clone()),
        ("window", format!("{start} to {end} of the trigger")),
        ("lost by the source", {
            let threads = say::counted(seen.losses.threads, "thread");
            format!("{} and {threads}", say::counted(seen.losses.intervals, "interval"))
        }),
        ("dropped by the recorder", say::counted(seen.dropped, "interval")),
        ("frames without a name", format!("{unknown} of {all}")),
        ("processor time of the trap", say::duration(seen.own_cpu_ns)),
    ];
    Some(html! {
        (list(&facts))
        @if !seen.missing.is_empty() {
            h3 { "What was not seen" }
            ul { @for line in &seen.missing { li { (line) } } }
        }
    })
}

/// The machine and the watched processes.
pub(super) fn machine(freeze: &Freeze) -> Option<Markup> {
    let machine = &freeze.machine;
    Some(list(&[
        ("host", machine.host.clone()),
        ("kernel", format!("Linux {}", machine.kernel)),
        ("processors", format!("{} × {}", machine.cpus, machine.cpu)),
        ("memory", say::bytes(machine.memory_bytes)),
        ("watched", freeze.target.name.clone()),
        ("its processes", tally::processes(freeze, PROCESSES_MAX)),
        ("freeze-trap", machine.version.clone()),
    ]))
}
