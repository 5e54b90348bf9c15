//! `larson_sized`: [`larson`] with boxes of sixteen types, 64 to 1024 bytes long, in place of blocks
//! whose sizes are known at run time.
//!
//! In C++ the sized form tells the allocator a size that the plain one lets it find. Rust always tells it, so what is
//! left to differ is this: the layout is a constant at each allocation and each free, and an allocator that the
//! compiler can inline has its size class chosen by then. One behind a call into another language cannot gain.
//!
//! As the code differs by type, a hundred objects of one type are replaced at a time: choosing a type anew for each
//! would measure mispredicted jumps.

use std::mem::MaybeUninit;

use crate::rng::Rng;

use super::larson::{self, SLOTS, Slots};

const TYPES: usize = 16;
const SLOTS_PER_TYPE: usize = SLOTS / TYPES;
const RUN: usize = 100;
const WORDS_PER_STEP: usize = 8;

/// An object of one of the types; its mark is made from its address, and checked when it is dropped.
struct Payload<const REST_WORDS: usize> {
    mark: u64,
    _rest: [MaybeUninit<u64>; REST_WORDS],
}

impl<const REST_WORDS: usize> Payload<REST_WORDS> {
    fn boxed() -> Box<Self> {
        // Not `Box::new`, which would copy the uninitialised rest from the stack.
        let mut payload = Box::<Self>::new_uninit();
        // SAFETY: the pointer is to room for a payload, and nobody else has it.
        unsafe { (&raw mut (*payload.as_mut_ptr()).mark).write(0) };
        // SAFETY: the mark was written, and the rest needs no initialisation.
        let mut payload = unsafe { payload.assume_init() };
        payload.mark = payload.own_mark();
        payload
    }

    fn own_mark(&self) -> u64 {
        std::ptr::from_ref(self).addr() as u64 ^ (REST_WORDS as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

impl<const REST_WORDS: usize> Drop for Payload<REST_WORDS> {
    fn drop(&mut self) {
        assert_eq!(self.mark, self.own_mark(), "object of {} bytes has lost its mark", size_of::<Self>());
        // SAFETY: the field is ours. Volatile, because the compiler knows that nobody may read freed memory.
        unsafe { (&raw mut self.mark).write_volatile(0) };
    }
}

/// The slots with objects of one type.
struct OfType<const REST_WORDS: usize> {
    slots: Vec<Box<Payload<REST_WORDS>>>,
    allocated: usize,
}

impl<const REST_WORDS: usize> OfType<REST_WORDS> {
    fn new() -> Self {
        Self { slots: (0..SLOTS_PER_TYPE).map(|_| Payload::boxed()).collect(), allocated: SLOTS_PER_TYPE }
    }

    fn replace(&mut self, replacements: usize, rng: &mut Rng) {
        for _ in 0..replacements {
            self.slots[rng.below(SLOTS_PER_TYPE)] = Payload::boxed();
        }
        self.allocated += replacements;
    }

    fn free(self) -> u64 {
        (self.allocated * size_of::<Payload<REST_WORDS>>()) as u64
    }
}

/// Makes the struct with slots for each type, and the choice among them.
macro_rules! typed_slots {
    ($($field:ident = $index:literal),*) => {
        struct TypedSlots {
            $($field: OfType<{ ($index + 1) * WORDS_PER_STEP - 1 }>),*
        }

        impl Slots for TypedSlots {
            fn new(_: &mut Rng) -> Self {
                Self { $($field: OfType::new()),* }
            }

            fn replace(&mut self, replacements: usize, rng: &mut Rng) {
                for done in (0..replacements).step_by(RUN) {
                    let run = RUN.min(replacements - done);
                    match rng.below(TYPES) {
                        $($index => self.$field.replace(run, rng),)*
                        index => unreachable!("type {index} of {TYPES}"),
                    }
                }
            }

            fn free(self) -> u64 {
                [$(self.$field.free()),*].into_iter().sum()
            }
        }
    };
}

typed_slots!(
    of_64 = 0,
    of_128 = 1,
    of_192 = 2,
    of_256 = 3,
    of_320 = 4,
    of_384 = 5,
    of_448 = 6,
    of_512 = 7,
    of_576 = 8,
    of_640 = 9,
    of_704 = 10,
    of_768 = 11,
    of_832 = 12,
    of_896 = 13,
    of_960 = 14,
    of_1024 = 15
);

/// Plays the workload with boxes whose sizes the compiler knows.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    larson::play::<TypedSlots>(threads, scale)
}

#[cfg(test)]
mod tests {
    use super::{Payload, Rng, Slots, TypedSlots};

    #[test]
    fn every_replacement_is_counted() {
        let mut rng = Rng::new(1);
        let mut slots = TypedSlots::new(&mut rng);
        slots.replace(250, &mut rng);
        let steps: usize = (1..=16).sum::<usize>() * super::SLOTS_PER_TYPE;
        let replaced_bytes = slots.free() - (64 * steps) as u64;
        assert!((250 * 64..=250 * 1024).contains(&replaced_bytes), "{replaced_bytes}");
    }

    #[test]
    fn overwritten_mark_is_noticed() {
        let caught = std::panic::catch_unwind(|| {
            let mut payload = Payload::<15>::boxed();
            payload.mark ^= 1;
        });
        assert!(caught.is_err());
    }
}
