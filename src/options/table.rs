//! The table of options: each name, unit, default, range and meaning is written here and nowhere else. Looked up by the
//! setters, the environment and the printer; docs/OPTIONS.md is held to it by a test.
//!
//! Invariant: one row per key, in the order of the keys, and every default is accepted.

use crate::limits::RESERVATION_BYTES_MAX;

/// Names an option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    Commit,
    Governor,
    HoldBudget,
    Pause,
    Linger,
    Decay,
    PurgeRate,
    PurgeCalls,
    WarmReserve,
    PrewarmHold,
    Forecast,
    Pressure,
    Hugetlb,
    Reservation,
}

/// The value of an option whatever its type: nanoseconds, bytes, calls, or the place of a word in its list. `None` is
/// the word that stands for no amount, such as `off`.
pub(crate) type Value = Option<u64>;

/// What an amount is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    /// Nanoseconds.
    Time,
    Bytes,
    BytesPerSecond,
    CallsPerSecond,
}

/// What values an option has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// One of these words.
    Word(&'static [&'static str]),
    /// An amount.
    Amount {
        unit: Unit,
        min: u64,
        max: u64,
        /// The word for no amount, if there may be none.
        none: Option<&'static str>,
        /// A value to show to people.
        example: &'static str,
    },
}

impl Kind {
    /// Whether an option may have this value.
    pub(crate) const fn accepts(&self, value: Value) -> bool {
        match (self, value) {
            (Kind::Word(words), Some(place)) => place < words.len() as u64,
            (Kind::Word(_), None) => false,
            (Kind::Amount { min, max, .. }, Some(amount)) => *min <= amount && amount <= *max,
            (Kind::Amount { none, .. }, None) => none.is_some(),
        }
    }
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) key: Key,
    /// Also the name of the setter.
    pub(crate) name: &'static str,
    pub(crate) variable: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Value,
    #[cfg_attr(not(test), expect(dead_code, reason = "read by people, here and in docs/OPTIONS.md"))]
    pub(crate) meaning: &'static str,
}

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const SECOND: u64 = 1_000 * MS;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// All options.
pub(crate) const TABLE: [Row; 14] = [
    Row {
        key: Key::Commit,
        name: "commit",
        variable: "ANTIFREEZE_COMMIT",
        kind: Kind::Word(&["auto", "ready", "stepped"]),
        default: Some(0),
        meaning: "when reserved memory is made usable: all at start, or in growing steps",
    },
    Row {
        key: Key::Governor,
        name: "governor",
        variable: "ANTIFREEZE_GOVERNOR",
        kind: Kind::Word(&["thread", "tick"]),
        default: Some(0),
        meaning: "who gives memory back and warms it: a thread of the allocator, or the program when it calls tick()",
    },
    Row {
        key: Key::HoldBudget,
        name: "hold_budget",
        variable: "ANTIFREEZE_HOLD_BUDGET",
        kind: Kind::Amount { unit: Unit::Time, min: 10 * US, max: 100 * MS, none: None, example: "250us" },
        default: Some(250 * US),
        meaning: "the longest that one kernel call on memory should take",
    },
    Row {
        key: Key::Pause,
        name: "pause",
        variable: "ANTIFREEZE_PAUSE",
        kind: Kind::Amount { unit: Unit::Time, min: 50 * US, max: SECOND, none: None, example: "50us" },
        // A tight loop can win a lock again until the kernel hands it over after 4 ms: a pause lets others in.
        default: Some(50 * US),
        meaning: "the pause between two such calls",
    },
    Row {
        key: Key::Linger,
        name: "linger",
        variable: "ANTIFREEZE_LINGER",
        kind: Kind::Amount { unit: Unit::Time, min: 0, max: HOUR, none: None, example: "500ms" },
        // Long enough that a busy program takes it back warm.
        default: Some(500 * MS),
        meaning: "freed memory stays untouched for so long",
    },
    Row {
        key: Key::Decay,
        name: "decay",
        variable: "ANTIFREEZE_DECAY",
        kind: Kind::Amount { unit: Unit::Time, min: 0, max: 24 * HOUR, none: Some("off"), example: "500ms" },
        default: Some(5 * SECOND),
        meaning: "freed memory is all given back so long after it was freed; off: only on request or under pressure",
    },
    Row {
        key: Key::PurgeRate,
        name: "purge_rate",
        variable: "ANTIFREEZE_PURGE_RATE",
        kind: Kind::Amount { unit: Unit::BytesPerSecond, min: MIB, max: TIB, none: Some("off"), example: "256MiB/s" },
        default: Some(GIB),
        meaning: "the most memory that is given back per second; off: no limit",
    },
    Row {
        key: Key::PurgeCalls,
        name: "purge_calls",
        variable: "ANTIFREEZE_PURGE_CALLS",
        kind: Kind::Amount { unit: Unit::CallsPerSecond, min: 1, max: 100_000, none: Some("off"), example: "500/s" },
        default: Some(2_000),
        meaning: "the most calls per second that give memory back; off: no limit",
    },
    Row {
        key: Key::WarmReserve,
        name: "warm_reserve",
        variable: "ANTIFREEZE_WARM_RESERVE",
        kind: Kind::Amount { unit: Unit::Bytes, min: 2 * MIB, max: TIB, none: Some("off"), example: "256MiB" },
        default: Some(16 * MIB),
        meaning: "the most memory that is kept faulted ahead of need",
    },
    Row {
        key: Key::PrewarmHold,
        name: "prewarm_hold",
        variable: "ANTIFREEZE_PREWARM_HOLD",
        kind: Kind::Amount { unit: Unit::Time, min: SECOND, max: 24 * HOUR, none: Some("off"), example: "90s" },
        default: Some(10 * MINUTE),
        meaning: "prewarmed memory waits so long to be used; off: for ever",
    },
    Row {
        key: Key::Forecast,
        name: "forecast",
        variable: "ANTIFREEZE_FORECAST",
        kind: Kind::Amount { unit: Unit::Bytes, min: 64 * MIB, max: 16 * TIB, none: Some("off"), example: "8GiB" },
        default: None,
        meaning: "the most memory that is warmed because a block has doubled and may double again",
    },
    Row {
        key: Key::Pressure,
        name: "pressure",
        variable: "ANTIFREEZE_PRESSURE",
        kind: Kind::Word(&["off", "on"]),
        default: Some(1),
        meaning: "whether memory is given back faster when the cgroup or the machine runs short of it",
    },
    Row {
        key: Key::Hugetlb,
        name: "hugetlb",
        variable: "ANTIFREEZE_HUGETLB",
        kind: Kind::Amount { unit: Unit::Bytes, min: 2 * MIB, max: 16 * TIB, none: Some("off"), example: "4GiB" },
        default: None,
        meaning: "memory taken from the explicit hugepage pool at start, for blocks of 32 MiB and more",
    },
    Row {
        key: Key::Reservation,
        name: "reservation",
        variable: "ANTIFREEZE_RESERVATION",
        kind: Kind::Amount {
            unit: Unit::Bytes,
            min: 32 * MIB,
            max: RESERVATION_BYTES_MAX as u64,
            none: Some("auto"),
            example: "64GiB",
        },
        default: None,
        meaning: "address space taken at start, rounded up to a power of two",
    },
];

