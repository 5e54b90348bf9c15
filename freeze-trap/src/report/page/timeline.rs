//! The time line: what the probes saw, and below it a row for each thread that had to do with the freeze.
//!
//! Invariant: everything lies within the plot; what begins before its time or ends after it is cut at its edge.

use std::collections::HashSet;

use maud::{Markup, html};

use crate::event::Thread;
use crate::freeze::{Freeze, ProbeLine, Span, SpanKind};
use crate::report::{say, tally};
use lock_trace::Mode;
use report_page::scale::{Px, Scale, decade_above, decade_below, time_tick};
use report_page::scroll;

/// The drawing's width, and where its plot begins and ends.
const WIDTH: f64 = 900.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 892.0;
/// The room for the names of the moments, one below the other.
const TOP: f64 = 46.0;
/// A probe's panel: its height, and of it that of the plot.
const PROBE: f64 = 62.0;
const PROBE_PLOT: f64 = 50.0;
/// A thread's row.
const ROW: f64 = 22.0;
/// The axis.
const AXIS: f64 = 38.0;
/// Rows at most, and spans of each that have a tooltip.
const ROWS_MAX: usize = 24;
const TOOLTIPS: usize = 60;
/// Letters of a thread's name that are shown, and of a probe's, which has labels of its axis beside it.
const THREAD_LETTERS: usize = 26;
const PROBE_LETTERS: usize = 18;
/// A closer look is taken if the frozen time is less than so much of the window.
const CLOSER_SHARE: f64 = 0.4;

/// A part of the window, and where its moments are in the drawing.
struct View<'a> {
    freeze: &'a Freeze,
    from_ns: u64,
    to_ns: u64,
    seconds: Scale,
}

/// The figures: the frozen time from near if it is short, then the whole window.
pub(super) fn figures(freeze: &Freeze) -> Option<Markup> {
    let window = &freeze.window;
    let frozen_ns = window.frozen_end_ns().saturating_sub(window.frozen_ns);
    let length_ns = window.end_ns.saturating_sub(window.start_ns);
    let margin_ns = (frozen_ns / 4).max(1_000_000);
    let is_short = (frozen_ns as f64) < CLOSER_SHARE * length_ns as f64;
    let from_ns = window.frozen_ns.saturating_sub(margin_ns).max(window.start_ns);
    let to_ns = window.frozen_end_ns().saturating_add(margin_ns).min(window.end_ns);
    Some(html! {
        p { "Above, how long each probe’s request took, on a logarithmic scale, with a cross for one that failed; "
            "below, a row for each thread, those that held others up first: "
            span.swatch.write {} " held mmap_lock for writing, " span.swatch.read {} " for reading, "
            span.swatch.waiting {} " waited for it, " span.swatch.off {} " off the processor. "
            "Seconds count from the trigger; tinted: the frozen time." }
        @if is_short { (View::new(freeze, from_ns, to_ns).figure("The frozen time")) }
        (View::new(freeze, window.start_ns, window.end_ns).figure("The whole window"))
    })
}

impl<'a> View<'a> {
    fn new(freeze: &'a Freeze, from_ns: u64, to_ns: u64) -> Self {
        let mut view = View { freeze, from_ns, to_ns, seconds: Scale::linear(0.0, 1.0, LEFT, RIGHT) };
        view.seconds = Scale::linear(view.second(from_ns), view.second(to_ns), LEFT, RIGHT);
        view
    }

    /// A moment in seconds from the trigger.
    fn second(&self, at_ns: u64) -> f64 {
        (at_ns as f64 - self.freeze.window.trigger_ns as f64) / 1e9
    }

    /// Where a moment is; the edge for one outside.
    fn x(&self, at_ns: u64) -> f64 {
        self.seconds.at(self.second(at_ns))
    }

    /// Where a time begins and how wide it is: at least so much, and within the plot.
    fn stretch(&self, start_ns: u64, end_ns: u64, least: f64) -> (f64, f64) {
        let width = (self.x(end_ns) - self.x(start_ns)).max(least);
        (self.x(start_ns).min(RIGHT - width), width)
    }

