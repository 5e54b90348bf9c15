//! Thinning a series to what a drawing can show, and its outline as an SVG path.
//!
//! A time line has thousands of points and a plot hundreds of columns: of each column only the highest value is kept,
//! so that no peak is lost and the page stays small.

use std::fmt::Write;

use report_page::scale::{Px, Scale};

/// The highest value of each column of one unit's width; `None` where nothing was measured.
#[derive(Clone, Debug)]
pub struct Columns {
    first: f64,
    highest: Vec<Option<f64>>,
}

impl Columns {
    /// Columns from one place to another.
    pub fn new(from: f64, to: f64) -> Self {
        Self { first: from, highest: vec![None; (to - from).max(1.0).ceil() as usize] }
    }

    /// Raises the columns that the stretch `from..to` touches, at least one, to `value`.
    pub fn raise(&mut self, from: f64, to: f64, value: f64) {
        let last = self.highest.len() - 1;
        let begin = ((from - self.first).max(0.0).floor() as usize).min(last);
        let end = ((to - self.first).max(0.0).ceil() as usize).clamp(begin + 1, last + 1);
        for column in &mut self.highest[begin..end] {
            *column = Some(column.map_or(value, |highest| highest.max(value)));
        }
    }

    /// The outline of the area under the values, down to `base`, with a gap wherever nothing was measured.
    pub fn area(&self, scale: &Scale, base: f64) -> String {
        let mut path = String::new();
        let mut level: Option<f64> = None;
        for (index, value) in self.highest.iter().enumerate() {
            let next = value.map(|value| scale.at(value).round());
            if next == level {
                continue;
            }
            let x = Px(self.first + index as f64);
            match (level, next) {
                (None, Some(y)) => write(&mut path, format_args!("M{x} {}V{}", Px(base), Px(y))),
                (Some(_), Some(y)) => write(&mut path, format_args!("H{x}V{}", Px(y))),
                (_, None) => write(&mut path, format_args!("H{x}V{}", Px(base))),
            }
            level = next;
        }
        if level.is_some() {
            let end = Px(self.first + self.highest.len() as f64);
            write(&mut path, format_args!("H{end}V{}", Px(base)));
        }
        path
    }

    /// The line along the values, each held until the next measurement.
    pub fn line(&self, scale: &Scale) -> String {
        let known = self.highest.iter().enumerate().filter_map(|(index, value)| Some((index, (*value)?)));
        let mut path = String::new();
        let mut level = f64::NAN;
        let mut end = None;
        for (index, value) in known {
            let (x, y) = (self.first + index as f64, (scale.at(value) * 2.0).round() / 2.0);
            if path.is_empty() {
                write(&mut path, format_args!("M{} {}", Px(x), Px(y)));
            } else if y != level {
                write(&mut path, format_args!("H{}V{}", Px(x), Px(y)));
            }
            level = y;
            end = Some(x + 1.0);
        }
        if let Some(end) = end {
            write(&mut path, format_args!("H{}", Px(end)));
        }
        path
    }

    /// The last value, which is where a line's name belongs.
    pub fn last(&self) -> Option<f64> {
        self.highest.iter().rev().find_map(|value| *value)
    }
}

/// Appends to a path.
pub fn write(path: &mut String, piece: std::fmt::Arguments<'_>) {
    path.write_fmt(piece).expect("writing into a String does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: fn() -> Scale = || Scale::linear(0.0, 10.0, 10.0, 0.0);

    #[test]
    fn a_column_keeps_its_highest_value() {
        let mut columns = Columns::new(5.0, 9.0);
        columns.raise(5.2, 5.3, 3.0);
        columns.raise(5.4, 5.6, 7.0);
        columns.raise(5.7, 5.8, 1.0);
        assert_eq!(columns.area(&SCALE(), 10.0), "M5 10V3H6V10");
    }

    #[test]
    fn a_stretch_without_measurements_is_a_gap() {
        let mut columns = Columns::new(0.0, 6.0);
        columns.raise(0.0, 2.0, 4.0);
        columns.raise(4.0, 6.0, 4.0);
        assert_eq!(columns.area(&SCALE(), 10.0), "M0 10V6H2V10M4 10V6H6V10");
        assert_eq!(columns.line(&SCALE()), "M0 6H6");
        assert_eq!(columns.last(), Some(4.0));
    }

    #[test]
    fn what_lies_outside_is_drawn_at_the_edge_and_nothing_gives_no_path() {
        let mut columns = Columns::new(0.0, 3.0);
        assert_eq!((columns.area(&SCALE(), 10.0), columns.line(&SCALE())), (String::new(), String::new()));
        columns.raise(-7.0, -5.0, 2.0);
        columns.raise(90.0, 95.0, 99.0);
        assert_eq!(columns.area(&SCALE(), 10.0), "M0 10V8H1V10M2 10V0H3V10");
    }
}
