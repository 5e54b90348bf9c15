//! How far the machine's two processors are from each other around a run. Those of a virtual machine may share a core
//! one moment and no cache the next, and what passes memory between threads takes several times as long then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use allocator_bench::figures::figures;
use allocator_bench::summary::median;
use crossbeam_utils::CachePadded;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Round trips of one measurement: long beside the clock, short beside what the host takes away.
const TRIPS: u32 = 1000;

/// Measurements, of which the median counts: one in which a thread loses its processor is much longer.
const MEASUREMENTS: u32 = 5;

/// A measurement that is not done by then is given up: the other processor may run a thread of real-time priority, or
/// the host may run both on one.
const MEASURING_MAX: Duration = Duration::from_millis(200);

/// How often a thread looks at the line before it looks at the clock.
const LOOKS: u32 = 4096;

/// Below this two processors share a core, or a fast cache: on two virtual machines it was 50 to 70 ns then, and from
/// 105 to over 360 ns otherwise, which varies by a factor of two without any move. A ratio would not tell them apart.
const NEAR_NS_MAX: u64 = 90;

figures! {
    /// The time in which a cache line goes from one processor to the other and back, around a run.
    Distance {
        /// Right before it.
        line_before_ns,
        /// Right after it.
        line_after_ns,
    }
}

impl Distance {
    /// Does `run` and measures around it, for some milliseconds; tells nothing where [`round_trip_ns`] does not.
    pub fn around<T>(run: impl FnOnce() -> T) -> (T, Option<Self>) {
        let line_before_ns = round_trip_ns();
        let outcome = run();
        let distance = line_before_ns
            .zip(round_trip_ns())
            .map(|(line_before_ns, line_after_ns)| Self { line_before_ns, line_after_ns });
        (outcome, distance)
    }

    /// The least and the greatest of them.
    pub fn range_ns(distances: impl IntoIterator<Item = Self>) -> Option<(u64, u64)> {
        let all_ns = distances.into_iter().flat_map(|distance| [distance.line_before_ns, distance.line_after_ns]);
        all_ns.map(|ns| (ns, ns)).reduce(|(least, most), (ns, _)| (least.min(ns), most.max(ns)))
    }

    /// Whether the processors were near each other throughout both runs, or far, as far as that is known.
    pub fn are_alike(one: Option<Self>, other: Option<Self>) -> bool {
        let range_ns = Self::range_ns(one.into_iter().chain(other));
        range_ns.is_none_or(|(least_ns, most_ns)| most_ns <= NEAR_NS_MAX || least_ns > NEAR_NS_MAX)
    }
}

/// The time in which a cache line goes from one processor to the other and back. Only where there are exactly two to
/// run on: where there are more, nobody knows on which of them the threads of a workload come to lie.
fn round_trip_ns() -> Option<u64> {
    let &[one, other] = allowed_processors()?.as_slice() else { return None };
    let line = &CachePadded::new(AtomicBool::new(false));
    let end = Instant::now() + MEASURING_MAX;
    let echo = move || {
        bind_to(other)?;
        for _ in 0..TRIPS * MEASUREMENTS {
            wait_for(line, true, end)?;
            // Relaxed: the line carries nothing but itself, here and below.
            line.store(false, Ordering::Relaxed);
        }
        Some(())
    };
    let clock = move || {
        bind_to(one)?;
        let trip_ns = |_| {
            let start = Instant::now();
            for _ in 0..TRIPS {
                line.store(true, Ordering::Relaxed);
                wait_for(line, false, end)?;
            }
            Some(start.elapsed().as_nanos() as u64 / u64::from(TRIPS))
        };
        median((0..MEASUREMENTS).map(trip_ns).collect::<Option<Vec<u64>>>()?)
    };
    thread::scope(|scope| {
        let echo = thread::Builder::new().spawn_scoped(scope, echo).ok()?;
        let clock = thread::Builder::new().spawn_scoped(scope, clock).ok()?;
        let (echoed, trip_ns) = (echo.join().ok()?, clock.join().ok()?);
        echoed.and(trip_ns)
    })
}

/// Waits until the line says so, at most until then.
fn wait_for(line: &AtomicBool, wanted: bool, end: Instant) -> Option<()> {
    while (0..LOOKS).all(|_| line.load(Ordering::Relaxed) != wanted) {
        if Instant::now() >= end {
            return None;
        }
    }
    Some(())
}

/// The processors that the calling thread may run on.
fn allowed_processors() -> Option<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
    Some((0..CpuSet::count()).filter(|&index| allowed.is_set(index) == Ok(true)).collect())
}

/// Binds the calling thread to a processor, if that is permitted.
fn bind_to(processor: usize) -> Option<()> {
    let mut only = CpuSet::new();
    only.set(processor).and_then(|()| sched_setaffinity(Pid::from_raw(0), &only)).ok()
}

#[cfg(test)]
mod tests {
    use test_support::skip;

    use super::{AtomicBool, Distance, Instant, allowed_processors, bind_to, round_trip_ns, wait_for};

    const NEAR: Distance = Distance { line_before_ns: 50, line_after_ns: 70 };
    const FAR: Distance = Distance { line_before_ns: 330, line_after_ns: 360 };
    const MOVED: Distance = Distance { line_before_ns: 60, line_after_ns: 340 };

    #[test]
    fn runs_compare_that_had_the_processors_alike() {
        assert!(Distance::are_alike(Some(NEAR), Some(NEAR)) && Distance::are_alike(Some(FAR), Some(FAR)));
        for (one, other) in [(NEAR, FAR), (FAR, NEAR), (NEAR, MOVED), (MOVED, FAR), (MOVED, MOVED)] {
            assert!(!Distance::are_alike(Some(one), Some(other)), "{one:?} {other:?}");
        }
        assert!(Distance::are_alike(None, None) && Distance::are_alike(None, Some(FAR)), "nothing is known against it");
    }

    #[test]
    fn range_is_of_both_ends_of_all_runs() {
        assert_eq!(Distance::range_ns([NEAR, FAR]), Some((50, 360)));
        assert_eq!(Distance::range_ns([Distance { line_before_ns: 9, line_after_ns: 4 }]), Some((4, 9)));
        assert_eq!(Distance::range_ns([]), None);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let line = AtomicBool::new(false);
        assert_eq!(wait_for(&line, true, Instant::now()), None);
        assert_eq!(wait_for(&line, false, Instant::now()), Some(()), "what is there is seen first");
    }

    #[test]
    fn two_processors_have_a_distance_and_one_has_none() {
        // On a thread of its own, for what a thread is bound to, those that it starts are as well.
        let alone = std::thread::spawn(|| bind_to(*allowed_processors()?.first()?).map(|()| round_trip_ns()));
        let Some(of_one) = alone.join().expect("it only measures") else {
            return skip("a thread may not be bound to a processor here");
        };
        assert_eq!(of_one, None);
        let (outcome, distance) = Distance::around(|| 7);
        assert_eq!(outcome, 7);
        let processors = allowed_processors().expect("a thread may ask what it is bound to");
        assert!(distance.is_none() || processors.len() == 2, "{processors:?}");
        if distance.is_none() && processors.len() == 2 {
            skip("the two processors were not to be had together for long enough");
        }
        assert!(
            distance.is_none_or(|distance| distance.line_before_ns > 0 && distance.line_after_ns > 0),
            "{distance:?}"
        );
    }
}
