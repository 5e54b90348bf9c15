//! The tables of the page. A table without rows is left out with its section.

use maud::{Markup, html};

use crate::freeze::{Blocked, Frame, Freeze, OffCpuStack, Pair, ProbeLine, Stack};
use crate::report::{say, tally};
use report_page::scroll;

/// Rows of a table.
const ROWS_MAX: usize = 60;
/// Stacks that are listed, and how many of them unfolded.
const STACKS_MAX: usize = 20;
const STACKS_OPEN: usize = 1;

/// A table that says how many rows there was no room for.
fn table(what: &str, headings: &[(&str, bool)], rows: Vec<Markup>) -> Option<Markup> {
    table_of(what, headings, rows, (0, false))
}

/// The same, where more rows were left out before; so many, or at least.
fn table_of(what: &str, headings: &[(&str, bool)], rows: Vec<Markup>, left_out: (u64, bool)) -> Option<Markup> {
    let more = rows.len().saturating_sub(ROWS_MAX) as u64 + left_out.0;
    (!rows.is_empty()).then(|| {
        html! {
            (scroll(what, &html! {
                table {
                    thead { tr {
                        @for (heading, is_number) in headings { th.number[*is_number] scope="col" { (heading) } }
                    } }
                    tbody { @for row in rows.iter().take(ROWS_MAX) { tr { (row) } } }
                }
            }))
            @if more > 0 { p.note { (say::more(more, "row", left_out.1)) } }
        }
    })
}

/// Those who held something that others wanted.
pub(super) fn holders(freeze: &Freeze) -> Option<Markup> {
    let row = |holder: tally::Holder<'_>| {
        let (pair, at_least) = (holder.pair, if holder.at_least { "≥ " } else { "" });
        html! {
            th scope="row" { (say::thread(&pair.holder, pair.outsider)) }
            td { (say::held(pair.on, pair.mode)) }
            td { (pair.doing) }
            td { @if let Some(name) = &pair.called_from { code { (name) } } }
            td.number { (at_least) (holder.waiters) }
            td.number { (at_least) (say::duration(holder.overlap_ns)) }
            td.number { (say::duration(holder.longest_ns)) }
        }
    };
    let holders = tally::holders(freeze);
    let slowest = holders.first().map(|holder| called(&holder.pair.stack));
    let headings = [
        ("thread", false),
        ("what", false),
        ("doing", false),
        ("called from", false),
        ("threads that waited", true),
        ("in all", true),
        ("one at most", true),
    ];
    let rows = holders.into_iter().map(row).collect();
    let table = table_of("Table of holders", &headings, rows, (freeze.left_out.holders, false))?;
    Some(html! {
        (table)
        @if let Some(stack) = slowest {
            details open { summary { "The stack of the first" } (stack) }
        }
    })
}

/// The threads that were blocked.
pub(super) fn blocked(freeze: &Freeze) -> Option<Markup> {
    let row = |blocked: &Blocked| {
        html! {
            th scope="row" { (say::thread(&blocked.thread, false)) }
            td { (say::cause(blocked.on)) }
            td { @if let Some(frame) = blocked.stack.user.first().or(blocked.stack.kernel.first()) {
                code { (frame.function) }
            } }
            td.number { (say::duration(blocked.total_ns)) }
            td.number { (say::duration(blocked.longest_ns)) }
            td { @if blocked.unfinished { "still blocked at the end" } }
        }
    };
    let headings =
        [("thread", false), ("on", false), ("in", false), ("in all", true), ("longest", true), ("remark", false)];
    let rows = freeze.blocked.iter().map(row).collect();
    table_of("Table of blocked threads", &headings, rows, (freeze.left_out.blocked, false))
}

/// Who was in whose way.
pub(super) fn pairs(freeze: &Freeze) -> Option<Markup> {
    let row = |pair: &Pair| {
        html! {
            th scope="row" { (say::thread(&pair.waiter, false)) }
            td { (say::thread(&pair.holder, pair.outsider)) }
            td { (say::held(pair.on, pair.mode)) }
            td { (pair.doing) }
            td.number { (say::duration(pair.overlap_ns)) }
        }
    };
    let headings =
        [("thread", false), ("waited for", false), ("which had", false), ("and was doing", false), ("time", true)];
    let left_out = (freeze.left_out.pairs, tally::has_more_pairs(freeze));
    table_of("Table of pairs", &headings, freeze.pairs.iter().map(row).collect(), left_out)
}

