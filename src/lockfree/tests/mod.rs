//! Plain tests of the structures, on real atomics; the interleavings are loom-tests' business.

mod doorbell;
mod hint_set;
mod once;
mod orphan_stack;
mod range_ring;
mod remote_free;
mod request_slot;
mod room_word;
mod slice_bitmap;

/// Threads in the tests with threads.
const THREADS: usize = 4;

/// A sequence of numbers that look random and are the same in each run (xorshift).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }
}