/// The row of `key`.
pub(crate) const fn row(key: Key) -> &'static Row {
    // The last row unless an earlier one has the key: every key has one, which a test checks.
    let [first, rest @ ..] = &TABLE;
    let (mut row, mut rest): (&Row, &[Row]) = (first, rest);
    while row.key as u8 != key as u8
        && let [next, after @ ..] = rest
    {
        (row, rest) = (next, after);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_keys_and_each_key_finds_its_own() {
        for (place, entry) in TABLE.iter().enumerate() {
            assert_eq!(entry.key as usize, place, "{}", entry.name);
            assert_eq!(row(entry.key).key, entry.key);
        }
        assert_eq!(Key::Reservation as usize + 1, TABLE.len(), "the last key has the last row");
    }

    #[test]
    fn the_variable_is_the_name_in_capitals() {
        for row in &TABLE {
            assert_eq!(row.variable.strip_prefix("ANTIFREEZE_"), Some(row.name.to_ascii_uppercase().as_str()));
        }
    }

    #[test]
    fn defaults_are_accepted_and_ranges_are_not_empty() {
        for row in &TABLE {
            assert!(row.kind.accepts(row.default), "{}", row.name);
            if let Kind::Amount { min, max, .. } = row.kind {
                assert!(min < max, "{}", row.name);
            }
        }
    }

    #[test]
    fn only_values_in_range_are_accepted() {
        let decay = row(Key::Decay).kind;
        assert!(decay.accepts(Some(24 * HOUR)) && !decay.accepts(Some(24 * HOUR + 1)) && decay.accepts(None));
        let pause = row(Key::Pause).kind;
        assert!(pause.accepts(Some(50 * US)) && !pause.accepts(Some(50 * US - 1)) && !pause.accepts(None));
        let commit = row(Key::Commit).kind;
        assert!(commit.accepts(Some(2)) && !commit.accepts(Some(3)) && !commit.accepts(None));
    }
}
