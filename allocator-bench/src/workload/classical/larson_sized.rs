//! `larson_sized`: [`larson`](super::larson) with boxes of sixteen types, 64 to 1024 bytes long, in place of blocks
//! whose sizes are known at run time; a size is rounded up to the next type.
//!
//! In C++ the sized form tells the allocator a size that the plain one lets it find. Rust always tells it, so what is
//! left to differ is this: the layout is a constant at each allocation and each free, and an allocator that the compiler
//! can inline has its size class chosen by then. One behind a call into another language cannot gain.

use std::mem::MaybeUninit;

use super::larson::{self, MAX_BYTES, Object};

const STEP_BYTES: usize = 64;
const STEP_WORDS: usize = STEP_BYTES / size_of::<u64>();

/// An object of one of the types; its mark is made from its address, and checked when it is dropped.
struct Payload<const REST_WORDS: usize> {
    mark: u64,
    _rest: [MaybeUninit<u64>; REST_WORDS],
}

impl<const REST_WORDS: usize> Payload<REST_WORDS> {
    fn boxed() -> Box<Self> {
        let mut payload = Box::new(Self { mark: 0, _rest: [const { MaybeUninit::uninit() }; REST_WORDS] });
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
    }
}

/// Makes an enum of boxes, one variant for each count of steps, and the choice among them.
macro_rules! sized_objects {
    ($($variant:ident = $steps:literal),*) => {
        enum SizedObject {
            $($variant(Box<Payload<{ $steps * STEP_WORDS - 1 }>>)),*
        }

        impl Object for SizedObject {
            fn new(size_bytes: usize) -> Self {
                match size_bytes.div_ceil(STEP_BYTES) {
                    $($steps => Self::$variant(Payload::boxed()),)*
                    steps => unreachable!("{steps} steps are more than {MAX_BYTES} bytes"),
                }
            }

            fn size_bytes(&self) -> usize {
                match self {
                    $(Self::$variant(payload) => size_of_val::<Payload<_>>(payload)),*
                }
            }
        }
    };
}

sized_objects!(
    Of1 = 1,
    Of2 = 2,
    Of3 = 3,
    Of4 = 4,
    Of5 = 5,
    Of6 = 6,
    Of7 = 7,
    Of8 = 8,
    Of9 = 9,
    Of10 = 10,
    Of11 = 11,
    Of12 = 12,
    Of13 = 13,
    Of14 = 14,
    Of15 = 15,
    Of16 = 16
);

/// Plays the workload with boxes whose sizes the compiler knows.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    larson::play::<SizedObject>(threads, scale)
}

#[cfg(test)]
mod tests {
    use super::{Object, SizedObject};

    #[test]
    fn sizes_are_rounded_up_to_a_type() {
        for (wanted_bytes, got_bytes) in [(8, 64), (64, 64), (65, 128), (512, 512), (961, 1024), (1000, 1024)] {
            assert_eq!(SizedObject::new(wanted_bytes).size_bytes(), got_bytes);
        }
    }

    #[test]
    fn overwritten_mark_is_noticed() {
        let caught = std::panic::catch_unwind(|| {
            let SizedObject::Of2(mut payload) = SizedObject::new(100) else { panic!("100 bytes take two steps") };
            payload.mark ^= 1;
        });
        assert!(caught.is_err());
    }
}
