//! A set of named whole numbers: one line of `name=number` words between child and runner, columns in a record.

use std::fmt;
use std::str::FromStr;

/// A struct of numbers whose fields can be gone through by name.
pub trait Figures: Sized {
    /// The names of the fields, in their order.
    const NAMES: &'static [&'static str];

    /// The numbers, in the order of the names.
    fn values(&self) -> Vec<u64>;

    /// Asks for each number by its name.
    ///
    /// # Errors
    /// The first one that `value` gives.
    fn try_from_names<E>(value: impl FnMut(&'static str) -> Result<u64, E>) -> Result<Self, E>;

    /// The line that [`parse_line`] reads back.
    fn line(&self) -> String {
        let words = Self::NAMES.iter().zip(self.values()).map(|(name, value)| format!("{name}={value}"));
        words.collect::<Vec<_>>().join(" ")
    }
}

/// Why a line is not the wanted set of figures.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ParseFiguresError {
    /// A word that is not `name=number` with a name of the set.
    UnknownWord(String),
    /// A name that did not occur.
    Missing(&'static str),
}

impl fmt::Display for ParseFiguresError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownWord(word) => write!(formatter, "unexpected `{word}` in a child's report"),
            Self::Missing(name) => write!(formatter, "a child's report has no `{name}`"),
        }
    }
}

impl std::error::Error for ParseFiguresError {}

/// Reads a line of `name=number` words; every name of the set has to be there, and no other.
///
/// # Errors
/// If the line is anything else.
pub fn parse_line<F: Figures>(line: &str) -> Result<F, ParseFiguresError> {
    let mut values = vec![None; F::NAMES.len()];
    for word in line.split_whitespace() {
        let unknown = || ParseFiguresError::UnknownWord(word.to_owned());
        let (name, number) = word.split_once('=').ok_or_else(unknown)?;
        let index = F::NAMES.iter().position(|&known| known == name).ok_or_else(unknown)?;
        values[index] = Some(u64::from_str(number).map_err(|_| unknown())?);
    }
    F::try_from_names(|name| {
        let index = F::NAMES.iter().position(|&known| known == name);
        index.and_then(|index| values[index]).ok_or(ParseFiguresError::Missing(name))
    })
}

/// Declares a struct of `u64` fields that is [`Figures`].
#[macro_export]
macro_rules! figures {
    ($(#[$attribute:meta])* $name:ident { $($(#[$field_attribute:meta])* $field:ident,)+ }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct $name {
            $($(#[$field_attribute])* pub $field: u64,)+
        }

        impl $crate::figures::Figures for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),+];

            fn values(&self) -> Vec<u64> {
                vec![$(self.$field),+]
            }

            fn try_from_names<E>(mut value: impl FnMut(&'static str) -> Result<u64, E>) -> Result<Self, E> {
                Ok(Self { $($field: value(stringify!($field))?),+ })
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::figures::ParseFiguresError;

            fn from_str(line: &str) -> Result<Self, Self::Err> {
                $crate::figures::parse_line(line)
            }
        }
    };
}
pub use figures;

#[cfg(test)]
mod tests {
    use super::{Figures, ParseFiguresError, parse_line};

    figures! {
        /// A sample.
        Pair {
            /// The first.
            first_ns,
            /// The second.
            second,
        }
    }

    #[test]
    fn printed_figures_read_back() {
        let pair = Pair { first_ns: 1, second: u64::MAX };
        assert_eq!(pair.line(), format!("first_ns=1 second={}", u64::MAX));
        assert_eq!(parse_line(&pair.line()), Ok(pair));
        assert_eq!(parse_line(&format!("{}\n", pair.line())), Ok(pair));
    }

    #[test]
    fn broken_lines_are_refused() {
        assert_eq!(parse_line::<Pair>("first_ns=1"), Err(ParseFiguresError::Missing("second")));
        for word in ["first_ns", "first_ns=", "first_ns=-1", "third=1", "=1"] {
            assert_eq!(parse_line::<Pair>(word), Err(ParseFiguresError::UnknownWord(word.to_owned())));
        }
    }
}
