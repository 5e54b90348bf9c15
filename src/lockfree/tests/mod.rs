//! Plain tests of the structures, on real atomics; the interleavings are loom-tests' business.
