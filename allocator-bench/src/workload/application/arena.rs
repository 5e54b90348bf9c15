//! `arena`: requests of a server that put everything they need into an arena of their own (bumpalo) and drop it at the
//! end. Each has 30 to 3840 objects of 16 to 256 bytes, in chunks that double in size, so the allocator sees few, growing
//! and short-lived blocks, all freed together; eight requests are in flight at a time. Few of the
//! instructions are the allocator's: what it can win or lose is how warm a fresh chunk is. The work per thread is constant.

use std::collections::VecDeque;
use std::mem::MaybeUninit;

use bumpalo::Bump;

use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const OBJECTS: usize = 60_000_000;
const MIN_OBJECTS: usize = 30;
const OBJECTS_OCTAVES: usize = 7;
const MAX_REST_WORDS: usize = 30;
const IN_FLIGHT: usize = 8;

/// An object points back to the one before it, so that a request can walk over all of them.
struct Object<'arena> {
    previous: Option<&'arena Object<'arena>>,
    mark: u64,
}

/// Plays the workload; every thread has its own requests.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let objects = scaled(OBJECTS, scale);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0xA4E + thread);
        let mut in_flight = VecDeque::with_capacity(IN_FLIGHT);
        let (mut left, mut checksum) = (objects, 0);
        while left > 0 {
            let count = rng.log_uniform(MIN_OBJECTS, OBJECTS_OCTAVES).min(left);
            left -= count;
            if in_flight.len() == IN_FLIGHT {
                in_flight.pop_front();
            }
            let arena = Bump::new();
            checksum += serve(&arena, count, &mut rng);
            in_flight.push_back(arena);
        }
        checksum
    })
}

/// Fills the arena of one request, then walks over its objects; gives the sum of their marks.
fn serve(arena: &Bump, objects: usize, rng: &mut Rng) -> u64 {
    let (mut last, mut expected) = (None, 0);
    for _ in 0..objects {
        let drawn = rng.next_bits();
        let rest_words = (drawn >> 32) as usize % (MAX_REST_WORDS + 1);
        let mark = drawn & 0xFFFF_FFFF;
        last = Some(&*arena.alloc(Object { previous: last, mark }));
        arena.alloc_slice_fill_with(rest_words, |_| MaybeUninit::<u64>::uninit());
        expected += mark;
    }
    let walk = std::iter::successors(last, |object| object.previous);
    let found: u64 = walk.map(|object| object.mark).sum();
    assert_eq!(found, expected, "an object was overwritten");
    found
}
