//! The longest holds of `mmap_lock` and the longest waits for it: who, doing what, and whom it made wait.

use maud::{Markup, html};

use super::lock::{self, LockInterval};
use super::selection::{Lane, Selection};
use crate::record::time;

/// Holds, and waits, that are listed for each allocator.
const LISTED: usize = 4;
/// Threads that a line names.
const NAMED: usize = 3;

/// The table; nothing if the lock was not traced.
pub fn table(selection: &Selection<'_>) -> Markup {
    if !selection.is_traced() {
        return html! {};
    }
    html! {
        p { "In the round of each allocator that is drawn above; times count from the beginning of its "
            "busiest phase." }
        div.scroll tabindex="0" role="group" aria-label="Table of holds and waits, can be scrolled sideways" {
            table {
                thead { tr {
                    th scope="col" { "allocator" }
                    th scope="col" { "what" }
                    th.number scope="col" { "how long" }
                    th.number scope="col" { "at" }
                    th scope="col" { "phase" }
                    th scope="col" { "thread" }
                    th scope="col" { "doing" }
                    th scope="col" { "made wait, or waited for" }
                } }
                @for lane in &selection.lanes { (rows(lane)) }
            }
        }
    }
}

fn rows(lane: &Lane<'_>) -> Markup {
    let intervals = lock::intervals(lane.run);
    let holds = intervals.iter().filter(|interval| !interval.is_wait).take(LISTED);
    let waits = intervals.iter().filter(|interval| interval.is_wait).take(LISTED);
    let listed: Vec<_> = holds.chain(waits).collect();
    html! {
        tbody {
            @if listed.is_empty() {
                tr { th scope="row" { (lane.name) }
                    td colspan="7" {
                        (if lane.run.locks.is_some() { "nothing long enough to be kept" } else { "not traced" })
                    } }
            }
            @for (number, interval) in listed.iter().enumerate() {
                tr {
                    @if number == 0 { th scope="rowgroup" rowspan=(listed.len()) { (lane.name) } }
                    td.nowrap { (interval.what()) }
                    td.number { (interval.length()) }
                    td.number { (format!("{:+.3} s", lane.seconds(interval.start_ns))) }
                    td { (lane.phase_at(interval.start_ns).unwrap_or("between")) }
                    td.nowrap { (interval.who()) }
                    td.nowrap { (interval.call) }
                    td { (others(interval, &intervals)) }
                }
            }
        }
    }
}

/// Of a hold, who waited for it; of a wait, who held the lock.
fn others(interval: &LockInterval<'_>, all: &[LockInterval<'_>]) -> String {
    let named = |thread: &str, ns: u64| format!("{thread} ({})", time(ns));
    let mut others: Vec<String> = if interval.is_wait {
        let holder =
            |holder: &lock::Holder<'_>| named(&format!("{}, {}", holder.thread, holder.call), holder.overlap_ns);
        interval.blamed.iter().map(holder).collect()
    } else {
        waiters(interval, all).iter().map(|(thread, ns)| named(thread, *ns)).collect()
    };
    let more = others.len().saturating_sub(NAMED);
    others.truncate(NAMED);
    match (others.is_empty(), more) {
        (true, _) => "nobody that was seen".to_owned(),
        (false, 0) => others.join("; "),
        (false, more) => format!("{}; and {more} more", others.join("; ")),
    }
}

/// The threads whose waits blame this hold's thread and overlap with the hold, with for how long, the longest first.
fn waiters<'a>(hold: &LockInterval<'_>, all: &[LockInterval<'a>]) -> Vec<(&'a str, u64)> {
    let waited = |wait: &LockInterval<'a>| {
        let begin_ns = wait.start_ns.max(hold.start_ns);
        let overlap_ns = wait.end_ns().min(hold.end_ns()).checked_sub(begin_ns)?;
        let is_blamed = wait.blamed.iter().any(|holder| holder.tid == hold.tid);
        (wait.is_wait && is_blamed && overlap_ns > 0).then_some((wait.thread, overlap_ns))
    };
    let mut waiters: Vec<_> = all.iter().filter_map(waited).collect();
    waiters.sort_by_key(|(_, overlap_ns)| std::cmp::Reverse(*overlap_ns));
    waiters
}
