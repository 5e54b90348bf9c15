//! Stacks with times, laid out as tiles.
//!
//! Invariant: a tile lies within the one below it, tiles of one row do not overlap, and those above a tile are together
//! as wide as it, less what ends in it and what is too narrow to be seen.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::freeze::Frame;
use crate::report::say;

/// What is narrower is not drawn by itself.
const WIDTH_MIN: f64 = 0.5;
/// Functions of the kernel that wait for a lock have one of these in their names.
const LOCK_NAMES: [&str; 5] = ["rwsem", "futex", "mutex", "down_read", "down_write"];

/// What a tile stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Everything.
    Root,
    /// A thread.
    Thread,
    /// A function of the program.
    User,
    /// One that is inlined.
    Inlined,
    /// A function of the kernel.
    Kernel,
    /// One that waits for a lock.
    Lock,
    /// Several that are too narrow.
    More,
}

impl Part {
    pub(super) fn class(self) -> &'static str {
        match self {
            Part::Root => "root",
            Part::Thread => "thread",
            Part::User => "user",
            Part::Inlined => "inlined",
            Part::Kernel => "kernel",
            Part::Lock => "lock",
            Part::More => "more",
        }
    }

    /// What has to be said of it, as its colour may not be seen.
    pub(super) fn remark(self) -> &'static str {
        match self {
            Part::Inlined => "; inlined",
            Part::Kernel => "; kernel",
            Part::Lock => "; kernel, waits for a lock",
            Part::Root | Part::Thread | Part::User | Part::More => "",
        }
    }
}

/// A step of a stack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step {
    part: Part,
    name: String,
    place: String,
}

impl Step {
    pub(super) fn thread(name: &str) -> Step {
        Step { part: Part::Thread, name: name.to_owned(), place: String::new() }
    }

    pub(super) fn frame(frame: &Frame, is_kernel: bool) -> Step {
        let waits = LOCK_NAMES.iter().any(|name| frame.function.contains(name));
        let part = match (is_kernel, waits, frame.inlined) {
            (true, true, _) => Part::Lock,
            (true, false, _) => Part::Kernel,
            (false, _, true) => Part::Inlined,
            (false, _, false) => Part::User,
        };
        Step { part, name: frame.function.clone(), place: say::place(frame) }
    }
}

/// A tile; the lowest level is 0.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tile {
    pub(super) level: usize,
    pub(super) x: f64,
    pub(super) width: f64,
    pub(super) part: Part,
    pub(super) name: String,
    pub(super) place: String,
    pub(super) ns: u64,
}

#[derive(Default)]
struct Node {
    ns: u64,
    above: BTreeMap<Step, Node>,
}

/// The tiles of stacks that begin with their root, between two places; a tile comes before those above it, and of those
/// the widest comes first. Without any time there are none.
pub(super) fn lay(stacks: Vec<(Vec<Step>, u64)>, from: f64, to: f64) -> Vec<Tile> {
    let mut root = Node::default();
    for (steps, ns) in stacks {
        let mut node = &mut root;
        node.ns = node.ns.saturating_add(ns);
        for step in steps {
            node = node.above.entry(step).or_default();
            node.ns = node.ns.saturating_add(ns);
        }
    }
    let mut tiles = Vec::new();
    if root.ns > 0 {
        let all = Step { part: Part::Root, name: "all".to_owned(), place: String::new() };
        let px_per_ns = (to - from) / root.ns as f64;
        place(&mut tiles, px_per_ns, 0, from, all, root);
    }
    tiles
}

fn place(tiles: &mut Vec<Tile>, px_per_ns: f64, level: usize, x: f64, step: Step, node: Node) {
    let Step { part, name, place: whence } = step;
    let width = node.ns as f64 * px_per_ns;
    tiles.push(Tile { level, x, width, part, name, place: whence, ns: node.ns });
    let mut above: Vec<_> = node.above.into_iter().collect();
    above.sort_by_key(|(_, node)| Reverse(node.ns));
    let narrow = above.split_off(above.partition_point(|(_, node)| node.ns as f64 * px_per_ns >= WIDTH_MIN));
    let mut at = x;
    for (step, node) in above {
        let width = node.ns as f64 * px_per_ns;
        place(tiles, px_per_ns, level + 1, at, step, node);
        at += width;
    }
    let ns = narrow.iter().map(|(_, node)| node.ns).fold(0, u64::saturating_add);
    let width = ns as f64 * px_per_ns;
    if width >= WIDTH_MIN {
        let name = format!("{} more", narrow.len());
        tiles.push(Tile { level: level + 1, x: at, width, part: Part::More, name, place: String::new(), ns });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rounding of so many sums.
    const SLACK: f64 = 1e-6;

    fn steps(names: &[u8]) -> Vec<Step> {
        names.iter().map(|name| Step::thread(&name.to_string())).collect()
    }

    proptest! {
        #[test]
        fn tiles_lie_on_those_below_and_side_by_side(
            stacks in prop::collection::vec((prop::collection::vec(0_u8..4, 0..6), 0_u64..1_000_000), 0..60)
        ) {
            let all: u64 = stacks.iter().map(|(_, ns)| ns).sum();
            let tiles = lay(stacks.iter().map(|(names, ns)| (steps(names), *ns)).collect(), 10.0, 110.0);
            prop_assert_eq!(tiles.first().map_or(0, |root| root.ns), all);
            for (index, tile) in tiles.iter().enumerate() {
                let end = tile.x + tile.width;
                prop_assert!(tile.x >= 10.0 - SLACK && end <= 110.0 + SLACK && tile.width >= WIDTH_MIN - SLACK);
                let above = tiles[index + 1..].iter().take_while(|other| other.level > tile.level);
                let mut at = tile.x;
                for other in above.filter(|other| other.level == tile.level + 1) {
                    prop_assert!((other.x - at).abs() < SLACK, "a gap or an overlap");
                    at += other.width;
                }
                prop_assert!(at <= end + SLACK);
            }
        }
    }

    #[test]
    fn what_is_too_narrow_is_put_together() {
        let stacks = (0..100).map(|name| (steps(&[name]), if name == 0 { 1_000 } else { 1 })).collect();
        let tiles = lay(stacks, 0.0, 100.0);
        let told: Vec<_> = tiles.iter().map(|tile| (tile.name.as_str(), tile.ns)).collect();
        assert_eq!(told, [("all", 1_099), ("0", 1_000), ("99 more", 99)]);
        assert!(lay(vec![(steps(&[1]), 0)], 0.0, 100.0).is_empty());
    }
}