    fn figure(&self, title: &str) -> Markup {
        let rows = rows(self.freeze);
        let drawn = &rows[..rows.len().min(ROWS_MAX)];
        let probes_end = TOP + PROBE * self.freeze.probes.len() as f64;
        let end = probes_end + ROW * drawn.len() as f64;
        let label = format!("Time line, {title}: {} probes, {} threads", self.freeze.probes.len(), drawn.len());
        html! {
            figure.timelines {
                figcaption { h3 { (title) } }
                (scroll(&format!("Time line, {title}"), &html! {
                    div.wide {
                        svg viewBox={ "0 0 " (Px(WIDTH)) " " (Px(end + AXIS)) } role="img" aria-label=(label) {
                            (self.frozen(end))
                            @for (number, probe) in self.freeze.probes.iter().enumerate() {
                                (self.probe(probe, TOP + PROBE * number as f64))
                            }
                            @for (number, thread) in drawn.iter().enumerate() {
                                (self.row(thread, probes_end + ROW * number as f64))
                            }
                            (self.axis(end))
                            (self.moments(end))
                        }
                    }
                }))
                @if rows.len() > drawn.len() {
                    p.note { "and " (say::counted((rows.len() - drawn.len()) as u64, "thread")) " more" }
                }
            }
        }
    }

    fn frozen(&self, end: f64) -> Markup {
        let window = &self.freeze.window;
        let (x, width) = self.stretch(window.frozen_ns, window.frozen_end_ns(), 1.0);
        html! { rect.busy x=(Px(x)) y=(Px(TOP)) width=(Px(width)) height=(Px(end - TOP)) {} }
    }

    /// The lines of the moments, with their names above the plot.
    fn moments(&self, end: f64) -> Markup {
        let window = &self.freeze.window;
        let (frozen_ns, trigger_ns) = (Some(window.frozen_ns), Some(window.trigger_ns));
        let moments = [("frozen", frozen_ns), ("trigger", trigger_ns), ("recovered", window.recovered_ns)];
        html! {
            @for (number, (name, at_ns)) in moments.into_iter().enumerate() {
                @if let Some(at_ns) = at_ns {
                    @let x = self.x(at_ns);
                    @let y = 12.0 + 14.0 * number as f64;
                    line.moment x1=(Px(x)) x2=(Px(x)) y1=(Px(y - 9.0)) y2=(Px(end)) {
                        title { (name) " at " (say::moment(at_ns, window.trigger_ns)) }
                    }
                    @if x > RIGHT - 70.0 {
                        text.note.end x=(Px(x - 4.0)) y=(Px(y)) { (name) }
                    } @else {
                        text.note x=(Px(x + 4.0)) y=(Px(y)) { (name) }
                    }
                }
            }
        }
    }

    /// A probe's panel: a bar for each answer, as wide as the time that it took.
    fn probe(&self, probe: &ProbeLine, top: f64) -> Markup {
        let end_ns = |at_ns: u64, took_ns: u64| at_ns.saturating_add(took_ns);
        let points = probe.points.iter().filter(|(at_ns, took_ns, _)| self.sees(*at_ns, end_ns(*at_ns, *took_ns)));
        let points: Vec<_> = points.collect();
        let shortest_ns = points.iter().map(|point| point.1).min().unwrap_or(1_000);
        let longest_ns = points.iter().map(|point| point.1).max().unwrap_or(1_000_000);
        let floor = top + PROBE_PLOT;
        let latencies = Scale::decades(decade_below(shortest_ns / 2), decade_above(longest_ns), floor, top + 6.0);
        html! {
            text.name x="0" y=(Px(top + 16.0)) { (short(&probe.name, PROBE_LETTERS)) title { (probe.name) } }
            @for tick in latencies.ticks(3) {
                @let y = latencies.at(tick);
                line.grid x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(y)) y2=(Px(y)) {}
                text.tick.end x=(Px(LEFT - 5.0)) y=(Px(y + 3.5)) { (time_tick(tick)) }
            }
            @for (at_ns, took_ns, failure) in points {
                @let (x, width) = self.stretch(*at_ns, end_ns(*at_ns, *took_ns), 2.0);
                @let y = latencies.at(*took_ns as f64);
                @let at = say::moment(*at_ns, self.freeze.window.trigger_ns);
                g.answer.failed[failure.is_some()] {
                    title { (at) ": " (say::duration(*took_ns)) @if let Some(failure) = failure { ", " (failure) } }
                    rect x=(Px(x)) y=(Px(y.min(floor - 2.0))) width=(Px(width)) height=(Px((floor - y).max(2.0))) {}
                    @if failure.is_some() { path d=(cross(x + width / 2.0, y)) {} }
                }
            }
            line.floor x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(floor)) y2=(Px(floor)) {}
        }
    }

    /// Whether a time has a part in the view.
    fn sees(&self, start_ns: u64, end_ns: u64) -> bool {
        start_ns <= self.to_ns && end_ns >= self.from_ns
    }

    /// A thread's row: off the processor as a line, waits as hollow bars, holds as full ones, on top of each other.
    fn row(&self, thread: &Row<'_>, top: f64) -> Markup {
        let name = say::thread(thread.thread, thread.outsider);
        let spans = self.freeze.intervals.iter().filter(|span| span.thread == *thread.thread);
        let mut spans: Vec<_> = spans.filter(|span| self.sees(span.start_ns, span.end_ns)).collect();
        spans.sort_by_key(|span| std::cmp::Reverse(span.end_ns.saturating_sub(span.start_ns)));
        let mut taken = HashSet::new();
        spans.retain(|span| taken.insert((shape(span.what).class, self.x(span.start_ns).floor() as i64)));
        let mut drawn: Vec<_> = spans.into_iter().enumerate().collect();
        drawn.sort_by_key(|(_, span)| shape(span.what).layer);
        html! {
            text.name x="0" y=(Px(top + 15.0)) { (short(&name, THREAD_LETTERS)) title { (name) } }
            line.grid x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(top + ROW)) y2=(Px(top + ROW)) {}
            @for (place, span) in drawn { (self.span(span, top, place < TOOLTIPS)) }
        }
    }

    fn span(&self, span: &Span, top: f64, is_told: bool) -> Markup {
        let shape = shape(span.what);
        let (x, width) = self.stretch(span.start_ns, span.end_ns, 1.0);
        html! {
            rect.(shape.class) x=(Px(x)) y=(Px(top + (ROW - shape.height) / 2.0)) width=(Px(width))
                height=(Px(shape.height)) {
                @if is_told { title { (self.told(span)) } }
            }
        }
    }

    fn told(&self, span: &Span) -> String {
        let doing = if span.doing.is_empty() { String::new() } else { format!(", {}", span.doing) };
        let length = say::duration(span.end_ns.saturating_sub(span.start_ns));
        let length = if span.unfinished { format!("over {length}") } else { length };
        let at = say::moment(span.start_ns, self.freeze.window.trigger_ns);
        format!("{} {}{doing}, {length}, at {at}", say::thread(&span.thread, span.outsider), say::span(span.what))
    }

    fn axis(&self, end: f64) -> Markup {
        html! {
            line.floor x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(end)) y2=(Px(end)) {}
            @for tick in self.seconds.ticks(10) {
                @let x = Px(self.seconds.at(tick));
                line.floor x1=(x) x2=(x) y1=(Px(end)) y2=(Px(end + 4.0)) {}
                text.tick.middle x=(x) y=(Px(end + 17.0)) { ((tick * 1000.0).round() / 1000.0) }
            }
            text.note.middle x=(Px(LEFT.midpoint(RIGHT))) y=(Px(end + 33.0)) { "seconds from the trigger" }
        }
    }
}

