//! A small seeded random number generator (xorshift64*), so that every allocator is given the same requests.
//!
//! Used by every workload; a workload seeds one generator per thread from the thread's index.

/// A xorshift64* generator: fast, reproducible, and good enough to pick sizes and slots.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A generator whose sequence depends only on `seed`.
    pub fn new(seed: u64) -> Self {
        // A step of splitmix64 spreads neighbouring seeds apart; the state must not be zero.
        let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self { state: (mixed ^ (mixed >> 31)) | 1 }
    }

    /// The next 64 random bits.
    #[inline]
    pub fn next_bits(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in `0..bound`; `bound` must fit in 32 bits and be above zero.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        debug_assert!(bound > 0 && bound <= u32::MAX as usize);
        (((self.next_bits() >> 32) * bound as u64) >> 32) as usize
    }

    /// A number in `low..=high`.
    #[inline]
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// A number in `low..low << octaves` with each doubling of the size equally likely.
    #[inline]
    pub fn log_uniform(&mut self, low: usize, octaves: usize) -> usize {
        let base = low << self.below(octaves);
        base + self.below(base)
    }

    /// Puts `items` into a random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn same_seed_gives_same_sequence() {
        let (mut first, mut second, mut other) = (Rng::new(7), Rng::new(7), Rng::new(8));
        let drawn: Vec<u64> = (0..32).map(|_| first.next_bits()).collect();
        assert!(drawn.iter().all(|&bits| bits == second.next_bits()));
        assert!(drawn.iter().any(|&bits| bits != other.next_bits()));
    }

    #[test]
    fn ranges_are_kept_and_reached() {
        let mut rng = Rng::new(1);
        let drawn: Vec<usize> = (0..2000).map(|_| rng.between(3, 6)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&6)));
        assert!((0..2000).map(|_| rng.log_uniform(8, 9)).all(|size| (8..4096).contains(&size)));
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<usize> = (0..100).collect();
        Rng::new(3).shuffle(&mut items);
        assert!(items.windows(2).any(|pair| pair[0] > pair[1]));
        items.sort_unstable();
        assert!(items.iter().enumerate().all(|(index, &item)| index == item));
    }
}
