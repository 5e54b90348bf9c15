//! From values to places in a drawing, and the values at which an axis is labelled.
//!
//! Every plot of a report maps with a [`Scale`].

use std::fmt;

/// Maps values to places, evenly or by their logarithm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    is_log: bool,
}

impl Scale {
    /// Maps `low..=high` evenly to `from..=to`; a range without length is widened to one.
    pub fn linear(low: f64, high: f64, from: f64, to: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, from, to, is_log: false }
    }

    /// Maps the powers of ten from `low` to `high` to `from..=to`, each decade as wide as the next.
    pub fn decades(low: i32, high: i32, from: f64, to: f64) -> Self {
        Self { low: f64::from(low), high: f64::from(high.max(low + 1)), from, to, is_log: true }
    }

    /// The place of a value; what lies outside of the range is put on its edge, as is 0 on a logarithmic scale.
    pub fn at(&self, value: f64) -> f64 {
        let value = if self.is_log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    /// The values to label: powers of ten, or round numbers; at most about `most`.
    pub fn ticks(&self, most: u32) -> Vec<f64> {
        if self.is_log {
            return self.powers(most);
        }
        let step = round_step((self.high - self.low) / f64::from(most.max(1)));
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|index| index as f64 * step).collect()
    }

    /// Powers of ten, every one or every third, so that times are labelled in whole units.
    fn powers(&self, most: u32) -> Vec<f64> {
        let (low, high) = (self.low as i32, self.high as i32);
        let stride = if high - low < most as i32 { 1 } else { 3 };
        (low..=high).filter(|power| power.rem_euclid(stride) == 0).map(|power| 10_f64.powi(power)).collect()
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is not less.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= least).unwrap_or(10.0 * power)
}

/// The power of ten that is at most the value.
pub fn decade_below(value: u64) -> i32 {
    value.max(1).ilog10() as i32
}

/// The power of ten that is at least the value.
pub fn decade_above(value: u64) -> i32 {
    let below = value.max(1).ilog10();
    (below + u32::from(value > 10_u64.pow(below))) as i32
}

/// A time that is a power of ten nanoseconds, in the unit in which it is shortest to say.
pub fn time_tick(ns: f64) -> String {
    let (value, unit) = match ns {
        ..1e3 => (ns, "ns"),
        1e3..1e6 => (ns / 1e3, "µs"),
        1e6..1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{value:.0} {unit}")
}

/// A coordinate, with as many digits as can be seen.
#[derive(Clone, Copy, Debug)]
pub struct Px(pub f64);

impl fmt::Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 * 10.0).round() as i64;
        let sign = if tenths < 0 { "-" } else { "" };
        let (whole, tenth) = (tenths.unsigned_abs() / 10, tenths.unsigned_abs() % 10);
        match tenth {
            0 => write!(f, "{sign}{whole}"),
            _ => write!(f, "{sign}{whole}.{tenth}"),
        }
    }
}

impl maud::Render for Px {
    fn render_to(&self, buffer: &mut String) {
        buffer.push_str(&self.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_scale_is_even_and_stays_inside() {
        let scale = Scale::linear(-2.0, 8.0, 100.0, 200.0);
        assert_eq!([-2.0, 3.0, 8.0, 99.0, -99.0].map(|value| scale.at(value)), [100.0, 150.0, 200.0, 200.0, 100.0]);
        assert_eq!(scale.ticks(5), [-2.0, 0.0, 2.0, 4.0, 6.0, 8.0]);
        let point = Scale::linear(3.0, 3.0, 0.0, 10.0);
        assert!(point.at(3.0).is_finite() && !point.ticks(4).is_empty());
    }

    #[test]
    fn a_logarithmic_scale_gives_each_decade_the_same_room() {
        let scale = Scale::decades(3, 9, 60.0, 0.0);
        assert_eq!([0.0, 1e3, 1e6, 1e9, 1.8e12].map(|value| scale.at(value)), [60.0, 60.0, 30.0, 0.0, 0.0]);
        assert_eq!(scale.ticks(4), [1e3, 1e6, 1e9]);
        assert_eq!(Scale::decades(-2, 0, 0.0, 1.0).ticks(8), [0.01, 0.1, 1.0]);
    }

    #[test]
    fn decades_enclose_the_value() {
        assert_eq!([0, 1, 999, 1000, 1001].map(decade_below), [0, 0, 2, 3, 3]);
        assert_eq!([0, 1, 999, 1000, 1001].map(decade_above), [0, 0, 3, 3, 4]);
        assert_eq!(decade_above(u64::MAX), 20);
    }

    #[test]
    fn ticks_and_places_are_short() {
        assert_eq!([1.0, 1e4, 1e6, 1e9, 1e12].map(time_tick), ["1 ns", "10 µs", "1 ms", "1 s", "1000 s"]);
        assert_eq!([0.0, -0.04, 1.25, 7.96, -3.5].map(|at| Px(at).to_string()), ["0", "0", "1.3", "8", "-3.5"]);
    }
}
