//! Options as a whole: defaults, setters, what is in force, printing, and the documents that describe them.

use core::time::Duration;
use std::borrow::ToOwned;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use super::notation::print_accepted;
use super::table::{Key, Kind, Row, TABLE, row};
use super::*;

const S: u64 = 1_000_000_000;

fn printed(print: impl Fn(&mut Text)) -> String {
    let mut buffer = vec![0; 4096];
    let mut text = Text::new(&mut buffer);
    print(&mut text);
    text.finish().unwrap().to_owned()
}

#[test]
fn defaults_are_those_of_the_table() {
    let options = Options::new();
    for row in &TABLE {
        assert_eq!(options.get(row.key), row.default, "{}", row.name);
        assert_eq!(options.source(row.key), Source::Default);
    }
    assert_eq!(options, Options::default());
    assert_eq!((options.commit, options.governor), (Commit::default(), Governor::default()));
    assert_eq!(options.decay, Some(Nanos(5 * S)));
    assert_eq!(options.warm_reserve, Some(16 << 20));
    assert_eq!(options.forecast, None);
    assert!(options.pressure);
}

#[test]
fn what_is_set_is_what_is_got() {
    for row in &TABLE {
        let values: Vec<Value> = match row.kind {
            Kind::Word(words) => (0..words.len() as u64).map(Some).collect(),
            Kind::Amount { min, max, none, .. } => {
                [Some(min), Some(max), None].into_iter().take(2 + usize::from(none.is_some())).collect()
            }
        };
        for value in values {
            let options = Options::new().choose(row.key, value);
            assert_eq!(options.get(row.key), value, "{}", row.name);
            for other in TABLE.iter().filter(|other| other.key != row.key) {
                assert_eq!(options.get(other.key), other.default, "{} by {}", other.name, row.name);
            }
            assert_eq!(options.source(row.key), Source::Code);
        }
    }
}

#[test]
fn words_stand_in_the_order_of_their_types() {
    let word = |key: Key, value: u64| match row(key).kind {
        Kind::Word(words) => words[value as usize],
        Kind::Amount { .. } => "",
    };
    for (mode, name) in [(Commit::Auto, "auto"), (Commit::Ready, "ready"), (Commit::Stepped, "stepped")] {
        assert_eq!(word(Key::Commit, mode as u64), name);
        assert_eq!(Options::new().choose(Key::Commit, Some(mode as u64)).commit, mode);
    }
    for (governor, name) in [(Governor::Thread, "thread"), (Governor::Tick, "tick")] {
        assert_eq!(word(Key::Governor, governor as u64), name);
        assert_eq!(Options::new().choose(Key::Governor, Some(governor as u64)).governor, governor);
    }
    assert_eq!([word(Key::Pressure, false as u64), word(Key::Pressure, true as u64)], ["off", "on"]);
}

#[test]
fn a_value_out_of_range_does_not_get_past_a_setter() {
    for (key, value) in [(Key::Pause, Some(49_999)), (Key::Decay, Some(24 * 3600 * S + 1)), (Key::Linger, None)] {
        let set = std::panic::catch_unwind(|| Options::new().choose(key, value));
        assert!(set.is_err(), "{key:?} {value:?}");
    }
}

#[test]
fn decay_is_never_shorter_than_linger() {
    let by_code = Options::new().choose(Key::Linger, Some(10 * S)).settled();
    assert_eq!((by_code.decay, by_code.source(Key::Decay)), (Some(Nanos(10 * S)), Source::Code));
    let longer = Options::new().choose(Key::Linger, Some(2 * S)).settled();
    assert_eq!((longer.decay, longer.source(Key::Decay)), (Some(Nanos(5 * S)), Source::Default));
    let at_once = Options::new().choose(Key::Decay, Some(0)).settled();
    assert_eq!((at_once.decay, at_once.source(Key::Decay)), (Some(at_once.linger), Source::Code));
    let never = Options::new().choose(Key::Decay, None).choose(Key::Linger, Some(10 * S)).settled();
    assert_eq!(never.decay, None);
    assert_eq!(Options::new().settled(), Options::new());
}

#[test]
fn a_reservation_is_rounded_up_to_a_power_of_two() {
    let Kind::Amount { min, max, .. } = row(Key::Reservation).kind else { panic!("not an amount") };
    let rounded =
        |bytes: u64| Options::new().choose(Key::Reservation, Some(bytes)).settled().reservation.unwrap() as u64;
    assert_eq!([min, min + 1, max - 1, max].map(rounded), [min, 2 * min, max, max]);
}

#[test]
fn options_print_as_a_line_each_with_their_source() {
    let options = Options::new().choose(Key::Decay, None).choose(Key::WarmReserve, Some(3 << 29));
    let text = printed(|out| options.print(out));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "commit = auto (default)",
            "governor = thread (default)",
            "hold_budget = 250us (default)",
            "pause = 50us (default)",
            "linger = 500ms (default)",
            "decay = off (code)",
            "purge_rate = 1GiB/s (default)",
            "purge_calls = 2000/s (default)",
            "warm_reserve = 1536MiB (code)",
            "prewarm_hold = 10min (default)",
            "forecast = off (default)",
            "pressure = on (default)",
            "hugetlb = off (default)",
            "reservation = auto (default)",
        ]
    );
    assert!(text.ends_with('\n'));
}

