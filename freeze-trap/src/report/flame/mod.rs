//! Flame graphs: time by stack, the root at the bottom, each function as wide as the time that is spent below it.
//!
//! The drawing is complete without its script, which adds zooming and searching. [`page`](super::page()) shows the same
//! drawings under a style and a script of its own document.

mod tiles;

use std::collections::HashSet;

use maud::{Markup, PreEscaped, html};

use super::{say, tally};
use crate::freeze::{Freeze, Pair, Stack};
use tiles::{Part, Step, Tile};

/// Colours and fonts.
pub(super) const STYLE: &str = include_str!("style.css");
/// Zooming and searching, for all flame graphs of a document.
pub(super) const SCRIPT: &str = include_str!("script.js");

/// The drawing's width, and the room at its left, right, top and bottom.
const WIDTH: f64 = 1200.0;
const SIDE: f64 = 8.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 26.0;
/// The height of a row, with one free pixel.
const ROW: f64 = 18.0;
/// The width of a letter: the script counts with the same.
const LETTER: f64 = 7.3;

/// How far from the right end the headline ends: what can be chosen begins there.
const HEADLINE_END: f64 = 170.0;

/// What a flame graph shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Time off the processor in the frozen time, by where threads were.
    OffCpu,
    /// Time that threads waited for others, by what those were doing: the holder, its stack, and on top who waited.
    LockWait,
}

impl Kind {
    /// What it is called.
    pub(super) fn title(self) -> &'static str {
        match self {
            Kind::OffCpu => "Time off the processor while frozen, by stack",
            Kind::LockWait => "Time that others waited, by the stack of who held them up",
        }
    }
}

