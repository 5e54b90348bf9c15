//! What a stretch of work costs the process that does it. Used by the children, and by the runner for their start.

use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;

use super::ChildError;
use crate::resident;
use crate::sample::Sample;

/// Does `work` once, which gives a checksum; every figure but those of memory covers the work alone.
pub(super) fn sample(work: impl FnOnce() -> u64) -> Result<Sample, ChildError> {
    sample_of(|| Ok(work()))
}

/// The same for work that can fail.
pub(super) fn sample_of(work: impl FnOnce() -> Result<u64, ChildError>) -> Result<Sample, ChildError> {
    let before = getrusage(UsageWho::RUSAGE_SELF)?;
    let start = Instant::now();
    let checksum = work()?;
    let wall = start.elapsed();
    let after = getrusage(UsageWho::RUSAGE_SELF)?;
    let resident = resident::read()?;
    Ok(Sample {
        wall_ns: saturating_ns(wall),
        peak_rss_kib: resident.peak_kib,
        final_rss_kib: resident.now_kib,
        checksum,
        ..difference(&before, &after)
    })
}

/// Times, faults and switches between two readings of the usage; the rest is zero.
pub fn difference(before: &Usage, after: &Usage) -> Sample {
    let time_ns = |figure: fn(&Usage) -> TimeVal| in_ns(figure(after)).saturating_sub(in_ns(figure(before)));
    let count = |figure: fn(&Usage) -> i64| u64::try_from(figure(after) - figure(before)).unwrap_or(0);
    Sample {
        user_ns: time_ns(Usage::user_time),
        system_ns: time_ns(Usage::system_time),
        minor_faults: count(|usage| usage.minor_page_faults()),
        major_faults: count(|usage| usage.major_page_faults()),
        voluntary_switches: count(|usage| usage.voluntary_context_switches()),
        involuntary_switches: count(|usage| usage.involuntary_context_switches()),
        ..Sample::default()
    }
}

fn in_ns(time: TimeVal) -> u64 {
    let seconds_ns = u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000;
    seconds_ns + u64::try_from(time.tv_usec()).unwrap_or(0) * 1_000
}

/// A duration as a number of nanoseconds, which fits for the next 584 years.
pub fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::sample;
    use crate::workload;

    #[test]
    fn measurement_carries_the_checksum() {
        let churn = workload::find("churn").expect("churn exists");
        let sample = sample(|| (churn.run)(1, 0.001)).expect("getrusage and /proc work");
        assert_eq!(sample.checksum, (churn.run)(1, 0.001));
        assert!(sample.wall_ns > 0 && sample.peak_rss_kib >= sample.final_rss_kib && sample.final_rss_kib > 0);
    }
}
