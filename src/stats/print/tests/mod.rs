//! What the tests of the printers share, and what holds for all of them.

extern crate std;

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::*;
use crate::stats::{CallCounts, CallStats, GovernorStats, Histogram, MemoryStats};

pub(crate) mod exposition;

/// Statistics in which each number that a metric shows is another one.
pub(crate) fn distinct() -> Stats {
    let mut last = 1_000;
    let mut next = || {
        last += 1;
        last
    };
    let mut counts = || {
        let calls = next();
        let mut time = Histogram { sum_ns: next() * 1_000_003, max_ns: next(), ..Histogram::default() };
        time.buckets[10] = calls - 1;
        time.buckets[31] = 1;
        CallCounts { calls, errors: next(), bytes: next() << 20, over_budget: next(), time }
    };
    let mut call = || CallStats { application: counts(), governor: counts() };
    let mut stats = Stats {
        reserve: call(),
        unreserve: call(),
        commit: call(),
        advise: call(),
        purge: call(),
        warm: call(),
        ..Stats::default()
    };
    stats.write_lock_calls = next();
    stats.startup_write_lock_calls = next();
    stats.over_budget_calls = next();
    stats.memory = MemoryStats {
        allocated: u64::MAX,
        active: next(),
        resident: next(),
        retained: next(),
        warm: next(),
        metadata: next(),
        reserved: next(),
        committed: next(),
    };
    stats.governor = GovernorStats {
        retired: next(),
        backlog: next(),
        may_remain: next(),
        reserve_target: next(),
        wakeups: next(),
        batches: next(),
        purged_under_pressure: next(),
        pressure: next(),
        pressure_events: next(),
        prewarm_requests: next(),
        prewarm_bytes: next(),
        prewarm_hugepage_bytes: next(),
        prewarm_stopped: next(),
        forecasts: next(),
        forecast_hits: next(),
        forecast_misses: next(),
        cold_claimed: next(),
    };
    stats
}

/// What a printer prints, in a buffer that is just large enough; one byte less must be too few.
pub(crate) fn full(print: impl Fn(&mut [u8]) -> Result<&str, BufferTooSmall>) -> String {
    let bytes = print(&mut []).unwrap_err().bytes_needed;
    let mut buffer = vec![0; bytes];
    assert_eq!(print(&mut buffer[1..]), Err(BufferTooSmall { bytes_needed: bytes }));
    let text = print(&mut buffer).unwrap();
    assert_eq!(text.len(), bytes);
    text.to_string()
}

/// The most that can be printed: every bucket in use, every number as long as can be.
fn longest() -> Stats {
    let mut stats = distinct();
    for call in [
        &mut stats.reserve,
        &mut stats.unreserve,
        &mut stats.commit,
        &mut stats.advise,
        &mut stats.purge,
        &mut stats.warm,
    ] {
        let time = Histogram { sum_ns: u64::MAX, max_ns: u64::MAX, buckets: [u64::MAX; 32] };
        let counts = CallCounts { calls: u64::MAX, errors: u64::MAX, bytes: u64::MAX, over_budget: u64::MAX, time };
        *call = CallStats { application: counts, governor: counts };
    }
    stats
}

#[test]
fn the_texts_fit_the_buffers_that_their_descriptions_name() {
    let stats = longest();
    let texts = [full(|out| stats.text(out)), full(|out| stats.json(out)), full(|out| stats.prometheus(out))];
    for (text, kib) in texts.iter().zip([8, 32, 64]) {
        assert!(text.len() <= kib << 10, "{} bytes are more than {kib} KiB", text.len());
    }
}

#[test]
fn seconds_are_exact() {
    let printed = |time_ns: u64| {
        let mut buffer = [0; 64];
        let mut out = Text::new(&mut buffer);
        seconds(&mut out, time_ns);
        out.finish().unwrap().to_string()
    };
    let times = [0, 1, 10, 250_000, 999_999_999, 1_000_000_000, 61_000_000_001, u64::MAX];
    let expected = [
        "0.000000000",
        "0.000000001",
        "0.000000010",
        "0.000250000",
        "0.999999999",
        "1.000000000",
        "61.000000001",
        "18446744073.709551615",
    ];
    assert_eq!(times.map(printed), expected);
}

#[test]
fn a_buffer_that_is_too_small_is_an_error_that_reads_well() {
    let small = Stats::default().json(&mut [0; 16]).unwrap_err();
    assert!(small.bytes_needed > 1000);
    let error: &dyn core::error::Error = &small;
    assert_eq!(error.to_string(), "the buffer is too small for the statistics");
}

#[test]
fn the_values_of_the_samples_differ() {
    let stats = distinct();
    let sums: Vec<u64> = stats.series().map(|series| series.counts.time.sum_ns).collect();
    assert!(sums.is_sorted() && sums.len() == 12);
    assert!(stats.series().all(|series| series.counts.calls == series.counts.time.count()));
}
