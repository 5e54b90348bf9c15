//! The numbers: the figures of all allocators side by side, and what every canary felt in every phase.

use maud::{Markup, html};

use super::selection::{Lane, PhaseName, Selection};
use crate::candidates::LIMIT;
use crate::record::{Unit, millis};
use crate::summary::{FigureSummary, Wait, distinct};

/// A column of the comparison.
struct Column<'a> {
    name: &'a str,
    unit: Unit,
    /// The best median of those that are compared, if they differ.
    best: Option<u64>,
}

/// The comparison: one row for each allocator, one column for each figure.
pub fn comparison(selection: &Selection<'_>, rounds: u32) -> Markup {
    let columns = columns(selection);
    html! {
        p { "Medians of " (rounds) @if rounds == 1 { " round" } @else { " rounds, the lowest and the highest below" }
            ". " span.best { "Marked" span aria-hidden="true" { " ●" } } ": the best time, memory or rate of each column, the limit left aside." }
        div.scroll tabindex="0" role="group" aria-label="Table of all figures, can be scrolled sideways" {
            table {
                thead { tr {
                    th.stick scope="col" { "allocator" }
                    @for column in &columns {
                        th.number scope="col" { (column.name) " " span.unit { (column.unit) } }
                    }
                } }
                tbody {
                    @for lane in &selection.lanes {
                        tr {
                            th.stick scope="row" { (lane.name) }
                            @for column in &columns { (cell(lane.summary.figure(column.name), column)) }
                        }
                    }
                }
            }
        }
    }
}

fn columns<'a>(selection: &Selection<'a>) -> Vec<Column<'a>> {
    let figures = || selection.lanes.iter().flat_map(|lane| &lane.summary.figures);
    let column = |name| {
        let unit = figures().find(|figure| figure.name == name)?.unit;
        Some(Column { name, unit, best: best(selection, name, unit) })
    };
    distinct(figures().map(|figure| figure.name.as_str())).into_iter().filter_map(column).collect()
}

/// The best value, where it is known which end is the better one: of times and of memory the lower, of rates the
/// higher.
fn best(selection: &Selection<'_>, name: &str, unit: Unit) -> Option<u64> {
    if !matches!(unit, Unit::Ns | Unit::Kib | Unit::PerSecond) {
        return None;
    }
    let compared = selection.lanes.iter().filter(|lane| lane.name != LIMIT);
    let medians: Vec<_> = compared.filter_map(|lane| lane.summary.median(name)).collect();
    let (lowest, highest) = (medians.iter().min().copied()?, medians.iter().max().copied()?);
    let best = if unit == Unit::PerSecond { highest } else { lowest };
    (lowest != highest).then_some(best)
}

fn cell(figure: Option<&FigureSummary>, column: &Column<'_>) -> Markup {
    let Some(figure) = figure else { return html! { td.number.none { "–" } } };
    let Some(median) = figure.median else { return html! { td.number { "never" } } };
    let is_best = column.best == Some(median);
    html! {
        td.number {
            @if is_best { strong.best { (column.unit.cell(median)) span aria-hidden="true" { " ●" }
                span.unseen { " (best)" } } }
            @else { (column.unit.cell(median)) }
            @if figure.lowest != figure.highest {
                span.range { (bound(figure.lowest, column.unit)) " – " (bound(figure.highest, column.unit)) }
            }
        }
    }
}

/// A bound of the rounds; there is none where it once did not happen.
fn bound(value: Option<u64>, unit: Unit) -> String {
    value.map_or_else(|| "never".to_owned(), |value| unit.cell(value))
}

/// The waits: one table for each phase; that of the key phase is open.
pub fn waits(selection: &Selection<'_>) -> Markup {
    html! {
        @for phase in &selection.phases {
            @let kinds: Vec<_> = selection.kinds.iter().filter(|kind| is_measured(selection, kind, phase)).collect();
            @if !kinds.is_empty() {
                details open[selection.key_phase == Some(phase.name)] {
                    summary { "During “" (phase.name) "”" span.note { (if phase.is_busy { " busy" } else { " quiet" }) } }
                    div.scroll tabindex="0" role="group"
                        aria-label={ "Table of waits during " (phase.name) ", can be scrolled sideways" } {
                        table {
                            (wait_head())
                            @for kind in kinds { (wait_rows(selection, kind, phase)) }
                        }
                    }
                }
            }
        }
    }
}

/// What the kernel told of `mmap_lock`: one row for each allocator.
pub fn locks(selection: &Selection<'_>) -> Markup {
    let told: Vec<_> =
        selection.lanes.iter().filter_map(|lane| Some((lane.name, lane.summary.locks.as_ref()?.rows()))).collect();
    html! {
        p { "Of all rounds. What canaries do that map memory themselves is left out, but for the waits." }
        div.scroll tabindex="0" role="group" aria-label="Table of mmap_lock, can be scrolled sideways" {
            table {
                thead { tr {
                    th.stick scope="col" { "allocator" }
                    @for (name, _) in told.first().iter().flat_map(|(_, rows)| rows) { th.number scope="col" { (name) } }
                } }
                tbody {
                    @for (name, rows) in &told {
                        tr { th.stick scope="row" { (name) } @for (_, value) in rows { td.number { (value) } } }
                    }
                }
            }
        }
    }
}

fn is_measured(selection: &Selection<'_>, kind: &str, phase: &PhaseName<'_>) -> bool {
    selection.lanes.iter().any(|lane| lane.summary.wait(kind, phase.name).is_some())
}

fn wait_head() -> Markup {
    html! {
        thead { tr {
            th scope="col" { "canary" }
            th.stick scope="col" { "allocator" }
            @for name in ["p50", "p99", "p99.9", "worst", "worst of any round"] {
                th.number scope="col" { (name) " " span.unit { "ms" } }
            }
        } }
    }
}

fn wait_rows(selection: &Selection<'_>, kind: &str, phase: &PhaseName<'_>) -> Markup {
    let measured: Vec<(&Lane<'_>, &Wait)> =
        selection.lanes.iter().filter_map(|lane| Some((lane, lane.summary.wait(kind, phase.name)?))).collect();
    html! {
        tbody {
            @for (number, (lane, wait)) in measured.iter().enumerate() {
                tr {
                    @if number == 0 { th scope="rowgroup" rowspan=(measured.len()) { (kind) } }
                    th.plain.stick scope="row" { (lane.name) }
                    @for ns in [wait.p50_ns, wait.p99_ns, wait.p999_ns, wait.worst_ns, wait.worst_any_round_ns] {
                        td.number { (millis(ns)) }
                    }
                }
            }
        }
    }
}
