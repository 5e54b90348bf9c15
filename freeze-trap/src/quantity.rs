//! How long and how large, in words: the same in the sentence, on the terminal and on the page. Two digits are enough
//! to see what is long and what is large. Bounds that somebody chose are told as they were chosen, by
//! `probe::duration`.

/// A number with its unit, rounded to two digits, but exact in the smallest unit; of the units each is a thousand of
/// the one before.
fn two_digits(number: u64, units: &[&str]) -> String {
    if number < 1000 {
        return format!("{number} {}", units[0]);
    }
    let number = rounded(u128::from(number));
    let (mut unit, mut of_unit) = (0, 1);
    while unit + 1 < units.len() && number >= of_unit * 1000 {
        of_unit *= 1000;
        unit += 1;
    }
    let tenths = number * 10 / of_unit;
    if tenths < 100 {
        format!("{}.{} {}", tenths / 10, tenths % 10, units[unit])
    } else {
        format!("{} {}", tenths / 10, units[unit])
    }
}

/// To two digits, the rest zero.
fn rounded(number: u128) -> u128 {
    let mut scale = 1;
    while number / scale >= 100 {
        scale *= 10;
    }
    (number + scale / 2) / scale * scale
}

/// Nanoseconds, such as `2.3 s`, `15 s`, `160 ms`.
#[must_use]
pub fn time(ns: u64) -> String {
    two_digits(ns, &["ns", "µs", "ms", "s"])
}

/// Nanoseconds that something is below: rounded up, so that it stays true.
#[must_use]
pub fn below(ns: u64) -> String {
    let mut scale = 1;
    while ns / scale >= 100 {
        scale *= 10;
    }
    time(ns.div_ceil(scale).saturating_mul(scale))
}

/// Bytes, such as `1.7 GB`, in powers of a thousand.
#[must_use]
pub fn size(bytes: u64) -> String {
    two_digits(bytes, &["B", "kB", "MB", "GB", "TB"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_two_digits() {
        let times = [0, 7, 999, 1_000, 9_949, 9_951, 99_500, 999_499_999, 999_500_000, 2_349_999_999, 15_400_000_000];
        let words =
            ["0 ns", "7 ns", "999 ns", "1.0 µs", "9.9 µs", "10 µs", "100 µs", "1.0 s", "1.0 s", "2.3 s", "15 s"];
        assert_eq!(times.map(time), words);
        assert_eq!([157_000_000, 994_000_000, 123_000_000_000].map(time), ["160 ms", "990 ms", "120 s"]);
        assert_eq!(
            [1 << 9, 1 << 27, 100_000_000, u64::MAX].map(below),
            ["520 ns", "140 ms", "100 ms", "18000000000 s"]
        );
        let sizes = [0, 512, 4_096, 65_536, 1 << 30, 1_700_000_000, 2 << 40];
        assert_eq!(sizes.map(size), ["0 B", "512 B", "4.1 kB", "66 kB", "1.1 GB", "1.7 GB", "2.2 TB"]);
        assert_eq!(size(u64::MAX), "18000000 TB");
    }
}
