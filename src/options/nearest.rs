//! The option that a name with a slip of the pen was meant to be. Called by `options::environment`.
//!
//! Invariant: no guess is better than a wild one, so what has little in common with every name gets none.

use super::table::{Row, TABLE};

/// The option with the fewest letters typed wrong, at most two; else one that begins with what was typed, or the other
/// way round. Nothing if there is none.
pub(super) fn nearest(typed: &[u8]) -> Option<&'static Row> {
    /// A shorter beginning says nothing.
    const BEGINNING_BYTES_MIN: usize = 4;

    let distances = TABLE.iter().map(|row| (distance(typed, row.name.as_bytes()), row));
    let close = distances.filter(|(distance, _)| *distance <= 2).min_by_key(|(distance, _)| *distance);
    let begins = |row: &&Row| {
        let shorter = typed.len().min(row.name.len());
        let starts = typed.get(..shorter).zip(row.name.as_bytes().get(..shorter));
        shorter >= BEGINNING_BYTES_MIN && starts.is_some_and(|(typed, name)| typed.eq_ignore_ascii_case(name))
    };
    close.map(|(_, row)| row).or_else(|| TABLE.iter().find(begins))
}

/// Letters to add, drop or change to make one of the other, whatever their case (Levenshtein). For names longer than
/// any option's, only that they are too many.
fn distance(typed: &[u8], name: &[u8]) -> usize {
    const NAME_BYTES_MAX: usize = 16;

    if typed.len() > NAME_BYTES_MAX + 2 {
        return usize::MAX;
    }
    // `costs[n]` is the distance of the letters typed so far to the first n letters of the name.
    let mut costs = [0; NAME_BYTES_MAX + 1];
    for (place, cost) in costs.iter_mut().enumerate() {
        *cost = place;
    }
    for letter in typed {
        let mut before = None;
        let mut diagonal = 0;
        let others = core::iter::once(None).chain(name.iter().map(Some));
        for (cost, other) in costs.iter_mut().zip(others) {
            let dropped = *cost + 1;
            let added = before.map_or(usize::MAX, |before: usize| before + 1);
            let kept = other.is_some_and(|other| letter.eq_ignore_ascii_case(other));
            let changed = before.map_or(usize::MAX, |_| diagonal + usize::from(!kept));
            diagonal = *cost;
            *cost = dropped.min(added).min(changed);
            before = Some(*cost);
        }
    }
    costs.get(name.len()).copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use std::borrow::ToOwned;

    #[test]
    fn distances_count_single_letters() {
        for (typed, name, letters) in [
            ("decay", "decay", 0),
            ("DeCaY", "decay", 0),
            ("dcay", "decay", 1),
            ("deccay", "decay", 1),
            ("dekay", "decay", 1),
            ("ecayd", "decay", 2),
            ("", "decay", 5),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(typed.as_bytes(), name.as_bytes()), letters, "{typed} {name}");
        }
        for row in &TABLE {
            assert_eq!(distance(row.name.as_bytes(), row.name.as_bytes()), 0, "{} is not too long", row.name);
        }
    }

    proptest! {
        #[test]
        fn one_wrong_letter_still_finds_the_option(place in 0..TABLE.len(), at: Index, letter in "[A-Za-z_]") {
            let wanted = &TABLE[place];
            let mut typed = wanted.name.to_owned();
            typed.insert_str(at.index(wanted.name.len() + 1), &letter);
            prop_assert_eq!(nearest(typed.as_bytes()).map(|row| row.key), Some(wanted.key), "{}", typed);
        }
    }
}
