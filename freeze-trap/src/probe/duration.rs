//! Durations as people write them: `250ms`, `2s`, `1m`. Used by the options of probes, and by the command line.

use std::time::Duration;

/// Units, each with its nanoseconds.
const UNITS: [(&str, u64); 5] =
    [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];

/// Reads a duration: a number, perhaps with a fraction, and a unit.
/// # Errors
/// Says what is wrong with the text, and what is accepted.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = |what: &str| format!("`{text}` is no duration: {what}; write it like `250ms`, `2s` or `1m`");
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    if number.is_empty() {
        return Err(wrong("it does not begin with a number"));
    }
    let Some(&(_, unit_ns)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let what = if unit.is_empty() { "the unit is missing".to_owned() } else { format!("no unit is `{unit}`") };
        return Err(wrong(&what));
    };
    let number: f64 = number.parse().map_err(|_| wrong("the number cannot be read"))?;
    let ns = number * unit_ns as f64;
    // Ten years: what is longer is a slip of the hand.
    if ns > 10.0 * 365.0 * 24.0 * 3600.0 * 1e9 {
        return Err(wrong("it is too long"));
    }
    let duration = Duration::from_nanos(ns.round() as u64);
    if duration.is_zero() {
        return Err(wrong("it must be longer than nothing"));
    }
    Ok(duration)
}

/// Writes nanoseconds for a reader, with at most three digits behind the point: `500 ms`, `2.3 s`.
#[must_use]
pub fn show(ns: u64) -> String {
    let (unit, unit_ns) = match ns {
        0..1_000_000 => ("us", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    let number = format!("{:.3}", ns as f64 / unit_ns as f64);
    let number = number.trim_end_matches('0').trim_end_matches('.');
    format!("{number} {unit}")
}

/// The nanoseconds of a duration; half a millennium is the most.
#[must_use]
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let table =
            [("250ms", 250_000), ("2s", 2_000_000), ("1m", 60_000_000), ("1.5s", 1_500_000), ("1h", 3_600_000_000)];
        for (text, microseconds) in table {
            assert_eq!(parse(text), Ok(Duration::from_micros(microseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_a_reason() {
        let table = [
            ("", "does not begin with a number"),
            ("ms", "does not begin with a number"),
            ("5", "the unit is missing"),
            ("5 s", "no unit is ` s`"),
            ("5parsec", "no unit is `parsec`"),
            ("1.2.3s", "cannot be read"),
            ("0s", "longer than nothing"),
            ("-1s", "does not begin with a number"),
            ("99999999h", "too long"),
        ];
        for (text, reason) in table {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason) && error.contains("`250ms`"), "{text}: {error}");
        }
    }

    #[test]
    fn durations_are_shown_briefly() {
        let table = [(500, "0.5 us"), (500_000_000, "500 ms"), (2_300_000_000, "2.3 s"), (1_000_000, "1 ms")];
        for (ns, text) in table {
            assert_eq!(show(ns), text);
        }
    }
}
