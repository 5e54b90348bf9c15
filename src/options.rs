//! Layer 2: what can be chosen, in code or by variables named `ANTIFREEZE_*`, key by key. Called by `front` at start.
//!
//! | option | variable | values | default |
//! |---|---|---|---|
//! | when reserved memory is made usable | `ANTIFREEZE_COMMIT` | `auto`, `ready`, `stepped` | `auto` |

use crate::os::environ;

/// When reserved memory is made usable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Commit {
    /// `Ready`, unless the process may lock all its memory or the kernel refuses: then `Stepped`.
    #[default]
    Auto,
    /// Everything at start: no call takes mmap_lock for writing ever after.
    Ready,
    /// In geometric steps as memory is used: a dozen short calls in the life of a process, and `mlockall` locks about
    /// what is used.
    Stepped,
}

/// The options of an allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Options {
    pub(crate) commit: Commit,
}

impl Options {
    /// The defaults.
    pub(crate) const fn new() -> Self {
        Options { commit: Commit::Auto }
    }

    /// These options, overridden by the variables that are set. A value that is not understood gets one line on
    /// standard error, and the option stays.
    pub(crate) fn with_environment(mut self) -> Self {
        if let Some(value) = environ::lookup("ANTIFREEZE_COMMIT") {
            match parse_commit(value) {
                Some(commit) => self.commit = commit,
                None => warn(b"antifreeze: ANTIFREEZE_COMMIT is not one of auto, ready, stepped; it is ignored\n"),
            }
        }
        self
    }
}

fn parse_commit(value: &[u8]) -> Option<Commit> {
    match value {
        b"auto" => Some(Commit::Auto),
        b"ready" => Some(Commit::Ready),
        b"stepped" => Some(Commit::Stepped),
        _ => None,
    }
}

fn warn(line: &[u8]) {
    // SAFETY: writes a live buffer; a failed write loses a warning and nothing else.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_three_words_are_commit_modes() {
        assert_eq!(parse_commit(b"ready"), Some(Commit::Ready));
        assert_eq!(parse_commit(b"stepped"), Some(Commit::Stepped));
        assert_eq!(parse_commit(b"auto"), Some(Commit::Auto));
        for wrong in [&b""[..], b"Ready", b"ready ", b"1"] {
            assert_eq!(parse_commit(wrong), None);
        }
    }
}
