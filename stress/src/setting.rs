//! What a scenario needs around its children beyond the usual: scarce hugepages, or a control group with a limit.
//!
//! A [`scenario`](crate::scenario) names its [`Setting`]; [`harness`](crate::harness) makes the [`Surroundings`] before
//! each child and ends them after it.

use std::process::Command;
use std::sync::atomic::AtomicBool;

use crate::fragmentation::Fragmentation;
use crate::memory_group::MemoryGroup;
use crate::record::Figure;

/// What is made around a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Nothing.
    Usual,
    /// Free memory is broken up, so that few hugepages are left.
    ScarceHugepages {
        /// The most memory that is held for it.
        hold_bytes: u64,
    },
    /// A control group in which the child is from its first instruction.
    MemoryLimit {
        /// Its limit.
        limit_bytes: u64,
    },
}

impl Setting {
    /// Whether memory can be held for the child and let go of: what is let go of are whole hugepages, which must not be
    /// there where they are to be scarce. What breaks the memory up makes the host back it as well.
    pub fn is_backed(self) -> bool {
        !matches!(self, Self::ScarceHugepages { .. })
    }
}

/// What was made, and is undone when this is dropped.
#[derive(Debug)]
pub enum Surroundings {
    /// Nothing.
    Usual,
    /// Few hugepages.
    Scarce(Fragmentation),
    /// A control group.
    Limited(MemoryGroup),
}

impl Surroundings {
    /// Makes what the setting says; or tells what is missing. Stops early (successfully) when `interrupted` is set.
    pub fn make(setting: Setting, interrupted: &AtomicBool) -> Result<Self, String> {
        Ok(match setting {
            Setting::Usual => Self::Usual,
            Setting::ScarceHugepages { hold_bytes } => {
                let made = Fragmentation::make(hold_bytes, interrupted);
                Self::Scarce(made.map_err(|error| format!("free memory cannot be broken up: {error}"))?)
            }
            Setting::MemoryLimit { limit_bytes } => Self::Limited(MemoryGroup::make(limit_bytes)?),
        })
    }

    /// Has the command's process begin in them.
    pub fn hold(&self, command: &mut Command) -> Result<(), String> {
        match self {
            Self::Usual | Self::Scarce(_) => Ok(()),
            Self::Limited(group) => group.hold(command),
        }
    }

    /// Whether the kernel killed a process for want of memory, and not for what the process did wrong.
    pub fn has_killed(&self) -> bool {
        matches!(self, Self::Limited(group) if group.killed() > 0)
    }

    /// What was seen of the child from here.
    pub fn figures(&self) -> Vec<Figure> {
        match self {
            Self::Usual => Vec::new(),
            Self::Scarce(fragmentation) => fragmentation.figures(),
            Self::Limited(group) => group.figures(),
        }
    }
}
