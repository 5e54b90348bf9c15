//! Bounded queue of retired ranges: every thread that frees a chunk puts it in, the background thread takes it out.
//! Called by `arena::retired`.
//!
//! Invariant: an entry that was accepted is given out exactly once. A full queue refuses, and the caller keeps the
//! range findable another way; nobody ever waits.
//!
//! Each cell has a turn counter (D. Vyukov's bounded MPMC queue). Turns count laps instead of positions, so that a
//! zeroed ring is an empty one and costs no memory until it is used: turn `2 * lap` means free for the writer of that
//! lap, `2 * lap + 1` means full for its reader.

use crate::atomic::{AtomicU64, Ordering};

/// One place of the ring.
pub(crate) struct Cell {
    turn: AtomicU64,
    value: AtomicU64,
}

impl Cell {
    /// An empty place; both words must hold 0.
    pub(crate) const fn from_words(turn: AtomicU64, value: AtomicU64) -> Self {
        Cell { turn, value }
    }
}

/// A bounded queue of 64-bit entries with `N` places, `N` a power of two.
pub(crate) struct RangeRing<const N: usize> {
    head: AtomicU64,
    tail: AtomicU64,
    cells: [Cell; N],
}

impl<const N: usize> RangeRing<N> {
    /// An empty ring; `head` and `tail` must hold 0.
    pub(crate) const fn from_parts(head: AtomicU64, tail: AtomicU64, cells: [Cell; N]) -> Self {
        assert!(N.is_power_of_two());
        RangeRing { head, tail, cells }
    }

    /// The place of position `at`, and the lap that it belongs to.
    fn cell(&self, at: u64) -> Option<(&Cell, u64)> {
        let cell = self.cells.get(at as usize & (N - 1))?;
        Some((cell, at / N as u64))
    }

    /// Whether nothing was queued at the moment of the call. A hint.
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: a hint.
        self.head.load(Ordering::Relaxed) == self.tail.load(Ordering::Relaxed)
    }

    /// Puts `value` at the end; `false` if the ring is full.
    pub(crate) fn push(&self, value: u64) -> bool {
        // Relaxed: the position is claimed by the exchange below and checked against the cell's turn.
        let mut at = self.tail.load(Ordering::Relaxed);
        loop {
            let Some((cell, lap)) = self.cell(at) else { return false };
            // Acquire: pairs with the Release in `pop`; its reader has the old value before we overwrite it.
            let turn = cell.turn.load(Ordering::Acquire);
            if turn == 2 * lap {
                // Relaxed: claims the position only; the turn publishes the value.
                match self.tail.compare_exchange_weak(at, at + 1, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        // Relaxed: published by the next line.
                        cell.value.store(value, Ordering::Relaxed);
                        // Release: pairs with the Acquire of the turn in `pop`.
                        cell.turn.store(2 * lap + 1, Ordering::Release);
                        return true;
                    }
                    Err(now) => at = now,
                }
            } else if turn < 2 * lap {
                return false;
            } else {
                at = self.tail.load(Ordering::Relaxed);
            }
        }
    }

    /// Takes the entry at the front.
    pub(crate) fn pop(&self) -> Option<u64> {
        // Relaxed: as in `push`.
        let mut at = self.head.load(Ordering::Relaxed);
        loop {
            let (cell, lap) = self.cell(at)?;
            // Acquire: pairs with the Release in `push`; makes the value visible.
            let turn = cell.turn.load(Ordering::Acquire);
            if turn == 2 * lap + 1 {
                match self.head.compare_exchange_weak(at, at + 1, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        let value = cell.value.load(Ordering::Relaxed);
                        // Release: pairs with the Acquire in `push` one lap later.
                        cell.turn.store(2 * lap + 2, Ordering::Release);
                        return Some(value);
                    }
                    Err(now) => at = now,
                }
            } else if turn <= 2 * lap {
                return None;
            } else {
                // Relaxed: another reader was here; look again.
                at = self.head.load(Ordering::Relaxed);
            }
        }
    }

    /// Empties the ring, whatever state it is in. Only where no other thread can be at it: in a forked child.
    pub(crate) fn clear(&self) {
        // Relaxed: one thread.
        if self.tail.swap(0, Ordering::Relaxed) != 0 {
            self.head.store(0, Ordering::Relaxed);
            for cell in &self.cells {
                cell.turn.store(0, Ordering::Relaxed);
            }
        }
    }
}
