//! The allocators that are compared, each with two binaries of its own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One allocator of the comparison.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Contender {
    /// The allocator of this repository.
    Antifreeze,
    /// The malloc of the C library.
    System,
    /// jemalloc, version 5.3.
    Jemalloc,
    /// mimalloc, version 3.
    Mimalloc,
    /// rpmalloc, version 1.4.
    Rpmalloc,
    /// snmalloc.
    Snmalloc,
    /// The tcmalloc of <https://github.com/google/tcmalloc>.
    Tcmalloc,
}

impl Contender {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 7] = [
        Self::Antifreeze,
        Self::System,
        Self::Jemalloc,
        Self::Mimalloc,
        Self::Rpmalloc,
        Self::Snmalloc,
        Self::Tcmalloc,
    ];

    /// Those that come with the features of this build.
    pub fn built() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|contender| contender.is_built())
    }

    /// The name on the command line and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Antifreeze => "antifreeze",
            Self::System => "system",
            Self::Jemalloc => "jemalloc",
            Self::Mimalloc => "mimalloc",
            Self::Rpmalloc => "rpmalloc",
            Self::Snmalloc => "snmalloc",
            Self::Tcmalloc => "tcmalloc",
        }
    }

    /// Whether this build comes with its binaries.
    pub fn is_built(self) -> bool {
        match self {
            Self::Antifreeze | Self::System => true,
            Self::Jemalloc => cfg!(feature = "jemalloc"),
            Self::Mimalloc => cfg!(feature = "mimalloc"),
            Self::Rpmalloc => cfg!(feature = "rpmalloc"),
            Self::Snmalloc => cfg!(feature = "snmalloc"),
            Self::Tcmalloc => cfg!(feature = "tcmalloc"),
        }
    }

    /// The cargo feature that brings it, if it takes one; it bears the same name.
    pub fn feature(self) -> Option<&'static str> {
        match self {
            Self::Antifreeze | Self::System => None,
            _ => Some(self.name()),
        }
    }

    /// The crate whose version tells that of the allocator; none for the C library's.
    pub fn package(self) -> Option<&'static str> {
        match self {
            Self::System => None,
            Self::Antifreeze => Some("antifreeze"),
            Self::Jemalloc => Some("tikv-jemalloc-sys"),
            Self::Mimalloc => Some("mimalloc"),
            Self::Rpmalloc => Some("rpmalloc-sys"),
            Self::Snmalloc => Some("snmalloc-rs"),
            Self::Tcmalloc => Some("tcmalloc-better"),
        }
    }

    /// The binary that measures whole workloads, in the directory of the children.
    pub fn bench_in(self, directory: &Path) -> PathBuf {
        directory.join(format!("bench-{self}"))
    }

    /// The binary that times each call, in the directory of the children.
    pub fn probe_in(self, directory: &Path) -> PathBuf {
        directory.join(format!("probe-{self}"))
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A name that no allocator of the comparison has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownContender(String);

impl fmt::Display for UnknownContender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Contender::ALL.map(Contender::name).join(", ");
        write!(formatter, "no allocator is called `{}`; there are {names}", self.0)
    }
}

impl std::error::Error for UnknownContender {}

impl FromStr for Contender {
    type Err = UnknownContender;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|contender| contender.name() == name)
            .ok_or_else(|| UnknownContender(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Contender;

    #[test]
    fn names_read_back() {
        for contender in Contender::ALL {
            assert_eq!(contender.name().parse(), Ok(contender));
        }
        let error = "none".parse::<Contender>().expect_err("no allocator has that name");
        assert!(error.to_string().contains("antifreeze, system, jemalloc"), "{error}");
    }

    #[test]
    fn binaries_are_named_after_them() {
        assert_eq!(Contender::System.bench_in(Path::new("dir")), Path::new("dir/bench-system"));
        assert_eq!(Contender::Mimalloc.probe_in(Path::new("dir")), Path::new("dir/probe-mimalloc"));
        assert!(Contender::built().count() >= 2);
    }
}
