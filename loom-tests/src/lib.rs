//! Every interleaving of the structures in `src/lockfree`, by the model checker loom, and of mutants of them.
//!
//! There is one file of models for each structure. It mounts the shipping file as `subject`, unchanged;
//! `crate::atomic`, which that file imports, is loom's atomics here (`atomic.rs`). `build.rs` mounts each file of
//! models once more for each line of the table in `mutants.rs`, this time over a shipping file with one piece of text
//! replaced, and there the named model must fail: that shows that the model would notice if the code lost what was
//! replaced.
//!
//! Run by `cargo test -p loom-tests`; no flags are needed. What the models cover and what loom cannot see is written
//! down in `docs/VERIFICATION.md`.

#![cfg(test)]

mod atomic;
mod explore;

mod doorbell;
mod hint_set;
mod once;
mod orphan_stack;
mod range_ring;
mod remote_free;
mod request_slot;
mod room_word;
mod slice_bitmap;

mod completeness;
#[allow(dead_code, reason = "the tests count the mutants, build.rs makes them")]
#[path = "../mutants.rs"]
mod table;

/// The mutants, each with the models of its structure. Written by `build.rs`.
mod mutants {
    include!(concat!(env!("OUT_DIR"), "/mutants.rs"));
}
