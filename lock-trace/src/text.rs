//! A trace as text for people, and times and sizes in the units that a person would say them in.

use std::fmt;

use crate::tally::Tally;
use crate::trace::{CallRow, Interval, IntervalKind, Losses, Mode, Row, Trace};

/// Rows, intervals and calls shown in a summary.
const SHOWN: usize = 20;

/// A time in a fitting unit.
pub(crate) fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// A size in a fitting unit.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.checked_ilog2().unwrap_or(0) as usize / 10).min(UNITS.len() - 1);
    let divisor = 1_u64 << (10 * unit);
    if bytes.is_multiple_of(divisor) {
        format!("{} {}", bytes / divisor, UNITS[unit])
    } else {
        format!("{:.1} {}", bytes as f64 / divisor as f64, UNITS[unit])
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(match self {
            Mode::Read => "read",
            Mode::Write => "write",
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}", self.count)?;
        if self.count == 0 {
            return Ok(());
        }
        let [half, nearly_all] = [500, 999].map(|part| time(self.quantile_ns(part)));
        let [total, longest] = [self.total_ns, self.longest_ns].map(time);
        write!(formatter, ", {total} in all; half up to {half}, 99.9 % up to {nearly_all}, longest {longest}")
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        if self.is_incomplete() {
            writeln!(
                formatter,
                "INCOMPLETE: {} events lost, {} out of order, {} attempts or holds without an end; counts are too low",
                self.records, self.reordered, self.unmatched_starts
            )?;
        }
        if self.unmatched_releases > 0 {
            writeln!(
                formatter,
                "{} holds had begun before recording did, and are not counted",
                self.unmatched_releases
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let kind = match self.kind {
            IntervalKind::Hold => "hold",
            IntervalKind::Wait => "wait",
        };
        let outsider = if self.outsider { ", another process" } else { "" };
        let unfinished = if self.unfinished { ", not over" } else { "" };
        write!(
            formatter,
            "{:>9} {} {kind}{unfinished} by {} ({}{outsider}) in {}",
            time(self.duration_ns),
            self.mode,
            self.thread,
            self.tid,
            self.activity
        )
    }
}

impl Trace {
    /// A summary: totals, the rows with the longest times, the longest intervals with who is to blame, the calls.
    #[must_use]
    pub fn text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let duration = time(self.end_ns.saturating_sub(self.start_ns));
        writeln!(formatter, "mmap_lock of process {} during {duration}", self.pid)?;
        if let Some(gone_ns) = self.gone_ns {
            let after = time(gone_ns.saturating_sub(self.start_ns));
            writeln!(formatter, "the process ended, or executed another program, after {after}")?;
        }
        self.lost.fmt(formatter)?;
        for mode in [Mode::Write, Mode::Read] {
            writeln!(formatter, "  {mode:<5} holds: {}", self.holds(mode))?;
            writeln!(formatter, "  {mode:<5} waits: {}", self.waits(mode))?;
        }
        show_rows(formatter, &self.rows)?;
        self.show_intervals(formatter)?;
        show_calls(formatter, &self.calls)
    }
}

impl Trace {
    fn show_intervals(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        if self.kept.is_empty() {
            return Ok(());
        }
        let total = self.kept.len() as u64 + self.kept_dropped;
        writeln!(formatter, "\nthe longest of {total} that were long:")?;
        for interval in self.worst(SHOWN) {
            let after = time(interval.start_ns.saturating_sub(self.start_ns));
            writeln!(formatter, "  {interval}, after {after}")?;
            for blame in &interval.blame {
                let overlap = time(blame.overlap_ns);
                let (thread, tid) = (&blame.thread, blame.tid);
                writeln!(
                    formatter,
                    "      {overlap} of it {thread} ({tid}) held for {}: {}",
                    verb(blame.mode),
                    blame.activity
                )?;
            }
        }
        Ok(())
    }
}

fn verb(mode: Mode) -> &'static str {
    match mode {
        Mode::Read => "reading",
        Mode::Write => "writing",
    }
}

fn show_rows(formatter: &mut fmt::Formatter, rows: &[Row]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        formatter,
        "\n  {:<15} {:>7}  {:<15} {:<5} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "thread", "id", "activity", "mode", "holds", "total", "longest", "waits", "total", "longest"
    )?;
    for row in rows.iter().take(SHOWN) {
        let id = if row.tid == 0 { String::from("several") } else { row.tid.to_string() };
        let outsider = if row.outsider { " (another process)" } else { "" };
        let [hold_total, hold_longest] = [row.holds.total_ns, row.holds.longest_ns].map(time);
        let [wait_total, wait_longest] = [row.waits.total_ns, row.waits.longest_ns].map(time);
        writeln!(
            formatter,
            "  {:<15} {id:>7}  {:<15} {:<5} {:>8} {hold_total:>8} {hold_longest:>8} {:>8} {wait_total:>8} \
             {wait_longest:>8}{outsider}",
            row.thread, row.activity, row.mode, row.holds.count, row.waits.count
        )?;
    }
    rest(formatter, rows.len())
}

fn show_calls(formatter: &mut fmt::Formatter, calls: &[CallRow]) -> fmt::Result {
    if calls.is_empty() {
        return Ok(());
    }
    writeln!(formatter, "\n  {:<15} {:>7}  {:<15} {:>8} {:>10}", "thread", "id", "system call", "entries", "bytes")?;
    for row in calls.iter().take(SHOWN) {
        let id = if row.tid == 0 { String::from("several") } else { row.tid.to_string() };
        let (thread, call, count) = (&row.thread, &row.call, row.count);
        writeln!(formatter, "  {thread:<15} {id:>7}  {call:<15} {count:>8} {:>10}", bytes(row.bytes))?;
    }
    rest(formatter, calls.len())
}

/// Says that a table goes on.
fn rest(formatter: &mut fmt::Formatter, length: usize) -> fmt::Result {
    if length <= SHOWN {
        return Ok(());
    }
    writeln!(formatter, "  and {} more", length - SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_fit() {
        assert_eq!([5, 1_500, 2_500_000, 3_250_000_000].map(time), ["5 ns", "1.5 µs", "2.5 ms", "3.25 s"]);
        assert_eq!([0, 1000, 4096, 3 << 19, 1 << 30].map(bytes), ["0 B", "1000 B", "4 KiB", "1.5 MiB", "1 GiB"]);
        assert_eq!(bytes(1 << 50), "1024 TiB");
    }
}
