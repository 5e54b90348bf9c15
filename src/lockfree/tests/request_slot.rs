//! Tests of `lockfree::request_slot`.

use std::thread;
use std::vec::Vec;

use super::{Numbers, THREADS};
use crate::atomic::{AtomicU32, Ordering};
use crate::lockfree::request_slot::RequestSlot;

fn slot() -> RequestSlot {
    RequestSlot::from_word(AtomicU32::new(0))
}

/// A slot whose request is the worker's to do, and the generation of its handle.
fn queued() -> (RequestSlot, u32) {
    let slot = slot();
    let generation = slot.claim().unwrap();
    slot.publish();
    (slot, generation)
}

#[test]
fn a_request_is_written_then_queued_then_ended() {
    let slot = slot();
    let generation = slot.claim().unwrap();
    let state = slot.state();
    assert!(!state.is_queued() && !state.has_ended() && state.is_held() && !state.is_kept());
    assert_eq!(state.generation(), generation);
    slot.publish();
    assert!(slot.state().is_queued() && slot.state().is_held());
    slot.end(false);
    let state = slot.state();
    assert!(state.has_ended() && !state.is_queued() && state.is_held() && !state.is_cancelled());
    assert_eq!((state.generation(), state.word()), (generation, slot.word().load(Ordering::Relaxed)));
}

#[test]
fn a_slot_is_claimed_once() {
    let (slot, generation) = queued();
    assert_eq!(slot.claim(), None);
    slot.end(true);
    assert_eq!(slot.claim(), None, "held and kept");
    slot.let_go(generation);
    assert_eq!(slot.claim(), None, "kept");
    slot.settle();
    assert_eq!(slot.claim(), Some(generation + 1));
}

#[test]
fn whoever_lets_go_last_frees_the_slot() {
    let holder_last: &[fn(&RequestSlot, u32)] =
        &[|slot, _| slot.end(true), |slot, _| slot.settle(), |slot, generation| slot.let_go(generation)];
    let ended_last: &[fn(&RequestSlot, u32)] = &[|slot, generation| slot.let_go(generation), |slot, _| slot.end(false)];
    let settled_last: &[fn(&RequestSlot, u32)] =
        &[|slot, generation| slot.let_go(generation), |slot, _| slot.end(true), |slot, _| slot.settle()];
    for steps in [holder_last, ended_last, settled_last] {
        let (slot, generation) = queued();
        for step in steps {
            assert_eq!(slot.claim(), None);
            step(&slot, generation);
        }
        let state = slot.state();
        assert!(!state.has_ended() && !state.is_kept() && !state.is_held());
        assert_eq!(slot.claim(), Some(generation + 1));
    }
}

#[test]
fn settling_a_request_for_which_nothing_is_kept_changes_nothing() {
    let (slot, _) = queued();
    let before = slot.state();
    slot.settle();
    assert_eq!(slot.state(), before);
}

#[test]
fn a_cancelled_request_is_the_workers_until_it_ends() {
    let (slot, generation) = queued();
    assert!(slot.cancel(generation) && slot.cancel(generation));
    assert!(slot.state().is_cancelled() && slot.state().is_queued());
    slot.end(true);
    assert!(slot.state().is_cancelled() && slot.state().has_ended());
    slot.settle();
    slot.let_go(generation);
    slot.claim();
    assert!(!slot.state().is_cancelled(), "the next one is not");
}

#[test]
fn a_handle_of_an_earlier_request_changes_nothing() {
    let (slot, first) = queued();
    slot.end(false);
    slot.let_go(first);
    assert!(!slot.cancel(first), "nobody's");
    let second = slot.claim().unwrap();
    slot.publish();
    let before = slot.state();
    assert!(!slot.cancel(first));
    slot.let_go(first);
    assert_eq!(slot.state(), before);
    slot.end(false);
    slot.let_go(first);
    assert_eq!(slot.claim(), None, "the second is held");
    slot.let_go(second);
    assert!(slot.claim().is_some());
}

#[test]
fn a_handle_that_was_given_up_changes_nothing() {
    let (slot, generation) = queued();
    slot.let_go(generation);
    let before = slot.state();
    assert!(!slot.cancel(generation));
    slot.let_go(generation);
    assert_eq!(slot.state(), before);
}

#[test]
fn after_a_fork_the_slot_is_free_and_every_handle_is_foreign() {
    let states: &[fn(&RequestSlot)] = &[
        |_| {},
        |slot| slot.publish(),
        |slot| {
            slot.publish();
            slot.end(true);
        },
    ];
    for prepare in states {
        let slot = slot();
        let generation = slot.claim().unwrap();
        prepare(&slot);
        slot.cancel(generation);
        slot.clear();
        let state = slot.state();
        assert!(!state.is_queued() && !state.has_ended() && !state.is_kept() && !state.is_held());
        assert_ne!(state.generation(), generation, "who waits for it is told that it is forgotten");
        assert!(!slot.cancel(generation));
        let next = slot.claim().unwrap();
        assert_ne!(next, generation);
        assert!(!slot.state().is_cancelled());
    }
}

