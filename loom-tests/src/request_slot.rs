//! Models of `lockfree::request_slot`: holders of handles, the worker and threads that want the slot for themselves,
//! all at one slot.
//!
//! What belongs to the slot is memory that the threads touch as `governor::requests` and `governor::warm` do: who
//! claims writes all of it, the worker writes what it keeps until it settles, the holder reads until it lets go. In
//! every interleaving nobody meets anybody there, the worker sees the request as it was written, the holder sees what
//! became of it, and whoever lets go last frees the slot.

use std::sync::Arc;

use crate::atomic::AtomicU32;
use crate::explore::{Memory, explore, join, spawn};

#[allow(dead_code, reason = "models call what threads call at the same time")]
#[path = "../../src/lockfree/request_slot.rs"]
mod subject;
use subject::RequestSlot;

struct Request {
    slot: RequestSlot,
    /// What is asked for: the claimer's, read by holder and worker.
    wanted: Memory<u32>,
    /// What has become of it: the worker's until the end, then read by the holder.
    answer: Memory<u32>,
    /// What is kept for it: the worker's until it settles.
    kept: Memory<u32>,
}

impl Request {
    fn new() -> Arc<Self> {
        Arc::new(Request {
            slot: RequestSlot::from_word(AtomicU32::new(0)),
            wanted: Memory::new(0),
            answer: Memory::new(0),
            kept: Memory::new(0),
        })
    }

    /// A queued request, and the generation of its handle.
    fn queued() -> (Arc<Self>, u32) {
        let request = Self::new();
        let generation = request.make(7).unwrap();
        (request, generation)
    }

    /// Makes a request for `wanted`, if the slot is free.
    fn make(&self, wanted: u32) -> Option<u32> {
        let generation = self.slot.claim()?;
        self.wanted.set(wanted);
        self.answer.set(0);
        self.kept.set(0);
        self.slot.publish();
        Some(generation)
    }

    /// Worker: ends the request if it is queued; what it keeps for it, it gives back later. Says whether it was queued.
    fn work(&self, keeps: bool) -> bool {
        let queued = self.slot.state().is_queued();
        if queued {
            self.kept.set(u32::from(keeps));
            self.answer.set(self.wanted.get() + 1);
            self.slot.end(keeps);
            if keeps {
                self.kept.set(0);
                self.slot.settle();
            }
        }
        queued
    }

    /// Holder: looks what has become of the request, and gives the handle up.
    fn leave(&self, generation: u32) {
        let wanted = self.wanted.get();
        if self.slot.state().has_ended() {
            assert_eq!(self.answer.get(), wanted + 1, "the holder sees an older answer");
        }
        self.slot.let_go(generation);
    }
}

#[test]
fn a_slot_is_claimed_by_one_of_two() {
    explore(|| {
        let request = Request::new();
        let claims = join([1, 2].map(|wanted| spawn(&request, move |request| request.make(wanted))));
        assert_eq!(claims.iter().flatten().count(), 1);
    });
}

#[test]
fn the_worker_sees_the_request_as_it_was_written() {
    explore(|| {
        let request = Request::new();
        let claimer = spawn(&request, |request| request.make(7));
        if request.slot.state().is_queued() {
            assert_eq!(request.wanted.get(), 7);
        }
        assert!(claimer.join().unwrap().is_some());
    });
}

#[test]
fn the_holder_sees_what_has_become_of_the_request() {
    explore(|| {
        let (request, generation) = Request::queued();
        let worker = spawn(&request, |request| request.work(false));
        request.leave(generation);
        assert!(worker.join().unwrap());
    });
}

/// Holder and worker leave in whatever order, and a third thread tries to get the slot all the while.
fn a_successor_meets_nobody(keeps: bool) {
    let (request, generation) = Request::queued();
    let holder = spawn(&request, move |request| request.leave(generation));
    let worker = spawn(&request, move |request| request.work(keeps));
    let successor = request.make(20);
    holder.join().unwrap();
    assert!(worker.join().unwrap(), "the request is lost");
    let successor = successor.or_else(|| request.make(20));
    assert!(successor.is_some(), "holder and worker are gone, and the slot is not free");
    assert_eq!(request.wanted.get(), 20);
}

#[test]
fn a_successor_meets_neither_the_holder_nor_the_worker() {
    explore(|| a_successor_meets_nobody(false));
}

#[test]
fn a_successor_does_not_meet_a_worker_that_keeps_something() {
    explore(|| a_successor_meets_nobody(true));
}

#[test]
fn a_request_whose_handle_is_given_up_at_once_is_the_workers_still() {
    explore(|| {
        let request = Request::new();
        let claimer = spawn(&request, |request| {
            let generation = request.make(7).unwrap();
            request.slot.let_go(generation);
        });
        let worked = request.work(true);
        claimer.join().unwrap();
        assert!(worked || request.work(true), "the request is lost");
        assert!(request.make(20).is_some());
    });
}

#[test]
fn a_handle_of_an_earlier_request_changes_nothing() {
    explore(|| {
        let (request, first) = Request::queued();
        request.work(false);
        request.slot.let_go(first);
        let stale = spawn(&request, move |request| {
            assert!(!request.slot.cancel(first), "cancelled what it does not hold");
            request.slot.let_go(first);
        });
        let second = request.make(20).unwrap();
        request.work(false);
        stale.join().unwrap();
        let state = request.slot.state();
        assert!(state.is_held() && !state.is_cancelled() && state.generation() == second && second != first);
        assert!(request.slot.cancel(second), "its own handle does");
    });
}

#[test]
fn a_request_cancelled_while_it_ends_is_known_to_be() {
    explore(|| {
        let (request, generation) = Request::queued();
        let holder = spawn(&request, move |request| request.slot.cancel(generation));
        request.slot.end(true);
        assert!(holder.join().unwrap(), "it was held");
        let state = request.slot.state();
        assert!(state.is_cancelled() && state.has_ended() && state.is_kept() && state.is_held());
    });
}

#[test]
fn a_forked_child_has_a_free_slot_and_foreign_handles() {
    explore(|| {
        let request = Request::new();
        let generation = request.slot.claim().unwrap();
        request.slot.clear();
        assert_ne!(request.slot.state().generation(), generation, "who waits for it waits for nobody");
        assert!(!request.slot.cancel(generation));
        let next = request.make(20).unwrap();
        request.slot.let_go(generation);
        assert!(next != generation && request.slot.state().is_held());
    });
}