/// The stacks of the frozen time, folded away but for the first.
pub(super) fn stacks(freeze: &Freeze) -> Option<Markup> {
    let stacks: Vec<_> = freeze.off_cpu.iter().filter(|place| place.frozen_ns > 0).collect();
    (!stacks.is_empty()).then(|| {
        html! {
            @for (number, place) in stacks.iter().take(STACKS_MAX).enumerate() {
                details open[number < STACKS_OPEN] { (stack(place)) }
            }
            @if stacks.len() > STACKS_MAX {
                p.note { "and " (say::counted((stacks.len() - STACKS_MAX) as u64, "stack")) " more" }
            }
        }
    })
}

fn stack(place: &OffCpuStack) -> Markup {
    let names = tally::names(place).into_iter().map(|(name, ns)| format!("{name} {}", say::duration(ns)));
    let names = names.collect::<Vec<_>>().join(", ");
    let leaf = place.stack.user.first().or(place.stack.kernel.first());
    html! {
        summary {
            (say::duration(place.frozen_ns)) ", " (say::counted(place.count, "time")) ": "
            @if let Some(frame) = leaf { code { (frame.function) } }
            span.note { " " (say::sleep(place.sleep)) " (" (say::cause(place.on)) ")" }
        }
        @if !names.is_empty() { p.note { (names) } }
        (called(&place.stack))
    }
}

/// A stack, the innermost frame first.
fn called(stack: &Stack) -> Markup {
    let frame = |frame: &Frame, is_kernel: bool| {
        let place = say::place(frame);
        html! {
            li.kernel[is_kernel] {
                code { (frame.function) }
                @if is_kernel { span.note { " kernel" } }
                @if frame.inlined { span.note { " inlined" } }
                @if !place.is_empty() { span.note { " " (place) } }
            }
        }
    };
    html! {
        ol.stack {
            @for one in &stack.kernel { (frame(one, true)) }
            @for one in &stack.user { (frame(one, false)) }
        }
    }
}

/// Other processes that took the lock.
pub(super) fn outsiders(freeze: &Freeze) -> Option<Markup> {
    let outsiders = tally::outsiders(freeze).into_iter();
    let rows = outsiders.map(|(thread, times, longest_ns, doing)| {
        html! {
            th scope="row" { (thread.name) " " (thread.pid) }
            td { (doing) }
            td.number { @if times > 0 { (times) } @else { "-" } }
            td.number { (say::duration(longest_ns)) }
        }
    });
    let headings = [("process", false), ("doing", false), ("long holds", true), ("longest", true)];
    table("Table of other processes", &headings, rows.collect())
}

/// Memory before and after.
pub(super) fn memory(freeze: &Freeze) -> Option<Markup> {
    let (before, after) = tally::memory(freeze)?;
    let row = |name: &str, values: [String; 2]| {
        html! { th scope="row" { (name) } @for value in values { td.number { (value) } } }
    };
    let rows = vec![
        row("resident", [before, after].map(|point| say::bytes(point.resident_bytes))),
        row("address space", [before, after].map(|point| say::bytes(point.virtual_bytes))),
        row("page faults without a disk", [before, after].map(|point| point.faults[0].to_string())),
        row("page faults with a disk", [before, after].map(|point| point.faults[1].to_string())),
        row("threads", [before, after].map(|point| point.threads.to_string())),
    ];
    let trigger_ns = freeze.window.trigger_ns;
    let [first, last] = [before, after].map(|point| say::moment(point.at_ns, trigger_ns));
    let rest = html! { p.note { "At " (first) " and at " (last) " of the trigger, of all processes together." } };
    let table = table("Table of memory", &[("", false), ("before", true), ("after", true)], rows)?;
    Some(html! { (table) (rest) })
}

/// How each probe fared, and its first failure.
pub(super) fn probes(freeze: &Freeze) -> Option<Markup> {
    let row = |probe: &ProbeLine| {
        let failed: Vec<_> = probe.points.iter().filter(|point| point.2.is_some()).collect();
        let longest = probe.points.iter().map(|point| point.1).max();
        let first = failed.first().and_then(|point| Some((point.0, point.2.as_ref()?)));
        html! {
            th scope="row" { (probe.name) }
            td.number { (probe.points.len()) }
            td.number { (failed.len()) }
            td.number { @if let Some(ns) = longest { (say::duration(ns)) } @else { "-" } }
            td { @if let Some((at_ns, why)) = first { (say::moment(at_ns, freeze.window.trigger_ns)) ": " (why) } }
        }
    };
    let headings =
        [("probe", false), ("asked", true), ("failed", true), ("longest answer", true), ("first failure", false)];
    table("Table of probes", &headings, freeze.probes.iter().map(row).collect())
}