#[test]
fn the_generation_wraps_without_harm() {
    let slot = RequestSlot::from_word(AtomicU32::new(u32::MAX / 32 * 32));
    let last = slot.state().generation();
    assert_eq!(slot.claim(), Some(0));
    assert_eq!(slot.state().generation(), 0);
    assert!(!slot.cancel(last) && slot.cancel(0));
}

/// Random steps of a holder and the worker, against the plain fields that the word packs.
#[test]
fn it_agrees_with_plain_fields() {
    let slot = slot();
    let mut numbers = Numbers::new(2);
    let (mut state, mut held, mut cancelled, mut kept, mut generation) = (0, false, false, false, 0_u32);
    for round in 0..50_000 {
        let named = generation.wrapping_sub(numbers.below(2) as u32);
        let is_own = held && named == generation;
        match numbers.below(8) {
            0 => {
                let claimed = slot.claim();
                assert_eq!(claimed.is_some(), state == 0, "round {round}");
                if state == 0 {
                    (state, held, cancelled, kept, generation) = (1, true, false, false, generation + 1);
                    assert_eq!(claimed, Some(generation));
                }
            }
            1 if state == 1 => {
                slot.publish();
                state = 2;
            }
            2 if state == 2 => {
                kept = numbers.below(2) == 0;
                slot.end(kept);
                state = 3;
            }
            3 => {
                slot.settle();
                kept = false;
            }
            4 => {
                assert_eq!(slot.cancel(named), is_own, "round {round}");
                cancelled |= is_own;
            }
            5 => {
                slot.let_go(named);
                held &= !is_own;
            }
            6 if numbers.below(50) == 0 => {
                slot.clear();
                (state, held, cancelled, kept, generation) = (0, false, false, false, generation + 1);
            }
            _ => {}
        }
        if state == 3 && !held && !kept {
            (state, cancelled) = (0, false);
        }
        let seen = slot.state();
        assert_eq!(
            (seen.is_queued(), seen.has_ended(), seen.is_held(), seen.is_cancelled(), seen.is_kept()),
            (state == 2, state == 3, held, cancelled, kept),
            "round {round}"
        );
        assert_eq!(seen.generation(), generation);
    }
}

#[test]
fn no_request_is_lost_and_no_slot_has_two_holders() {
    const EACH: u32 = 5_000;
    let slots: [RequestSlot; 2] = core::array::from_fn(|_| slot());
    let written: [AtomicU32; 2] = core::array::from_fn(|_| AtomicU32::new(0));
    let holders: [AtomicU32; 2] = core::array::from_fn(|_| AtomicU32::new(0));
    let (slots, written, holders) = (&slots, &written, &holders);
    let done: u32 = thread::scope(|scope| {
        let holding: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut numbers = Numbers::new(thread as u64);
                    let mut made = 0;
                    while made < EACH {
                        let Some((place, generation)) =
                            slots.iter().enumerate().find_map(|(place, slot)| Some((place, slot.claim()?)))
                        else {
                            thread::yield_now();
                            continue;
                        };
                        assert_eq!(holders[place].fetch_add(1, Ordering::Relaxed), 0, "held by another");
                        written[place].store(1, Ordering::Relaxed);
                        slots[place].publish();
                        if numbers.below(2) == 0 {
                            while !slots[place].state().has_ended() {
                                thread::yield_now();
                            }
                            assert_eq!(written[place].load(Ordering::Relaxed), 2);
                        } else {
                            assert!(slots[place].cancel(generation));
                        }
                        assert_eq!(holders[place].fetch_sub(1, Ordering::Relaxed), 1);
                        slots[place].let_go(generation);
                        made += 1;
                    }
                })
            })
            .collect();
        // The worker.
        let mut done = 0;
        while done < EACH * THREADS as u32 || slots.iter().any(|slot| slot.state().is_kept()) {
            for (slot, written) in slots.iter().zip(written) {
                let state = slot.state();
                if state.is_queued() {
                    assert_eq!(written.swap(2, Ordering::Relaxed), 1, "seen before it was written");
                    done += 1;
                    slot.end(done % 2 == 0);
                } else if state.is_kept() {
                    slot.settle();
                }
            }
            thread::yield_now();
        }
        holding.into_iter().for_each(|holder| holder.join().unwrap());
        done
    });
    assert_eq!(done, EACH * THREADS as u32);
    assert!(slots.iter().all(|slot| slot.claim().is_some()), "every slot is free again");
}
