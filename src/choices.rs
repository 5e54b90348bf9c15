//! What a program can choose by a word, on every system. Called by `options` and `front`; without effect where there is
//! no allocator of our own.

/// When reserved memory is made usable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Commit {
    /// `Ready`, unless the process may lock all its memory or the kernel refuses: then `Stepped`.
    #[default]
    Auto,
    /// Everything at start: no call takes mmap_lock for writing ever after.
    Ready,
    /// In geometric steps as memory is used: a dozen short calls in the life of a process, and `mlockall` locks about
    /// what is used.
    Stepped,
}

/// Who gives freed memory back and warms memory ahead of need.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Governor {
    /// A thread of the allocator, started when there is something to do.
    #[default]
    Thread,
    /// The program, whenever it calls `tick()`. There is no thread, and nothing happens between those calls.
    Tick,
}
