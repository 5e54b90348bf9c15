//! `realloc_steps`: many strings, vectors and raw blocks grown side by side from nothing to 64 KiB, then cut and shrunk
//! to fit. Strings and vectors double their capacity; the raw blocks grow by small steps, which an allocator can often
//! serve in place. Most of the instructions copy, in `realloc` and in the appending alike.

use crate::block::{Block, MIN_SIZE_BYTES};
use crate::rng::Rng;
use crate::workload::{on_threads, scaled};

const FULL_BYTES: usize = 64 * 1024;
const SIDE_BY_SIDE: usize = 16;
const REPEATS: usize = 600;
const RAW_STEP_BYTES: usize = 512;
const FIRST_BYTE: u8 = 0xB5;
const PIECE: &str = "a piece of text that a server appends to its answer, bit by bit;";

/// Plays the workload; every thread grows its own.
pub(super) fn run(threads: usize, scale: f64) -> u64 {
    let repeats = scaled(REPEATS, scale);
    on_threads(threads, |thread| {
        let mut rng = Rng::new(0x4EA + thread);
        (0..repeats).map(|_| grow_and_shrink(&mut rng) + grow_raw(&mut rng)).sum()
    })
}

/// Grows strings and vectors in turn, each turn a piece of 8 to 48 bytes, then shrinks them to a random length.
fn grow_and_shrink(rng: &mut Rng) -> u64 {
    let mut texts: Vec<String> = (0..SIDE_BY_SIDE).map(|_| String::new()).collect();
    // A byte ahead of its string, so that the two are not the same where they should not be.
    let mut bytes: Vec<Vec<u8>> = (0..SIDE_BY_SIDE).map(|_| vec![FIRST_BYTE]).collect();
    let mut pushed_bytes = 0;
    while texts[0].len() < FULL_BYTES {
        let piece_bytes = rng.between(8, PIECE.len() - SIDE_BY_SIDE);
        pushed_bytes += piece_bytes;
        for (index, (text, bytes)) in texts.iter_mut().zip(&mut bytes).enumerate() {
            let piece = &PIECE[index..index + piece_bytes];
            text.push_str(piece);
            bytes.extend_from_slice(piece.as_bytes());
        }
    }
    let kept_bytes = rng.between(64, FULL_BYTES);
    for (text, bytes) in texts.iter_mut().zip(&mut bytes) {
        assert_eq!((text.len(), bytes.len()), (pushed_bytes, pushed_bytes + 1));
        text.truncate(kept_bytes);
        text.shrink_to_fit();
        bytes.truncate(kept_bytes + 1);
        bytes.shrink_to_fit();
        let (first, rest) = bytes.split_first().expect("it began with a byte");
        assert!(*first == FIRST_BYTE && rest == text.as_bytes(), "a string and a vector with the same pieces differ");
    }
    (kept_bytes + texts.iter().map(String::len).sum::<usize>()) as u64
}

/// Grows raw blocks side by side by 512 bytes at a time.
fn grow_raw(rng: &mut Rng) -> u64 {
    let first_bytes = rng.between(MIN_SIZE_BYTES, RAW_STEP_BYTES);
    let mut blocks: Vec<Block> = (0..SIDE_BY_SIDE).map(|_| Block::new(first_bytes)).collect();
    for size_bytes in (RAW_STEP_BYTES..=FULL_BYTES).step_by(RAW_STEP_BYTES) {
        blocks.iter_mut().for_each(|block| block.resize(size_bytes));
    }
    blocks.iter().map(|block| block.size_bytes() as u64).sum()
}
