//! What a kind of canary felt over time: one panel for each allocator, all on the same axes, with the phases, and the
//! holds of `mmap_lock` as a strip below.

use std::collections::HashSet;

use maud::{Markup, html};

use super::lock::{self, LockInterval};
use super::outline::{self, Columns};
use super::selection::{Lane, Selection};
use crate::latency::Timeline;
use crate::record::{Span, time};
use report_page::scale::{Px, Scale, decade_above, time_tick};

/// The drawing's width, and where its plot begins and ends.
const WIDTH: f64 = 900.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 892.0;
/// The height of a panel, and where its plot begins and ends.
const HEIGHT: f64 = 108.0;
const TOP: f64 = 15.0;
const FLOOR: f64 = 72.0;
/// The line from which holds for writing rise and holds for reading hang, and how far.
const LOCK_AXIS: f64 = 88.0;
const LOCK_PX: f64 = 12.0;
/// The shortest and the longest hold that differ in height, as powers of ten nanoseconds.
const HOLD_DECADES: [i32; 2] = [3, 9];
/// The shortest latency that is drawn, as a power of ten nanoseconds.
const LOWEST_DECADE: i32 = 3;
/// The least that the axis reaches up to.
const LEAST_HIGHEST_NS: u64 = 10_000_000;
/// Holds that have a tooltip, in each panel: the longest ones.
const TOOLTIPS: usize = 150;
/// The room of a letter of a phase's name.
const LETTER_PX: f64 = 6.0;

/// The figures of all kinds of canaries.
pub fn figures(selection: &Selection<'_>) -> Markup {
    let mut drawn = HashSet::new();
    html! { @for kind in &selection.kinds { (figure(selection, kind, &mut drawn)) } }
}

/// One kind of canary. The strips are drawn once for each allocator and only referred to from then on, as the holds are
/// the same whichever canary is looked at.
fn figure<'a>(selection: &Selection<'a>, kind: &str, drawn: &mut HashSet<&'a str>) -> Markup {
    let timelines = || selection.lanes.iter().filter_map(|lane| Some((lane, timeline(lane, kind)?)));
    let highest_ns = timelines().filter_map(|(_, timeline)| timeline.worst_ns.iter().max()).max().copied();
    let Some(highest_ns) = highest_ns else { return html! {} };
    let (begin, end) = selection.seconds();
    let seconds = Scale::linear(begin, end, LEFT, RIGHT);
    let top = decade_above(highest_ns.max(LEAST_HIGHEST_NS));
    let latencies = Scale::decades(LOWEST_DECADE, top, FLOOR, TOP);
    html! {
        figure.timelines {
            figcaption {
                h3 { "“" (kind) "” over time" }
                p { "The longest wait that ended in each moment, on a logarithmic scale; tinted: the busy phases. "
                    (strip_legend(selection)) }
            }
            div.scroll tabindex="0" role="group" aria-label={ "Time lines of " (kind) ", can be scrolled sideways" } {
                div.wide {
                    @for (lane, timeline) in timelines() {
                        (panel(lane, kind, timeline, &seconds, &latencies, drawn.insert(lane.name)))
                    }
                    (time_axis(&seconds, &selection.time_axis()))
                }
            }
        }
    }
}

fn timeline<'a>(lane: &Lane<'a>, kind: &str) -> Option<&'a Timeline> {
    let canary = lane.run.record.canaries.iter().find(|canary| canary.kind == kind)?;
    canary.timeline.worst_ns.iter().any(|worst_ns| *worst_ns > 0).then_some(&canary.timeline)
}

fn strip_legend(selection: &Selection<'_>) -> Markup {
    if !selection.is_traced() {
        return html! {};
    }
    html! {
        "Below each panel, who held " code { "mmap_lock" } ": "
        span.swatch.write {} " for writing, upwards; " span.swatch.read {} " for reading, downwards; "
        "a hold is as wide as it was long, and the longer the taller."
    }
}

