//! Models of `lockfree::doorbell`: up to three threads queue work and ring, while the worker looks at the queue and
//! falls asleep or dozes as `governor::worker` does, or while starting it fails.
//!
//! The queue is one flag for each thread, Relaxed, so that only the bell makes what was queued visible. The worker's
//! sleep, or its doze, is its end: it never looks again. Then, in every interleaving, either everything was done that
//! may not be slept over, or a ringer was told to wake the worker and the word is no longer the one that the kernel
//! lets it sleep on.

use std::sync::Arc;

use crate::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::explore::{Memory, explore, explore_bounded, join, spawn};

#[allow(dead_code, reason = "models call what threads call at the same time")]
#[path = "../../src/lockfree/doorbell.rs"]
mod subject;
use subject::{ASLEEP, Doorbell, Ring};

struct House {
    bell: Doorbell,
    queue: [AtomicBool; 3],
    /// What a starter leaves behind: how often the worker was started, or nearly.
    starts: Memory<u32>,
}

impl House {
    fn new() -> Arc<Self> {
        Arc::new(House {
            bell: Doorbell::from_word(AtomicU32::new(0)),
            queue: std::array::from_fn(|_| AtomicBool::new(false)),
            starts: Memory::new(0),
        })
    }

    /// A house whose worker is awake.
    fn with_worker() -> Arc<Self> {
        let house = Self::new();
        assert_eq!(house.bell.ring(false), Ring::Start);
        house.bell.wake_up();
        house
    }

    fn queue_and_ring(&self, number: usize, urgent: bool) -> Ring {
        self.queue[number].store(true, Ordering::Relaxed);
        self.bell.ring(urgent)
    }

    /// Looks at what of the queue is not done yet. Says whether there was something.
    fn look(&self, done: &mut [bool; 3]) -> bool {
        let before = *done;
        for (flag, done) in self.queue.iter().zip(done.iter_mut()) {
            *done = *done || flag.load(Ordering::Relaxed);
        }
        *done != before
    }

    /// The worker's life, from when it begins or was woken, until it sleeps. Gives what it has done.
    fn work(&self) -> [bool; 3] {
        let mut done = [false; 3];
        loop {
            self.bell.wake_up();
            while self.look(&mut done) {}
            self.bell.fall_asleep();
            if !self.look(&mut done) {
                return done;
            }
        }
    }

    /// The life of a worker that is awake, until it dozes. Gives what it has done, and the value it dozes on.
    fn work_and_doze(&self) -> ([bool; 3], Option<u32>) {
        let mut done = [false; 3];
        loop {
            if !self.look(&mut done) && self.bell.doze() {
                return (done, self.bell.dozing_on());
            }
        }
    }

    fn word(&self) -> u32 {
        self.bell.word().load(Ordering::Relaxed)
    }

    /// After the threads have ended: nothing was left by a worker that sleeps and that nobody will wake.
    fn check(&self, queued: usize, done: [bool; 3]) {
        let all_done = done.iter().take(queued).all(|done| *done);
        assert!(all_done || self.word() != ASLEEP, "work is left, and the worker sleeps");
    }
}

#[test]
fn what_was_queued_before_the_bell_rang_is_not_slept_over() {
    explore(|| {
        let house = House::with_worker();
        let ringer = spawn(&house, |house| house.queue_and_ring(0, false));
        let done = house.work();
        let ring = ringer.join().unwrap();
        house.check(1, done);
        assert!(done[0] || ring == Ring::Wake, "nobody wakes the worker");
    });
}

#[test]
fn a_worker_that_stays_awake_misses_nobody_who_rang_meanwhile() {
    explore_bounded(4, || {
        let house = House::with_worker();
        let ringers = [0, 1].map(|number| spawn(&house, move |house| house.queue_and_ring(number, number == 1)));
        let done = house.work();
        join(ringers);
        house.check(2, done);
    });
}

#[test]
fn one_of_two_rings_wakes_a_worker_that_sleeps() {
    explore(|| {
        let house = House::with_worker();
        house.bell.fall_asleep();
        let ringers = [false, true].map(|urgent| spawn(&house, move |house| house.bell.ring(urgent)));
        let wakes = join(ringers).into_iter().filter(|ring| *ring == Ring::Wake).count();
        assert_eq!(wakes, 1);
        assert_ne!(house.word(), ASLEEP);
    });
}

#[test]
fn urgent_work_is_not_dozed_over() {
    explore(|| {
        let house = House::with_worker();
        let ringer = spawn(&house, |house| house.queue_and_ring(0, true));
        let (done, dozing_on) = house.work_and_doze();
        let ring = ringer.join().unwrap();
        assert!(done[0] || ring == Ring::Wake, "nobody wakes the worker");
        assert!(done[0] || dozing_on != Some(house.word()), "the kernel lets the worker doze");
    });
}

