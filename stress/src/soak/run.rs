//! A soak from beginning to end. The calling thread watches; it is never refused anything, and lowers limits now and
//! then.

use std::alloc::GlobalAlloc;
use std::io;
use std::mem::ManuallyDrop;
use std::thread;
use std::time::{Duration, Instant};

use super::client::Global;
use super::faults::{FaultCounts, Faults, GRACE};
use super::pages::Pages;
use super::place::{self, Place};
use super::plan::{Length, SoakPlan};
use super::report::{Progress, SoakFailure, SoakReport};
use super::weather::{POLL, Weather};
use super::world::{Desk, World};

const PROGRESS_PERIOD: Duration = Duration::from_millis(500);
/// No step takes as long, on any machine: a fork waits half a minute for its child.
const STALL: Duration = Duration::from_secs(180);

/// Soaks the process's global allocator. Every promise that it breaks ends the soak at once.
///
/// Call it from a process of its own: an allocator that is wrong may do anything, and faults, once injected, leave a
/// filter behind for the life of the process.
pub fn soak(plan: &SoakPlan, progress: impl Fn(Progress)) -> Result<SoakReport, SoakFailure> {
    soak_with(&Global, plan, progress)
}

/// Soaks an allocator.
pub(super) fn soak_with<A: GlobalAlloc + Sync>(
    allocator: &'static A,
    plan: &SoakPlan,
    progress: impl Fn(Progress),
) -> Result<SoakReport, SoakFailure> {
    plan.check()?;
    let (faults, faults_refused) = match plan.faults.then(|| Faults::install(plan.seed)) {
        None => (None, None),
        Some(Ok(faults)) => (Some(faults), None),
        Some(Err(error)) => (None, Some(error.to_string())),
    };
    let mut made = Some(World::new(allocator, *plan, faults)?);
    let world = Pages::from_fn(1, |_| Ok(made.take().expect("one entry is asked for")))?;
    // SAFETY: the world lies in a mapping, which is unmapped only after all threads have ended.
    let places = Pages::from_fn(plan.threads, |number| Ok(unsafe { Place::new(&world[0], number) }))?;
    // Neither is dropped if threads hang: they use both for ever.
    let (world, mut places) = (ManuallyDrop::new(world), ManuallyDrop::new(places));
    let watch = Watch { world: &world[0], began: Instant::now() };
    let started = watch.start(&mut places);
    watch.until_the_end(&progress)?;
    let report = started.map_err(SoakFailure::from).and_then(|()| watch.finish(&mut places, faults_refused));
    drop(ManuallyDrop::into_inner(places));
    drop(ManuallyDrop::into_inner(world));
    report
}

/// What the calling thread does while the others work.
struct Watch<'a, A: 'static> {
    world: &'a World<A>,
    began: Instant,
}

