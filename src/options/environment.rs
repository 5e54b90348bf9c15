//! Options from variables of the environment, and the one line that each variable gets which cannot be used. Called by
//! `front` at start.
//!
//! Invariant: a variable changes its own key and no other; what cannot be used changes nothing. Nothing here allocates:
//! this runs within the first allocation.

use super::nearest::nearest;
use super::notation::{self, Wrong};
use super::table::{Kind, Row, TABLE, Unit, Value};
use super::{Keys, Options};
use crate::os::environ;
use crate::text::Text;

/// What the names of all variables begin with.
const PREFIX: &[u8] = b"ANTIFREEZE_";
/// Names that begin with this are not options but what the allocator's own tests tell their children.
const TEST_PREFIX: &[u8] = b"ANTIFREEZE_TEST_";
/// Variables that are no options: the C library reads them (crate `preload`).
const OTHERS: [&[u8]; 2] = [b"ANTIFREEZE_EXPLAIN", b"ANTIFREEZE_STATS"];
/// Bytes of a name or value that a warning repeats.
const QUOTE_BYTES_MAX: usize = 64;
/// Bytes of the longest warning; a test tries the longest parts.
const WARNING_BYTES_MAX: usize = 512;

/// A variable that cannot be used.
#[derive(Clone, Copy, Debug)]
enum Warning<'a> {
    /// Its value is wrong; `kept` is what holds instead.
    Value { row: &'static Row, value: &'a [u8], wrong: Wrong, kept: Value },
    /// It names no option, but perhaps the nearest one was meant.
    Name { name: &'a [u8], nearest: Option<&'static Row> },
}

impl Options {
    /// These options, overridden by the variables of the process that are set, as they will be in force. A variable
    /// that cannot be used gets one line on standard error.
    pub(crate) fn with_environment(self) -> Self {
        self.merged(environ::entries(), |warning| warning.show()).settled()
    }

    /// These options, overridden by the variables among `entries`: strings `NAME=value`, the first of a name counts.
    fn merged<'a>(mut self, entries: impl Iterator<Item = &'a [u8]>, mut warn: impl FnMut(Warning<'a>)) -> Self {
        let mut seen = Keys::NONE;
        for entry in entries {
            let Some(equals) = entry.iter().position(|byte| *byte == b'=') else { continue };
            let Some((name, [_, value @ ..])) = entry.split_at_checked(equals) else { continue };
            if !name.starts_with(PREFIX) || name.starts_with(TEST_PREFIX) || OTHERS.contains(&name) {
                continue;
            }
            let Some(row) = TABLE.iter().find(|row| row.variable.as_bytes() == name) else {
                warn(Warning::Name { name, nearest: name.strip_prefix(PREFIX).and_then(nearest) });
                continue;
            };
            if seen.has(row.key) {
                continue;
            }
            seen = seen.with(row.key);
            match notation::read(&row.kind, value) {
                Ok(value) => {
                    self.set(row.key, value);
                    self.from_environment = self.from_environment.with(row.key);
                }
                Err(wrong) => warn(Warning::Value { row, value, wrong, kept: self.get(row.key) }),
            }
        }
        self
    }
}

impl Warning<'_> {
    /// Writes the line to standard error, in one call, so that lines of several threads or processes do not mix.
    fn show(&self) {
        let mut buffer = [0; WARNING_BYTES_MAX];
        let mut text = Text::new(&mut buffer);
        self.print(&mut text);
        if let Ok(line) = text.finish() {
            // SAFETY: writes a live buffer; a failed write loses a warning and nothing else.
            unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
        }
    }

    fn print(&self, out: &mut Text) {
        out.str("antifreeze: ");
        match self {
            Warning::Value { row, value, wrong, kept } => {
                out.str(row.variable);
                out.str("=\"");
                quote(value, out);
                out.str(match wrong {
                    Wrong::NotUnderstood => "\" is not understood: want ",
                    Wrong::OutOfRange => "\" is out of range: want ",
                });
                notation::print_accepted(row, out);
                if let Kind::Amount { unit: Unit::Bytes | Unit::BytesPerSecond, .. } = row.kind {
                    out.str(" (units are B, KiB, MiB, GiB, TiB; not K, M, G, T)");
                }
                out.str("; ");
                notation::print(&row.kind, *kept, out);
                out.str(" is used\n");
            }
            Warning::Name { name, nearest } => {
                quote(name, out);
                out.str(" is not an option");
                if let Some(row) = nearest {
                    out.str("; did you mean ");
                    out.str(row.variable);
                    out.str("?");
                }
                out.str("\n");
            }
        }
    }
}

