//! What all sources of perf events share: rings, whose records become intervals with stacks.

use lock_trace::events::{Contents, Merge, Rings, thread_name};

use super::calls::KernelCalls;
use super::decode::Decoder;
use super::place;
use super::state::{Finished, Happening, State};
use crate::clock::now_ns;
use crate::event::Interval;
use crate::source::{Bounds, Losses};
use crate::stack::{StackPair, Stacks};

/// The way from the rings to intervals.
pub(super) struct Reader {
    pub(super) rings: Rings,
    pub(super) decoder: Decoder,
    pub(super) state: State,
    merge: Merge<Happening>,
    calls: KernelCalls,
    /// What samples hold that tell a place.
    contents: Contents,
    /// Of events that have ended.
    lost: u64,
}

impl Reader {
    pub(super) fn new(
        rings: Rings,
        decoder: Decoder,
        contents: Contents,
        bounds: &Bounds,
        threads_max: usize,
    ) -> Reader {
        let (state, calls) = (State::new(bounds, threads_max), KernelCalls::read());
        Reader { rings, decoder, state, merge: Merge::default(), calls, contents, lost: 0 }
    }

    /// What is not seen, a line each with what would help.
    pub(super) fn missing(&self) -> Vec<String> {
        let wakers = "perf events do not tell who ended a sleep: BPF does (CAP_BPF and CAP_PERFMON)";
        let calls =
            "system calls are not told: CAP_SYSLOG, or kernel.kptr_restrict=0 with kernel.perf_event_paranoid=1";
        let calls = self.calls.is_empty().then_some(calls);
        [Some(wakers), calls].into_iter().flatten().map(String::from).collect()
    }

    /// Ends events.
    pub(super) fn end(&mut self, ids: &[u64]) {
        self.lost += self.rings.end(ids);
        // What they have recorded is understood as long as their roles are known.
        self.collect();
        self.decoder.forget(ids);
    }

    /// Empties the rings.
    fn collect(&mut self) {
        let Reader { rings, decoder, merge, .. } = self;
        rings.read(|record| {
            if let Some(happening) = decoder.decode(record) {
                merge.push(happening.time_ns, happening);
            }
        });
    }

    /// Works on what happened until then.
    pub(super) fn advance(&mut self, until_ns: u64) {
        self.collect();
        self.merge.pop_until(until_ns, |happening| self.state.push(happening));
    }

    /// Hands out what has ended.
    pub(super) fn finished(&mut self, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) {
        while let Some(finished) = self.state.finished.pop_front() {
            each(self.told(finished, stacks));
        }
    }

    /// Hands out what is not over.
    pub(super) fn unfinished(&mut self, stacks: &mut Stacks, each: &mut dyn FnMut(Interval)) {
        let now_ns = now_ns();
        self.advance(now_ns);
        for one in self.state.unfinished(now_ns) {
            each(self.told(one, stacks));
        }
    }

    pub(super) fn losses(&self) -> Losses {
        // Linux before 6.0 tells of losses in records only.
        let lost = (self.lost + self.rings.lost()).max(self.state.lost_records);
        Losses { intervals: lost, threads: self.state.lost_threads }
    }

    fn told(&self, finished: Finished, stacks: &mut Stacks) -> Interval {
        let Finished { mut interval, place } = finished;
        if interval.thread.name.is_empty() {
            interval.thread.name = thread_name(interval.thread.tid);
        }
        if let Some(place) = place.and_then(|record| place::read(&record, self.contents, &self.calls)) {
            interval.call = place.call;
            interval.stack = StackPair {
                kernel: stacks.intern(0, &place.kernel, 0),
                user: stacks.intern(interval.thread.pid, &place.user, place.top_word),
            };
        }
        interval
    }
}
