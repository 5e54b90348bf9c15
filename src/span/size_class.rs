//! Request size to size class and back, and how many slices a slab of each class takes. Pure; called by `thread` and
//! `front`.
//!
//! Classes are 16 bytes apart up to 128, four to a doubling up to 32 KiB (as in jemalloc and mimalloc: at most 20 % of
//! a block is lost to rounding, 22 % above 4 KiB), eight to a doubling up to 512 KiB, where it is at most 12 %.
//!
//! Blocks of the classes between 4 and 128 KiB that are no powers of two are 128 bytes larger than that. Otherwise they
//! all would lie at multiples of 1 KiB or more, the same places in many of them would share a few sets of the
//! processor's caches, and a program that fills several of them side by side would wait for each byte (three times as
//! long as otherwise; jemalloc puts large blocks at random cache lines for that reason). Powers of two stay what they
//! are: programs ask for them often, and aligned to pages; growing blocks avoid them. The price: what is aligned to
//! more than 128 bytes has only powers of two to choose from there.

use crate::limits::{BLOCK_ALIGN_BYTES, SLAB_BLOCK_BYTES_MAX, SLICE_BYTES};

/// Number of size classes.
pub(crate) const CLASS_COUNT: usize = 72;

const LINEAR_CLASSES: usize = 8;
const LINEAR_BYTES_MAX: usize = 128;
const QUARTER_CLASSES: usize = 32;
const QUARTER_BYTES_MAX: usize = 32 << 10;

/// Requests up to this size find their class in a table.
const TABLE_BYTES_MAX: usize = 1024;
/// Requests up to this size find their class in a coarser one.
const COARSE_TABLE_BYTES_MAX: usize = QUARTER_BYTES_MAX;
/// All classes above [`TABLE_BYTES_MAX`] are multiples of this.
const COARSE_STEP_BYTES: usize = 128;

/// How much larger than in their order blocks of some classes are.
const SHIFT_BYTES: usize = 128;
const SHIFTED_BYTES_MIN: usize = 4 << 10;
const SHIFTED_BYTES_MAX: usize = 128 << 10;

/// A size class: always below [`CLASS_COUNT`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Class(u8);

/// What all slabs of a class have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassShape {
    /// Bytes in a block.
    pub(crate) block_bytes: u32,
    /// Blocks in a slab.
    pub(crate) capacity: u32,
    /// Slices in a slab.
    pub(crate) slices: u32,
    /// `ceil(2^64 / block_bytes)`: `n` is a multiple of `block_bytes` if and only if `n * inverse mod 2^64 < inverse`,
    /// for all `n` below 2^32 (Lemire, Kaser, Kurz: Faster remainder by direct computation, 2019).
    pub(crate) inverse: u64,
}

const fn class_bytes(index: usize) -> usize {
    let bytes = ordinal_bytes(index);
    let is_shifted = bytes > SHIFTED_BYTES_MIN && bytes < SHIFTED_BYTES_MAX && !bytes.is_power_of_two();
    if is_shifted { bytes + SHIFT_BYTES } else { bytes }
}

const fn ordinal_bytes(index: usize) -> usize {
    if index < LINEAR_CLASSES {
        return (index + 1) * BLOCK_ALIGN_BYTES;
    }
    if index < LINEAR_CLASSES + QUARTER_CLASSES {
        let place = index - LINEAR_CLASSES;
        return (LINEAR_BYTES_MAX << (place / 4)) / 4 * (5 + place % 4);
    }
    let place = index - LINEAR_CLASSES - QUARTER_CLASSES;
    (QUARTER_BYTES_MAX << (place / 8)) / 8 * (9 + place % 8)
}

/// The class of `bytes` by arithmetic; `bytes` in 0 ..= [`SLAB_BLOCK_BYTES_MAX`].
const fn index_of(bytes: usize) -> usize {
    let index = ordinal_index_of(bytes);
    if index > 0 && class_bytes(index - 1) >= bytes { index - 1 } else { index }
}

const fn ordinal_index_of(bytes: usize) -> usize {
    if bytes <= LINEAR_BYTES_MAX {
        return bytes.div_ceil(BLOCK_ALIGN_BYTES).saturating_sub(1);
    }
    let last = bytes - 1;
    let top = last.ilog2() as usize;
    if bytes <= QUARTER_BYTES_MAX {
        LINEAR_CLASSES + (top - 7) * 4 + (last >> (top - 2) & 3)
    } else {
        LINEAR_CLASSES + QUARTER_CLASSES + (top - 15) * 8 + (last >> (top - 3) & 7)
    }
}

/// Slices for a slab: the fewest that lose at most 1/32 at the end (1/16 for blocks over 4 KiB) and hold enough blocks:
/// 8 up to 8 KiB, then 4, then 2. More would cost fewer visits to the arena, but spread a program's data over more
/// memory than its caches like.
const fn slab_slices(block_bytes: usize) -> usize {
    let blocks_min = match block_bytes {
        0..=8_192 => 8,
        8_193..=32_768 => 4,
        _ => 2,
    };
    let loss_divisor = loss_divisor(block_bytes);
    let mut slices = 1;
    loop {
        let bytes = slices * SLICE_BYTES;
        if bytes / block_bytes >= blocks_min && bytes % block_bytes * loss_divisor <= bytes {
            return slices;
        }
        slices += 1;
    }
}

