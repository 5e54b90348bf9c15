//! Values of options as people write them: `250us`, `1.5GiB`, `2000/s`, `off`. Reads and prints the same notation.
//! Called by `options` and `options::environment`.
//!
//! Invariant: what is printed reads back as the same value.

use super::table::{Kind, Row, Unit, Value};
use crate::text::Text;

/// What is wrong with a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wrong {
    /// It is no value of this kind.
    NotUnderstood,
    /// It is one, too small or too large.
    OutOfRange,
}

impl Unit {
    /// The names of its multiples with their sizes, the largest first.
    const fn scales(self) -> &'static [(&'static str, u64)] {
        match self {
            Unit::Time => &[
                ("h", 3_600_000_000_000),
                ("min", 60_000_000_000),
                ("s", 1_000_000_000),
                ("ms", 1_000_000),
                ("us", 1_000),
                ("ns", 1),
            ],
            Unit::Bytes | Unit::BytesPerSecond => {
                &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)]
            }
            Unit::CallsPerSecond => &[("", 1)],
        }
    }

    /// What follows the name of a multiple.
    const fn suffix(self) -> &'static str {
        match self {
            Unit::Time | Unit::Bytes => "",
            Unit::BytesPerSecond | Unit::CallsPerSecond => "/s",
        }
    }

    /// What people call an amount of it.
    const fn noun(self) -> &'static str {
        match self {
            Unit::Time => "a duration",
            Unit::Bytes => "a size",
            Unit::BytesPerSecond | Unit::CallsPerSecond => "a rate",
        }
    }
}

/// Reads a value.
pub(super) fn read(kind: &Kind, text: &[u8]) -> Result<Value, Wrong> {
    let value = match kind {
        Kind::Word(words) => {
            let place = words.iter().position(|word| word.as_bytes() == text).ok_or(Wrong::NotUnderstood)?;
            Some(place as u64)
        }
        Kind::Amount { none, .. } if none.is_some_and(|none| none.as_bytes() == text) => None,
        Kind::Amount { unit, .. } => Some(read_amount(*unit, text)?),
    };
    if kind.accepts(value) { Ok(value) } else { Err(Wrong::OutOfRange) }
}

/// Reads digits, a fraction if there is one, and the name of a unit; of the fraction only whole nanoseconds, bytes or
/// calls count.
fn read_amount(unit: Unit, text: &[u8]) -> Result<u64, Wrong> {
    // Nothing needs no unit, except where it would be odd: a rate of nothing.
    if text == b"0" && unit.suffix().is_empty() {
        return Ok(0);
    }
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix(b".") {
        Some(after) => match split_digits(after) {
            ([], _) => return Err(Wrong::NotUnderstood),
            split => split,
        },
        None => (&[][..], rest),
    };
    let name = rest.strip_suffix(unit.suffix().as_bytes()).ok_or(Wrong::NotUnderstood)?;
    let named = unit.scales().iter().find(|(scale, _)| scale.as_bytes() == name);
    let (false, Some((_, scale))) = (whole.is_empty(), named) else { return Err(Wrong::NotUnderstood) };
    let whole = number(whole).and_then(|count| count.checked_mul(*scale));
    let part = parts(fraction, *scale);
    whole.and_then(|whole| whole.checked_add(part)).ok_or(Wrong::OutOfRange)
}

/// The digits that `text` begins with, and what follows.
fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.split_at_checked(count).unwrap_or((text, &[]))
}

/// The number that `digits` say, unless it is too large.
fn number(digits: &[u8]) -> Option<u64> {
    let next = |number: u64, digit: &u8| number.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    digits.iter().try_fold(0, next)
}

/// `0.digits` times `scale`, rounded down.
fn parts(digits: &[u8], scale: u64) -> u64 {
    // No scale has parts beyond the 18th digit.
    let digits = digits.get(..18).unwrap_or(digits);
    let power = digits.iter().fold(1, |power: u128, _| power * 10);
    let part = u128::from(number(digits).unwrap_or(0)) * u128::from(scale) / power;
    // Less than `scale`.
    part as u64
}

/// Prints a value, in the largest unit of which it is a whole multiple.
pub(super) fn print(kind: &Kind, value: Value, out: &mut Text) {
    match (kind, value) {
        (Kind::Word(words), Some(place)) => out.str(words.get(place as usize).unwrap_or(&"")),
        (Kind::Word(_), None) => {}
        (Kind::Amount { none, .. }, None) => out.str(none.unwrap_or_default()),
        (Kind::Amount { unit, .. }, Some(amount)) => print_amount(*unit, amount, out),
    }
}

