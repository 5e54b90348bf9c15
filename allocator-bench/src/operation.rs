//! Single operations whose instructions are counted: repeated by a child, under valgrind.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::fmt;
use std::hint::black_box;
use std::ptr::NonNull;
use std::str::FromStr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Blocks that are alive at once, so that allocators that keep some blocks at hand are seen at their usual work.
const BATCH: usize = 64;

/// Blocks that go to the other thread at once, so that the hand-over itself hardly counts.
const REMOTE_BATCH: usize = 2048;

/// A block that grows in place where the allocator has room behind it or rounds its size up.
const REALLOC_BYTES: (usize, usize) = (40, 48);

/// One operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// A block of so many bytes is allocated and freed by the same thread.
    Pair(usize),
    /// A zeroed block of so many bytes is allocated and freed.
    ZeroedPair(usize),
    /// A block of so many bytes is allocated by one thread and freed by another.
    RemotePair(usize),
    /// A block is resized from 40 to 48 bytes and back.
    Resize,
}

impl Operation {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 7] = [
        Self::Pair(16),
        Self::Pair(64),
        Self::Pair(256),
        Self::Pair(1024),
        Self::RemotePair(64),
        Self::ZeroedPair(64),
        Self::Resize,
    ];

    /// Does it so many times the number that [`Self::per_round`] gives.
    pub fn repeat(self, rounds: usize) {
        match self {
            Self::Pair(size_bytes) => pairs(rounds, layout(size_bytes), alloc),
            Self::ZeroedPair(size_bytes) => pairs(rounds, layout(size_bytes), alloc_zeroed),
            Self::RemotePair(size_bytes) => remote_pairs(rounds, layout(size_bytes)),
            Self::Resize => resizes(rounds),
        }
    }

    /// How many operations are a round.
    pub fn per_round(self) -> usize {
        match self {
            Self::RemotePair(_) => REMOTE_BATCH,
            Self::Resize => 2 * BATCH,
            Self::Pair(_) | Self::ZeroedPair(_) => BATCH,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair(size_bytes) => write!(formatter, "pair-{size_bytes}"),
            Self::ZeroedPair(size_bytes) => write!(formatter, "zeroed-{size_bytes}"),
            Self::RemotePair(size_bytes) => write!(formatter, "remote-{size_bytes}"),
            Self::Resize => formatter.write_str("resize"),
        }
    }
}

/// A name that no operation has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnknownOperation;

impl FromStr for Operation {
    type Err = UnknownOperation;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|operation| operation.to_string() == name).ok_or(UnknownOperation)
    }
}

fn layout(size_bytes: usize) -> Layout {
    Layout::from_size_align(size_bytes, 8).expect("the sizes of operations are valid")
}

fn pairs(rounds: usize, layout: Layout, allocate: unsafe fn(Layout) -> *mut u8) {
    let mut blocks = [std::ptr::null_mut(); BATCH];
    for _ in 0..rounds {
        // SAFETY: the layout has a size; each block is freed once, with its layout.
        unsafe {
            blocks.iter_mut().for_each(|block| *block = allocate(layout));
            black_box(&mut blocks);
            blocks.iter().for_each(|block| dealloc(*block, layout));
        }
    }
}

fn resizes(rounds: usize) {
    let (small, large) = (layout(REALLOC_BYTES.0), layout(REALLOC_BYTES.1));
    // SAFETY: the layouts have a size; each block is resized and freed with the layout that it has.
    unsafe {
        let mut blocks = [(); BATCH].map(|()| alloc(small));
        for _ in 0..rounds {
            blocks.iter_mut().for_each(|block| *block = realloc(*block, small, large.size()));
            black_box(&mut blocks);
            blocks.iter_mut().for_each(|block| *block = realloc(*block, large, small.size()));
            black_box(&mut blocks);
        }
        blocks.iter().for_each(|block| dealloc(*block, small));
    }
}

/// Blocks on their way to the thread that frees them.
struct Sent(Vec<Option<NonNull<u8>>>);

// SAFETY: the blocks are owned by whoever holds this, and may be freed by any thread.
unsafe impl Send for Sent {}

/// The list of blocks goes to and fro, so that both threads take turns.
fn remote_pairs(rounds: usize, layout: Layout) {
    std::thread::scope(|scope| {
        let (to_other, from_here) = sync_channel(1);
        let (to_here, from_other) = sync_channel(1);
        scope.spawn(move || free_all(&from_here, &to_here, layout));
        let mut sent = Sent(vec![None; REMOTE_BATCH]);
        for _ in 0..rounds {
            // SAFETY: the layout has a size.
            sent.0.iter_mut().for_each(|block| *block = NonNull::new(unsafe { alloc(layout) }));
            to_other.send(sent).expect("the other thread receives until the channel closes");
            sent = from_other.recv().expect("the list comes back each time");
        }
    });
}

fn free_all(from_here: &Receiver<Sent>, to_here: &SyncSender<Sent>, layout: Layout) {
    for mut sent in from_here {
        for block in sent.0.iter_mut().filter_map(Option::take) {
            // SAFETY: the block came from this allocator with this layout, and is taken only once.
            unsafe { dealloc(block.as_ptr(), layout) };
        }
        if to_here.send(sent).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Operation;

    #[test]
    fn names_read_back_and_operations_end() {
        for operation in Operation::ALL {
            assert_eq!(operation.to_string().parse(), Ok(operation));
            operation.repeat(2);
            assert!(operation.per_round() > 0);
        }
        assert!("pair-17".parse::<Operation>().is_err());
    }
}
