//! Histograms of how long mmap_lock was held or waited for, for writing and for reading.

use std::fmt::Write;

use maud::{Markup, html};

use crate::scale::{Px, Scale, decade_above, decade_below, time_tick};

/// The drawing's size and its plot.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 178.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 394.0;
const TOP: f64 = 10.0;
const FLOOR: f64 = 146.0;

/// How many there were of each length: upper bounds, each twice the one before, in nanoseconds, with their counts.
pub type Buckets = Vec<(u64, u64)>;

/// Times for writing and for reading.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// For writing.
    pub write: Buckets,
    /// For reading.
    pub read: Buckets,
}

impl Times {
    fn all(&self) -> impl Iterator<Item = &(u64, u64)> {
        self.write.iter().chain(&self.read)
    }
}

/// The axes of figures that are to be compared.
#[derive(Clone, Copy, Debug)]
pub struct Axes {
    lengths: Scale,
    counts: Scale,
}

impl Axes {
    /// Wide and high enough for all of these; `None` if there is nothing in them.
    pub fn over<'a>(times: impl IntoIterator<Item = &'a Times> + Clone) -> Option<Axes> {
        let buckets = || times.clone().into_iter().flat_map(Times::all).filter(|bucket| bucket.1 > 0);
        let longest_ns = buckets().map(|bucket| bucket.0).max()?;
        let shortest_ns = buckets().map(|bucket| bucket.0).min()?;
        let most = buckets().map(|bucket| bucket.1).max()?;
        Some(Axes {
            lengths: Scale::decades(decade_below(shortest_ns / 2), decade_above(longest_ns), LEFT, RIGHT),
            counts: Scale::decades(-1, decade_above(most), FLOOR, TOP),
        })
    }

    fn draw(&self) -> Markup {
        html! {
            @for tick in self.counts.ticks(5).into_iter().filter(|tick| *tick >= 1.0) {
                @let y = Px(self.counts.at(tick));
                line.grid x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(y) y2=(y) {}
                text.tick.end x=(Px(LEFT - 6.0)) y=(Px(y.0 + 4.0)) { (tick) }
            }
            line.floor x1=(Px(LEFT)) x2=(Px(RIGHT)) y1=(Px(FLOOR)) y2=(Px(FLOOR)) {}
            @for tick in self.lengths.ticks(5) {
                @let x = Px(self.lengths.at(tick));
                line.floor x1=(x) x2=(x) y1=(Px(FLOOR)) y2=(Px(FLOOR + 4.0)) {}
                text.tick.middle x=(x) y=(Px(FLOOR + 18.0)) { (time_tick(tick)) }
            }
        }
    }

    /// The outline of the bars; each reaches from half of its bound to its bound.
    fn bars(&self, buckets: &Buckets) -> String {
        let mut path = String::new();
        for (up_to_ns, count) in buckets.iter().filter(|bucket| bucket.1 > 0) {
            let [from, to] = [*up_to_ns as f64 / 2.0, *up_to_ns as f64].map(|ns| Px(self.lengths.at(ns)));
            let (y, floor) = (Px(self.counts.at(*count as f64)), Px(FLOOR));
            // Writing into a String does not fail.
            let _ = write!(path, "M{from} {floor}V{y}H{to}V{floor}");
        }
        path
    }
}

/// One histogram. `class` chooses colours of its own, if it is not empty; `what` says on touch what the times are.
#[must_use]
pub fn figure(class: &str, name: &str, what: &str, times: &Times, axes: &Axes) -> Markup {
    let count = |buckets: &Buckets| buckets.iter().fold(0, |sum: u64, bucket| sum.saturating_add(bucket.1));
    let (write, read) = (count(&times.write), count(&times.read));
    let told = format!("{write} for writing, {read} for reading");
    html! {
        figure.(class) {
            figcaption { h4 { (name) } span.note { (told) } }
            svg viewBox={ "0 0 " (Px(WIDTH)) " " (Px(HEIGHT)) } role="img"
                aria-label={ "Histogram of " (what) ": " (told) } {
                (axes.draw())
                path.bars.read d=(axes.bars(&times.read)) {}
                path.bars.write d=(axes.bars(&times.write)) {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_reach_over_everything_and_nothing_has_none() {
        assert!(Axes::over(&[Times::default(), Times { write: vec![(4, 0)], read: Vec::new() }]).is_none());
        let times = [
            Times { write: vec![(2_000, 5)], read: Vec::new() },
            Times { write: Vec::new(), read: vec![(1 << 30, 900), (1 << 40, 0)] },
        ];
        let axes = Axes::over(&times).unwrap();
        assert_eq!(axes.lengths, Scale::decades(3, 10, LEFT, RIGHT));
        assert_eq!(axes.counts, Scale::decades(-1, 3, FLOOR, TOP));
    }

    #[test]
    fn a_bar_reaches_from_half_of_its_bound_to_its_bound() {
        let times = Times { write: vec![(2_000, 10), (4_000, 0)], read: vec![(1_000_000, 1)] };
        let many = Times { write: vec![(u64::MAX, u64::MAX), (2, u64::MAX)], read: Vec::new() };
        assert!(figure("", "", "", &many, &Axes::over([&many]).unwrap()).into_string().contains(&u64::MAX.to_string()));
        let axes = Axes::over([&times]).unwrap();
        assert_eq!(axes.bars(&times.write), "M58 146V10H91.7V146");
        let figure = figure("c1", "one", "holds", &times, &axes).into_string();
        assert!(figure.starts_with("<figure class=\"c1\"><figcaption><h4>one</h4>"), "{figure}");
        assert!(figure.contains("Histogram of holds: 10 for writing, 1 for reading"), "{figure}");
    }
}
