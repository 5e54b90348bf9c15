//! How far the machine's two processors are from each other around a run. Those of a virtual machine may share a core
//! one moment and no cache the next, and what passes memory between threads takes several times as long then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use allocator_bench::summary::median;
use crossbeam_utils::CachePadded;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Round trips of one measurement: long beside the clock, short beside what the host takes away.
const TRIPS: u32 = 1000;

/// Measurements, of which the median counts: one in which a thread loses its processor is much longer.
const MEASUREMENTS: u32 = 5;

/// Looks at the line before a thread gives up, a fraction of a second: the other one may have lost its processor for
/// good, to a thread of real-time priority.
const SPINS_MAX: u32 = 1 << 28;

/// No distance of two runs that compare is more than this many times another of theirs. One placement measures within
/// the double, two threads of a core and two cores without a common cache are five apart.
const ALIKE_RATIO: u64 = 3;

/// The time in which a cache line goes from one processor to the other and back, right before and right after a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Distance {
    /// Before the run.
    pub before_ns: u64,
    /// After it.
    pub after_ns: u64,
}

impl Distance {
    /// Does `run` and measures around it, for some milliseconds; tells nothing where [`round_trip_ns`] does not.
    pub fn around<T>(run: impl FnOnce() -> T) -> (T, Option<Self>) {
        let before_ns = round_trip_ns();
        let outcome = run();
        let distance = before_ns.zip(round_trip_ns()).map(|(before_ns, after_ns)| Self { before_ns, after_ns });
        (outcome, distance)
    }

    /// The least and the greatest of them.
    pub fn range_ns(distances: impl IntoIterator<Item = Self>) -> Option<(u64, u64)> {
        let all_ns = distances.into_iter().flat_map(|distance| [distance.before_ns, distance.after_ns]);
        all_ns.map(|ns| (ns, ns)).reduce(|(least, most), (ns, _)| (least.min(ns), most.max(ns)))
    }

    /// Whether the processors were as far from each other in one run as in the other, as far as that is known.
    pub fn are_alike(one: Option<Self>, other: Option<Self>) -> bool {
        Self::range_ns(one.into_iter().chain(other)).is_none_or(|(least, most)| most <= least * ALIKE_RATIO)
    }
}

/// The time in which a cache line goes from one processor to the other and back. Only where there are exactly two to
/// run on: where there are more, nobody knows on which of them the threads of a workload come to lie.
fn round_trip_ns() -> Option<u64> {
    let &[own, other] = allowed_processors()?.as_slice() else { return None };
    let line = &CachePadded::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let echo = scope.spawn(move || {
            bind_to(other)?;
            (0..TRIPS * MEASUREMENTS).try_for_each(|_| {
                wait_for(line, true)?;
                line.store(false, Ordering::Relaxed);
                Some(())
            })
        });
        let clock = scope.spawn(move || {
            bind_to(own)?;
            let trips_ns = |_| {
                let start = Instant::now();
                for _ in 0..TRIPS {
                    line.store(true, Ordering::Relaxed);
                    wait_for(line, false)?;
                }
                Some(start.elapsed().as_nanos() as u64 / u64::from(TRIPS))
            };
            median((0..MEASUREMENTS).map(trips_ns).collect::<Option<Vec<u64>>>()?)
        });
        let (echoed, trip_ns) = (echo.join().ok()?, clock.join().ok()?);
        echoed.and(trip_ns)
    })
}

/// Waits until the line says so; nothing if that takes far too long.
// Relaxed: the line carries nothing but itself.
fn wait_for(line: &AtomicBool, wanted: bool) -> Option<()> {
    (0..SPINS_MAX).any(|_| line.load(Ordering::Relaxed) == wanted).then_some(())
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
    use super::{Distance, allowed_processors, bind_to, round_trip_ns};

    const NEAR: Distance = Distance { before_ns: 50, after_ns: 70 };
    const FAR: Distance = Distance { before_ns: 330, after_ns: 360 };
    const MOVED: Distance = Distance { before_ns: 60, after_ns: 340 };

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
        assert_eq!(Distance::range_ns([Distance { before_ns: 9, after_ns: 4 }]), Some((4, 9)));
        assert_eq!(Distance::range_ns([]), None);
    }

    #[test]
    fn two_processors_have_a_distance_and_one_has_none() {
        // On a thread of its own, for what a thread is bound to, those that it starts are as well.
        let alone = std::thread::spawn(|| bind_to(*allowed_processors()?.first()?).map(|()| round_trip_ns()));
        assert_eq!(alone.join().expect("it only measures"), Some(None));
        let (outcome, distance) = Distance::around(|| 7);
        assert_eq!(outcome, 7);
        let processors = allowed_processors().expect("a thread may ask what it is bound to");
        assert_eq!(distance.is_some(), processors.len() == 2, "{processors:?}");
        assert!(distance.is_none_or(|distance| distance.before_ns > 0 && distance.after_ns > 0), "{distance:?}");
    }
}
