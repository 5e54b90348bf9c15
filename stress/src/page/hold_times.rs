//! How long `mmap_lock` was held: for each allocator a histogram of holds for writing and for reading.

use maud::{Markup, html};
use report_page::histogram::{Axes, Times, figure};

use super::lock::hold_times;
use super::selection::{Lane, Selection};
use super::timeline::class;

/// The figures; nothing if the lock was not traced.
pub fn figures(selection: &Selection<'_>) -> Markup {
    let all: Vec<_> = selection.lanes.iter().filter_map(|lane| Some((lane, times(lane)?))).collect();
    let Some(axes) = Axes::over(all.iter().map(|(_, times)| times)) else { return html! {} };
    html! {
        p { "How many holds were how long, all rounds together, by everybody in the process: "
            span.swatch.write {} " for writing, " span.swatch.read.hollow {} " for reading." }
        div.grid {
            @for (lane, times) in &all {
                (figure(&class(lane), lane.name, &format!("holds of mmap_lock under {}", lane.name), times, &axes))
            }
        }
    }
}

/// The holds of one allocator.
fn times(lane: &Lane<'_>) -> Option<Times> {
    let traces = || lane.runs.iter().filter_map(|run| run.locks.as_ref());
    traces().next()?;
    Some(Times { write: hold_times(traces(), true), read: hold_times(traces(), false) })
}
