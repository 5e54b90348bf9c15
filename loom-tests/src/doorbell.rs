//! Models of `lockfree::doorbell`: up to three threads queue work and ring, while the worker looks at the queue and
//! falls asleep as `governor::worker` does, or while starting it fails.
//!
//! The queue is one flag for each thread, Relaxed, so that only the bell makes what was queued visible. The worker's
//! sleep is its end: it never looks again. Then, in every interleaving, either everything was done, or the word no
//! longer says `ASLEEP`, so that the kernel would not have let the worker sleep or a ringer was told to wake it.

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
        assert_eq!(house.bell.ring(), Ring::Start);
        house
    }

    fn queue_and_ring(&self, number: usize) -> Ring {
        self.queue[number].store(true, Ordering::Relaxed);
        self.bell.ring()
    }

    /// Looks at what of the queue is not done yet. Says whether there was something.
    fn look(&self, done: &mut [bool; 3]) -> bool {
        let before = *done;
        for (flag, done) in self.queue.iter().zip(done.iter_mut()) {
            *done = *done || flag.load(Ordering::Relaxed);
        }
        *done != before
    }

    /// The worker's life until it sleeps. Gives what it has done.
    fn work(&self) -> [bool; 3] {
        let mut done = [false; 3];
        loop {
            if self.look(&mut done) {
                continue;
            }
            self.bell.fall_asleep();
            if !self.look(&mut done) {
                return done;
            }
            self.bell.stay_awake();
        }
    }

    /// After the threads have ended: nothing was left by a worker that sleeps and that nobody will wake.
    fn check(&self, queued: usize, done: [bool; 3]) {
        let all_done = done.iter().take(queued).all(|done| *done);
        assert!(all_done || self.bell.word().load(Ordering::Relaxed) != ASLEEP, "work is left, and the worker sleeps");
    }
}

#[test]
fn what_was_queued_before_the_bell_rang_is_not_slept_over() {
    explore(|| {
        let house = House::with_worker();
        let ringer = spawn(&house, |house| house.queue_and_ring(0));
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
        let ringers = [0, 1].map(|number| spawn(&house, move |house| house.queue_and_ring(number)));
        let done = house.work();
        join(ringers);
        house.check(2, done);
    });
}

#[test]
fn the_worker_is_started_by_one_ringer() {
    explore(|| {
        let house = House::new();
        let ringers = [0, 1].map(|number| {
            spawn(&house, move |house| {
                let ring = house.queue_and_ring(number);
                if ring == Ring::Start {
                    house.starts.set(house.starts.get() + 1);
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
fn a_worker_that_starts_late_sees_what_rang_before_an_earlier_start_failed() {
    explore_bounded(4, || {
        let house = House::new();
        let failing = [0, 1].map(|number| {
            spawn(&house, move |house| {
                if house.queue_and_ring(number) == Ring::Start {
                    house.starts.set(house.starts.get() + 1);
                    house.bell.reset();
                }
            })
        });
        if house.queue_and_ring(2) == Ring::Start {
            house.starts.set(house.starts.get() + 1);
            let done = house.work();
            join(failing);
            house.check(3, done);
        } else {
            join(failing);
        }
    });
}
