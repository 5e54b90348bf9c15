//! The allocators that are compared, each a binary of its own.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// One allocator of the comparison.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Contender {
    /// The allocator of this repository.
    Antifreeze,
    /// The malloc of the C library.
    System,
    /// mimalloc, version 3.
    Mimalloc,
    /// snmalloc.
    Snmalloc,
}

impl Contender {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 4] = [Self::Antifreeze, Self::System, Self::Mimalloc, Self::Snmalloc];

    /// The name on the command line and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Antifreeze => "antifreeze",
            Self::System => "system",
            Self::Mimalloc => "mimalloc",
            Self::Snmalloc => "snmalloc",
        }
    }

    /// Whether this build of the runner comes with that child.
    pub fn is_built(&self) -> bool {
        match self {
            Self::Antifreeze | Self::System => true,
            Self::Mimalloc => cfg!(feature = "mimalloc"),
            Self::Snmalloc => cfg!(feature = "snmalloc"),
        }
    }

    /// The cargo feature that brings the child, if it takes one.
    pub fn feature(&self) -> Option<&'static str> {
        match self {
            Self::Antifreeze | Self::System => None,
            Self::Mimalloc | Self::Snmalloc => Some(self.name()),
        }
    }

    /// The child's binary in the directory of the children.
    pub fn path_in(self, directory: &Path) -> PathBuf {
        directory.join(format!("bench-{}", self.name()))
    }
}
