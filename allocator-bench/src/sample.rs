//! One measurement of one run: printed by a child as a single line of `key=value`, read back by the runner.

use std::fmt;
use std::str::FromStr;

/// What one run of a workload cost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sample {
    /// Wall time of the workload alone.
    pub wall_ns: u64,
    /// User and system time of the workload alone.
    pub cpu_ns: u64,
    /// High-water mark of the whole process.
    pub peak_rss_kib: u64,
    /// Page faults served without I/O during the workload.
    pub minor_faults: u64,
    /// What the workload computed; the same under every allocator.
    pub checksum: u64,
}

impl fmt::Display for Sample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wall_ns, cpu_ns, peak_rss_kib, minor_faults, checksum } = self;
        write!(
            formatter,
            "wall_ns={wall_ns} cpu_ns={cpu_ns} peak_rss_kib={peak_rss_kib} minor_faults={minor_faults} \
             checksum={checksum}"
        )
    }
}

/// Why a line is not a [`Sample`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ParseSampleError {
    /// A word that is not `key=number` with a key of ours.
    UnknownField(String),
    /// A key that did not occur.
    MissingField(&'static str),
}

impl fmt::Display for ParseSampleError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownField(word) => write!(formatter, "unexpected `{word}` in a child's report"),
            Self::MissingField(key) => write!(formatter, "a child's report has no `{key}`"),
        }
    }
}

impl std::error::Error for ParseSampleError {}

impl FromStr for Sample {
    type Err = ParseSampleError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        const KEYS: [&str; 5] = ["wall_ns", "cpu_ns", "peak_rss_kib", "minor_faults", "checksum"];
        let mut values = [None; KEYS.len()];
        for word in line.split_whitespace() {
            let unknown = || ParseSampleError::UnknownField(word.to_owned());
            let (key, number) = word.split_once('=').ok_or_else(unknown)?;
            let index = KEYS.iter().position(|&known| known == key).ok_or_else(unknown)?;
            values[index] = Some(number.parse::<u64>().map_err(|_| unknown())?);
        }
        let value = |index: usize| values[index].ok_or(ParseSampleError::MissingField(KEYS[index]));
        Ok(Self {
            wall_ns: value(0)?,
            cpu_ns: value(1)?,
            peak_rss_kib: value(2)?,
            minor_faults: value(3)?,
            checksum: value(4)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{ParseSampleError, Sample};

    #[test]
    fn printed_sample_reads_back() {
        let sample = Sample { wall_ns: 1, cpu_ns: 2, peak_rss_kib: 3, minor_faults: 4, checksum: u64::MAX };
        assert_eq!(sample.to_string().parse(), Ok(sample));
        assert_eq!(format!("{sample}\n").parse(), Ok(sample));
    }

    #[test]
    fn broken_lines_are_refused() {
        let missing = "wall_ns=1 cpu_ns=2 peak_rss_kib=3 minor_faults=4".parse::<Sample>();
        assert_eq!(missing, Err(ParseSampleError::MissingField("checksum")));
        for word in ["wall_ns", "wall_ns=", "wall_ns=-1", "wall=1", "=1"] {
            assert_eq!(word.parse::<Sample>(), Err(ParseSampleError::UnknownField(word.to_owned())));
        }
    }
}