fn print_amount(unit: Unit, amount: u64, out: &mut Text) {
    if amount == 0 && unit.suffix().is_empty() {
        return out.str("0");
    }
    // The smallest unit is one, which divides everything.
    if let Some((name, scale)) = unit.scales().iter().find(|(_, scale)| amount.is_multiple_of(*scale)) {
        out.number(amount / scale);
        out.str(name);
        out.str(unit.suffix());
    }
}

/// Prints what values an option takes: `a duration of 0 to 24h such as 500ms, or off`.
pub(super) fn print_accepted(row: &Row, out: &mut Text) {
    match &row.kind {
        Kind::Word(words) => {
            for (place, word) in words.iter().enumerate() {
                out.str(match words.len() - place {
                    _ if place == 0 => "",
                    1 => " or ",
                    _ => ", ",
                });
                out.str(word);
            }
        }
        Kind::Amount { unit, min, max, none, example } => {
            out.str(unit.noun());
            out.str(" of ");
            print_amount(*unit, *min, out);
            out.str(" to ");
            print_amount(*unit, *max, out);
            out.str(" such as ");
            out.str(example);
            if let Some(none) = none {
                out.str(", or ");
                out.str(none);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{Key, TABLE, row};
    use super::*;
    use proptest::prelude::*;
    use std::borrow::ToOwned;
    use std::string::String;

    fn printed(print: impl Fn(&mut Text)) -> String {
        let mut buffer = [0; 256];
        let mut text = Text::new(&mut buffer);
        print(&mut text);
        text.finish().unwrap().to_owned()
    }

    const S: u64 = 1_000_000_000;

    #[test]
    fn amounts_are_digits_and_a_unit() {
        let cases = [
            (Unit::Time, "0", 0),
            (Unit::Time, "0s", 0),
            (Unit::Time, "7ns", 7),
            (Unit::Time, "250us", 250_000),
            (Unit::Time, "1.5ms", 1_500_000),
            (Unit::Time, "010s", 10 * S),
            (Unit::Time, "2min", 120 * S),
            (Unit::Time, "0.25h", 900 * S),
            (Unit::Time, "0.0000000019s", 1),
            (Unit::Time, "1.0000000000000000000000000000001s", S),
            (Unit::Bytes, "0", 0),
            (Unit::Bytes, "1B", 1),
            (Unit::Bytes, "3KiB", 3 << 10),
            (Unit::Bytes, "1.5GiB", 3 << 29),
            (Unit::Bytes, "16TiB", 16 << 40),
            (Unit::Bytes, "18446744073709551615B", u64::MAX),
            (Unit::BytesPerSecond, "1GiB/s", 1 << 30),
            (Unit::CallsPerSecond, "2000/s", 2000),
        ];
        for (unit, text, amount) in cases {
            assert_eq!(read_amount(unit, text.as_bytes()), Ok(amount), "{text}");
        }
    }

    #[test]
    fn anything_else_is_not_understood() {
        let times = [
            "", " ", "5", "s", "5 s", " 5s", "5s ", "5S", "5sec", "-5s", "+5s", "5.s", ".5s", ".s", "1.5.5s", "1,5s",
            "1e3s", "0x5s", "5s5ms", "5s/s", "off", "00", "0.0", "5\0s", "5µs",
        ];
        let sizes =
            ["1", "1K", "1M", "1G", "1T", "1KB", "1MB", "1k", "1kib", "1KIB", "1Mib", "1MiBs", "1MiB/s", "1b", "auto"];
        let rates = ["0", "1MiB", "1MiB/", "1MiB/S", "1/s", "1MiB/min", "/s"];
        let calls = ["0", "1", "1B/s", "1 /s", "/s", "1/"];
        let all = [(Unit::Time, &times[..]), (Unit::Bytes, &sizes), (Unit::BytesPerSecond, &rates)];
        for (unit, texts) in all.into_iter().chain([(Unit::CallsPerSecond, &calls[..])]) {
            for text in texts {
                assert_eq!(read_amount(unit, text.as_bytes()), Err(Wrong::NotUnderstood), "{unit:?} {text:?}");
            }
        }
    }

    #[test]
    fn what_overflows_is_out_of_range() {
        for text in ["18446744073709551616B", "16777216TiB", "99999999999999999999999TiB"] {
            assert_eq!(read_amount(Unit::Bytes, text.as_bytes()), Err(Wrong::OutOfRange), "{text}");
        }
        assert_eq!(read_amount(Unit::Bytes, b"16777215.5TiB"), Ok(u64::MAX - (1 << 39) + 1));
        assert_eq!(read_amount(Unit::Time, b"5124096h"), Err(Wrong::OutOfRange));
    }

    #[test]
    fn the_ends_of_a_range_belong_to_it() {
        let decay = &row(Key::Decay).kind;
        assert_eq!(read(decay, b"24h"), Ok(Some(24 * 3600 * S)));
        assert_eq!(read(decay, b"86400000000001ns"), Err(Wrong::OutOfRange));
        let reserve = &row(Key::WarmReserve).kind;
        assert_eq!(read(reserve, b"2MiB"), Ok(Some(2 << 20)));
        assert_eq!(read(reserve, b"2097151B"), Err(Wrong::OutOfRange));
        assert_eq!(read(reserve, b"0"), Err(Wrong::OutOfRange));
    }

    #[test]
    fn each_option_has_its_own_words() {
        assert_eq!(read(&row(Key::Commit).kind, b"ready"), Ok(Some(1)));
        assert_eq!(read(&row(Key::Pressure).kind, b"on"), Ok(Some(1)));
        assert_eq!(read(&row(Key::Decay).kind, b"off"), Ok(None));
        assert_eq!(read(&row(Key::Reservation).kind, b"auto"), Ok(None));
        for (key, text) in [
            (Key::Commit, "Ready"),
            (Key::Commit, ""),
            (Key::Commit, "1"),
            (Key::Pressure, "true"),
            (Key::Linger, "off"),
            (Key::Decay, "auto"),
            (Key::Reservation, "off"),
        ] {
            assert_eq!(read(&row(key).kind, text.as_bytes()), Err(Wrong::NotUnderstood), "{key:?} {text:?}");
        }
    }

    #[test]
    fn amounts_are_printed_in_the_largest_unit_that_divides_them() {
        for (unit, amount, text) in [
            (Unit::Time, 0, "0"),
            (Unit::Time, 250_000, "250us"),
            (Unit::Time, 1_500_000_000, "1500ms"),
            (Unit::Time, 24 * 3600 * S, "24h"),
            (Unit::Time, S + 1, "1000000001ns"),
            (Unit::Bytes, 3 << 29, "1536MiB"),
            (Unit::BytesPerSecond, 1 << 30, "1GiB/s"),
            (Unit::BytesPerSecond, 0, "0TiB/s"),
            (Unit::CallsPerSecond, 100_000, "100000/s"),
        ] {
            assert_eq!(printed(|out| print_amount(unit, amount, out)), text);
        }
    }

    #[test]
    fn what_is_accepted_is_said_in_one_phrase() {
        for (key, phrase) in [
            (Key::Commit, "auto, ready or stepped"),
            (Key::Governor, "thread or tick"),
            (Key::Linger, "a duration of 0 to 1h such as 500ms"),
            (Key::Decay, "a duration of 0 to 24h such as 500ms, or off"),
            (Key::PurgeCalls, "a rate of 1/s to 100000/s such as 500/s, or off"),
            (Key::Reservation, "a size of 32MiB to 32TiB such as 64GiB, or auto"),
        ] {
            assert_eq!(printed(|out| print_accepted(row(key), out)), phrase);
        }
    }

    #[test]
    fn examples_are_accepted() {
        for row in &TABLE {
            if let Kind::Amount { example, .. } = row.kind {
                assert!(read(&row.kind, example.as_bytes()).is_ok(), "{}: {example}", row.name);
            }
        }
    }

    /// A value that some option accepts.
    fn accepted() -> impl Strategy<Value = (&'static Row, Value)> {
        (0..TABLE.len()).prop_flat_map(|place| {
            let row = &TABLE[place];
            let values = match row.kind {
                Kind::Word(words) => (0..words.len() as u64).prop_map(Some).boxed(),
                Kind::Amount { unit, min, max, none, .. } => {
                    let scale = proptest::sample::select(unit.scales());
                    let round = (min..=max, scale)
                        .prop_map(move |(amount, (_, scale))| Some((amount / scale * scale).clamp(min, max)));
                    let any = prop_oneof![round, (min..=max).prop_map(Some), Just(Some(min)), Just(Some(max))];
                    if none.is_some() { prop_oneof![8 => any, 1 => Just(None)].boxed() } else { any.boxed() }
                }
            };
            (Just(row), values)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_printed_reads_back_the_same((row, value) in accepted()) {
            let text = printed(|out| print(&row.kind, value, out));
            prop_assert_eq!(read(&row.kind, text.as_bytes()), Ok(value), "{} = {}", row.name, text);
        }

        #[test]
        fn any_bytes_are_read_without_harm(place in 0..TABLE.len(), text: std::vec::Vec<u8>) {
            if let Ok(value) = read(&TABLE[place].kind, &text) {
                prop_assert!(TABLE[place].kind.accepts(value));
            }
        }

        #[test]
        fn near_misses_are_read_without_harm(
            place in 0..TABLE.len(),
            text in "[0-9]{0,25}(\\.[0-9]{0,25})?([a-zA-Z]{0,3}|[KMGT]iB|min|ns|us|ms)(/s)?",
        ) {
            if let Ok(value) = read(&TABLE[place].kind, text.as_bytes()) {
                prop_assert!(TABLE[place].kind.accepts(value));
            }
        }
    }
}