#[test]
fn urgent_work_is_not_dozed_over_on_the_way_to_sleep() {
    explore(|| {
        let house = House::with_worker();
        let ringer = spawn(&house, |house| house.queue_and_ring(0, true));
        house.bell.fall_asleep();
        let mut done = [false; 3];
        house.look(&mut done);
        let dozing_on = if house.bell.doze() { house.bell.dozing_on() } else { None };
        if dozing_on.is_none() {
            house.bell.wake_up();
            house.look(&mut done);
        }
        let ring = ringer.join().unwrap();
        assert!(done[0] || ring == Ring::Wake, "nobody wakes the worker");
        assert!(done[0] || dozing_on != Some(house.word()), "the kernel lets the worker doze");
    });
}

#[test]
fn urgent_work_wakes_a_dozing_worker_and_other_work_does_not() {
    explore(|| {
        let house = House::with_worker();
        let patient = spawn(&house, |house| house.queue_and_ring(0, false));
        let urgent = spawn(&house, |house| house.queue_and_ring(1, true));
        let (done, dozing_on) = house.work_and_doze();
        let rings = join([patient, urgent]);
        assert_eq!(rings[0], Ring::Heard, "work that can wait wakes nobody");
        assert!(done[1] || rings[1] == Ring::Wake, "nobody wakes the worker");
        assert!(done[1] || dozing_on != Some(house.word()), "the kernel lets the worker doze");
    });
}

#[test]
fn one_of_two_urgent_rings_wakes_a_dozing_worker() {
    explore(|| {
        let house = House::with_worker();
        assert!(house.bell.doze());
        let ringers = [(), ()].map(|()| spawn(&house, |house| house.bell.ring(true)));
        let wakes = join(ringers).into_iter().filter(|ring| *ring == Ring::Wake).count();
        assert_eq!(wakes, 1);
        assert_eq!(house.bell.dozing_on(), None);
    });
}

#[test]
fn a_worker_woken_from_its_doze_sees_what_was_urgent() {
    explore(|| {
        let house = House::with_worker();
        assert!(house.bell.doze());
        let ringer = spawn(&house, |house| house.queue_and_ring(0, true));
        if house.bell.dozing_on().is_none() {
            house.bell.wake_up();
            assert!(house.look(&mut [false; 3]), "woken for nothing");
        }
        ringer.join().unwrap();
    });
}

#[test]
fn what_was_queued_during_a_doze_is_not_slept_over() {
    explore(|| {
        let house = House::with_worker();
        assert!(house.bell.doze());
        let ringer = spawn(&house, |house| house.queue_and_ring(0, false));
        let done = house.work();
        let ring = ringer.join().unwrap();
        house.check(1, done);
        assert!(done[0] || ring == Ring::Wake, "nobody wakes the worker");
    });
}

#[test]
fn the_worker_is_started_by_one_ringer() {
    explore(|| {
        let house = House::new();
        let ringers = [0, 1].map(|number| {
            spawn(&house, move |house| {
                let ring = house.queue_and_ring(number, number == 1);
                if ring == Ring::Start {
                    house.starts.set(house.starts.get() + 1);
                    house.bell.wake_up();
                }
                ring
            })
        });
        let mut rings = join(ringers).map(|ring| ring == Ring::Start);
        rings.sort_unstable();
        assert_eq!(rings, [false, true]);
        assert_eq!(house.starts.get(), 1);
    });
}

#[test]
fn a_worker_that_begins_sees_what_rang_before_it_was_up() {
    explore(|| {
        let house = House::new();
        let ring = |house: &House, number| match house.queue_and_ring(number, number == 1) {
            // Stands for the new thread.
            Ring::Start => Some(house.work()),
            Ring::Wake | Ring::Heard => None,
        };
        let other = spawn(&house, move |house| ring(house, 1));
        let lives = [ring(&house, 0), other.join().unwrap()];
        let ([Some(done), None] | [None, Some(done)]) = lives else { panic!("not one start: {lives:?}") };
        house.check(2, done);
    });
}

#[test]
fn a_worker_that_starts_late_sees_what_rang_before_an_earlier_start_failed() {
    explore_bounded(4, || {
        let house = House::new();
        let failing = [0, 1].map(|number| {
            spawn(&house, move |house| {
                if house.queue_and_ring(number, false) == Ring::Start {
                    house.starts.set(house.starts.get() + 1);
                    house.bell.reset();
                }
            })
        });
        if house.queue_and_ring(2, false) == Ring::Start {
            house.starts.set(house.starts.get() + 1);
            let done = house.work();
            join(failing);
            house.check(3, done);
        } else {
            join(failing);
            assert_eq!(house.bell.ring(false), Ring::Start, "nobody tries again");
        }
    });
}
