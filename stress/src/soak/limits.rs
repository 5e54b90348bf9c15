//! Resource limits that are low for a while: the other way in which the kernel refuses memory.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// Far below what any process has: all growth is refused. (Zero would be taken for a mistake of the caller's by the
/// kernel's check of `RLIMIT_DATA`.)
const LOW_BYTES: rlim_t = 64 << 10;

/// A limit that is low until this is dropped. What the process has it keeps.
#[derive(Debug)]
pub struct Lowered {
    resource: Resource,
    soft: rlim_t,
    hard: rlim_t,
}

impl Lowered {
    /// Lowers the limit. While it is low nothing but the allocator under test should need memory.
    pub fn new(resource: Resource) -> nix::Result<Self> {
        let (soft, hard) = getrlimit(resource)?;
        setrlimit(resource, LOW_BYTES.min(hard), hard)?;
        Ok(Self { resource, soft, hard })
    }
}

/// Raises a limit as far as the process may: a child that was forked while it was low would keep it.
pub fn raise(resource: Resource) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    setrlimit(resource, hard, hard)
}

impl Drop for Lowered {
    fn drop(&mut self) {
        let restored = setrlimit(self.resource, self.soft, self.hard);
        debug_assert!(restored.is_ok(), "a soft limit may be raised to the hard limit: {restored:?}");
    }
}
