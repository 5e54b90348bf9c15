//! Layer 4: runs of slices with one owner. Size classes, slabs cut into blocks, the pool of slabs that no thread owns,
//! and large spans.
//!
//! Invariants: only a slab's owner touches its free list and counts; other threads touch only its shared word. What
//! describes a block lies in the headers region, never in memory that is purged.

pub(crate) mod census;
pub(crate) mod large;
pub(crate) mod pool;
pub(crate) mod queue;
pub(crate) mod size_class;
pub(crate) mod slab;
