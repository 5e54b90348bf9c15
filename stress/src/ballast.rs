//! Memory that the harness holds so that the host of a virtual machine backs it, and lets go of for a child to take.
//!
//! A page that the host has not backed costs 10 to 50 times a usual fault, and a guest that reports its free pages
//! loses the backing of what is free within seconds. So [`harness`](crate::harness) takes the memory before each child,
//! and lets go of it right before the child touches as much: the kernel gives out first, mostly, what became free last.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::memory::{self, HUGEPAGE_BYTES, Mapping};
use crate::sizes;

/// What is taken and let go of in one go.
const PIECE_BYTES: usize = 64 << 20;
/// What a probe touches.
const PROBE_BYTES: usize = 32 << 20;

/// Touched memory.
#[derive(Debug, Default)]
pub struct Ballast {
    pieces: Vec<Mapping>,
}

impl Ballast {
    /// Takes and touches what is missing to `bytes`. Stops early (successfully) when `interrupted` is set.
    pub fn take(&mut self, bytes: u64, interrupted: &AtomicBool) -> nix::Result<()> {
        while self.bytes() < bytes && !interrupted.load(Ordering::Relaxed) {
            let mut piece = Mapping::hugepages(PIECE_BYTES)?;
            for start in piece.hugepage_range().step_by(HUGEPAGE_BYTES) {
                piece.touch_hugepage(start);
            }
            self.pieces.push(piece);
        }
        Ok(())
    }

    /// Takes what is missing to `bytes`, as far as that much is available, for a child that has let go of what it
    /// touched and is about to touch as much again: what it gave back the host may have taken since, and what another
    /// allocator kept it has not.
    pub fn refill(&mut self, bytes: u64, interrupted: &AtomicBool) -> io::Result<()> {
        let missing_bytes = bytes.saturating_sub(self.bytes());
        if missing_bytes < PIECE_BYTES as u64 {
            // Pieces were let go of whole.
            return Ok(());
        }
        let usable_bytes = sizes::usable_bytes(memory::available_bytes()?);
        Ok(self.take(self.bytes() + missing_bytes.min(usable_bytes), interrupted)?)
    }

    /// Lets go of at least `bytes`, or of all that is there.
    pub fn let_go(&mut self, bytes: u64) {
        let count = usize::try_from(bytes.div_ceil(PIECE_BYTES as u64)).unwrap_or(usize::MAX);
        self.pieces.truncate(self.pieces.len().saturating_sub(count));
    }

    /// What is held.
    pub fn bytes(&self) -> u64 {
        (self.pieces.len() * PIECE_BYTES) as u64
    }
}

/// How long it takes right now to fault a hugepage in: the mean over 32 MiB, in nanoseconds.
pub fn probe_fault_ns() -> nix::Result<u64> {
    let mut mapping = Mapping::hugepages(PROBE_BYTES)?;
    let started = Instant::now();
    for start in mapping.hugepage_range().step_by(HUGEPAGE_BYTES) {
        mapping.touch_hugepage(start);
    }
    let count = (PROBE_BYTES / HUGEPAGE_BYTES) as u128;
    Ok(u64::try_from(started.elapsed().as_nanos() / count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_taken_and_whole_pieces_are_let_go() {
        let (piece, go_on) = (PIECE_BYTES as u64, AtomicBool::new(false));
        let mut ballast = Ballast::default();
        ballast.take(piece + 1, &go_on).unwrap();
        assert_eq!(ballast.bytes(), 2 * piece);
        ballast.take(piece, &go_on).unwrap();
        assert_eq!(ballast.bytes(), 2 * piece);
        ballast.let_go(1);
        assert_eq!(ballast.bytes(), piece);
        ballast.let_go(u64::MAX);
        assert_eq!(ballast.bytes(), 0);
        ballast.take(piece, &AtomicBool::new(true)).unwrap();
        assert_eq!(ballast.bytes(), 0, "interrupted");
    }

    #[test]
    fn what_was_let_go_of_is_taken_again_as_far_as_it_is_there() {
        let (piece, go_on) = (PIECE_BYTES as u64, AtomicBool::new(false));
        let mut ballast = Ballast::default();
        ballast.refill(piece, &go_on).unwrap();
        ballast.let_go(piece);
        ballast.refill(2 * piece, &go_on).unwrap();
        assert_eq!(ballast.bytes(), 2 * piece);
        ballast.refill(3 * piece - 1, &go_on).unwrap();
        assert_eq!(ballast.bytes(), 2 * piece, "less than a piece is missing");
        // Nothing is taken, as that is interrupted; what there is not is not even asked for.
        ballast.refill(u64::MAX, &AtomicBool::new(true)).unwrap();
        assert_eq!(ballast.bytes(), 2 * piece);
    }

    #[test]
    fn a_fault_takes_time() {
        assert!(probe_fault_ns().unwrap() > 0);
    }
}
