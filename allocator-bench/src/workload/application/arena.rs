//! `arena`: requests of a server that put everything they need into an arena of their own (bumpalo) and drop it at the
//! end. Each has 30 to 3840 objects of 16 to 256 bytes, in chunks that double in size, so the allocator sees few,
//! growing and short-lived blocks, all freed together. Eight requests are served side by side. Few of the instructions
//! are the allocator's: what it can win or lose is how warm a fresh chunk is. The work per thread is constant.

use std::mem::MaybeUninit;

use bumpalo::Bump;

use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const OBJECTS: usize = 60_000_000;
const MIN_OBJECTS: usize = 30;
const OBJECTS_OCTAVES: usize = 7;
const MAX_REST_WORDS: usize = 30;
const SIDE_BY_SIDE: usize = 8;
/// Objects that a request allocates before it is the next one's turn.
const TURN: usize = 30;

/// Plays the workload; every thread has its own requests.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let objects = scaled(OBJECTS, scale);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0xA4E + thread);
        let (mut left, mut checksum) = (objects, 0);
        while left > 0 {
            let counts = [(); SIDE_BY_SIDE].map(|()| {
                let count = rng.log_uniform(MIN_OBJECTS, OBJECTS_OCTAVES).min(left);
                left -= count;
                count
            });
            checksum += serve(counts, &mut rng);
        }
        checksum
    })
}

/// An object points back to the one before it, so that a request can walk over all of them.
struct Object<'arena> {
    previous: Option<&'arena Object<'arena>>,
    mark: u64,
}

struct Request<'arena> {
    arena: &'arena Bump,
    objects: usize,
    left: usize,
    last: Option<&'arena Object<'arena>>,
    /// What the marks add up to.
    sum: u64,
}

/// Serves requests of so many objects, then drops all arenas; gives the sum of the marks.
fn serve(counts: [usize; SIDE_BY_SIDE], rng: &mut Rng) -> u64 {
    let arenas: [Bump; SIDE_BY_SIDE] = std::array::from_fn(|_| Bump::new());
    let new_request = |(arena, objects)| Request { arena, objects, left: objects, last: None, sum: 0 };
    let mut requests: Vec<Request<'_>> = arenas.iter().zip(counts).map(new_request).collect();
    while requests.iter().any(|request| request.left > 0) {
        requests.iter_mut().for_each(|request| request.take_turn(rng));
    }
    requests.iter().map(Request::checked_sum).sum()
}

impl Request<'_> {
    fn take_turn(&mut self, rng: &mut Rng) {
        let objects = self.left.min(TURN);
        for _ in 0..objects {
            let drawn = rng.next_bits();
            let rest_words = (drawn >> 32) as usize % (MAX_REST_WORDS + 1);
            let mark = drawn & 0xFFFF_FFFF;
            self.last = Some(self.arena.alloc(Object { previous: self.last, mark }));
            self.arena.alloc_slice_fill_with(rest_words, |_| MaybeUninit::<u64>::uninit());
            self.sum += mark;
        }
        self.left -= objects;
    }

    fn checked_sum(&self) -> u64 {
        let walk = std::iter::successors(self.last, |object| object.previous);
        // One more than there are: overwritten objects may lead round in a circle.
        let marks = walk.take(self.objects + 1).map(|object| object.mark);
        let found = marks.fold((0, 0_u64), |(count, sum), mark| (count + 1, sum.wrapping_add(mark)));
        assert_eq!(found, (self.objects, self.sum), "an object was overwritten");
        self.sum
    }
}
