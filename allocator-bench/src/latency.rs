//! How long the calls of one kind took during one workload: what a probe prints for each kind.

use std::fmt;
use std::str::FromStr;

use crate::figures::{ParseFiguresError, figures};

/// A kind of call that a global allocator gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    /// `alloc`.
    Alloc,
    /// `alloc_zeroed`.
    AllocZeroed,
    /// `realloc`.
    Realloc,
    /// `dealloc`.
    Dealloc,
}

impl Call {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 4] = [Self::Alloc, Self::AllocZeroed, Self::Realloc, Self::Dealloc];

    /// The name in reports and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alloc => "alloc",
            Self::AllocZeroed => "alloc_zeroed",
            Self::Realloc => "realloc",
            Self::Dealloc => "dealloc",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

figures! {
    /// Durations of the calls of one kind; zeros if there was none.
    Latency {
        /// How many there were.
        count,
        /// Half of them were not slower.
        p50_ns,
        /// 99 of 100 were not slower.
        p99_ns,
        /// 999 of 1000 were not slower.
        p999_ns,
        /// The slowest.
        max_ns,
    }
}

/// The latencies of all kinds, in the order of [`Call::ALL`].
pub type Latencies = [Latency; 4];

/// Reads what a probe printed: one line for each kind of call.
///
/// # Errors
/// If a line is missing or is not that of its kind.
pub fn parse_latencies(report: &str) -> Result<Latencies, ParseFiguresError> {
    let mut latencies = Latencies::default();
    let mut lines = report.lines();
    for (call, latency) in Call::ALL.into_iter().zip(&mut latencies) {
        let line = lines.next().unwrap_or_default();
        let figures = line.strip_prefix(call.name()).and_then(|rest| rest.strip_prefix(' '));
        *latency = Latency::from_str(figures.ok_or(ParseFiguresError::Missing(call.name()))?)?;
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::{Call, Latency, parse_latencies};
    use crate::figures::{Figures, ParseFiguresError};

    #[test]
    fn every_kind_needs_its_line() {
        let latency = Latency { count: 9, p50_ns: 1, p99_ns: 2, p999_ns: 3, max_ns: 4 };
        let lines = Call::ALL.map(|call| format!("{call} {}", latency.line()));
        assert_eq!(parse_latencies(&lines.join("\n")), Ok([latency; 4]));
        assert_eq!(parse_latencies(&lines[..3].join("\n")), Err(ParseFiguresError::Missing("dealloc")));
        assert_eq!(parse_latencies(&lines[1..].join("\n")), Err(ParseFiguresError::Missing("alloc")));
    }
}
