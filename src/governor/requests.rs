//! Requests for warm memory: a fixed table, written by the threads that ask and by the governor. Called by `front` for
//! handles and by `governor::warm`.
//!
//! Invariant: a request's numbers are the governor's to write while it is queued or something is kept for it, and no
//! longer; who holds the handle reads them. They are independent sums: only the slot's word orders anything.

use crate::atomic::{AtomicU32, Ordering};
use crate::limits::REQUEST_COUNT_MAX;
use crate::lockfree::request_slot::{RequestSlot, RequestState};
use crate::number::Number;
use crate::os::Os;
use crate::stats::{PrewarmProgress, PrewarmState};
use crate::units::Nanos;

/// What is to be made warm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Memory for one block of so many bytes.
    OneBlock,
    /// Memory for blocks smaller than a room's.
    ManyBlocks,
    /// Memory for one block, as the doubling forecast expects it.
    Forecast,
}

const STATES: [PrewarmState; 9] = [
    PrewarmState::Warming,
    PrewarmState::Ready,
    PrewarmState::Taken,
    PrewarmState::Cancelled,
    PrewarmState::Expired,
    PrewarmState::Pressure,
    PrewarmState::NoHeadRoom,
    PrewarmState::HugepagesScarce,
    PrewarmState::Refused,
];

/// One request.
pub(crate) struct Request {
    slot: RequestSlot,
    purpose: AtomicU32,
    state: AtomicU32,
    wanted_bytes: Number,
    pub(crate) warm_bytes: Number,
    pub(crate) faulted_bytes: Number,
    pub(crate) hugepage_bytes: Number,
    /// The room that holds it, as `Source` names rooms; 0 for none. Governor.
    pub(crate) room: Number,
    /// Bytes of smaller blocks' memory that are kept for it. Governor.
    pub(crate) kept_bytes: Number,
    /// When it was ready. Governor.
    pub(crate) ready_ns: Number,
}

/// Which request, for its handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ticket {
    number: usize,
    generation: u32,
}

/// All requests.
pub(crate) struct Requests {
    requests: [Request; REQUEST_COUNT_MAX],
}

impl Request {
    const fn new() -> Self {
        Request {
            slot: RequestSlot::from_word(AtomicU32::new(0)),
            purpose: AtomicU32::new(0),
            state: AtomicU32::new(0),
            wanted_bytes: Number::new(0),
            warm_bytes: Number::new(0),
            faulted_bytes: Number::new(0),
            hugepage_bytes: Number::new(0),
            room: Number::new(0),
            kept_bytes: Number::new(0),
            ready_ns: Number::new(0),
        }
    }

    /// The slot's state now.
    pub(crate) fn slot(&self) -> RequestState {
        self.slot.state()
    }

    /// What is to be made warm.
    pub(crate) fn purpose(&self) -> Purpose {
        // Relaxed: published by the slot.
        match self.purpose.load(Ordering::Relaxed) {
            0 => Purpose::OneBlock,
            1 => Purpose::ManyBlocks,
            _ => Purpose::Forecast,
        }
    }

    /// Bytes asked for, in whole chunks.
    pub(crate) fn wanted_bytes(&self) -> u64 {
        self.wanted_bytes.get()
    }

    /// How far it is.
    pub(crate) fn state(&self) -> PrewarmState {
        // Relaxed: see the module.
        STATES.get(self.state.load(Ordering::Relaxed) as usize).copied().unwrap_or(PrewarmState::Refused)
    }

    /// Governor: goes on to `state`.
    pub(crate) fn set_state(&self, state: PrewarmState) {
        // Relaxed: see the module.
        self.state.store(state as u32, Ordering::Relaxed);
    }

    /// Governor: whether memory is kept for it.
    pub(crate) fn keeps(&self) -> bool {
        self.room.get() != 0 || self.kept_bytes.get() != 0
    }

