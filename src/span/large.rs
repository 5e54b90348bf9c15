//! Large spans: one block each, of whole slices, and their growth and shrinking in place. Called by `front`.
//!
//! Invariant: a large span is freed by the one thread that turns its header from `Large` to `Free`; a second free, or
//! one inside the span, finds another kind and is told apart.

use core::ptr::NonNull;

use super::slab::Slab;
use crate::arena::{Arena, Reservation, Run};
use crate::fatal::fatal;
use crate::limits::HUGE_BYTES_MIN;
use crate::os::Os;
use crate::units::Slices;

/// Memory, and from which byte on it reads as zeroes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) base: NonNull<u8>,
    pub(crate) zeroed_from: usize,
}

/// Claims a span for `bytes` at a multiple of `align_bytes`. One of hundreds of megabytes that must be `zeroed` is
/// taken from memory that is zero already, if there is any.
pub(crate) fn allocate<O: Os>(arena: &Arena<O>, bytes: usize, align_bytes: usize, zeroed: bool) -> Option<Block> {
    // Smaller ones are written faster than the kernel zeroes their pages.
    let zeroed = zeroed && bytes >= HUGE_BYTES_MIN;
    let (reservation, run) = arena.allocate_run(Slices::holding(bytes.max(1))?, align_bytes, zeroed)?;
    Some(create(reservation, run))
}

/// Claims a span for `bytes` in the explicit hugepage pool.
pub(crate) fn allocate_in_pool<O: Os>(
    arena: &Arena<O>,
    bytes: usize,
    align_bytes: usize,
    zeroed: bool,
) -> Option<Block> {
    let (reservation, run) = arena.allocate_in_pool(Slices::holding(bytes)?, align_bytes, zeroed)?;
    Some(create(reservation, run))
}

fn create(reservation: &'static Reservation, run: Run) -> Block {
    Slab::create_large(reservation, run);
    let zeroed_from = if run.zeroed { 0 } else { run.count.in_bytes() };
    Block { base: reservation.space.address(run.start), zeroed_from }
}

/// Frees the span of `slab`, in which the program freed `address`.
pub(crate) fn deallocate<O: Os>(arena: &Arena<O>, reservation: &'static Reservation, slab: &Slab, address: usize) {
    if address != slab.base() {
        fatal("free: pointer is not the start of a block", address);
    }
    let (start, count) = (slab.start_slice(reservation), slab.slices());
    if !slab.take_large() {
        fatal("free: block is not in use", address);
    }
    if !arena.free_run(reservation, start, count) {
        fatal("free: slices of a large block are not in use", address);
    }
}

/// Makes the span cover `bytes` in place. Gives the offset from which bytes read as zeroes, or `None` if what follows
/// is in use: the span is as before.
pub(crate) fn resize<O: Os>(
    arena: &Arena<O>,
    reservation: &'static Reservation,
    slab: &Slab,
    bytes: usize,
) -> Option<usize> {
    let (start, have, want) = (slab.start_slice(reservation), slab.slices(), Slices::holding(bytes.max(1))?);
    if want < have {
        // Fewer slices are noted before the rest is given back: nobody else looks at them until then.
        slab.set_slices(want);
        if !arena.free_run(reservation, start.plus(want), Slices(have.0 - want.0)) {
            fatal("realloc: slices of a large block are not in use", slab.base());
        }
    } else if want > have {
        let zeroed = arena.extend_run(reservation, start.plus(have), Slices(want.0 - have.0))?;
        slab.set_slices(want);
        return Some(if zeroed { have.in_bytes() } else { want.in_bytes() });
    }
    Some(want.in_bytes())
}
