//! How long `mmap_lock` was held: for each allocator a histogram of holds for writing and for reading.

use maud::{Markup, html};

use super::lock::hold_times;
use super::outline;
use super::scale::{Px, Scale, decade_above, decade_below, time_tick};
use super::selection::{Lane, Selection};
use super::timeline::class;

/// The drawing's size and its plot.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 178.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 394.0;
const TOP: f64 = 10.0;
const FLOOR: f64 = 146.0;

/// The holds of one allocator, as upper bounds and counts.
struct Holds<'a> {
    lane: &'a Lane<'a>,
    write: Vec<(u64, u64)>,
    read: Vec<(u64, u64)>,
}

/// The figures; nothing if the lock was not traced.
pub fn figures(selection: &Selection<'_>) -> Markup {
    let all: Vec<_> = selection.lanes.iter().filter_map(holds).collect();
    let buckets = || all.iter().flat_map(|holds| holds.write.iter().chain(&holds.read));
    let Some(longest_ns) = buckets().map(|bucket| bucket.0).max() else { return html! {} };
    let shortest_ns = buckets().map(|bucket| bucket.0).min().unwrap_or(1);
    let most = buckets().map(|bucket| bucket.1).max().unwrap_or(1);
    let lengths = Scale::decades(decade_below(shortest_ns / 2), decade_above(longest_ns), LEFT, RIGHT);
    let counts = Scale::decades(-1, decade_above(most), FLOOR, TOP);
    html! {
        p { "How many holds were how long, all rounds together, by everybody in the process: "
            span.swatch.write {} " for writing, " span.swatch.read.hollow {} " for reading." }
        div.grid { @for holds in &all { (figure(holds, &lengths, &counts)) } }
    }
}

fn holds<'a>(lane: &'a Lane<'a>) -> Option<Holds<'a>> {
    let traces = || lane.runs.iter().filter_map(|run| run.locks.as_ref());
    traces().next()?;
    Some(Holds { lane, write: hold_times(traces(), true), read: hold_times(traces(), false) })
}

fn figure(holds: &Holds<'_>, lengths: &Scale, counts: &Scale) -> Markup {
    let total = |buckets: &[(u64, u64)]| buckets.iter().map(|bucket| bucket.1).sum::<u64>();
    let told = format!("{} for writing, {} for reading", total(&holds.write), total(&holds.read));
    html! {
        figure.(class(holds.lane)) {
            figcaption { h4 { (holds.lane.name) } span.note { (told) } }
            svg viewBox={ "0 0 " (Px(WIDTH)) " " (Px(HEIGHT)) } role="img"
                aria-label={ "Histogram of holds of mmap_lock under " (holds.lane.name) ": " (told) } {
                (axes(lengths, counts))
                path.bars.read d=(steps(&holds.read, lengths, counts)) {}
                path.bars.write d=(steps(&holds.write, lengths, counts)) {}
            }
        }
    }
}

/// The outline of the bars; each reaches from half of its bound to its bound.
fn steps(buckets: &[(u64, u64)], lengths: &Scale, counts: &Scale) -> String {
    let mut path = String::new();
    for (up_to_ns, count) in buckets {
        let from = Px(lengths.at(*up_to_ns as f64 / 2.0));
        let (to, y) = (Px(lengths.at(*up_to_ns as f64)), Px(counts.at(*count as f64)));
        outline::write(&mut path, format_args!("M{from} {}V{y}H{to}V{}", Px(FLOOR), Px(FLOOR)));
    }
    path
}

fn axes(lengths: &Scale, counts: &Scale) -> Markup {
    html! {
        @for tick in counts.ticks(5).into_iter().filter(|tick| *tick >= 1.0) {
            @let y = Px(counts.at(tick));
            line.grid x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(y) y2=(y) {}
            text.tick.end x=(Px(LEFT - 6.0)) y=(Px(y.0 + 4.0)) { (tick) }
        }
        line.floor x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(FLOOR)) y2=(Px(FLOOR)) {}
        @for tick in lengths.ticks(5) {
            @let x = Px(lengths.at(tick));
            line.floor x1=(x) x2=(x) y1=(Px(FLOOR)) y2=(Px(FLOOR + 4.0)) {}
            text.tick.middle x=(x) y=(Px(FLOOR + 18.0)) { (time_tick(tick)) }
        }
    }
}