/// One allocator's panel.
fn panel(
    lane: &Lane<'_>,
    kind: &str,
    timeline: &Timeline,
    seconds: &Scale,
    latencies: &Scale,
    is_first: bool,
) -> Markup {
    let worst_ns = timeline.worst_ns.iter().max().copied().unwrap_or(0);
    let label = format!("{kind} under {}: longest wait {} in round {}", lane.name, time(worst_ns), lane.run.round);
    html! {
        svg.(class(lane)) viewBox={ "0 0 " (Px(WIDTH)) " " (Px(HEIGHT)) } role="img" aria-label=(label) {
            (spans(lane, seconds))
            (grid(latencies))
            path.area d=(area(lane, timeline, seconds, latencies)) {}
            line.floor x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(FLOOR)) y2=(Px(FLOOR)) {}
            text.name x="0" y=(Px(TOP - 3.0)) { (lane.name) }
            text.note x="0" y=(Px(TOP + 14.0)) { "worst " (time(worst_ns)) }
            text.note x="0" y=(Px(TOP + 29.0)) { "round " (lane.run.round) }
            (strip(lane, seconds, is_first))
        }
    }
}

/// The class of an allocator's colour.
pub fn class(lane: &Lane<'_>) -> String {
    format!("c{}", lane.colour)
}

/// The phases: busy ones tinted, all named where there is room. A phase that came very often is drawn once a pixel.
fn spans(lane: &Lane<'_>, seconds: &Scale) -> Markup {
    let place = |span: &Span| (seconds.at(lane.seconds(span.start_ns)), seconds.at(lane.seconds(span.end_ns)));
    let mut shown: Vec<&Span> = lane.run.record.spans.iter().collect();
    let mut taken = HashSet::new();
    shown.retain(|span| taken.insert((span.phase.as_str(), place(span).0.floor() as i64)));
    html! {
        @for span in &shown {
            @let (from, to) = place(span);
            rect.busy[span.is_busy].quiet[!span.is_busy] x=(Px(from)) y=(Px(TOP)) width=(Px((to - from).max(1.0)))
                height=(Px(FLOOR - TOP)) {
                title { (span.phase) ", " (time(span.end_ns.saturating_sub(span.start_ns))) }
            }
        }
        @for (x, name) in names(&shown, &place) { text.phase x=(Px(x)) y=(Px(TOP - 4.0)) { (name) } }
    }
}

/// The names of the phases that have room, each at its phase's beginning: busy phases first, as they are what matters.
fn names<'a>(spans: &[&'a Span], place: &impl Fn(&Span) -> (f64, f64)) -> Vec<(f64, &'a str)> {
    let by_weight = spans.iter().filter(|span| span.is_busy).chain(spans.iter().filter(|span| !span.is_busy));
    let mut taken: Vec<(f64, f64)> = Vec::new();
    let mut names = Vec::new();
    for span in by_weight {
        let width = span.phase.chars().count() as f64 * LETTER_PX;
        let begin = place(span).0.min(RIGHT - width);
        if taken.iter().all(|(from, to)| begin + width < *from || begin > *to) {
            taken.push((begin, begin + width));
            names.push((begin, span.phase.as_str()));
        }
    }
    names
}

fn grid(latencies: &Scale) -> Markup {
    html! {
        @for tick in latencies.ticks(4) {
            @let y = Px(latencies.at(tick));
            line.grid x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(y) y2=(y) {}
            text.tick.end x=(Px(LEFT - 5.0)) y=(Px(y.0 + 3.5)) { (time_tick(tick)) }
        }
    }
}

