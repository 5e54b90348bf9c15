//! Lines: what calls took, from p50 to the slowest, for each allocator; a panel for each chosen row and kind of call.

use allocator_bench::latency::{Call, Latency};
use anyhow::Result;
use plotters::prelude::*;

use super::style::{Anchor, Area, GRID, GROUND, HEAD_PX, INK, LABEL_PX, PALE_INK, colour, head, write};
use crate::runner::results::Results;

/// Rows that are shown if they are there, on the highest number of threads; else those with the most calls.
const CHOSEN: [&str; 6] = ["churn", "churn_medium", "remote", "larson", "realloc_steps", "string_map"];

/// Kinds of calls that are shown of a row: those that occur most often, if they do so often enough.
const KINDS_PER_ROW: usize = 2;
const COUNT_MIN: u64 = 1000;

const LABELS: [&str; 4] = ["p50", "p99", "p99.9", "max"];

const AXIS_PX: i32 = 56;
const PANEL_PX: (i32, i32) = (230, 190);
const GAP_PX: (i32, i32) = (28, 62);
const PANELS_PER_LINE: usize = 4;

/// The axis begins here: less is below what the clock tells apart.
const LEAST_NS: f64 = 1.0;

/// The text of the SVG file; none if no call was timed.
pub(super) fn draw(results: &Results, caption: &str) -> Result<Option<String>> {
    let kinds = |row: usize| shown_kinds(results, row).into_iter().map(move |call| (row, call));
    let panels: Vec<(usize, Call)> = chosen(results).into_iter().flat_map(kinds).collect();
    let latencies = |(row, call): (usize, Call)| results.cells[row].iter().filter_map(move |cell| cell.latency(call));
    let slowest_ns = panels.iter().copied().flat_map(latencies).map(|latency| latency.max_ns).max();
    let Some(most_ns) = slowest_ns else { return Ok(None) };
    // Whole powers of ten.
    let decades = (most_ns.max(10) as f64 / LEAST_NS).log10().ceil() as i32;
    let columns = panels.len().min(PANELS_PER_LINE) as i32;
    let lines = panels.len().div_ceil(PANELS_PER_LINE) as i32;
    let size = (AXIS_PX + (PANEL_PX.0 + GAP_PX.0) * columns, HEAD_PX + (PANEL_PX.1 + GAP_PX.1) * lines);
    let mut text = String::new();
    {
        let size = (size.0.max(640).cast_unsigned(), size.1.cast_unsigned());
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&GROUND)?;
        head(&area, "Duration of single calls (logarithmic)", caption, &results.contenders)?;
        for (place, &(row, call)) in panels.iter().enumerate() {
            let (column, line) = ((place % PANELS_PER_LINE) as i32, (place / PANELS_PER_LINE) as i32);
            let left_px = AXIS_PX + (PANEL_PX.0 + GAP_PX.0) * column;
            let top_px = HEAD_PX + 28 + (PANEL_PX.1 + GAP_PX.1) * line;
            let panel = Panel { area: &area, left_px, top_px, decades };
            panel.draw_axes(&format!("{}: {call}", results.rows[row]), column == 0)?;
            for (contender, cell) in results.contenders.iter().zip(&results.cells[row]) {
                if let Some(latency) = cell.latency(call) {
                    panel.draw_line(&latency, colour(*contender))?;
                }
            }
        }
        area.present()?;
    }
    Ok(Some(text))
}

/// How often a kind of call occurs in a row, under the allocator under which that is most.
fn count(results: &Results, row: usize, call: Call) -> u64 {
    results.cells[row].iter().filter_map(|cell| cell.latency(call)).map(|latency| latency.count).max().unwrap_or(0)
}

/// The kinds of calls that are shown of a row.
fn shown_kinds(results: &Results, row: usize) -> Vec<Call> {
    let mut kinds: Vec<Call> = Call::ALL.into_iter().filter(|&call| count(results, row, call) >= COUNT_MIN).collect();
    kinds.sort_by_key(|&call| std::cmp::Reverse(count(results, row, call)));
    kinds.truncate(KINDS_PER_ROW);
    kinds
}

/// The rows that are shown.
fn chosen(results: &Results) -> Vec<usize> {
    let rows: Vec<usize> = (0..results.rows.len()).filter(|&row| !shown_kinds(results, row).is_empty()).collect();
    let on_most_threads = |name: &str| {
        let named = rows.iter().copied().filter(|&row| results.rows[row].workload == name);
        named.max_by_key(|&row| results.rows[row].threads)
    };
    let mut chosen: Vec<usize> = CHOSEN.into_iter().filter_map(on_most_threads).collect();
    let mut others: Vec<usize> = rows;
    others.retain(|&row| !chosen.iter().any(|&other| results.rows[other].workload == results.rows[row].workload));
    others.sort_by_key(|&row| {
        std::cmp::Reverse(shown_kinds(results, row).into_iter().map(|call| count(results, row, call)).max())
    });
    chosen.extend(others);
    chosen.truncate(CHOSEN.len());
    chosen
}

