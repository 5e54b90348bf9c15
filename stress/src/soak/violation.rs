//! What the allocator did wrong: one line for a person, with all that is needed to see it again.

use std::fmt;

use super::block::{Block, Difference};

/// A broken promise of the allocator. It is plain data, so that it can be passed from a forked child and told when
/// nothing can be allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The seed of the soak.
    pub seed: u64,
    /// The number of the thread, as scripts count them.
    pub thread: usize,
    /// The step of that thread, counted from one.
    pub step: u64,
    /// Whether it happened in a forked child.
    pub in_child: bool,
    /// What was broken.
    pub defect: Defect,
}

/// What is wrong with which block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defect {
    /// Where the block is; zero if none was given.
    pub address: usize,
    /// Its size.
    pub bytes: usize,
    /// Its alignment.
    pub align: usize,
    /// What is wrong.
    pub kind: DefectKind,
}

/// What is wrong with a block, or a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefectKind {
    /// It overlaps another live block.
    Overlap {
        /// The part of the other block that was found, as addresses.
        other: (usize, usize),
    },
    /// It begins where a live block begins.
    HandedOutTwice,
    /// The model has no such block: it was changed by somebody else.
    Unknown,
    /// Its address is not a multiple of its alignment.
    Misaligned,
    /// Its memory should be zero.
    NotZeroed(Difference),
    /// Its contents are not what was written.
    Changed(When, Difference),
    /// It was refused although nothing stood in the way.
    Refused,
    /// The wait status of a forked child that died without a word.
    ChildDied(i32),
}

/// When changed contents were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// While it was live.
    Live,
    /// Before it was freed.
    BeforeFree,
    /// Before its size was changed.
    BeforeRealloc,
    /// After its size was changed.
    AfterRealloc,
    /// After a change of its size was refused, which must leave it as it was.
    AfterRefusal,
}

impl Defect {
    /// A defect of a block.
    pub fn of(block: &Block, kind: DefectKind) -> Self {
        Self { address: block.start(), bytes: block.layout.size(), align: block.layout.align(), kind }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Violation { seed, thread, step, in_child, defect } = self;
        write!(formatter, "seed {seed} thread {thread} step {step}")?;
        if *in_child {
            write!(formatter, " in a forked child")?;
        }
        write!(formatter, ": {defect}")
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Defect { address, bytes, align, kind } = self;
        let block = format_args!("block {address:#x} of {bytes} bytes, alignment {align}");
        match kind {
            DefectKind::Overlap { other: (start, end) } => {
                write!(formatter, "{block}: expected apart from all others, seen to overlap {start:#x}..{end:#x}")
            }
            DefectKind::HandedOutTwice => {
                write!(formatter, "{block}: expected free, seen live already (double hand-out)")
            }
            DefectKind::Unknown => write!(formatter, "{block}: expected in the model of live blocks, not seen there"),
            DefectKind::Misaligned => {
                let rest = address % align;
                write!(formatter, "{block}: expected a multiple of {align}, seen {rest} more")
            }
            DefectKind::NotZeroed(difference) => write!(formatter, "{block}: zeroed memory is dirty {difference}"),
            DefectKind::Changed(when, difference) => {
                write!(formatter, "{block}: contents changed, {when}, {difference}")
            }
            DefectKind::Refused => {
                write!(formatter, "{bytes} bytes, alignment {align}: expected memory, seen null with no fault injected")
            }
            DefectKind::ChildDied(status) => {
                let (signal, code) = (status & 0x7f, (status >> 8) & 0xff);
                write!(formatter, "expected a forked child to end with code 0, seen signal {signal}, code {code}")
            }
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Difference { offset, expected, seen, length } = self;
        write!(formatter, "at offset {offset}: expected {:02x?}, seen {:02x?}", &expected[..*length], &seen[..*length])
    }
}

impl fmt::Display for When {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            When::Live => "seen while live",
            When::BeforeFree => "seen before free",
            When::BeforeRealloc => "seen before realloc",
            When::AfterRealloc => "lost by realloc",
            When::AfterRefusal => "lost by a realloc that was refused",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_is_one_line_with_all_that_is_known() {
        let difference = Difference { offset: 5, expected: [1; 8], seen: [2; 8], length: 3 };
        let kind = DefectKind::Changed(When::AfterRealloc, difference);
        let defect = Defect { address: 0x1000, bytes: 8, align: 16, kind };
        let violation = Violation { seed: 1, thread: 2, step: 3, in_child: true, defect };
        assert_eq!(
            violation.to_string(),
            "seed 1 thread 2 step 3 in a forked child: block 0x1000 of 8 bytes, alignment 16: contents changed, lost by \
             realloc, at offset 5: expected [01, 01, 01], seen [02, 02, 02]"
        );
    }
}