/// A drawing as a whole SVG file, which needs nothing but itself.
#[must_use]
pub fn flame(freeze: &Freeze, kind: Kind) -> String {
    let (tiles, height) = laid(freeze, kind);
    let view = format!("0 0 {WIDTH} {height}");
    let headline = format!("{}: {}", kind.title(), freeze.sentence);
    let svg = html! {
        svg.flame xmlns="http://www.w3.org/2000/svg" viewBox=(view) width=(WIDTH) height=(height) role="img"
            aria-label=(label(&tiles, kind)) {
            style { (PreEscaped(STYLE)) }
            rect.paper x="0" y="0" width="100%" height="100%" {}
            text.heading x=(SIDE) y="20" { (clipped(&headline, WIDTH - HEADLINE_END)) }
            (content(&tiles, height))
            script { (PreEscaped("// <![CDATA[\n")) (PreEscaped(SCRIPT)) (PreEscaped("// ]]>\n")) }
        }
    };
    say::plain_document(&format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", svg.into_string()))
}

/// A drawing for a document that has the style and the script; nothing if there is nothing to draw.
pub(super) fn drawing(freeze: &Freeze, kind: Kind) -> Option<Markup> {
    let (tiles, height) = laid(freeze, kind);
    (tiles.len() > 1).then(|| {
        html! {
            svg.flame viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-label=(label(&tiles, kind)) {
                (content(&tiles, height))
            }
        }
    })
}

/// The tiles, and the height of the drawing.
fn laid(freeze: &Freeze, kind: Kind) -> (Vec<Tile>, f64) {
    let stacks = match kind {
        Kind::OffCpu => off_cpu(freeze),
        Kind::LockWait => lock_wait(freeze),
    };
    let tiles = tiles::lay(stacks, SIDE, WIDTH - SIDE);
    let rows = tiles.iter().map(|tile| tile.level + 1).max().unwrap_or(0);
    (tiles, TOP + BOTTOM + ROW * rows as f64)
}

fn off_cpu(freeze: &Freeze) -> Vec<(Vec<Step>, u64)> {
    let samples = tally::samples(freeze);
    let names: HashSet<&str> = samples.iter().map(|sample| sample.thread).collect();
    let step = |name| Step::thread(&pool(name, &names));
    samples.iter().map(|sample| (steps(step(sample.thread), sample.stack), sample.ns)).collect()
}

/// The name of a thread, or of the pool that it is in: `worker-*` if there is another whose name has other digits at
/// its end. Each for itself, the threads of a large pool would be too narrow to be seen.
fn pool(name: &str, names: &HashSet<&str>) -> String {
    let stem = |name: &str| name.trim_end_matches(|one: char| one.is_ascii_digit()).len();
    let own = &name[..stem(name)];
    let is_same = |other: &&&str| **other != name && other.len() > own.len() && other[..stem(other)] == *own;
    let is_pool = own.len() < name.len() && names.iter().any(|other| is_same(&other));
    if is_pool { format!("{own}*") } else { name.to_owned() }
}

fn lock_wait(freeze: &Freeze) -> Vec<(Vec<Step>, u64)> {
    let waited = |pair: &Pair, waiter: &str, ns| {
        let mut steps = steps(Step::thread(&say::thread(&pair.holder, pair.outsider)), &pair.stack);
        steps.push(Step::thread(&format!("{waiter} waited")));
        (steps, ns)
    };
    let pairs = freeze.pairs.iter().map(|pair| waited(pair, &pair.waiter.name, pair.overlap_ns));
    // Without those that are no pairs here, each holder would be too narrow, and one with many waiters the most.
    let rest = freeze.holders.iter().map(|holder| (holder, tally::besides_pairs_ns(freeze, holder)));
    let rest = rest.filter(|(_, ns)| *ns > 0).map(|(holder, ns)| waited(&holder.longest, "others", ns));
    pairs.chain(rest).collect()
}

/// A stack from its root.
fn steps(thread: Step, stack: &Stack) -> Vec<Step> {
    let user = stack.user.iter().rev().map(|frame| Step::frame(frame, false));
    let kernel = stack.kernel.iter().rev().map(|frame| Step::frame(frame, true));
    [thread].into_iter().chain(user).chain(kernel).collect()
}

/// The drawing in a sentence.
fn label(tiles: &[Tile], kind: Kind) -> String {
    let all_ns = tiles.first().map_or(0, |root| root.ns);
    let mut widest: Vec<_> = tiles.iter().filter(|tile| tile.part == Part::User).collect();
    widest.sort_by_key(|tile| std::cmp::Reverse(tile.ns));
    let named = widest
        .first()
        .map_or(String::new(), |tile| format!("; {} of it below {}", say::percent(tile.ns, all_ns), tile.name));
    format!("Flame graph. {}: {} in all{named}", kind.title(), say::duration(all_ns))
}

fn content(tiles: &[Tile], height: f64) -> Markup {
    let all_ns = tiles.first().map_or(0, |root| root.ns);
    html! {
        @if tiles.len() < 2 { text.heading x=(SIDE) y=(TOP + 10.0) { "nothing was seen" } }
        @for tile in tiles { (drawn(tile, height, all_ns)) }
        text.button.reset x=(WIDTH - 150.0) y="20" { "whole graph" }
        text.button.search x=(WIDTH - 60.0) y="20" { "search" }
        text.detail x=(SIDE) y=(height - 8.0) {}
    }
}

fn drawn(tile: &Tile, height: f64, all_ns: u64) -> Markup {
    let y = height - BOTTOM - ROW * (tile.level + 1) as f64;
    let (time, share) = (say::duration(tile.ns), say::percent(tile.ns, all_ns));
    let place = if tile.place.is_empty() { String::new() } else { format!(" ({})", tile.place) };
    html! {
        g.tile.(tile.part.class()) data-name=(tile.name) {
            title { (tile.name) (place) ": " (time) ", " (share) (tile.part.remark()) }
            rect x=(number(tile.x)) y=(y) width=(number(tile.width)) height=(ROW - 1.0) {}
            text x=(number(tile.x + 3.0)) y=(y + 13.0) { (clipped(&tile.name, tile.width)) }
        }
    }
}

fn number(value: f64) -> String {
    format!("{value:.2}")
}

/// What of a name there is room for in a tile.
fn clipped(name: &str, width: f64) -> String {
    let room = ((width - 6.0) / LETTER).max(0.0).floor() as usize;
    match name.chars().count() {
        length if length <= room => name.to_owned(),
        _ if room < 3 => String::new(),
        _ => name.chars().take(room - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_pool_are_put_together() {
        let names = ["worker-1", "worker-12", "worker-", "gc7", "main", "1", "22"];
        let pools = names.map(|name| pool(name, &names.into()));
        assert_eq!(pools, ["worker-*", "worker-*", "worker-", "gc7", "main", "*", "*"]);
    }

    #[test]
    fn names_are_clipped_to_their_tiles() {
        assert_eq!(clipped("schedule", 100.0), "schedule");
        assert_eq!(clipped("schedule", 50.0), "sched…");
        assert_eq!([clipped("schedule", 20.0), clipped("schedule", 0.4)], ["", ""]);
    }
}
