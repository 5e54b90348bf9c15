//! Layer 1: the structures in which threads meet, one per file. Each is a small state machine on atomic words.
//!
//! Invariant: nothing here dereferences a pointer to block memory or to a record; where a structure is a list, the
//! caller's closure reads and writes the links. Each file imports `crate::atomic` and `core` only, which lets
//! `loom-tests` mount these same files on loom's atomics.

pub(crate) mod doorbell;
pub(crate) mod hint_set;
pub(crate) mod once;
pub(crate) mod orphan_stack;
pub(crate) mod range_ring;
pub(crate) mod remote_free;
pub(crate) mod request_slot;
pub(crate) mod room_word;
pub(crate) mod slice_bitmap;

#[cfg(test)]
pub(crate) mod tests;