fn area(lane: &Lane<'_>, timeline: &Timeline, seconds: &Scale, latencies: &Scale) -> String {
    let mut columns = Columns::new(LEFT, RIGHT);
    let x = |point: usize| seconds.at(lane.seconds((point as u64).saturating_mul(timeline.point_ns)));
    for (point, worst_ns) in timeline.worst_ns.iter().enumerate().filter(|(_, worst_ns)| **worst_ns > 0) {
        columns.raise(x(point), x(point + 1), *worst_ns as f64);
    }
    columns.area(latencies, FLOOR)
}

/// The strip of holds below a panel.
fn strip(lane: &Lane<'_>, seconds: &Scale, is_first: bool) -> Markup {
    if lane.run.locks.is_none() {
        return html! { text.note x=(Px(LEFT)) y=(Px(LOCK_AXIS + 4.0)) { "mmap_lock was not traced" } };
    }
    let id = format!("holds-{}", lane.index);
    html! {
        text.tick.end x=(Px(LEFT - 5.0)) y=(Px(LOCK_AXIS + 4.0)) { "lock" }
        rect.quiet x=(Px(LEFT)) y=(Px(LOCK_AXIS - LOCK_PX)) width=(Px(RIGHT - LEFT)) height=(Px(2.0 * LOCK_PX)) {}
        @if is_first { g id=(id) { (holds(lane, seconds)) } } @else { use href={ "#" (id) } {} }
        line.axis x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(LOCK_AXIS)) y2=(Px(LOCK_AXIS)) {}
    }
}

/// The holds: of each pixel the longest, with tooltips for the longest of all.
fn holds(lane: &Lane<'_>, seconds: &Scale) -> Markup {
    let place = |hold: &LockInterval<'_>| {
        let begin = seconds.at(lane.seconds(hold.start_ns));
        let width = (seconds.at(lane.seconds(hold.end_ns())) - begin).max(1.0);
        (begin.min(RIGHT - 1.0), width)
    };
    let heights = Scale::decades(HOLD_DECADES[0], HOLD_DECADES[1], 1.5, LOCK_PX);
    let mut taken = HashSet::new();
    let mut rest = [String::new(), String::new()];
    let mut told = Vec::new();
    for hold in lock::intervals(lane.run).into_iter().filter(|interval| !interval.is_wait) {
        let (x, width) = place(&hold);
        if !taken.insert((hold.is_write, x.floor() as i64)) {
            continue;
        }
        let height = heights.at(hold.duration_ns as f64);
        let top = if hold.is_write { LOCK_AXIS - height } else { LOCK_AXIS };
        if told.len() < TOOLTIPS {
            told.push((Px(x), Px(top), Px(width), Px(height), hold));
        } else {
            let piece = format_args!("M{} {}v{}", Px(x), Px(top), Px(height));
            outline::write(&mut rest[usize::from(hold.is_write)], piece);
        }
    }
    html! {
        path.hold.read d=(rest[0]) {}
        path.hold.write d=(rest[1]) {}
        @for (x, y, width, height, hold) in &told {
            rect.hold.write[hold.is_write].read[!hold.is_write] x=(x) y=(y) width=(width) height=(height) {
                title { (hold.who()) ": " (hold.call) ", " (hold.what()) " of " (hold.length()) ", at "
                    (format!("{:+.3} s", lane.seconds(hold.start_ns))) }
            }
        }
    }
}

/// The time axis under the panels.
fn time_axis(seconds: &Scale, label: &str) -> Markup {
    html! {
        svg viewBox={ "0 0 " (Px(WIDTH)) " 36" } role="img" aria-label={ "Time axis: " (label) } {
            line.floor x1=(Px(LEFT)) x2=(Px(RIGHT)) y1="1" y2="1" {}
            @for tick in seconds.ticks(10) {
                @let x = Px(seconds.at(tick));
                line.floor x1=(x) x2=(x) y1="1" y2="5" {}
                text.tick.middle x=(x) y="17" { (tick) }
            }
            text.note.middle x=(Px(LEFT.midpoint(RIGHT))) y="32" { (label) }
        }
    }
}
