//! What one child reports: when which phase was, figures, what the canaries felt.
//!
//! [`stage`](crate::stage) makes a [`Record`] in the child, [`harness`](crate::harness) adds what it saw from outside,
//! [`summary`](crate::summary) and [`page`](crate::page) read it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hooks::GivingBack;
use crate::idle::IdleSample;
use crate::latency::{Latency, Timeline};

/// One child's report. All times count from `start_ns` unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The allocator's name.
    pub allocator: String,
    /// Its version; empty if it does not tell.
    pub version: String,
    /// `CLOCK_MONOTONIC` when the scenario began.
    pub start_ns: u64,
    /// The phases, in the order in which they were.
    pub spans: Vec<Span>,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What the canaries felt.
    pub canaries: Vec<CanaryRecord>,
    /// What was looked at while nothing happened.
    pub idle: Vec<IdleSample>,
    /// How the allocator was told to give memory back, if it can be told.
    pub giving_back: Option<GivingBack>,
    /// Calls of the allocator that took `mmap_lock` for writing since the scenario began, if it counts them.
    pub write_lock_calls: Option<u64>,
    /// Sentences that a reader should know.
    pub notes: Vec<String>,
}

/// One phase, as long as it lasted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The phase.
    pub phase: String,
    /// Whether the main thread worked on memory in it.
    pub is_busy: bool,
    /// When it began.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
}

/// One number of a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is, in lower case; the heading of a column.
    pub name: String,
    /// The value; `None` for what should have happened and did not.
    pub value: Option<u64>,
    /// The unit of the value.
    pub unit: Unit,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// Memory in units of 1024 bytes.
    Kib,
    /// Things.
    Count,
    /// Things in a second.
    PerSecond,
    /// Hundredths of a whole.
    Percent,
}

/// What one kind of canary felt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryRecord {
    /// What it does again and again, in one or two words.
    pub kind: String,
    /// Phases that were long enough to measure in.
    pub phases: Vec<PhaseLatency>,
    /// The longest latencies over time.
    pub timeline: Timeline,
}

/// What a canary felt in one phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseLatency {
    /// The phase.
    pub phase: String,
    /// What it felt there.
    pub latency: Latency,
}

/// Resident memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RssSample {
    /// When.
    pub at_ns: u64,
    /// How much.
    pub rss_kib: u64,
}

impl Record {
    /// The figure of this name, if it was measured and did happen.
    pub fn figure(&self, name: &str) -> Option<u64> {
        self.figures.iter().find(|figure| figure.name == name)?.value
    }

    /// The first span of this phase.
    pub fn span(&self, phase: &str) -> Option<&Span> {
        self.spans.iter().find(|span| span.phase == phase)
    }

    /// What a kind of canary felt in a phase.
    pub fn latency(&self, kind: &str, phase: &str) -> Option<&Latency> {
        let canary = self.canaries.iter().find(|canary| canary.kind == kind)?;
        canary.phases.iter().find(|entry| entry.phase == phase).map(|entry| &entry.latency)
    }
}

impl Unit {
    /// The unit in which a table shows it.
    pub const fn shown(self) -> &'static str {
        match self {
            Self::Ns => "ms",
            Self::Kib => "MiB",
            Self::Count => "count",
            Self::PerSecond => "per s",
            Self::Percent => "%",
        }
    }

    /// The value in the unit in which a table shows it, with about three digits.
    pub fn cell(self, value: u64) -> String {
        match self {
            Self::Ns => millis(value),
            Self::Kib => format!("{:.1}", value as f64 / 1024.0),
            Self::Count | Self::PerSecond | Self::Percent => value.to_string(),
        }
    }

    /// The value in the unit in which a person would say it, with that unit.
    pub fn said(self, value: u64) -> String {
        match self {
            Self::Ns => time(value),
            Self::Kib if value >= 10 << 20 => format!("{:.1} GiB", value as f64 / f64::from(1 << 20)),
            Self::Kib => format!("{:.1} MiB", value as f64 / 1024.0),
            Self::Count => value.to_string(),
            Self::PerSecond => format!("{value} per s"),
            Self::Percent => format!("{value} %"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.shown())
    }
}

/// Milliseconds with about three digits, as the values span six orders of magnitude.
pub fn millis(ns: u64) -> String {
    let ms = ns as f64 / 1e6;
    let decimals = if ms < 10.0 { 3 } else { usize::from(ms < 1000.0) };
    format!("{ms:.decimals$}")
}

/// So many of something, as a person would say it: `1 wave`, `3 waves`.
pub fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// A time in the unit a person would say it in.
pub fn time(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{} µs", ns / 1000),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_about_three_digits() {
        assert_eq!([8_000, 3_500_000, 184_000_000, 2_000_000_000].map(millis), ["0.008", "3.500", "184.0", "2000"]);
        assert_eq!([8_000, 3_500_000, 2_000_000_000].map(time), ["8 µs", "3.5 ms", "2.00 s"]);
    }

    #[test]
    fn every_unit_is_said() {
        assert_eq!(Unit::Kib.said(2048), "2.0 MiB");
        assert_eq!(Unit::Kib.said(12 << 20), "12.0 GiB");
        assert_eq!(Unit::PerSecond.said(7), "7 per s");
        assert_eq!(Unit::Percent.said(7), "7 %");
        assert_eq!(Unit::Ns.said(8_000), "8 µs");
        assert_eq!((Unit::Kib.cell(1536), Unit::Count.cell(3)), ("1.5".to_owned(), "3".to_owned()));
    }
}
