//! Free memory of the machine that is broken up, so that few hugepages are left: as on a machine that has been up for
//! long. Undone when it is dropped, and by the end of the process.
//!
//! [`setting`](crate::setting) makes it before a child of a scenario that asks for it.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ballast::Ballast;
use crate::memory::{self, HUGEPAGE_BYTES, Mapping};
use crate::record::{Figure, Unit};

/// So few free hugepages count as scarce.
pub const FEW: u64 = 32;
/// The figure that tells how many were free when the child began.
pub const FREE: &str = "free hugepages";
/// What the harness takes of the hugepages that are left at a time.
const PIECE_BYTES: u64 = 64 << 20;
/// How often it is looked whether the user wants to stop, in pages.
const LOOK_PAGES: usize = 16384;

/// The held memory, and what was counted when it was made.
#[derive(Debug)]
pub struct Fragmentation {
    /// Every other page of it is there.
    _pages: Mapping,
    /// Hugepages that were still free.
    _rest: Ballast,
    free_hugepages: u64,
    counted: Counters,
}

/// What the kernel has counted since it was started, for all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counters {
    stalls: u64,
    fallbacks: u64,
}

impl Counters {
    fn read() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/vmstat")?;
        // A kernel without hugepages does not count them.
        let value = |name| memory::stat_value(&text, name).unwrap_or(0);
        Ok(Self { stalls: value("compact_stall"), fallbacks: value("thp_fault_fallback") })
    }
}

impl Fragmentation {
    /// Touches `hold_bytes` in small pages and gives every other page back; then takes whole hugepages that are still
    /// free, until few are or as much is held again. Stops early (successfully) when `interrupted` is set.
    pub fn make(hold_bytes: u64, interrupted: &AtomicBool) -> io::Result<Self> {
        let length = usize::try_from(hold_bytes).map_err(io::Error::other)?;
        let mut pages = Mapping::small_pages(length)?;
        let page_bytes = memory::page_bytes();
        let goes_on = |number: usize| !number.is_multiple_of(LOOK_PAGES) || !interrupted.load(Ordering::Relaxed);
        for (number, offset) in (0..length).step_by(page_bytes).enumerate() {
            if !goes_on(number) {
                break;
            }
            pages.touch(offset);
        }
        for (number, offset) in (0..length).step_by(2 * page_bytes).enumerate() {
            if !goes_on(number) {
                break;
            }
            pages.give_back(offset, page_bytes)?;
        }
        let mut rest = Ballast::default();
        while free_hugepages()? > FEW && rest.bytes() + PIECE_BYTES <= hold_bytes / 2 && goes_on(0) {
            rest.take(rest.bytes() + PIECE_BYTES, interrupted)?;
        }
        let (free_hugepages, counted) = (free_hugepages()?, Counters::read()?);
        Ok(Self { _pages: pages, _rest: rest, free_hugepages, counted })
    }

    /// What was free, and what the kernel has counted since.
    pub fn figures(&self) -> Vec<Figure> {
        let since = |now: fn(&Counters) -> u64| {
            let counted = Counters::read().ok()?;
            Some(now(&counted).saturating_sub(now(&self.counted)))
        };
        let figure = |name: &str, value| Figure { name: name.to_owned(), value, unit: Unit::Count };
        vec![
            figure(FREE, Some(self.free_hugepages)),
            figure("compaction stalls", since(|counters| counters.stalls)),
            figure("hugepage fallbacks", since(|counters| counters.fallbacks)),
        ]
    }
}

/// How many hugepages could be had without moving anything.
fn free_hugepages() -> io::Result<u64> {
    let order = (HUGEPAGE_BYTES / memory::page_bytes()).ilog2();
    Ok(free_of_order(&fs::read_to_string("/proc/buddyinfo")?, order))
}

/// How many blocks of 2^`order` pages are in those that the text of `/proc/buddyinfo` tells of.
fn free_of_order(buddyinfo: &str, order: u32) -> u64 {
    let of_zone = |line: &str| {
        let counts = line.split_once("zone")?.1.split_whitespace().skip(1);
        let counts = (0..).zip(counts.map_while(|count| count.parse::<u64>().ok()));
        Some(counts.filter(|(own, _)| *own >= order).map(|(own, count)| count << (own - order)).sum::<u64>())
    };
    buddyinfo.lines().filter_map(of_zone).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_blocks_count_for_as_many_as_they_hold() {
        let text = "Node 0, zone      DMA      1      0      3\nNode 0, zone   Normal  78110  39259      2   4\n";
        assert_eq!(free_of_order(text, 1), 6 + 39_259 + 4 + 16);
        assert_eq!(free_of_order(text, 2), 3 + 2 + 8);
        assert_eq!(free_of_order("nonsense", 2), 0);
    }

    #[test]
    fn half_of_what_is_held_stays_and_the_rest_is_given_back() {
        let before_kib = memory::rss_kib().unwrap();
        let made = Fragmentation::make(256 << 20, &AtomicBool::new(false)).unwrap();
        let held_bytes = made._rest.bytes() + (128 << 20);
        let grown_kib = memory::rss_kib().unwrap().saturating_sub(before_kib);
        // Other tests of this process take memory and give it back meanwhile.
        assert!(held_bytes <= 256 << 20 && grown_kib > 64 << 10, "{made:?}");
        let names: Vec<_> = made.figures().into_iter().map(|figure| (figure.name, figure.value.is_some())).collect();
        assert_eq!(
            names,
            ["free hugepages", "compaction stalls", "hugepage fallbacks"].map(|name| (name.to_owned(), true))
        );
    }

    #[test]
    fn one_that_is_interrupted_holds_nothing() {
        let made = Fragmentation::make(1 << 30, &AtomicBool::new(true)).unwrap();
        assert_eq!(made._rest.bytes(), 0);
    }
}
