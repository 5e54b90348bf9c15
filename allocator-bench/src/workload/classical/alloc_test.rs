//! `alloc_test`: after the allocator test of OLogN Technologies (ITHare, 2018). Of 256k slots one is chosen at random,
//! some far more often than others (80/20, six times over); if it is empty it gets a block, otherwise its block is
//! freed. Half of the slots are full at first, and a block of a rarely chosen slot lives long.
//!
//! The usual parameters: 2^18 slots shared out among the threads; sizes of 5 bytes to 1 KiB, each doubling half as
//! likely as the one before. 100 million operations per thread are fewer here, and a block is marked instead of filled.
//! The work per thread is constant.

use crate::block::{Block, MIN_SIZE_BYTES};
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const SLOTS: usize = 1 << 18;
const OPERATIONS: usize = 18_000_000;
/// Seven doublings of the smallest size.
const DOUBLINGS: u32 = 7;
const SMALLEST_BYTES: usize = 4;

/// How much of the choices goes to which part of the slots, in millionths, the most chosen part first: the six-fold
/// product of "80 % go to a fifth of them". The parts of the slots are the same numbers backwards.
const PARETO: [usize; 7] = [262_144, 393_216, 245_760, 81_920, 15_360, 1_536, 64];
const MILLION: usize = 1_000_000;

/// Plays the workload; every thread has its share of the slots.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let operations = scaled(OPERATIONS, scale);
    let slots = (SLOTS / threads).min(operations).max(1);
    let parts = parts_of(slots);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0xA110 + thread);
        let (mut allocated_bytes, mut freed_bytes) = (0, 0);
        let mut new_block = |rng: &mut Rng| {
            let block = Block::new(random_bytes(rng));
            allocated_bytes += block.size_bytes() as u64;
            block
        };
        let mut table: Vec<Option<Block>> =
            (0..slots).map(|_| (rng.below(2) == 0).then(|| new_block(&mut rng))).collect();
        for _ in 0..operations {
            let (first, count) = parts[part_index(rng.below(MILLION))];
            let slot = &mut table[first + rng.below(count)];
            match slot.take() {
                Some(block) => freed_bytes += block.size_bytes() as u64,
                None => *slot = Some(new_block(&mut rng)),
            }
        }
        freed_bytes += table.drain(..).flatten().map(|block| block.size_bytes() as u64).sum::<u64>();
        assert_eq!(freed_bytes, allocated_bytes);
        freed_bytes
    })
}

/// The first slot and the number of slots of each part, the most chosen and smallest one first.
fn parts_of(slots: usize) -> Vec<(usize, usize)> {
    let mut first = 0;
    let part = |(index, &millionths): (usize, &usize)| {
        let last = index == PARETO.len() - 1;
        let wanted = if last { slots.saturating_sub(first) } else { slots * millionths / MILLION };
        let part = (first.min(slots - 1), wanted.max(1));
        first += wanted;
        part
    };
    PARETO.iter().rev().enumerate().map(part).collect()
}

/// The part that a choice among a million falls into.
fn part_index(choice: usize) -> usize {
    let mut end = 0;
    let found = PARETO.iter().position(|&millionths| {
        end += millionths;
        choice < end
    });
    found.expect("the parts are a million in total")
}

/// 5 to 1024 bytes, the lower half of the doublings more likely.
fn random_bytes(rng: &mut Rng) -> usize {
    let bits = rng.next_bits() as usize;
    let doublings = ((bits & ((1 << DOUBLINGS) - 1)) + 1).trailing_zeros();
    let base = SMALLEST_BYTES << doublings;
    (base + 1 + (bits >> DOUBLINGS) % base).max(MIN_SIZE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::{MILLION, PARETO, SLOTS, part_index, parts_of, random_bytes};
    use crate::rng::Rng;

    #[test]
    fn parts_cover_the_slots() {
        assert_eq!(PARETO.iter().sum::<usize>(), MILLION);
        assert_eq!((part_index(0), part_index(262_144), part_index(MILLION - 1)), (0, 1, 6));
        for slots in [1, 5, 1000, SLOTS] {
            assert!(parts_of(slots).iter().all(|&(first, count)| count > 0 && first + count <= slots), "{slots}");
        }
        assert_eq!(
            parts_of(SLOTS).iter().filter(|(_, count)| *count > 1).map(|(_, count)| count).sum::<usize>(),
            SLOTS
        );
    }

    #[test]
    fn sizes_are_small_and_up_to_a_kibibyte() {
        let mut rng = Rng::new(1);
        let sizes: Vec<usize> = (0..100_000).map(|_| random_bytes(&mut rng)).collect();
        let small = sizes.iter().filter(|&&size| size == 8).count();
        assert!((45_000..55_000).contains(&small), "{small}");
        assert!(sizes.iter().all(|size| (8..=1024).contains(size)) && sizes.iter().any(|&size| size > 512));
    }
}
