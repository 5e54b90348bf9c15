//! fork(2). Called by `front` once, at start.
//!
//! No structure of ours is ever locked, so that there is nothing to take before a fork or to give back after it; only
//! the child has work: its governor's thread is gone.

/// Has `in_child` called in every forked child before `fork` returns there. If the C library cannot note it (no
/// memory), a child keeps its freed memory, and all else works.
pub(crate) fn register(in_child: unsafe extern "C" fn()) {
    // SAFETY: the handler lives as long as the program, and does nothing that is forbidden in a child.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}
