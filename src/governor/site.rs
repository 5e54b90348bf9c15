//! What becomes of requests for warm memory besides the warming: the forecast's, their ends, what is kept for them.
//! Called by `governor::warm`.
//!
//! Invariant: what is kept for a request is given back when its time is over, when it is cancelled, and under pressure;
//! once nothing is kept for an ended request, the governor does not touch it any more.

use super::requests::{Purpose, Request, Requests};
use super::source::{RoomName, Source};
use crate::options::Options;
use crate::os::{Kernel, Os};
use crate::stats::{GovernorCounters, PrewarmState};
use crate::units::Nanos;

/// What the warmer works with.
pub(crate) struct Site<'a, O, S> {
    pub(crate) kernel: &'a Kernel<O>,
    pub(crate) source: &'a S,
    pub(crate) requests: &'a Requests,
    pub(crate) options: &'a Options,
}

impl<O: Os, S: Source> Site<'_, O, S> {
    /// What the governor counts.
    pub(super) fn counters(&self) -> &GovernorCounters {
        self.kernel.counters().governor()
    }

    /// Makes the request that the forecast calls for, unless one is under way already.
    pub(super) fn forecast(&self, bytes: u64) {
        let is_forecast = |request: &Request| {
            let slot = request.slot();
            request.purpose() == Purpose::Forecast && (slot.is_queued() || slot.is_kept() && !slot.is_held())
        };
        if let Some(earlier) = self.requests.all().iter().find(|request| is_forecast(request)) {
            // The program has gone another way than the earlier forecast said.
            if earlier.wanted_bytes() >= bytes {
                return;
            }
            self.counters().forecast_misses.add(1);
            if earlier.slot().is_queued() {
                self.stop(earlier, PrewarmState::Cancelled);
            } else {
                self.release(earlier);
                earlier.settle();
            }
        }
        if let Some(ticket) = self.requests.make(Purpose::Forecast, bytes) {
            self.requests.let_go(ticket);
            self.counters().forecasts.add(1);
        }
    }

    /// Ends a request before all of it was warm, and gives back what was.
    pub(super) fn stop(&self, request: &Request, state: PrewarmState) {
        self.counters().prewarm_stopped.add(1);
        self.release(request);
        request.end(self.kernel.os(), state);
    }

    /// Gives back what is kept for a request.
    pub(super) fn release(&self, request: &Request) {
        let room = request.room.take();
        request.kept_bytes.set(0);
        if room != 0 {
            self.source.drop_room(room);
        }
    }

    /// A block was allocated in what was kept.
    pub(super) fn taken(&self, request: &Request) {
        request.room.set(0);
        request.kept_bytes.set(0);
        if request.purpose() == Purpose::Forecast {
            self.counters().forecast_hits.add(1);
        }
    }

    /// A room was picked anew that is still kept for an earlier request, as far as that one knows: a block has come and
    /// gone since the last look.
    pub(super) fn lose_room(&self, room: RoomName) {
        let is_its = |request: &&Request| request.room.get() == room;
        for request in self.requests.all().iter().filter(is_its) {
            self.taken(request);
            if request.slot().is_queued() {
                request.end(self.kernel.os(), PrewarmState::Taken);
            } else {
                request.set_state(PrewarmState::Taken);
                request.settle();
            }
        }
    }

    /// Looks whether what an ended request keeps was taken, or is not wanted any more.
    pub(super) fn look_after(&self, request: &Request, now: Nanos, free: &mut u64) {
        let room = request.room.get();
        let kept = request.kept_bytes.get();
        if kept > 0 {
            // What small blocks have taken is not made up for.
            let still = kept.min(*free);
            *free -= still;
            request.kept_bytes.set(still);
        }
        let is_taken = if room != 0 {
            !self.source.kept_room(room).is_kept
        } else {
            kept > 0 && *free == 0 && request.kept_bytes.get() == 0
        };
        let age = now.since(Nanos(request.ready_ns.get()));
        let over = if request.state() == PrewarmState::Pressure {
            // The pressure ended before all of it was given back; the rest is free like any other.
            self.release(request);
            None
        } else if is_taken {
            self.taken(request);
            Some(PrewarmState::Taken)
        } else if !request.keeps() {
            None
        } else if request.slot().is_cancelled() {
            self.release(request);
            Some(PrewarmState::Cancelled)
        } else if self.options.prewarm_hold.is_some_and(|hold| age >= hold) {
            if request.purpose() == Purpose::Forecast {
                self.counters().forecast_misses.add(1);
            }
            self.release(request);
            Some(PrewarmState::Expired)
        } else {
            None
        };
        if let Some(state) = over {
            request.set_state(state);
        }
        request.settle();
    }
}
