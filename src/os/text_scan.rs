//! Picks numbers and words out of the texts of `/proc` and `/sys`. Pure; called by the files that read them.
//!
//! Invariant: garbled text gives `None`, never a wrong number.

/// The number that `text` consists of, blanks around it aside. `max`, text and what does not fit: `None`.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii();
    let some = (!digits.is_empty()).then_some(0_u64);
    digits.iter().fold(some, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number?.checked_mul(10)?.checked_add(digit)
    })
}

/// The words of a line.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// The number in a line `key 123`, `key: 123` or `key: 123 kB`, if this is the line of `key`.
pub(super) fn value_in_line(line: &[u8], key: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(key)?;
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    rest.first().filter(|byte| byte.is_ascii_whitespace())?;
    words(rest).next().and_then(number)
}

/// The number in the line of `key`, see [`value_in_line`].
pub(super) fn value(text: &[u8], key: &[u8]) -> Option<u64> {
    text.split(|byte| *byte == b'\n').find_map(|line| value_in_line(line, key))
}

/// The word in brackets: `madvise` of `always [madvise] never`.
pub(super) fn choice(text: &[u8]) -> Option<&[u8]> {
    words(text).find_map(|word| word.strip_prefix(b"[")?.strip_suffix(b"]"))
}

/// The bytes that a field of `mountinfo` stands for: blanks, newlines and backslashes are written `\ooo`, octal.
pub(super) fn unescaped(field: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = field;
    core::iter::from_fn(move || {
        let (first, after) = rest.split_first()?;
        if let (b'\\', Some((octal, tail))) = (first, after.split_first_chunk::<3>())
            && octal.iter().all(|digit| (b'0'..=b'7').contains(digit))
        {
            rest = tail;
            return Some(octal.iter().fold(0, |byte: u8, digit| byte << 3 | (digit - b'0')));
        }
        rest = after;
        Some(*first)
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    #[test]
    fn only_whole_numbers_that_fit_are_numbers() {
        for (text, expected) in [
            ("0", Some(0)),
            ("12\n", Some(12)),
            (" 7 ", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("max\n", None),
            ("", None),
            ("\n", None),
            ("-1", None),
            ("12a", None),
            ("1 2", None),
        ] {
            assert_eq!(number(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_value_is_found_by_its_whole_key() {
        let text = b"MemFree: 5 kB\nMemAvailable:   123 kB\nhigh 4\nhigher 6\nbroken x\nmax\n last 9";
        assert_eq!(value(text, b"MemAvailable"), Some(123));
        assert_eq!(value(text, b"high"), Some(4));
        assert_eq!(value(text, b"higher"), Some(6));
        for missing in [&b"Mem"[..], b"broken", b"max", b"last", b"absent", b"igh"] {
            assert_eq!(value(text, missing), None, "{missing:?}");
        }
        assert_eq!(value(b"", b"high"), None);
    }

    #[test]
    fn the_choice_stands_in_brackets() {
        assert_eq!(choice(b"always [madvise] never\n"), Some(&b"madvise"[..]));
        assert_eq!(choice(b"[defer+madvise]"), Some(&b"defer+madvise"[..]));
        for none in [&b""[..], b"always never", b"always [madvise never", b"]always["] {
            assert_eq!(choice(none), None);
        }
    }

    #[test]
    fn octal_escapes_are_undone_and_nothing_else() {
        let undone = |text: &[u8]| unescaped(text).collect::<Vec<u8>>();
        assert_eq!(undone(br"/a\040b\134x2dc"), br"/a b\x2dc");
        for same in [&br"/a\9"[..], br"\04", br"\", b"", br"\048"] {
            assert_eq!(undone(same), same);
        }
    }
}
