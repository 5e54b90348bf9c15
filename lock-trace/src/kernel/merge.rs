//! Events of several rings in one order of time. Each ring is nearly in order by itself, but they are read one after
//! the other, and an event may enter its ring a little after its time was taken.

use crate::event::Event;

/// Events that wait until no earlier one can come any more. There are never more than the rings hold and what comes in
/// until the next pass.
#[derive(Default)]
pub(crate) struct Merge {
    pending: Vec<Event>,
}

impl Merge {
    pub(crate) fn push(&mut self, event: Event) {
        self.pending.push(event);
    }

    /// Gives all events up to this time to `take`, in order.
    pub(crate) fn pop_until(&mut self, time_ns: u64, take: impl FnMut(Event)) {
        // A stable sort of a few ascending runs, for which it is linear.
        self.pending.sort_by_key(|event| event.time_ns);
        let count = self.pending.partition_point(|event| event.time_ns <= time_ns);
        self.pending.drain(..count).for_each(take);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;

    #[test]
    fn events_come_out_in_order_and_not_too_early() {
        let mut merge = Merge::default();
        let event = |time_ns| Event { time_ns, tid: 1, pid: 1, cpu: None, kind: EventKind::ThreadEnded };
        [10, 30, 50, 20, 40].map(event).into_iter().for_each(|event| merge.push(event));
        let mut times = Vec::new();
        merge.pop_until(30, |event| times.push(event.time_ns));
        assert_eq!(times, [10, 20, 30]);
        merge.push(event(35));
        merge.pop_until(u64::MAX, |event| times.push(event.time_ns));
        assert_eq!(times, [10, 20, 30, 35, 40, 50]);
    }
}
