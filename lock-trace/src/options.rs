//! What a caller chooses about a trace.

/// Sizes and thresholds of a trace.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of the ring through which the kernel hands over events, for each processor. Rounded up to a power of two
    /// of pages. Larger rings survive longer pauses of the collecting thread, which on a
    /// machine with more runnable threads than processors can last some tenths of a second.
    pub ring_bytes: usize,
    /// Holds and waits of at least this many nanoseconds are kept one by one, with blame.
    pub keep_over_ns: u64,
    /// At most this many are kept, the longest ones.
    pub keep_most: usize,
}

impl Default for Options {
    /// Rings for about 45,000 events on each processor; the longest 1000 intervals from 20 µs on.
    fn default() -> Options {
        Options { ring_bytes: 4 << 20, keep_over_ns: 20_000, keep_most: 1000 }
    }
}
