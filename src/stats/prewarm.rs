//! What a request for warm memory has come to, for who asked. Written by `governor::requests`.

/// How far a request for warm memory has come, and why it goes no further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PrewarmState {
    /// Memory is being made warm, or about to be.
    Warming,
    /// All of it is warm and waits to be used.
    Ready,
    /// A block was allocated in it.
    Taken,
    /// Given back: it was cancelled.
    Cancelled,
    /// Given back: nobody used it in the time that `prewarm_hold` gives.
    Expired,
    /// Stopped, and given back: memory is short, in the machine or in its cgroup.
    Pressure,
    /// Stopped with what was warm by then: there is no head-room for more in the machine or in the cgroup.
    NoHeadRoom,
    /// Stopped with what was warm by then: the machine has run out of free hugepages (`thp_fault_fallback` or
    /// `compact_stall` in `/proc/vmstat` climb).
    HugepagesScarce,
    /// Not begun: there is no address range for it, or the kernel refuses to commit it, or too many requests are under
    /// way.
    Refused,
}

/// What a request for warm memory has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PrewarmProgress {
    /// How far it is.
    pub state: PrewarmState,
    /// Bytes asked for, in whole chunks of 2 MiB.
    pub wanted_bytes: u64,
    /// Bytes that are warm for it. What was warm before is counted, what has been taken or given back is not taken off.
    pub warm_bytes: u64,
    /// Bytes that this request itself has made warm.
    pub faulted_bytes: u64,
    /// Bytes of these that the kernel backed by hugepages, by the count of page faults that it took.
    pub hugepage_bytes: u64,
}

impl PrewarmProgress {
    /// Of a request that was not accepted.
    pub(crate) const fn refused(wanted_bytes: u64) -> Self {
        PrewarmProgress {
            state: PrewarmState::Refused,
            wanted_bytes,
            warm_bytes: 0,
            faulted_bytes: 0,
            hugepage_bytes: 0,
        }
    }
}