    /// Governor: nothing more will be warmed; wakes who waits. It may be another request after this if nothing is kept.
    pub(crate) fn end(&self, os: &impl Os, state: PrewarmState) {
        self.set_state(state);
        self.slot.end(self.keeps());
        os.wake_all(self.slot.word());
    }

    /// Governor, of a request for which something was kept: if that is over it may be another request from here on.
    pub(crate) fn settle(&self) {
        if !self.keeps() {
            self.slot.settle();
        }
    }

    fn progress(&self) -> PrewarmProgress {
        let read = |number: &Number| number.get();
        PrewarmProgress {
            state: self.state(),
            wanted_bytes: self.wanted_bytes(),
            warm_bytes: read(&self.warm_bytes),
            faulted_bytes: read(&self.faulted_bytes),
            hugepage_bytes: read(&self.hugepage_bytes),
        }
    }
}

impl Requests {
    /// None.
    pub(crate) const fn new() -> Self {
        Requests { requests: [const { Request::new() }; REQUEST_COUNT_MAX] }
    }

    /// Every slot of the table.
    pub(crate) fn all(&self) -> &[Request] {
        &self.requests
    }

    /// Makes a request; `None` if too many are under way. No system call.
    pub(crate) fn make(&self, purpose: Purpose, wanted_bytes: u64) -> Option<Ticket> {
        self.requests.iter().enumerate().find_map(|(number, request)| {
            let generation = request.slot.claim()?;
            for sum in [
                &request.warm_bytes,
                &request.faulted_bytes,
                &request.hugepage_bytes,
                &request.room,
                &request.kept_bytes,
                &request.ready_ns,
            ] {
                sum.set(0);
            }
            request.wanted_bytes.set(wanted_bytes);
            let purpose = match purpose {
                Purpose::OneBlock => 0,
                Purpose::ManyBlocks => 1,
                Purpose::Forecast => 2,
            };
            // Relaxed: published by the slot.
            request.purpose.store(purpose, Ordering::Relaxed);
            request.set_state(PrewarmState::Warming);
            request.slot.publish();
            Some(Ticket { number, generation })
        })
    }

    /// The request of a ticket, if its slot is still that request's.
    fn of(&self, ticket: Ticket) -> Option<&Request> {
        self.requests.get(ticket.number).filter(|request| request.slot().generation() == ticket.generation)
    }

    /// What a request has come to; `None` if it is forgotten.
    pub(crate) fn progress(&self, ticket: Ticket) -> Option<PrewarmProgress> {
        self.of(ticket).map(Request::progress)
    }

    /// Says that a request is not wanted any more. `false` if it is forgotten already.
    pub(crate) fn cancel(&self, ticket: Ticket) -> bool {
        self.of(ticket).is_some_and(|request| request.slot.cancel(ticket.generation))
    }

    /// Gives up the handle.
    pub(crate) fn let_go(&self, ticket: Ticket) {
        if let Some(request) = self.requests.get(ticket.number) {
            request.slot.let_go(ticket.generation);
        }
    }

    /// Sleeps until the request has ended, at most until `deadline`.
    pub(crate) fn wait(&self, os: &impl Os, ticket: Ticket, deadline: Nanos) {
        while let Some(request) = self.of(ticket) {
            let state = request.slot();
            let left = deadline.since(os.now());
            if state.has_ended() || left == Nanos(0) {
                return;
            }
            os.wait_for(request.slot.word(), state.word(), left);
        }
    }

    /// Whether the governor has to look at any of them again.
    pub(crate) fn has_any(&self) -> bool {
        self.requests.iter().any(|request| {
            let slot = request.slot();
            slot.is_queued() || slot.is_kept()
        })
    }

    /// Forked child: forgets all; the parent's handles change nothing here.
    pub(crate) fn clear(&self) {
        for request in &self.requests {
            request.room.set(0);
            request.kept_bytes.set(0);
            request.slot.clear();
        }
    }
}
