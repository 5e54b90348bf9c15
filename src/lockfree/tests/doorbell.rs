//! Tests of `lockfree::doorbell`.

use std::sync::atomic::AtomicUsize;
use std::thread;

use super::THREADS;
use crate::atomic::{AtomicU32, Ordering};
use crate::lockfree::doorbell::{ASLEEP, Doorbell, Ring};

fn doorbell() -> Doorbell {
    Doorbell::from_word(AtomicU32::new(0))
}

/// A bell whose worker is awake.
fn with_worker() -> Doorbell {
    let bell = doorbell();
    bell.ring(false);
    bell.wake_up();
    bell
}

#[test]
fn the_first_ring_starts_the_worker_and_later_ones_are_heard() {
    for urgent in [false, true] {
        let bell = doorbell();
        assert_eq!(bell.ring(urgent), Ring::Start);
        assert_eq!([bell.ring(false), bell.ring(true)], [Ring::Heard; 2], "before it is up");
        bell.wake_up();
        assert_eq!([bell.ring(false), bell.ring(true)], [Ring::Heard; 2]);
    }
}

#[test]
fn one_ring_wakes_a_worker_that_sleeps() {
    for urgent in [false, true] {
        let bell = with_worker();
        bell.fall_asleep();
        assert_eq!(bell.word().load(Ordering::Relaxed), ASLEEP);
        assert_eq!(bell.ring(urgent), Ring::Wake);
        assert_eq!([bell.ring(false), bell.ring(true)], [Ring::Heard; 2]);
        assert_ne!(bell.word().load(Ordering::Relaxed), ASLEEP);
    }
}

#[test]
fn a_worker_that_stays_awake_need_not_be_woken() {
    let bell = with_worker();
    bell.fall_asleep();
    bell.wake_up();
    assert_eq!([bell.ring(false), bell.ring(true)], [Ring::Heard; 2]);
}

#[test]
fn a_sleep_after_the_bell_rang_is_ended_by_the_next_ring() {
    let bell = with_worker();
    bell.ring(true);
    bell.fall_asleep();
    assert_eq!(bell.word().load(Ordering::Relaxed), ASLEEP);
    assert_eq!(bell.ring(false), Ring::Wake);
}

#[test]
fn one_urgent_ring_wakes_a_dozing_worker_and_others_do_not() {
    let bell = with_worker();
    assert!(bell.doze());
    let dozing = bell.dozing_on();
    assert_eq!(dozing, Some(bell.word().load(Ordering::Relaxed)));
    assert_eq!([bell.ring(false), bell.ring(false)], [Ring::Heard; 2]);
    let rung = bell.dozing_on();
    assert_eq!(rung, Some(bell.word().load(Ordering::Relaxed)), "it dozes on");
    assert_eq!([bell.ring(true), bell.ring(true), bell.ring(false)], [Ring::Wake, Ring::Heard, Ring::Heard]);
    assert_eq!(bell.dozing_on(), None);
    let word = Some(bell.word().load(Ordering::Relaxed));
    assert!(word != dozing && word != rung, "the kernel does not let it doze on");
}

#[test]
fn the_worker_does_not_doze_when_something_urgent_came_in() {
    let bell = with_worker();
    bell.ring(true);
    assert!(!bell.doze());
    assert!(bell.doze(), "it has looked again");
    bell.ring(true);
    bell.wake_up();
    assert!(bell.doze(), "it looks after it woke");
    bell.wake_up();
    bell.ring(false);
    assert!(bell.doze(), "other work waits");
}

#[test]
fn after_a_reset_the_worker_is_started_again() {
    let bell = doorbell();
    bell.ring(false);
    bell.ring(true);
    bell.reset();
    assert_eq!([bell.ring(false), bell.ring(true)], [Ring::Start, Ring::Heard], "a start failed");
    bell.wake_up();
    bell.fall_asleep();
    bell.reset();
    assert_eq!(bell.ring(true), Ring::Start, "it was asleep");
    bell.wake_up();
    assert!(bell.doze());
    bell.reset();
    assert_eq!(bell.ring(false), Ring::Start, "it dozed");
}

#[test]
fn no_work_is_slept_over() {
    const ROUNDS: usize = 2_000;
    let (bell, queued, urgent) = (doorbell(), AtomicUsize::new(0), AtomicUsize::new(0));
    bell.ring(false);
    let look = || (queued.load(Ordering::Relaxed), urgent.load(Ordering::Relaxed));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (bell, queued, urgent) = (&bell, &queued, &urgent);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let hurry = (thread + round) % 2 == 0;
                    if hurry {
                        urgent.fetch_add(1, Ordering::Relaxed);
                    }
                    queued.fetch_add(1, Ordering::Relaxed);
                    bell.ring(hurry);
                }
            });
        }
        // The first half of the urgent work is waited for in dozes that never end by themselves, the rest in sleep.
        let mut done = (0, 0);
        while done.0 < THREADS * ROUNDS {
            bell.wake_up();
            let now = look();
            let dozes = now.1 < THREADS * ROUNDS / 4;
            if now != done {
                done = now;
            } else if dozes && bell.doze() {
                // Stands for the sleep of the kernel, from which a ringer wakes the worker.
                while bell.dozing_on().is_some() {
                    thread::yield_now();
                }
            } else if !dozes {
                bell.fall_asleep();
                let idle = look() == done;
                while idle && bell.word().load(Ordering::Relaxed) == ASLEEP {
                    thread::yield_now();
                }
            }
        }
    });
    assert_eq!(look(), (THREADS * ROUNDS, THREADS * ROUNDS / 2));
}