/// A thread that has a row.
struct Row<'a> {
    thread: &'a Thread,
    outsider: bool,
}

/// The threads that had to do with the freeze, each once: those that held others up, those that were blocked, and those
/// that took the lock, in this order.
fn rows(freeze: &Freeze) -> Vec<Row<'_>> {
    let holders = tally::holders(freeze);
    let holders = holders.iter().map(|holder| (&holder.pair.holder, holder.pair.outsider));
    let blocked = freeze.blocked.iter().map(|blocked| (&blocked.thread, false));
    let is_lock = |span: &&Span| !matches!(span.what, SpanKind::OffCpu(_));
    let lockers = freeze.intervals.iter().filter(is_lock).map(|span| (&span.thread, span.outsider));
    let mut known = HashSet::new();
    let all = holders.chain(blocked).chain(lockers).filter(|(thread, _)| known.insert(*thread));
    all.map(|(thread, outsider)| Row { thread, outsider }).collect()
}

/// How a span is drawn: the class of its colour, its height, and what covers what.
struct Shape {
    class: &'static str,
    height: f64,
    layer: u8,
}

fn shape(what: SpanKind) -> Shape {
    match what {
        SpanKind::OffCpu(_) => Shape { class: "off", height: 4.0, layer: 0 },
        SpanKind::Wait(Mode::Read) => Shape { class: "wait read", height: 10.0, layer: 1 },
        SpanKind::Wait(Mode::Write) => Shape { class: "wait write", height: 10.0, layer: 1 },
        SpanKind::Hold(Mode::Read) => Shape { class: "hold read", height: 16.0, layer: 2 },
        SpanKind::Hold(Mode::Write) => Shape { class: "hold write", height: 16.0, layer: 2 },
    }
}

/// A name of at most so many letters.
fn short(name: &str, letters: usize) -> String {
    if name.chars().count() <= letters {
        return name.to_owned();
    }
    name.chars().take(letters - 1).chain(['…']).collect()
}

/// The path of a cross.
fn cross(x: f64, y: f64) -> String {
    let x = x.clamp(LEFT + 4.0, RIGHT - 4.0);
    format!("M{} {}l8 8m0 -8l-8 8", Px(x - 4.0), Px(y - 4.0))
}