impl<A: GlobalAlloc + Sync> Watch<'_, A> {
    /// Starts all threads. If one cannot be started all end soon, and those that are not there count as finished.
    fn start(&self, places: &mut Pages<Place<A>>) -> io::Result<()> {
        let first: *mut Place<A> = places.as_mut_ptr();
        for number in 0..self.world.plan.threads {
            // SAFETY: the place is one of them, and until its desk says so it is used by its thread only.
            if let Err(error) = unsafe { place::start(first.add(number)) } {
                self.world.stop();
                self.world.desks[number..].iter().for_each(Desk::cancel);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits until all threads have ended, and sees to it that they do.
    fn until_the_end(&self, progress: &impl Fn(Progress)) -> Result<(), SoakFailure> {
        let mut weather = Weather::new(self.world.plan.seed, self.began);
        let mut progress_due = self.began;
        let mut moved = (self.world.counts().steps, self.began);
        while self.world.desks.iter().any(|desk| desk.finished().is_none()) {
            match &self.world.faults {
                Some(faults) if !self.world.is_recovering() => weather.pass(faults),
                _ => thread::sleep(POLL),
            }
            if !self.world.is_recovering() && self.world.desks.iter().all(Desk::has_arrived) {
                self.recover();
            }
            let now = Instant::now();
            if self.time_is_over(now) {
                self.world.stop();
            }
            if now >= progress_due {
                progress_due = now + PROGRESS_PERIOD;
                progress(self.progress());
            }
            let steps = self.world.counts().steps;
            if steps != moved.0 {
                moved = (steps, now);
            } else if now - moved.1 > STALL {
                self.world.faults.iter().for_each(Faults::close);
                return Err(self.stalled());
            }
        }
        self.world.desks.iter().filter_map(|desk| desk.finished().flatten()).for_each(place::join);
        progress(self.progress());
        Ok(())
    }

    /// Gives back all blocks, and tells what came out.
    fn finish(&self, places: &mut Pages<Place<A>>, faults_refused: Option<String>) -> Result<SoakReport, SoakFailure> {
        let plan = self.world.plan;
        for place in places.iter_mut() {
            if self.world.verdict.is_told() {
                break;
            }
            if let Err(defect) = place.clear() {
                self.world.tell(place.number, place.steps, false, defect);
            }
        }
        if let Some(violation) = self.world.verdict.violation() {
            return Err(SoakFailure::Violation { plan, violation: Box::new(violation) });
        }
        assert!(self.world.shadow.is_empty(), "a block that was freed has left the model");
        Ok(SoakReport {
            plan,
            elapsed_ms: self.elapsed_ms(),
            counts: self.world.counts(),
            faults: self.fault_counts(),
            faults_refused,
            peak_bytes: self.world.shadow.peak_bytes(),
            thread_steps: places.iter().map(|place| place.steps).collect(),
            thread_digests: places.iter().map(Place::digest).collect(),
        })
    }

    /// Has all threads ask for memory when no fault can be a reason to refuse it.
    fn recover(&self) {
        if let Some(faults) = &self.world.faults {
            faults.close();
            // And as long again, for a fault that was being answered.
            thread::sleep(2 * GRACE);
        }
        self.world.recover();
    }

    fn time_is_over(&self, now: Instant) -> bool {
        match self.world.plan.length {
            Length::TimeMs(time_ms) => now - self.began >= Duration::from_millis(time_ms),
            Length::Steps(_) => false,
        }
    }

    fn stalled(&self) -> SoakFailure {
        let desks = &self.world.desks;
        let hung = desks.iter().position(|desk| !desk.has_arrived());
        let thread = hung.or_else(|| desks.iter().position(|desk| desk.finished().is_none())).unwrap_or(0);
        let step = self.world.desks[thread].tally.counts().steps;
        SoakFailure::Stalled { plan: self.world.plan, thread, step, stall_ms: STALL.as_millis() as u64 }
    }

    fn progress(&self) -> Progress {
        let (counts, faults) = (self.world.counts(), self.fault_counts());
        Progress { elapsed_ms: self.elapsed_ms(), counts, faults, live_bytes: self.world.shadow.live_bytes() }
    }

    fn fault_counts(&self) -> FaultCounts {
        self.world.faults.as_ref().map(Faults::counts).unwrap_or_default()
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: SoakPlan = SoakPlan {
        seed: 1,
        length: Length::Steps(4000),
        threads: 4,
        bytes_most: 512 << 20,
        faults: false,
        forks: true,
    };

    #[test]
    fn the_system_allocator_stands_a_soak_and_equal_plans_do_the_same() {
        let one = soak(&PLAN, |_| {}).unwrap();
        assert_eq!(one.thread_steps, [4000; 4]);
        let counts = one.counts;
        assert_eq!((counts.steps, counts.refusals, counts.start_refusals), (16_000, 0, 0));
        assert_eq!(counts.allocations, counts.frees);
        assert!(counts.forks > 0 && counts.reallocs > 0 && counts.remote_frees > 0 && counts.threads > 4, "{counts:?}");
        assert!(one.peak_bytes > 0 && one.peak_bytes <= PLAN.bytes_most, "{one:?}");
        let again = soak(&PLAN, |_| {}).unwrap();
        assert_eq!((again.thread_digests, again.counts.forks), (one.thread_digests.clone(), counts.forks));
        let other = soak(&SoakPlan { seed: 2, ..PLAN }, |_| {}).unwrap();
        assert!(other.thread_digests.iter().all(|digest| !one.thread_digests.contains(digest)));
    }

    #[test]
    fn a_soak_of_a_time_ends_and_tells_how_far_it_is() {
        let told = std::cell::RefCell::new(Vec::new());
        let plan = SoakPlan { length: Length::TimeMs(300), forks: false, ..PLAN };
        let report = soak(&plan, |progress| told.borrow_mut().push(progress)).unwrap();
        assert_eq!(report.counts.forks, 0);
        let last = *told.borrow().last().unwrap();
        assert_eq!(last.counts.steps, report.counts.steps);
        assert!(last.counts.steps > 0);
    }

    #[test]
    fn a_plan_that_cannot_be_followed_is_refused() {
        let failure = soak(&SoakPlan { threads: 0, ..PLAN }, |_| {}).unwrap_err();
        assert!(matches!(failure, SoakFailure::Plan(_)), "{failure}");
    }
}
