//! When the main loop does what. How often a turn comes is here as well, since nothing is done more often.

use super::pace::Pace;

/// How often there is a turn.
pub const TURN_NS: u64 = 20_000_000;
/// How often it is looked which processes there are (and whenever a probe has failed); which intervals are not over,
/// for the probes that watch mmap_lock; what has been counted. Each takes at most one part in so many of a processor.
const PROCESSES_NS: u64 = 200_000_000;
const UNFINISHED_NS: u64 = 100_000_000;
const COUNTS_NS: u64 = 500_000_000;
const SHARE: u64 = 50;

/// When what is done.
#[derive(Debug)]
pub struct Schedule {
    /// When the watch began.
    pub started_ns: u64,
    /// When its time is over.
    pub over_ns: Option<u64>,
    /// When a signal last asked for the end.
    pub signal_ns: Option<u64>,
    /// To look which processes there are.
    pub processes: Pace,
    /// The same as a probe has failed.
    pub failures: Pace,
    /// To ask the source for what is not over.
    pub unfinished: Pace,
    /// To count.
    pub counts: Pace,
}

impl Schedule {
    /// For a watch that begins at a time and takes so long.
    #[must_use]
    pub fn new(now_ns: u64, lasting_ns: Option<u64>) -> Self {
        Schedule {
            started_ns: now_ns,
            over_ns: lasting_ns.map(|lasting_ns| now_ns.saturating_add(lasting_ns)),
            signal_ns: None,
            processes: Pace::new(PROCESSES_NS, SHARE),
            failures: Pace::new(TURN_NS, SHARE),
            unfinished: Pace::new(UNFINISHED_NS, SHARE),
            counts: Pace::new(COUNTS_NS, SHARE),
        }
    }
}
