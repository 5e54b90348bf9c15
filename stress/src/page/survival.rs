//! How often a wait is longer than a given time: for each kind of canary and phase one plot with all allocators.

use maud::{Markup, html};

use super::lock::merged;
use super::outline;
use super::selection::{Lane, PhaseName, Selection};
use super::timeline::class;
use crate::record::time;
use report_page::scale::{Px, Scale, decade_above, decade_below, time_tick};

/// The drawing's size and its plot.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 394.0;
const TOP: f64 = 10.0;
const FLOOR: f64 = 232.0;
/// The rarest that is drawn: one in ten million.
const RAREST_DECADE: i32 = -7;

/// What one allocator's canary felt in all rounds of a phase.
struct Curve<'a> {
    lane: &'a Lane<'a>,
    /// How many measurements took at most this long and more than the bound before.
    buckets: Vec<(u64, u64)>,
    samples: u64,
    worst_ns: u64,
}

/// The plots of all phases; those of quiet phases are folded away.
pub fn figures(selection: &Selection<'_>) -> Markup {
    html! {
        @for phase in &selection.phases {
            @let figures: Vec<_> = selection.kinds.iter().filter_map(|kind| figure(selection, kind, phase)).collect();
            @if !figures.is_empty() {
                details open[phase.is_busy] {
                    summary { "During “" (phase.name) "”" span.note { (if phase.is_busy { " busy" } else { " quiet" }) } }
                    div.grid { @for figure in figures { (figure) } }
                }
            }
        }
    }
}

fn figure(selection: &Selection<'_>, kind: &str, phase: &PhaseName<'_>) -> Option<Markup> {
    let curves: Vec<_> = selection.lanes.iter().filter_map(|lane| curve(lane, kind, phase.name)).collect();
    let shortest_ns = curves.iter().filter_map(|curve| curve.buckets.first()).map(|bucket| bucket.0).min()?;
    let longest_ns = curves.iter().map(|curve| curve.worst_ns).max()?;
    let samples = curves.iter().map(|curve| curve.samples).max()?;
    let rarest = (-decade_above(samples)).clamp(RAREST_DECADE, -1);
    let latencies = Scale::decades(decade_below(shortest_ns / 2), decade_above(longest_ns), LEFT, RIGHT);
    let shares = Scale::decades(rarest, 0, FLOOR, TOP);
    let label = format!("Share of {kind} measurements during {} that took longer than a time", phase.name);
    Some(html! {
        figure {
            figcaption { h4 { "“" (kind) "”" } }
            svg viewBox={ "0 0 " (Px(WIDTH)) " " (Px(HEIGHT)) } role="img" aria-label=(label) {
                (axes(&latencies, &shares))
                @for curve in &curves { (curve.draw(&latencies, &shares)) }
            }
        }
    })
}

fn curve<'a>(lane: &'a Lane<'a>, kind: &str, phase: &str) -> Option<Curve<'a>> {
    let latencies = || lane.runs.iter().filter_map(|run| run.record.latency(kind, phase));
    let buckets = merged(latencies().flat_map(|latency| latency.histogram.iter().copied()));
    let samples = buckets.iter().map(|bucket| bucket.1).sum();
    let worst_ns = latencies().map(|latency| latency.worst_ns).max()?;
    (samples > 0).then_some(Curve { lane, buckets, samples, worst_ns })
}

impl Curve<'_> {
    fn draw(&self, latencies: &Scale, shares: &Scale) -> Markup {
        html! {
            path.curve.(class(self.lane)) d=(self.path(latencies, shares)) {
                title { (self.lane.name) ": " (self.samples) " measurements, longest " (time(self.worst_ns)) }
            }
        }
    }

    /// The share that is left after each bound, and down to nothing at the longest. Where in its bucket a measurement
    /// lies is not known, so the line falls at the bound: it never shows less than there was.
    fn path(&self, latencies: &Scale, shares: &Scale) -> String {
        let mut left = self.samples;
        let mut path = format!("M{} {}", Px(LEFT), Px(TOP));
        for (up_to_ns, count) in &self.buckets {
            left -= count;
            let bound_ns = (*up_to_ns).min(self.worst_ns) as f64;
            let y = if left == 0 { FLOOR } else { shares.at(left as f64 / self.samples as f64) };
            outline::write(&mut path, format_args!("H{}V{}", Px(latencies.at(bound_ns)), Px(y)));
        }
        path
    }
}

fn axes(latencies: &Scale, shares: &Scale) -> Markup {
    html! {
        @for tick in shares.ticks(8) {
            @let y = Px(shares.at(tick));
            line.grid x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(y) y2=(y) {}
            text.tick.end x=(Px(LEFT - 6.0)) y=(Px(y.0 + 4.0)) { (share(tick)) }
        }
        @for tick in latencies.ticks(5) {
            @let x = Px(latencies.at(tick));
            line.grid x1=(x) x2=(x) y1=(Px(TOP)) y2=(Px(FLOOR)) {}
            text.tick.middle x=(x) y=(Px(FLOOR + 17.0)) { (time_tick(tick)) }
        }
        line.floor x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(FLOOR)) y2=(Px(FLOOR)) {}
        text.note.middle x=(Px(LEFT.midpoint(RIGHT))) y=(Px(HEIGHT - 8.0)) { "longer than" }
    }
}

/// A share that is a power of ten, as one would say it.
fn share(share: f64) -> String {
    match (1.0 / share).round() as u64 {
        1 => "all".to_owned(),
        n @ 1_000_000.. => format!("1 in {} M", n / 1_000_000),
        n @ 1_000.. => format!("1 in {} k", n / 1_000),
        n => format!("1 in {n}"),
    }
}
