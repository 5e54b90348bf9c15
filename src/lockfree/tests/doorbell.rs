//! Tests of `lockfree::doorbell`.

use std::sync::atomic::AtomicUsize;
use std::thread;

use super::THREADS;
use crate::atomic::{AtomicU32, Ordering};
use crate::lockfree::doorbell::{ASLEEP, Doorbell, Ring};

fn doorbell() -> Doorbell {
    Doorbell::from_word(AtomicU32::new(0))
}

#[test]
fn the_first_ring_starts_the_worker_and_later_ones_are_heard() {
    let bell = doorbell();
    assert_eq!(bell.ring(), Ring::Start);
    assert_eq!(bell.ring(), Ring::Heard);
}

#[test]
fn one_ring_wakes_a_worker_that_sleeps() {
    let bell = doorbell();
    bell.ring();
    bell.fall_asleep();
    assert_eq!(bell.word().load(Ordering::Relaxed), ASLEEP);
    assert_eq!([bell.ring(), bell.ring()], [Ring::Wake, Ring::Heard]);
    assert_ne!(bell.word().load(Ordering::Relaxed), ASLEEP);
}

#[test]
fn a_worker_that_stays_awake_need_not_be_woken() {
    let bell = doorbell();
    bell.ring();
    bell.fall_asleep();
    bell.stay_awake();
    assert_eq!(bell.ring(), Ring::Heard);
}

#[test]
fn after_a_reset_the_worker_is_started_again() {
    let bell = doorbell();
    bell.ring();
    bell.reset();
    assert_eq!(bell.ring(), Ring::Start);
    bell.fall_asleep();
    bell.reset();
    assert_eq!(bell.ring(), Ring::Start);
}

#[test]
fn no_work_is_slept_over() {
    const ROUNDS: usize = 2_000;
    let (bell, queued) = (doorbell(), AtomicUsize::new(0));
    bell.ring();
    let done = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    queued.fetch_add(1, Ordering::Relaxed);
                    bell.ring();
                }
            });
        }
        let mut done = 0;
        while done < THREADS * ROUNDS {
            bell.fall_asleep();
            let now = queued.load(Ordering::Relaxed);
            if now == done {
                // Stands for the sleep of the kernel, from which a ringer wakes the worker.
                while bell.word().load(Ordering::Relaxed) == ASLEEP {
                    thread::yield_now();
                }
            }
            bell.stay_awake();
            done = now;
        }
        done
    });
    assert_eq!(done, THREADS * ROUNDS);
}
