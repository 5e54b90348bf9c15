//! What the governor has done and what it is about: its counters and their snapshot. The governor writes, people read.

/// Declares the snapshot and the counters behind it from one list of fields.
macro_rules! governor_stats {
    ($($(#[doc = $meaning:literal])+ $field:ident,)+) => {
        /// What the governor, the allocator's background thread, has done and is about.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub struct GovernorStats {
            $($(#[doc = $meaning])+ pub $field: u64,)+
        }

        /// The fields of [`GovernorStats`], written by the governor. Independent numbers, read by people and tests.
        #[cfg(target_os = "linux")]
        pub(crate) struct GovernorCounters {
            $(pub(crate) $field: crate::number::Number,)+
        }

        #[cfg(target_os = "linux")]
        impl GovernorCounters {
            /// All zero.
            pub(crate) const fn new() -> Self {
                GovernorCounters { $($field: crate::number::Number::new(0),)+ }
            }

            /// The numbers now.
            pub(crate) fn snapshot(&self) -> GovernorStats {
                GovernorStats { $($field: self.$field.get(),)+ }
            }
        }
    };
}

governor_stats! {
    /// Bytes, computed: warm memory that is free and is to be given back, now or later.
    retired,
    /// Bytes, computed: what should be given back by now and is not. Stays small unless purges are refused or limited.
    backlog,
    /// Bytes, computed: how much retired memory the decay curve lets remain now.
    may_remain,
    /// Bytes, computed: how much free memory the governor tries to keep warm ahead of need.
    reserve_target,
    /// Count: times that the governor woke up to look for work.
    wakeups,
    /// Count: rounds of work in which the governor made at least one call.
    batches,
    /// Bytes, counted: given back while memory was under pressure.
    purged_under_pressure,
    /// Memory pressure, from the kernel, when the governor looked last, which it does while it has memory to give: 0
    /// none, 1 some, 2 critical.
    pressure,
    /// Count: times that the pressure rose from one level to a higher one.
    pressure_events,
    /// Count: requests to warm memory ahead of need.
    prewarm_requests,
    /// Bytes, counted: faulted ahead of need, on request, by forecast or for the reserve.
    prewarm_bytes,
    /// Bytes, counted: those of `prewarm_bytes` that the kernel backed with hugepages.
    prewarm_hugepage_bytes,
    /// Count: requests to warm memory that ended before all of it was warm: cancelled, or for want of memory.
    prewarm_stopped,
    /// Count: times that a block had doubled and memory was warmed for the next doubling.
    forecasts,
    /// Count: forecasts whose memory a request then took.
    forecast_hits,
    /// Count: forecasts whose memory nobody took in time.
    forecast_misses,
    /// Bytes, counted: handed out in whole chunks without memory behind them yet, so that the program faults it.
    cold_claimed,
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_each_counter_in_its_own_field() {
        let counters = GovernorCounters::new();
        assert_eq!(counters.snapshot(), GovernorStats::default());
        counters.retired.add(7);
        counters.cold_claimed.add(9);
        let expected = GovernorStats { retired: 7, cold_claimed: 9, ..GovernorStats::default() };
        assert_eq!(counters.snapshot(), expected);
    }
}
