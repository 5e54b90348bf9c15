//! Inner steps that benchmarks reach one by one; not part of the interface. The feature `bench-internals` brings it.

use core::ptr::NonNull;

use crate::governor::{Batch, Piece};
use crate::span::size_class::Class;

/// Bytes of the blocks that serve a request, unless it is too large or too aligned for a slab.
pub fn block_bytes(bytes: usize, align_bytes: usize) -> Option<u32> {
    let class = Class::common(bytes, align_bytes).or_else(|| Class::holding_aligned(bytes, align_bytes))?;
    Some(class.shape().block_bytes)
}

/// How many calls it takes to purge pieces of `piece_bytes` at these addresses, as the governor does it: in batches,
/// neighbours together.
pub fn purge_calls(addresses: &[usize], piece_bytes: usize) -> usize {
    let (mut batch, mut calls) = (Batch::new(), 0);
    let mut finish = |batch: &mut Batch| {
        batch.sort();
        calls += batch.ranges().count();
        *batch = Batch::new();
    };
    for (slot, &address) in addresses.iter().enumerate() {
        let Some(base) = NonNull::new(core::ptr::without_provenance_mut(address)) else { continue };
        if !batch.takes(true) {
            finish(&mut batch);
        }
        batch.push(Piece { base, bytes: piece_bytes, huge: true, slot });
    }
    finish(&mut batch);
    calls
}