const fn loss_divisor(block_bytes: usize) -> usize {
    if block_bytes > SHIFTED_BYTES_MIN { 16 } else { 32 }
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, where a bad index is an error")]
static SHAPES: [ClassShape; CLASS_COUNT] = {
    let mut shapes = [ClassShape { block_bytes: 0, capacity: 0, slices: 0, inverse: 0 }; CLASS_COUNT];
    let mut index = 0;
    while index < CLASS_COUNT {
        let block_bytes = class_bytes(index);
        let slices = slab_slices(block_bytes);
        shapes[index] = ClassShape {
            block_bytes: block_bytes as u32,
            capacity: (slices * SLICE_BYTES / block_bytes) as u32,
            slices: slices as u32,
            inverse: u64::MAX / block_bytes as u64 + 1,
        };
        index += 1;
    }
    shapes
};

/// The classes of the first multiples of `step_bytes`.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, where a bad index is an error")]
const fn table<const STEPS: usize>(step_bytes: usize) -> [u8; STEPS] {
    let mut table = [0; STEPS];
    let mut step = 0;
    while step < STEPS {
        table[step] = index_of(step * step_bytes) as u8;
        step += 1;
    }
    table
}

static TABLE: [u8; TABLE_BYTES_MAX / BLOCK_ALIGN_BYTES + 1] = table(BLOCK_ALIGN_BYTES);
static COARSE_TABLE: [u8; COARSE_TABLE_BYTES_MAX / COARSE_STEP_BYTES + 1] = table(COARSE_STEP_BYTES);

const _: () = assert!(class_bytes(CLASS_COUNT - 1) == SLAB_BLOCK_BYTES_MAX);
const _: () = assert!(index_of(SLAB_BLOCK_BYTES_MAX) == CLASS_COUNT - 1);

impl Class {
    /// Every class, smallest first.
    pub(crate) fn all() -> impl Iterator<Item = Class> {
        (0..CLASS_COUNT as u8).map(Class)
    }

    /// The class for the commonest requests: up to 1 KiB, aligned to 16 at most. `None` for any other.
    #[inline(always)]
    pub(crate) fn common(bytes: usize, align_bytes: usize) -> Option<Class> {
        if bytes > TABLE_BYTES_MAX || align_bytes > BLOCK_ALIGN_BYTES {
            return None;
        }
        // SAFETY: `bytes <= TABLE_BYTES_MAX`, so rounded up it is at most the table's last entry.
        Some(Class(unsafe { *TABLE.get_unchecked(bytes.div_ceil(BLOCK_ALIGN_BYTES)) }))
    }

    /// The class of the smallest blocks that hold `bytes`; `None` above [`SLAB_BLOCK_BYTES_MAX`].
    #[inline]
    pub(crate) fn holding(bytes: usize) -> Option<Class> {
        if let Some(class) = Self::common(bytes, 1) {
            return Some(class);
        }
        if bytes <= COARSE_TABLE_BYTES_MAX {
            // SAFETY: `bytes <= COARSE_TABLE_BYTES_MAX`, so rounded up it is at most the table's last entry.
            return Some(Class(unsafe { *COARSE_TABLE.get_unchecked(bytes.div_ceil(COARSE_STEP_BYTES)) }));
        }
        (bytes <= SLAB_BLOCK_BYTES_MAX).then(|| Class(index_of(bytes) as u8))
    }

    /// The class of the smallest blocks that hold `bytes` and all lie at multiples of `align_bytes`, a power of two;
    /// `None` if no slab has such.
    #[inline(always)]
    pub(crate) fn holding_aligned(bytes: usize, align_bytes: usize) -> Option<Class> {
        if align_bytes <= BLOCK_ALIGN_BYTES { Self::holding(bytes) } else { Self::search_aligned(bytes, align_bytes) }
    }

    #[cold]
    fn search_aligned(bytes: usize, align_bytes: usize) -> Option<Class> {
        // Slabs start at a multiple of a slice, so a block is aligned if its size is a multiple.
        if align_bytes > SLICE_BYTES {
            return None;
        }
        let mut class = Self::holding(bytes.max(align_bytes))?;
        while !class.shape().block_bytes.is_multiple_of(align_bytes as u32) {
            class = (class.index() + 1 < CLASS_COUNT).then(|| Class(class.0 + 1))?;
        }
        Some(class)
    }

    /// For a block that grows and may lie beside others that do: the next class, if blocks of this one share sets of
    /// the processor's caches, those of the next do not, and they lie at multiples of `align_bytes`.
    pub(crate) fn apart(self, align_bytes: usize) -> Class {
        let bytes = self.shape().block_bytes as usize;
        let is_between = (SHIFTED_BYTES_MIN..SHIFTED_BYTES_MAX).contains(&bytes);
        if is_between && bytes.is_power_of_two() && align_bytes <= SHIFT_BYTES { Class(self.0 + 1) } else { self }
    }

    /// A class from the number that [`Class::index`] gave.
    pub(crate) fn from_index(index: u8) -> Option<Class> {
        ((index as usize) < CLASS_COUNT).then_some(Class(index))
    }

    /// The number of the class, below [`CLASS_COUNT`].
    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The shape of its slabs.
    #[inline(always)]
    pub(crate) fn shape(self) -> &'static ClassShape {
        // SAFETY: a class is always below CLASS_COUNT, the length of the table.
        unsafe { SHAPES.get_unchecked(self.index()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Oracle: the first class in order that is large enough.
    fn naive(bytes: usize) -> usize {
        (0..CLASS_COUNT).find(|index| class_bytes(*index) >= bytes).unwrap()
    }

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for bytes in 0..=SLAB_BLOCK_BYTES_MAX {
            let class = Class::holding(bytes).unwrap();
            assert_eq!(class.index(), naive(bytes), "{bytes}");
        }
        assert_eq!(Class::holding(SLAB_BLOCK_BYTES_MAX + 1), None);
    }

    #[test]
    fn slabs_are_well_filled_and_fit_the_shared_word() {
        for class in Class::all() {
            let shape = class.shape();
            let bytes = shape.slices as usize * SLICE_BYTES;
            let lost = bytes - (shape.capacity * shape.block_bytes) as usize;
            let divisor = loss_divisor(shape.block_bytes as usize);
            assert!(lost * divisor <= bytes, "{class:?} loses {lost} of {bytes}");
            assert!(shape.capacity >= 2 && shape.slices <= 16, "{shape:?}");
            assert!(bytes / BLOCK_ALIGN_BYTES < (1 << 20) - 1);
            assert_eq!(shape.block_bytes as usize % BLOCK_ALIGN_BYTES, 0);
        }
    }

    #[test]
    fn rounding_loses_little() {
        for index in LINEAR_CLASSES..CLASS_COUNT {
            let [below, above] = [class_bytes(index - 1), class_bytes(index)];
            let percent_max = match above {
                _ if above <= SHIFTED_BYTES_MIN => 20,
                _ if above <= QUARTER_BYTES_MAX => 22,
                _ => 12,
            };
            assert!((above - below - 1) * 100 < above * percent_max, "{below}..{above}");
        }
    }

    #[test]
    fn growing_blocks_lie_apart_where_they_may() {
        for class in Class::all() {
            let bytes = class.shape().block_bytes as usize;
            let apart = class.apart(8).shape().block_bytes as usize;
            let between = (SHIFTED_BYTES_MIN..SHIFTED_BYTES_MAX).contains(&bytes);
            assert_eq!(apart > bytes, between && bytes.is_power_of_two(), "{bytes}");
            assert!(!between || !apart.is_power_of_two());
            let aligned = class.apart(SHIFT_BYTES).shape().block_bytes as usize;
            assert!(!between || aligned.is_multiple_of(SHIFT_BYTES), "{bytes}");
            assert_eq!(class.apart(2 * SHIFT_BYTES), class);
        }
    }

    #[test]
    fn side_by_side_blocks_between_4_and_128_kib_do_not_share_sets_of_caches_unless_powers_of_two() {
        for bytes in Class::all().map(|class| class.shape().block_bytes) {
            let middle = bytes > SHIFTED_BYTES_MIN as u32 && bytes < SHIFTED_BYTES_MAX as u32;
            // Sets of a first-level cache repeat every 4 KiB on the processors that we know.
            let places = (0..8).map(|block| block * bytes % 4096).collect::<std::collections::HashSet<_>>();
            assert!(!middle || bytes.is_power_of_two() || places.len() == 8, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn aligned_requests_get_aligned_blocks(bytes in 0_usize..=SLAB_BLOCK_BYTES_MAX, shift in 0_u32..=17) {
            let align = 1_usize << shift;
            match Class::holding_aligned(bytes, align) {
                Some(class) => {
                    let block = class.shape().block_bytes as usize;
                    prop_assert!(block >= bytes && (block.is_multiple_of(align) || align <= BLOCK_ALIGN_BYTES));
                    let smaller = (0..class.index()).map(class_bytes);
                    let mut fitting = smaller.filter(|block| *block >= bytes && block.is_multiple_of(align));
                    prop_assert!(align <= BLOCK_ALIGN_BYTES || fitting.next().is_none());
                }
                None => prop_assert!(align > SLICE_BYTES || bytes.next_multiple_of(align) > SLAB_BLOCK_BYTES_MAX),
            }
        }

        #[test]
        fn the_inverse_tells_multiples_from_the_rest(index in 0_usize..CLASS_COUNT, offset in 0_u64..(1 << 20)) {
            let shape = SHAPES[index];
            let says = offset.wrapping_mul(shape.inverse) < shape.inverse;
            prop_assert_eq!(says, offset % u64::from(shape.block_bytes) == 0);
        }
    }
}
