//! Bytes and times as people read them: `15.5GiB`, `1.2ms`. Called by `explain`.
//!
//! Invariant: at most one digit after the point, cut, not rounded; exact numbers are in `stats`.

use crate::text::Text;

const BYTES: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIMES: [(&str, u64); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

/// Adds an amount of bytes.
pub(super) fn bytes(out: &mut Text, amount: u64) {
    scaled(out, amount, &BYTES);
}

/// Adds a time in nanoseconds.
pub(super) fn time(out: &mut Text, ns: u64) {
    scaled(out, ns, &TIMES);
}

fn scaled(out: &mut Text, amount: u64, scales: &[(&str, u64)]) {
    let fits = scales.iter().find(|(_, scale)| *scale <= amount);
    let Some((unit, scale)) = fits.or(scales.last()) else { return };
    out.number(amount / scale);
    let tenth = (u128::from(amount % scale) * 10 / u128::from(*scale)) as u64;
    if tenth > 0 {
        out.str(".");
        out.number(tenth);
    }
    out.str(unit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_largest_unit_that_fits_and_one_digit() {
        for (amount, as_bytes, as_time) in [
            (0, "0B", "0ns"),
            (1, "1B", "1ns"),
            (999, "999B", "999ns"),
            (1000, "1000B", "1us"),
            (1024, "1KiB", "1us"),
            (1536, "1.5KiB", "1.5us"),
            (250_000, "244.1KiB", "250us"),
            (1 << 30, "1GiB", "1s"),
            ((1 << 30) - 1, "1023.9MiB", "1s"),
            (u64::MAX, "16777215.9TiB", "18446744073.7s"),
        ] {
            for (print, expected) in [(bytes as fn(&mut Text, u64), as_bytes), (time, as_time)] {
                let mut buffer = [0; 32];
                let mut text = Text::new(&mut buffer);
                print(&mut text, amount);
                assert_eq!(text.finish(), Ok(expected));
            }
        }
    }
}