/// Prints `bytes` that came from outside, but not too many.
fn quote(bytes: &[u8], out: &mut Text) {
    let shown = bytes.get(..QUOTE_BYTES_MAX).unwrap_or(bytes);
    out.foreign(shown);
    if shown.len() < bytes.len() {
        out.str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::super::table::Key;
    use super::*;
    use crate::units::Nanos;
    use proptest::prelude::*;
    use std::borrow::ToOwned;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    fn printed(warning: Warning) -> String {
        let mut buffer = [0; WARNING_BYTES_MAX];
        let mut text = Text::new(&mut buffer);
        warning.print(&mut text);
        text.finish().expect("a warning fits its buffer").to_owned()
    }

    /// `options` with an environment, and the warnings.
    fn merge(options: Options, entries: &[&str]) -> (Options, Vec<String>) {
        let mut warnings = Vec::new();
        let bytes = entries.iter().map(|entry| entry.as_bytes());
        (options.merged(bytes, |warning| warnings.push(printed(warning))), warnings)
    }

    fn warning(entry: &str) -> String {
        let (options, warnings) = merge(Options::new(), &[entry]);
        assert_eq!(options, Options::new(), "{entry} must change nothing");
        assert_eq!(warnings.len(), 1, "{entry}: {warnings:?}");
        warnings[0].clone()
    }

    #[test]
    fn a_variable_sets_its_own_key_and_no_other() {
        let (options, warnings) = merge(Options::new(), &["HOME=/", "ANTIFREEZE_LINGER=2s", "PATH=a=b"]);
        assert_eq!(warnings, [""; 0]);
        let mut wanted = Options::new();
        wanted.linger = Nanos(2_000_000_000);
        wanted.from_environment = Keys::NONE.with(Key::Linger);
        assert_eq!(options, wanted);
        assert_eq!(options.source(Key::Linger), Source::Environment);
        assert_eq!(options.source(Key::Decay), Source::Default);
    }

    #[test]
    fn a_variable_overrides_code_and_a_bad_one_leaves_it() {
        let code = Options::new().choose(Key::Decay, None).choose(Key::Linger, Some(0));
        let (options, warnings) = merge(code, &["ANTIFREEZE_DECAY=never", "ANTIFREEZE_LINGER=1ms"]);
        assert_eq!((options.decay, options.source(Key::Decay)), (None, Source::Code));
        assert_eq!((options.linger, options.source(Key::Linger)), (Nanos(1_000_000), Source::Environment));
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].ends_with("; off is used\n"), "{}", warnings[0]);
    }

    #[test]
    fn every_key_can_be_set_by_its_variable() {
        for row in &TABLE {
            let value = match row.kind {
                Kind::Word(_) => row.default.map(|place| 1 - place),
                Kind::Amount { min, max, .. } => Some(if row.default == Some(min) { max } else { min }),
            };
            let mut buffer = [0; 64];
            let mut text = Text::new(&mut buffer);
            notation::print(&row.kind, value, &mut text);
            let entry = format!("{}={}", row.variable, text.finish().unwrap());
            let (options, warnings) = merge(Options::new(), &[&entry]);
            assert_eq!(warnings, [""; 0]);
            assert_eq!(options.get(row.key), value);
            for other in &TABLE {
                let changed = options.get(other.key) != Options::new().get(other.key);
                assert_eq!(changed, other.key == row.key, "{} by {}", other.name, row.variable);
                assert_eq!(options.source(other.key) == Source::Environment, changed);
            }
        }
    }

    #[test]
    fn the_first_of_two_variables_of_a_name_counts() {
        let (options, warnings) = merge(Options::new(), &["ANTIFREEZE_COMMIT=ready", "ANTIFREEZE_COMMIT=?"]);
        assert_eq!((options.commit, warnings.len()), (super::super::Commit::Ready, 0));
        let (options, warnings) = merge(Options::new(), &["ANTIFREEZE_COMMIT=?", "ANTIFREEZE_COMMIT=ready"]);
        assert_eq!((options.commit, warnings.len()), (super::super::Commit::Auto, 1));
    }

    #[test]
    fn a_bad_value_gets_a_line_that_says_what_is_wanted_and_what_is_used() {
        for (entry, line) in [
            (
                "ANTIFREEZE_DECAY=5 sec",
                "antifreeze: ANTIFREEZE_DECAY=\"5 sec\" is not understood: \
                 want a duration of 0 to 24h such as 500ms, or off; 5s is used\n",
            ),
            (
                "ANTIFREEZE_DECAY=25h",
                "antifreeze: ANTIFREEZE_DECAY=\"25h\" is out of range: \
                 want a duration of 0 to 24h such as 500ms, or off; 5s is used\n",
            ),
            (
                "ANTIFREEZE_COMMIT=",
                "antifreeze: ANTIFREEZE_COMMIT=\"\" is not understood: want auto, ready or stepped; auto is used\n",
            ),
            (
                "ANTIFREEZE_WARM_RESERVE=1G",
                "antifreeze: ANTIFREEZE_WARM_RESERVE=\"1G\" is not understood: \
                 want a size of 2MiB to 1TiB such as 256MiB, or off \
                 (units are B, KiB, MiB, GiB, TiB; not K, M, G, T); 16MiB is used\n",
            ),
            (
                "ANTIFREEZE_PURGE_RATE=1GiB",
                "antifreeze: ANTIFREEZE_PURGE_RATE=\"1GiB\" is not understood: \
                 want a rate of 1MiB/s to 1TiB/s such as 256MiB/s, or off \
                 (units are B, KiB, MiB, GiB, TiB; not K, M, G, T); 1GiB/s is used\n",
            ),
        ] {
            assert_eq!(warning(entry), line);
        }
    }

    #[test]
    fn a_name_that_is_no_option_gets_a_line_with_the_nearest() {
        for (name, nearest) in [
            ("ANTIFREEZE_DECY", "ANTIFREEZE_DECAY"),
            ("ANTIFREEZE_DECAY_MS", "ANTIFREEZE_DECAY"),
            ("ANTIFREEZE_decay", "ANTIFREEZE_DECAY"),
            ("ANTIFREEZE_HUGE_TLB", "ANTIFREEZE_HUGETLB"),
            ("ANTIFREEZE_PURGERATE", "ANTIFREEZE_PURGE_RATE"),
            ("ANTIFREEZE_WARM", "ANTIFREEZE_WARM_RESERVE"),
            ("ANTIFREEZE_PUASE", "ANTIFREEZE_PAUSE"),
        ] {
            let line = format!("antifreeze: {name} is not an option; did you mean {nearest}?\n");
            assert_eq!(warning(&format!("{name}=1")), line);
        }
        for name in ["ANTIFREEZE_", "ANTIFREEZE_ARENAS", "ANTIFREEZE_P", "ANTIFREEZE_ON", "ANTIFREEZE_DEBUG"] {
            assert_eq!(warning(&format!("{name}=1")), format!("antifreeze: {name} is not an option\n"));
        }
    }

    #[test]
    fn other_variables_get_no_line() {
        let others = [
            "ANTIFREEZE=1",
            "ANTIFREEZE_TEST_SEED=7",
            "ANTIFREEZE_TEST_",
            "ANTIFREEZE_DECAY",
            "antifreeze_decay=1",
            "XANTIFREEZE_DECAY=1",
            "=ANTIFREEZE_DECAY=1",
            "A=ANTIFREEZE_DECAY=1",
            "",
            "=",
        ];
        assert_eq!(merge(Options::new(), &others), (Options::new(), Vec::new()));
    }

    #[test]
    fn what_a_warning_repeats_is_cut_and_harmless() {
        let line = warning("ANTIFREEZE_DECAY=\x1b[31m\r\n\t\u{9b}é\"\u{7f}");
        assert!(line.starts_with("antifreeze: ANTIFREEZE_DECAY=\"?[31m????é\"?\" is not understood"), "{line}");
        assert_eq!(line.lines().count(), 1);

        let long = |count| warning(&format!("ANTIFREEZE_DECAY={}", "x".repeat(count)));
        assert!(long(64).contains(&format!("\"{}\"", "x".repeat(64))));
        assert!(long(65).contains(&format!("\"{}...\"", "x".repeat(64))));
        let name = format!("ANTIFREEZE_{}", "Y".repeat(100_000));
        assert_eq!(warning(&format!("{name}=1")), format!("antifreeze: {}... is not an option\n", &name[..64]));

        let split = [b"ANTIFREEZE_DECAY=\xff\xc3(".as_slice()];
        let mut lines = Vec::new();
        Options::new().merged(split.into_iter(), |warning| lines.push(printed(warning)));
        assert!(lines[0].contains("=\"??(\" is"), "{lines:?}");
    }

    #[test]
    fn the_longest_warning_fits() {
        // Every byte of the value stays one byte at most as long as it is; the longest kept value has 20 digits.
        let value = [b'x'; 100];
        for row in &TABLE {
            for kept in [row.default, Some(u64::MAX)] {
                let line = printed(Warning::Value { row, value: &value, wrong: Wrong::NotUnderstood, kept });
                assert!(line.ends_with(" is used\n"));
            }
            let line = printed(Warning::Name { name: &value, nearest: Some(row) });
            assert!(line.ends_with("?\n"));
        }
    }

    proptest! {
        #[test]
        fn any_environment_is_read_without_harm(entries: Vec<(usize, Vec<u8>)>) {
            let entries = entries.into_iter().map(|(place, value)| {
                let name = TABLE.get(place % 20).map_or("ANTIFREEZE_", |row| row.variable);
                [name.as_bytes(), &value].join(&b'=')
            });
            let entries: Vec<Vec<u8>> = entries.collect();
            let mut count = 0;
            let options = Options::new().merged(entries.iter().map(Vec::as_slice), |warning| {
                count += 1;
                assert_eq!(printed(warning).lines().count(), 1);
            });
            prop_assert!(count <= entries.len());
            for row in &TABLE {
                prop_assert!(row.kind.accepts(options.get(row.key)));
            }
        }
    }
}