#[test]
fn long_durations_saturate() {
    assert_eq!(Nanos::from_duration(Duration::from_micros(250)), Nanos(250_000));
    assert_eq!(Nanos::from_duration(Duration::MAX), Nanos(u64::MAX));
}

// Documents.

const DOCUMENT: &str = include_str!("../../docs/OPTIONS.md");
const SETTERS: [&str; 2] = [include_str!("../front/global.rs"), include_str!("../front/elsewhere.rs")];

/// What a setter takes.
fn argument(row: &Row) -> &'static str {
    match (row.key, row.kind) {
        (Key::Commit, _) => "Commit",
        (Key::Governor, _) => "Governor",
        (_, Kind::Word(_)) => "bool",
        (_, Kind::Amount { unit, none, .. }) => match (unit, none.is_some()) {
            (table::Unit::Time, false) => "Duration",
            (table::Unit::Time, true) => "Option<Duration>",
            (table::Unit::Bytes, false) => "usize",
            (table::Unit::Bytes, true) => "Option<usize>",
            (_, false) => "u64",
            (_, true) => "Option<u64>",
        },
    }
}

/// The cells of the document's rows about options, without the marks of code.
fn documented() -> Vec<Vec<String>> {
    // What follows is about variables that are none.
    let (options, _) = DOCUMENT.split_once("\n## Variables of the C library\n").unwrap();
    let rows = options.lines().filter(|line| line.starts_with("| `"));
    let cells = |line: &str| {
        let inner = line.trim().trim_matches('|').to_owned();
        inner.split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    rows.map(cells).collect()
}

#[test]
fn the_document_has_a_row_for_each_option_and_no_other() {
    let rows = documented();
    let keys: Vec<&str> = rows.iter().map(|cells| cells[0].as_str()).collect();
    let wanted: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
    assert_eq!(keys, wanted);
    for (cells, row) in rows.iter().zip(&TABLE) {
        let wanted = [
            row.name.to_owned(),
            row.variable.to_owned(),
            format!(".{}({})", row.name, argument(row)),
            printed(|out| print_accepted(row, out)),
            printed(|out| notation::print(&row.kind, row.default, out)),
            row.meaning.to_owned(),
        ];
        assert_eq!(cells[..wanted.len()], wanted);
        assert_eq!(cells.len(), wanted.len() + 1, "{}: when to change it", row.name);
        assert!(!cells[wanted.len()].is_empty(), "{}", row.name);
    }
}

#[test]
fn settings_that_documents_recommend_are_accepted() {
    let texts = [
        include_str!("../../docs/GOVERNOR.md"),
        include_str!("../../docs/HUGEPAGES.md"),
        include_str!("../../docs/OPERATIONS.md"),
        include_str!("../../README.md"),
    ];
    let words = texts.iter().flat_map(|text| text.split(|c: char| c.is_whitespace() || "`,;:)".contains(c)));
    let mut count = 0;
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        let name = name.strip_prefix("ANTIFREEZE_").unwrap_or(name).to_ascii_lowercase();
        if let Some(row) = TABLE.iter().find(|row| row.name == name) {
            assert!(notation::read(&row.kind, value.as_bytes()).is_ok(), "{name}={value}");
            count += 1;
        }
    }
    assert!(count > 10, "{count} settings were found");
}

/// The setters of a source: name, argument, and the text of their comments.
fn setters(source: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut comment = String::new();
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            comment.push_str(text);
        } else if let Some(rest) = line.strip_prefix("pub const fn ")
            && rest.ends_with(") -> Self {")
            && let Some((name, arguments)) = rest.split_once("(self, ")
        {
            let (_, argument) = arguments.trim_end_matches(") -> Self {").split_once(": ").unwrap();
            found.push((name.to_owned(), argument.to_owned(), comment.replace('`', "")));
        } else if !line.starts_with("#[") {
            comment.clear();
        }
    }
    found
}

#[test]
fn each_option_has_a_setter_everywhere_and_no_other_setter_exists() {
    for source in SETTERS {
        let found: Vec<(String, String)> =
            setters(source).into_iter().map(|(name, argument, _)| (name, argument)).collect();
        let wanted: Vec<(String, String)> =
            TABLE.iter().map(|row| (row.name.to_owned(), argument(row).to_owned())).collect();
        assert_eq!(found, wanted);
    }
}

#[test]
fn setters_say_their_variable_range_and_default() {
    for ((name, _, comment), row) in setters(SETTERS[0]).iter().zip(&TABLE) {
        let range = match row.kind {
            Kind::Word(_) => String::new(),
            Kind::Amount { min, max, .. } => {
                let end = |end: u64| printed(|out| notation::print(&row.kind, Some(end), out));
                format!("Range: {} to {}.", end(min), end(max))
            }
        };
        let default = printed(|out| notation::print(&row.kind, row.default, out));
        for wanted in [range, format!("Default: {default}."), format!("Variable: {}", row.variable)] {
            assert!(comment.contains(&wanted), "{name} does not say {wanted}: {comment}");
        }
    }
}