struct Panel<'a, 'b> {
    area: &'a Area<'b>,
    left_px: i32,
    top_px: i32,
    /// Powers of ten on the axis.
    decades: i32,
}

impl Panel<'_, '_> {
    fn x_px(&self, place: usize) -> i32 {
        self.left_px + PANEL_PX.0 * (2 * place as i32 + 1) / (2 * LABELS.len() as i32)
    }

    fn y_px(&self, ns: f64) -> i32 {
        let share = (ns.max(LEAST_NS) / LEAST_NS).log10() / f64::from(self.decades);
        self.top_px + PANEL_PX.1 - (share * f64::from(PANEL_PX.1)).round() as i32
    }

    fn draw_axes(&self, title: &str, with_labels: bool) -> Result<()> {
        let (right_px, bottom_px) = (self.left_px + PANEL_PX.0, self.top_px + PANEL_PX.1);
        write(self.area, title, (self.left_px, self.top_px - 13), (LABEL_PX, INK, Anchor::Left))?;
        for decade in 0..=self.decades {
            let ns = LEAST_NS * 10_f64.powi(decade);
            let y_px = self.y_px(ns);
            let ink = if decade == 0 { PALE_INK } else { GRID };
            self.area.draw(&PathElement::new([(self.left_px, y_px), (right_px, y_px)], ink.stroke_width(1)))?;
            if with_labels {
                write(self.area, &duration(ns), (self.left_px - 6, y_px), (11, PALE_INK, Anchor::Right))?;
            }
        }
        for (place, label) in LABELS.into_iter().enumerate() {
            write(self.area, label, (self.x_px(place), bottom_px + 13), (11, PALE_INK, Anchor::Middle))?;
        }
        Ok(())
    }

    fn draw_line(&self, latency: &Latency, ink: RGBColor) -> Result<()> {
        let Latency { count: _, p50_ns, p99_ns, p999_ns, max_ns } = *latency;
        let figures = [p50_ns, p99_ns, p999_ns, max_ns].into_iter().enumerate();
        let points: Vec<(i32, i32)> = figures.map(|(place, ns)| (self.x_px(place), self.y_px(ns as f64))).collect();
        self.area.draw(&PathElement::new(points.clone(), ink.stroke_width(2)))?;
        for point in points {
            self.area.draw(&Circle::new(point, 3, ink.filled()))?;
        }
        Ok(())
    }
}

/// A power of ten of nanoseconds.
fn duration(ns: f64) -> String {
    match ns {
        ..1e3 => format!("{ns:.0} ns"),
        ..1e6 => format!("{:.0} µs", ns / 1e3),
        ..1e9 => format!("{:.0} ms", ns / 1e6),
        _ => format!("{:.0} s", ns / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, Results, chosen, duration, shown_kinds};
    use crate::runner::cell::Cell;
    use crate::runner::results::Row;
    use allocator_bench::contender::Contender;
    use allocator_bench::latency::Latency;

    #[test]
    fn powers_of_ten_have_their_unit() {
        assert_eq!([1.0, 100.0, 1e4, 1e6, 1e9].map(duration), ["1 ns", "100 ns", "10 µs", "1 ms", "1 s"]);
    }

    /// Rows with so many calls of each kind.
    fn results(rows: &[(&str, usize, [u64; 4])]) -> Results {
        let row =
            |&(name, threads, _): &(&str, usize, [u64; 4])| Row { workload: name.to_owned(), threads, scale: 1.0 };
        let mut results = Results::new(rows.iter().map(row).collect(), vec![Contender::System]);
        for (cells, &(_, _, counts)) in results.cells.iter_mut().zip(rows) {
            let latencies = Some(counts.map(|count| Latency { count, ..Latency::default() }));
            cells[0] = Cell { latencies, ..Cell::default() };
        }
        results
    }

    #[test]
    fn known_rows_come_first_then_those_with_most_calls() {
        let results = results(&[
            ("few", 1, [5000, 0, 0, 0]),
            ("many", 1, [9000, 0, 0, 9000]),
            ("larson", 1, [1000; 4]),
            ("larson", 2, [1000; 4]),
            ("seldom", 1, [999; 4]),
        ]);
        assert_eq!(chosen(&results), [3, 1, 0]);
    }

    #[test]
    fn the_commonest_kinds_are_shown() {
        let results = results(&[("churn", 1, [5000, 1000, 9000, 6000]), ("grow", 1, [10, 0, 2000, 10])]);
        assert_eq!(shown_kinds(&results, 0), [Call::Realloc, Call::Dealloc]);
        assert_eq!(shown_kinds(&results, 1), [Call::Realloc]);
    }
}
