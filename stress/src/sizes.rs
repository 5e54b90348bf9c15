//! Sizes as a person gives and reads them, and whether what they ask for fits into memory.
//!
//! The options of the [`scenario`](crate::scenario)s are read with [`parse`] and chosen with [`choose`].

use std::str::FromStr;

use bytesize::ByteSize;

/// More than the harness takes beside a child and what it holds for it: up to a piece of that too much (64 MiB), a
/// probe of 32 MiB, and itself.
const HARNESS_BYTES: u64 = 128 << 20;

/// Why a size was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It does not fit, a smaller one does.
    #[error(
        "{wanted} needs {} at the peak, but only {} may be used of the {} available; {fitting} would fit",
        said(*needed_bytes), said(usable_bytes(*available_bytes)), said(*available_bytes)
    )]
    TooBig {
        /// What was asked for.
        wanted: String,
        /// The memory that takes at the peak.
        needed_bytes: u64,
        /// The memory there is.
        available_bytes: u64,
        /// What would fit, as an option with its value.
        fitting: String,
    },
    /// Not even the smallest size fits.
    #[error("only {} of memory are available; the smallest size ({}) needs {}",
        said(*available_bytes), said(*least_bytes), said(*needed_bytes))]
    NothingFits {
        /// The memory there is.
        available_bytes: u64,
        /// The smallest size.
        least_bytes: u64,
        /// The memory that takes at the peak.
        needed_bytes: u64,
    },
    /// A size that makes no sense, and why.
    #[error("{0}")]
    Senseless(String),
}

/// Reads `1.7GiB`, `512 MiB` or `100000` (bytes).
pub fn parse(text: &str) -> Result<u64, String> {
    match ByteSize::from_str(text) {
        Ok(ByteSize(0)) => Err("a size of 0 is no size; from 1 byte on it is one".to_owned()),
        Ok(ByteSize(bytes)) => Ok(bytes),
        Err(_) => Err("a size is a number of bytes or one with a unit, as 100000, 512MiB or 1.7GiB".to_owned()),
    }
}

/// The size in the unit in which a person would say it, as `1.7 GiB`.
pub fn said(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// What may be used of the memory there is: the rest keeps the machine out of swapping and killing.
pub const fn usable_bytes(available_bytes: u64) -> u64 {
    available_bytes / 10 * 9
}

/// The memory that a run takes whose child uses so much at the peak. The child and what is held for it are the same
/// memory, one after the other; the harness comes on top.
pub const fn needed_bytes(child_bytes: u64) -> u64 {
    child_bytes.saturating_add(HARNESS_BYTES)
}

/// The most that a child may use at the peak.
pub const fn child_bytes(available_bytes: u64) -> u64 {
    usable_bytes(available_bytes).saturating_sub(HARNESS_BYTES)
}

/// The size to run: the one asked for by `--bytes` if it fits, else (nothing asked) `usual`, or as much as fits.
/// `peak` gives the memory that a child takes at the peak with a size, and grows with it.
pub fn choose(
    wanted: Option<u64>,
    usual_bytes: u64,
    least_bytes: u64,
    available_bytes: u64,
    peak: impl Fn(u64) -> u64,
) -> Result<u64, SizeError> {
    choose_by("--bytes", wanted, usual_bytes, least_bytes, available_bytes, peak)
}

/// Like [`choose`], where the option has this name.
pub fn choose_by(
    name: &str,
    wanted: Option<u64>,
    usual_bytes: u64,
    least_bytes: u64,
    available_bytes: u64,
    peak: impl Fn(u64) -> u64,
) -> Result<u64, SizeError> {
    let usable_bytes = usable_bytes(available_bytes);
    let needed = |bytes| needed_bytes(peak(bytes));
    if needed(least_bytes) > usable_bytes {
        return Err(SizeError::NothingFits { available_bytes, least_bytes, needed_bytes: needed(least_bytes) });
    }
    let fitting_bytes = largest(least_bytes, usable_bytes, |bytes| needed(bytes) <= usable_bytes);
    match wanted {
        Some(bytes) if bytes < least_bytes => {
            let (bytes, least) = (said(bytes), said(least_bytes));
            Err(SizeError::Senseless(format!("{name} {bytes} is too small to see anything; from {least} on it is not")))
        }
        Some(bytes) if needed(bytes) > usable_bytes => Err(SizeError::TooBig {
            wanted: format!("{name} {}", option(bytes)),
            needed_bytes: needed(bytes),
            available_bytes,
            fitting: format!("{name} {}", option(fitting_bytes)),
        }),
        Some(bytes) => Ok(bytes),
        None => Ok(usual_bytes.clamp(least_bytes, fitting_bytes)),
    }
}

/// The size as it can be given as an option: in whole MiB, rounded down, or in bytes where it is less than one.
pub fn option(bytes: u64) -> String {
    match bytes >> 20 {
        0 => bytes.to_string(),
        mib => format!("{mib}MiB"),
    }
}

/// The largest size from `least` to `most`, in whole MiB above it, that fits; `least` does.
fn largest(least: u64, most: u64, fits: impl Fn(u64) -> bool) -> u64 {
    let (mut fitting, mut beyond) = (0, most.saturating_sub(least) / (1 << 20) + 1);
    while beyond - fitting > 1 {
        let middle = fitting.midpoint(beyond);
        if fits(least + (middle << 20)) { fitting = middle } else { beyond = middle }
    }
    least + (fitting << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        assert_eq!(parse("100000"), Ok(100_000));
        assert_eq!(parse("512MiB"), Ok(512 << 20));
        assert_eq!(parse("1.5 GiB"), Ok(3 << 29));
        for text in ["", "much", "1.7GiC", "-1", "0"] {
            assert!(parse(text).unwrap_err().contains("size"), "{text}");
        }
        assert_eq!(
            (said(1_825_361_100), option(5 << 20), option(7)),
            ("1.7 GiB".to_owned(), "5MiB".to_owned(), "7".to_owned())
        );
    }

    #[test]
    fn the_usual_size_is_taken_as_far_as_it_fits() {
        let chosen = |wanted, available| choose(wanted, GIB, MIB, available, |bytes| 2 * bytes);
        assert_eq!(chosen(None, 10 * GIB), Ok(GIB));
        assert_eq!(chosen(None, GIB), Ok(396 * MIB));
        assert_eq!(chosen(Some(4 * GIB), 10 * GIB), Ok(4 * GIB));
        assert!(chosen(Some(7), 10 * GIB).unwrap_err().to_string().contains("too small"));
        assert!(chosen(None, MIB).unwrap_err().to_string().starts_with("only 1.0 MiB of memory"));
        let error = chosen(Some(5 * GIB), 10 * GIB).unwrap_err().to_string();
        assert_eq!(
            error,
            "--bytes 5120MiB needs 10.1 GiB at the peak, but only 9.0 GiB may be used of the 10.0 GiB available; \
             --bytes 4544MiB would fit"
        );
        assert!(chosen(Some(4544 * MIB), 10 * GIB).is_ok());
    }
}
